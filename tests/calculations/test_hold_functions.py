"""Which of the lowest minima are labelled."""

import numpy as np
import pytest
from aiida.orm import Bool, Dict, Int
from ase.build import bulk

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hold import BESIDE, SAME_AGAIN, Known
from aiida_gaprss.calculations.hold_functions import minima_to_label
from aiida_gaprss.campaign.settings import complete
from aiida_gaprss.data.dataset import Dataset

SEEDS = {"random": {"volume_per_atom": [14.0, 30.0], "min_separation": 2.0}}


def diamond(name, strain=0.0):
    atoms = bulk("Si", a=5.43 * (1 + strain))
    atoms.info["frame_id"] = name
    return atoms


def with_energy(atoms, prefix, energy=-8.0):
    fr.set_labels(atoms, energy, np.zeros((2, 3)), np.zeros(9), prefix=prefix)
    return atoms


@pytest.fixture
def asked(aiida_profile):
    """Ask which minima are labelled beside one label, of which the potential has the energy wrong by so many eV/atom."""

    def asked(strain, error, last=False):
        label = with_energy(diamond("label"), fr.REFERENCE)
        told = with_energy(label.copy(), fr.PREDICTION, -8.0 + 2 * error)
        minimum = with_energy(diamond("found", strain), fr.PREDICTION)
        minimum.info["relax_status"] = "converged"
        database, predictions = (Dataset([one], level_of_theory="DFT").store() for one in (label, told))
        found = Dataset([minimum], level_of_theory="unlabelled").store()
        settings = Dict(complete("quick", {"formula": {"Si": 1}, "seeds": SEEDS}))
        out = minima_to_label(settings, found, Int(9), Bool(last), predictions=predictions, database=database)
        return out["frames"].n_frames, out["before"]["lost"], out["before"]["settled"]

    return asked


def test_distances():
    """The strains of the other tests: where the label is, beside it, elsewhere."""
    known = Known([with_energy(diamond("label"), fr.REFERENCE)], [])
    found = [with_energy(diamond("found", strain), fr.PREDICTION) for strain in (1e-5, 0.001, 0.01)]
    near, beside, far = (float(known.distances(atoms).min()) for atoms in found)
    assert near < SAME_AGAIN < beside < BESIDE < far


@pytest.mark.parametrize(
    ("strain", "error", "expected"),
    [
        (0.01, 0.0, (1, [False], False)),  # no label stands for it
        (0.001, 0.0, (0, [False], True)),  # one does, and the potential follows it
        (0.001, 0.02, (1, [False], False)),  # it does not follow: another label tells more
        (1e-5, 0.02, (0, [True], True)),  # it would tell the same again
    ],
)
def test_a_label_is_asked_for_where_it_tells_something(asked, strain, error, expected):
    assert asked(strain, error) == expected


def test_in_the_last_search_each_is_labelled_as_it_is(asked):
    assert asked(0.001, 0.0, last=True) == (1, [False], True)
