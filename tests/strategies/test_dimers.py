"""Dimer curves."""

import numpy as np
import pytest
from aiida.orm import Dict, Int, Str

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.rss_functions import initial_cells
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.strategies.dimers import dimer_curve


def test_distances_and_box():
    curve = dimer_curve("Si", "O", 5, (0.65, 2.5), vacuum=10.0)
    bond = 1.11 + 0.66  # covalent radii of Si and O (Cordero et al. 2008)
    distances = [a.get_distance(0, 1, mic=True) for a in curve]
    assert np.allclose(distances, np.array([0.65, 1.1125, 1.575, 2.0375, 2.5]) * bond, atol=1e-4)
    assert {tuple(a.get_chemical_symbols()) for a in curve} == {("Si", "O")}
    assert len({a.cell.lengths()[0] for a in curve}) == 1, "one box: the same basis and the same error of the box"
    assert curve[-1].cell.lengths()[0] - distances[-1] == pytest.approx(10.0, abs=1e-2)


@pytest.mark.parametrize(("n", "factors"), [(1, (0.65, 2.5)), (5, (2.5, 0.65)), (5, (0.0, 1.0))])
def test_bad_range(n, factors):
    with pytest.raises(ValueError, match="distances over a range"):
        dimer_curve("Si", "Si", n, factors, vacuum=10.0)


def test_a_campaign_of_two_elements_begins_with_all_pairs(aiida_profile):
    seed = {"n_atoms": [4], "volume_per_atom": [12, 20], "min_separation": 1.5, "n_operations": [1]}
    settings = RssSettings(
        formula={"Si": 1, "O": 1},
        seeds={"any": seed},
        initial={"any": 2},
        dimers={"points": 4},
        isolated_atom_box=12.0,
        fit={"descriptors": [{"kind": "distance_2b", "cutoff": 5.0}], "sigma": {"energy": 0.01, "forces": 0.1, "virial": 0.1}},
    )
    assert settings.label_budget() == 2 + 3 * 4 + 2
    frames = initial_cells(Dict(settings.model_dump()), Str("SiO"), Int(1)).get_frames()
    assert len(frames) == settings.label_budget()
    dimers = [a for a in frames if a.info["config_type"] == "dimer"]
    assert sorted({a.get_chemical_formula() for a in dimers}) == ["O2", "OSi", "Si2"]
    assert all(fr.is_in_vacuum(a) and not fr.is_isolated_atom(a) for a in dimers)
