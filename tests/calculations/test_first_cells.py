"""The first cells of a campaign, which no potential has relaxed: none of them fell apart."""

import numpy as np
import pytest
from aiida.orm import Dict, Int, Str

from aiida_gaprss.calculations.rss_functions import initial_cells
from aiida_gaprss.campaign.settings import RssSettings, complete
from aiida_gaprss.selection.alone import alone
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.structures.checks import RandomCellError


def settings_of(volume=(80.0, 160.0), factor=1.6, n_atoms=(2, 3, 4)):
    seed = {"volume_per_atom": list(volume), "min_separation": 2.2, "n_atoms": list(n_atoms), "n_operations": [1]}
    changes = {
        "formula": {"Si": 1},
        "seeds": {"random": seed},
        "initial": {"random": 20},
        "filter": {"max_neighbour_factor": factor},
    }
    return RssSettings(**complete("quick", changes))


def first_cells(settings, seed=3):
    made = initial_cells(Dict(settings.model_dump()), Str("Si"), Int(seed)).get_frames()
    return [atoms for atoms in made if atoms.info["config_type"] == "random"]


@pytest.mark.usefixtures("aiida_profile")
def test_cells_that_fell_apart_are_made_anew():
    settings = settings_of()
    all_made = make_cells(settings.seeds, settings.formula, {"random": 20}, 3)
    bound = [atoms for atoms in all_made if not alone(atoms).any()]
    assert 3 < len(bound) < 17, "some did"
    cells = first_cells(settings)
    assert len(cells) == 20
    assert not any(alone(atoms).any() for atoms in cells)
    for ours, atoms in zip(cells, bound, strict=False):  # those that did not are the same, and come first
        assert np.allclose(ours.positions, atoms.positions, atol=1e-6)
    again = first_cells(settings)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(cells, again, strict=True))


@pytest.mark.usefixtures("aiida_profile")
def test_who_wants_them_gets_them():
    settings = settings_of(factor=None)
    all_made = make_cells(settings.seeds, settings.formula, {"random": 20}, 3)
    for ours, atoms in zip(first_cells(settings), all_made, strict=True):
        assert np.allclose(ours.positions, atoms.positions, atol=1e-6)


@pytest.mark.usefixtures("aiida_profile")
def test_volumes_at_which_all_fall_apart():
    with pytest.raises(RandomCellError, match=r"random: each of \d+ cells has an atom without a neighbour .* smaller volumes"):
        first_cells(settings_of(volume=(900.0, 1000.0), n_atoms=(6,)))
