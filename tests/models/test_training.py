import re

import numpy as np
import pytest
from ase.build import bulk
from helpers import FIT

from aiida_gaprss import frames as fr
from aiida_gaprss.models.training import TrainingSetError, atomic_energies, join, leaks


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
    with pytest.raises(TrainingSetError, match="no isolated atom for C, Si: a fit needs"):
        join([copies[1:]])
    with pytest.raises(TrainingSetError, match="no isolated atom for C:"):
        join([copies])


def test_two_isolated_atoms_of_an_element(copies):
    other = copies[0].copy()
    other.info["frame_id"] = "another"
    with pytest.raises(TrainingSetError, match="more than one isolated atom of Si"):
        atomic_energies([copies[0], other])


def test_an_isolated_atom_that_is_none(copies):
    """A dataset of before the rule, or an archive, does not pass the check of a new one."""
    copies[0].set_cell([3.0] * 3)
    with pytest.raises(
        TrainingSetError, match=f"frame {copies[0].info['frame_id']}: config_type isolated_atom, but the atom is 3.00 Å"
    ):
        join([copies])


def test_leaks_are_all_named(copies):
    turned, again = copies[3].copy(), copies[5].copy()
    turned.rotate(10, "z", rotate_cell=True)
    turned.info["frame_id"], again.info["frame_id"] = "turned", "again"
    test = [copies[0].copy(), turned, again]
    names = [copies[i].info["frame_id"] for i in (3, 5)]
    assert leaks(copies, test) == {"turned": names[0], "again": names[1]}
    assert leaks(copies[6:], test) == {}


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


# --- two elements, and the zero of energy ---


def test_zero_of_energy(alloy_frames):
    cells = [a for a in alloy_frames if not fr.is_isolated_atom(a)]
    assert join([cells], "average") == cells
    average = atomic_energies(cells, "average")
    x = np.array([np.mean(a.numbers == 79) for a in cells])
    slope, at_copper = np.polyfit(x, [a.info["REF_energy"] / len(a) for a in cells], 1)
    assert average == pytest.approx({"Cu": at_copper, "Au": at_copper + slope})
    assert atomic_energies(alloy_frames, "average") == pytest.approx(average), "isolated atoms are not averaged"
    assert atomic_energies(cells, {"Cu": 1, "Au": 2.5, "Si": 3}) == {"Au": 2.5, "Cu": 1.0}
    with pytest.raises(TrainingSetError, match="e0 has no energy of Au, which the training set contains"):
        join([cells], {"Cu": 1})
    same = [a for a in cells if 0 < np.mean(a.numbers == 79) == np.mean(cells[7].numbers == 79)]
    with pytest.raises(TrainingSetError, match="the compositions do not tell the energies of Au, Cu apart"):
        join([same], "average")


def expanded(frames, fit_with_binary, evaluated, descriptors, edit=str):
    from quippy.potential import Potential as Quippy

    from aiida_gaprss.data.potential import Potential

    sigma = {"energy": 0.002, "forces": 0.05, "virial": 0.05}
    folder, log = fit_with_binary(frames, {"descriptors": descriptors, "sigma": sigma}, edit=edit)
    assert (folder / "gap.xml").is_file(), log[-2000:]
    names = [line.split()[0] for line in Potential(folder).base.attributes.get("descriptors")]
    return names, evaluated(frames, Quippy(param_filename=str(folder / "gap.xml")))


def test_two_elements(alloy_frames, fit_with_binary, evaluated):
    """All pairs, triplets and centres, as gap_fit itself would add them."""
    descriptors = [
        {"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 10},
        {"kind": "angle_3b", "cutoff": 3.2, "n_sparse": 20},
        {"kind": "soap", "cutoff": 4.0, "n_max": 4, "l_max": 3, "n_sparse": {"alloy": 10, "other": 5}, "delta": 0.5},
    ]
    names, found = expanded(alloy_frames, fit_with_binary, evaluated, descriptors)
    assert [names.count(kind) for kind in ("distance_2b", "angle_3b", "soap")] == [3, 6, 2]
    error = [p[0] - a.info["REF_energy"] for p, a in zip(found, alloy_frames, strict=True)]
    spread = np.std([a.info["REF_energy"] for a in alloy_frames[2:]])
    assert np.abs(error).max() < 0.1 * spread

    def by_gap_fit(text):
        first = {}
        for part in re.search(r"gap=\{(.*?)\}\n", text, re.DOTALL)[1].split(" :\n"):
            name = part.split()[0]
            first.setdefault(
                name, re.sub(r" (Z\d?|n_species|species_Z)=(\{\{.*?\}\}|\S+)", "", part).replace("species=F", "species=T")
            )
        return re.sub(r"gap=\{.*\}", lambda _: "gap={" + " : ".join(first.values()) + "}", text)

    names, theirs = expanded(alloy_frames, fit_with_binary, evaluated, descriptors, by_gap_fit)
    assert len(names) == 11
    for ours, other in zip(found, theirs, strict=True):
        assert ours[0] == pytest.approx(other[0], abs=1e-5)
        assert np.allclose(ours[1], other[1], atol=1e-5)


def test_two_elements_with_soap_turbo(alloy_frames, fit_with_binary, evaluated):
    descriptors = [
        {"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 10},
        {"kind": "soap_turbo", "cutoff": 4.0, "n_max": 4, "l_max": 3, "n_sparse": 15},
    ]
    names, found = expanded(alloy_frames, fit_with_binary, evaluated, descriptors)
    assert names == ["distance_2b"] * 3 + ["soap_turbo"] * 2
    error = [p[0] - a.info["REF_energy"] for p, a in zip(found, alloy_frames, strict=True)]
    assert np.abs(error).max() < 0.1 * np.std([a.info["REF_energy"] for a in alloy_frames[2:]])
