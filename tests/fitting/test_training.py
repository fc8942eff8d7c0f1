import numpy as np
import pytest
from ase.build import bulk
from helpers import FIT

from aiida_gaprss import frames as fr
from aiida_gaprss.fitting.training import TrainingSetError, atomic_energies, join


def test_joined_in_order_without_unlabelled_frames(copies):
    del copies[3].info["REF_energy"]
    joined = join([copies[5:], copies[:5]])
    expected = [a.info["frame_id"] for a in [*copies[5:], *copies[:3], copies[4]]]
    assert [a.info["frame_id"] for a in joined] == expected


def test_frames_in_two_datasets(copies):
    with pytest.raises(TrainingSetError, match=r"frames in more than one dataset: cell-04, cell-05 \(2 in all\)"):
        join([copies, copies[5:7]])


def test_no_isolated_atom(copies):
    copies[2].numbers[0] = 6
    with pytest.raises(TrainingSetError, match="no isolated atom for C, Si: gap_fit needs"):
        join([copies[1:]])
    with pytest.raises(TrainingSetError, match="no isolated atom for C:"):
        join([copies])


def test_two_isolated_atoms_of_an_element(copies):
    other = copies[0].copy()
    other.info["frame_id"] = "another"
    with pytest.raises(TrainingSetError, match="more than one isolated atom of Si"):
        atomic_energies([copies[0], other])


def test_a_crystal_with_one_atom_is_no_isolated_atom(copies, sw, evaluated, fit_with_binary):
    """gap_fit's own search for isolated atoms would take its energy for the zero, or stop."""
    crystals = []
    for number, a in enumerate(np.linspace(2.4, 3.0, 6)):
        atoms = bulk("Si", "sc", a=a)
        atoms.info.update(frame_id=f"sc-{number}", config_type="sc")
        energy, forces, virial = evaluated([atoms], sw)[0]
        fr.set_labels(atoms, energy, forces, virial)
        crystals.append(atoms)
    frames = join([crystals, copies])
    zero = copies[0].info["REF_energy"]
    assert atomic_energies(frames) == {"Si": zero}
    soap = {**FIT["descriptors"][1], "n_max": 8, "l_max": 6, "n_sparse": 35}
    folder, log = fit_with_binary(frames, {**FIT, "descriptors": [FIT["descriptors"][0], soap]})
    from quippy.potential import Potential

    gap = Potential(param_filename=str(folder / "gap.xml"))
    assert evaluated([copies[0]], gap)[0][0] == pytest.approx(zero, abs=1e-3), log[-1000:]
    for atoms in crystals:
        assert evaluated([atoms], gap)[0][0] == pytest.approx(atoms.info["REF_energy"], abs=0.4)
