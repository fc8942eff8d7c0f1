"""Compositions of new cells, drawn toward the convex hull of the database."""

from collections import Counter

import pytest
from aiida.orm import Dict, Int, Str
from ase import Atoms
from scipy.stats import chisquare

from aiida_gaprss.analysis.hull import LEAST_WEIGHT, reduced_formula
from aiida_gaprss.calculations.rss_functions import random_cells_under_pressure
from aiida_gaprss.campaign.settings import RssSettings, complete
from aiida_gaprss.data.dataset import Dataset

pytestmark = pytest.mark.usefixtures("aiida_profile")

#: eV/atom above the line between the elements, and how the frame came to be.
KNOWN = {
    "Cu": (0.0, "converged"),
    "Au": (0.0, "converged"),
    "AuCu": (1.0, "converged"),
    "Au3Cu": (2.0, None),
    "AuCu3": (-0.1, None),
}


def test_cells_of_a_generation():
    settings = {
        "formula": {"Cu": 1, "Au": 1},
        "seeds": {
            "open": {"formula": {"Cu": [0, 4], "Au": [0, 4]}, "n_atoms": [4], "volume_per_atom": [14, 18], "min_separation": 2.0}
        },
        "initial": {},
        "generations": [{"cells": {"open": 500}, "hull_bias": 0.1, "select": {"rules": [{"by": "lowest", "n": 5}]}}],
        "search": None,
    }
    frames = []
    for number, (formula, (energy, status)) in enumerate(KNOWN.items()):
        atoms = Atoms(formula, scaled_positions=[(0.25 * n, 0, 0) for n in range(len(Atoms(formula)))], cell=[10, 4, 4], pbc=True)
        atoms.info.update(frame_id=f"known-{number}", config_type="random", REF_energy=len(atoms) * energy)
        if status:
            atoms.info["relax_status"] = status
        frames.append(atoms)
    model = RssSettings(**complete("quick", settings))
    made = random_cells_under_pressure(
        Dict(model.model_dump()), Str("hull"), Int(1), Int(7), known=Dataset(frames, level_of_theory="by hand")
    )
    drawn = Counter(reduced_formula(atoms) for atoms in made.get_frames())
    # What no relaxation has ended at is as good as what lies on the hull: AuCu3 is on it, Au3Cu far above.
    weights = {"Cu": 1.0, "Au": 1.0, "AuCu": LEAST_WEIGHT, "Au3Cu": 1.0, "AuCu3": 1.0}
    expected = [500 * weight / sum(weights.values()) for weight in weights.values()]
    assert sum(drawn.values()) == 500
    assert chisquare([drawn[name] for name in weights], expected).pvalue > 1e-3, drawn
