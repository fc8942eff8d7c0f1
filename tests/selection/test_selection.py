import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_gaprss.audit.placeholders import find_placeholders
from aiida_gaprss.selection.choose import farthest, flat_boltzmann, lowest
from aiida_gaprss.selection.duplicates import unique
from aiida_gaprss.selection.fingerprints import fingerprint, fingerprints
from aiida_gaprss.selection.sanity import Limits, absurd_labels, sane, why_absurd


def dimer(distance, symbols="Si2", size=5):
    return Atoms(symbols, [[0, 0, 0], [0, 0, distance]], cell=[size] * 3, pbc=True)


@pytest.mark.parametrize(
    ("atoms", "limits", "forces", "reason"),
    [
        (dimer(2.3), {"min_distance": 2.0, "volume_per_atom": (10, 80)}, None, None),
        (dimer(1.5), {"min_distance": 2.0}, None, "Si and Si are 1.500 Å apart, less than 2"),
        (dimer(1.5, "SiO"), {"min_distance": {"O-Si": 1.6}}, None, "Si and O are 1.500 Å apart, less than 1.6"),
        (dimer(1.5, "SiO"), {"min_distance": {"Si-Si": 2.2}}, None, None),
        (dimer(2.3), {"volume_per_atom": (70, 80)}, None, "collapsed: 62.5 Å³ per atom, less than 70"),
        (dimer(2.3), {"volume_per_atom": (10, 60)}, None, "evaporated: 62.5 Å³ per atom, more than 60"),
        (dimer(2.5), {"max_neighbour_distance": 2.4}, None, "fell apart: 2 of 2 atoms have no neighbour within 2.4 Å"),
        (
            dimer(4.0, size=8),
            {"max_neighbour_factor": 1.6},
            None,
            "fell apart: 2 of 2 atoms have no neighbour within 1.6 sums of covalent radii",
        ),
        (dimer(3.5, size=8), {"max_neighbour_factor": 1.6}, None, None),
        (dimer(3.9, "Ar2", size=8), {"max_neighbour_factor": 1.6}, None, None),
        (dimer(2.3), {"max_force": 10.0}, [[0, 0, 12], [0, 0, -12]], "force of 12 eV/Å, more than 10"),
        (dimer(2.3), {"max_force": 10.0}, [[0, 0, np.nan], [0, 0, 0]], "force of nan eV/Å, more than 10"),
        (dimer(np.inf), {}, None, "a coordinate is not a finite number"),
        (Atoms("Si", cell=[1, 1, 0], pbc=True), {}, None, "cell is flat"),
        (Atoms(), {}, None, "has no atoms"),
    ],
)
def test_reasons(atoms, limits, forces, reason):
    assert why_absurd(atoms, Limits(**limits), None if forces is None else np.array(forces)) == reason


def test_sane_keeps_the_order_and_names_the_rest():
    selection = sane([dimer(2.3), dimer(1.0), dimer(2.4)], Limits(min_distance=2.0))
    assert selection.kept == [0, 2]
    assert list(selection.rejected) == [1]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"min_distance": -1.0}, "min_distance is -1.0, expected a number above 0"),
        ({"min_distance": {"Si-O": 0}}, "min_distance of Si-O is 0"),
        ({"min_distance": {"Si": 1.0}}, "'Si' is not a pair of elements"),
        ({"volume_per_atom": (30, 10)}, r"volume_per_atom is \(30, 10\)"),
        ({"max_force": float("inf")}, "max_force is inf"),
    ],
)
def test_limits_are_checked(limits, message):
    with pytest.raises(ValueError, match=message):
        Limits(**limits)


def test_fingerprint_does_not_depend_on_the_description_of_the_crystal():
    primitive, cubic = bulk("Si", "diamond", 5.43), bulk("Si", "diamond", 5.43, cubic=True)
    turned = primitive.copy()
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    np.testing.assert_allclose(fingerprint(cubic), fingerprint(primitive), atol=1e-8)
    np.testing.assert_allclose(fingerprint(turned), fingerprint(primitive), atol=1e-8)
    assert np.linalg.norm(fingerprint(bulk("Si", "bcc", 3.1)) - fingerprint(primitive)) > 1


def test_fingerprint_tells_elements_apart():
    rows = fingerprints([bulk("SiC", "zincblende", 4.36), bulk("Si", "diamond", 4.36), bulk("C", "diamond", 4.36)])
    distances = np.linalg.norm(rows[:, None] - rows[None, :], axis=2)
    assert (distances[np.triu_indices(3, 1)] > 1).all()
    with pytest.raises(ValueError, match=r"atomic numbers \[6\] are not among species \[14\]"):
        fingerprint(bulk("C", "diamond", 3.57), [14])


def test_unique_keeps_the_lowest_of_equals():
    points = np.array([[0.0], [0.01], [5.0], [5.01], [9.0]])
    selection = unique(points, 0.1, energies=[-1.0, -2.0, -4.0, -3.0, 0.0], known=np.array([[9.05]]))
    assert selection.kept == [2, 1]
    assert selection.rejected == {3: "duplicate of frame 2", 0: "duplicate of frame 1", 4: "duplicate of known frame 0"}


def test_unique_without_energies_keeps_the_first():
    assert unique(np.zeros((3, 2)), 0.0).kept == [0]
    with pytest.raises(ValueError, match="tolerance is -1"):
        unique(np.zeros((3, 2)), -1)


def test_lowest():
    selection = lowest([3.0, 1.0, 2.0], 2)
    assert selection.kept == [1, 2]
    assert selection.rejected == {0: "not among the 2 lowest in energy"}


def test_flat_boltzmann_is_flat_at_high_temperature_and_low_at_low():
    # Ten times more frames at high energy than at low; flat in energy means as many of each are drawn.
    energies = np.concatenate([np.linspace(0, 0.099, 20), np.linspace(0.9, 1.0, 200)])
    rng = np.random.default_rng(0)
    hot = np.mean([sum(i < 20 for i in flat_boltzmann(energies, 6, 1e6, rng).kept) for _ in range(200)])
    cold = np.mean([sum(i < 20 for i in flat_boltzmann(energies, 6, 0.05, rng).kept) for _ in range(200)])
    assert hot == pytest.approx(3.0, abs=0.5)
    assert cold > 5.9


def test_flat_boltzmann_is_reproducible_and_complete():
    energies = np.random.default_rng(1).normal(size=50)
    one, two = (flat_boltzmann(energies, 9, 0.1, np.random.default_rng(7)) for _ in range(2))
    assert one == two
    assert sorted([*one.kept, *one.rejected]) == list(range(50))
    assert len(flat_boltzmann(energies, 80, 0.1, np.random.default_rng(7)).kept) == 50
    assert flat_boltzmann([], 3, 0.1, np.random.default_rng(7)).kept == []


@pytest.mark.parametrize(("energies", "kt", "message"), [([0.0], 0.0, "kt is 0.0"), ([0.0, np.nan], 1.0, "number 1 is not")])
def test_flat_boltzmann_refuses(energies, kt, message):
    with pytest.raises(ValueError, match=message):
        flat_boltzmann(energies, 1, kt, np.random.default_rng(0))


def test_farthest():
    points = np.array([[0.0], [1.0], [10.0], [10.5]])
    selection = farthest(points, 3, known=np.array([[0.0]]), threshold=0.6)
    assert selection.kept == [3, 1]
    assert selection.rejected == {0: "familiar", 2: "familiar"}
    assert farthest(points, 1).kept == [0]
    short = farthest(points, 1, known=np.array([[0.0]]))
    assert short.kept == [3]
    assert short.rejected == {0: "familiar", 1: "not among the 1 least familiar", 2: "not among the 1 least familiar"}


# --- labels that can hardly be right ---


def labelled_cells(alloy_frames):
    return [atoms.copy() for atoms in alloy_frames]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a.info.update(REF_energy=a.info["REF_energy"] + 221 * len(a)), r"energy 22\d\.?\d* eV/atom above .* limit 50"),
        (
            lambda a: a.info.update(REF_energy=a.info["REF_energy"] - 60 * len(a)),
            r"energy [56]\d\.?\d* eV/atom below .* limit 50",
        ),
        (lambda a: a.arrays["REF_forces"].__setitem__((1, 2), 1.7e4), r"force of 1\.7e\+04 eV/Å, limit 200"),
        (lambda a: a.info.update(REF_virial=np.eye(3).reshape(9) * 300 * len(a)), "virial of 300 eV/atom, limit 200"),
    ],
)
def test_absurd_labels(alloy_frames, change, reason):
    """Also when several frames have them: one number does not move what the others say."""
    frames = labelled_cells(alloy_frames)
    assert absurd_labels(frames) == {}
    for i in (5, 9, 20):
        change(frames[i])
    found = absurd_labels(frames)
    assert sorted(found) == [5, 9, 20]
    assert all(re.fullmatch(f"{reason}", text) for text in found.values()), found


def test_dimers_may_repel_but_not_bind_without_bound(alloy_frames):
    frames = labelled_cells(alloy_frames)
    for number, energy in enumerate((300.0, -300.0)):
        dimer = Atoms("CuAu", positions=[(0, 0, 0), (0, 0, 1)], cell=[15.0] * 3, pbc=True)
        dimer.info = {"frame_id": f"dimer-{number}", "config_type": "dimer", "REF_energy": energy}
        dimer.arrays["REF_forces"] = np.array([[0, 0, 900.0], [0, 0, -900.0]])
        frames.append(dimer)
    assert list(absurd_labels(frames)) == [len(frames) - 1]
    assert absurd_labels([]) == {}
    assert absurd_labels(frames[:2]) == {}


def test_published_sets_are_not_absurd_but_for_one_frame(data):
    """A dimer of the published lithium-copper set is bound by 277 eV/atom."""
    from aiida_gaprss.io.extxyz import Keys, import_frames

    dft = Keys(energy="dft_energy", forces="dft_force", virial="dft_virial")
    ref = Keys(energy="REF_energy", forces="REF_forces", stress="REF_stress")
    plain = Keys(energy="energy", forces="forces", virial="virial")
    for path, keys, expected in (
        ("mlearn/Si_training.xyz.gz", dft, []),
        ("mlearn/Mo_training.xyz.gz", dft, []),
        ("boron/random_search_39.xyz", ref, []),
        ("licu/LiCu_iter0_fitting.xyz", ref, [110]),
        ("licu/LiCu_iter0_testing.xyz", ref, []),
        ("magnesium_strain/Mg_hcp_500.extxyz.gz", plain, []),
    ):
        frames = import_frames(data / path, keys)
        assert list(absurd_labels(frames)) == expected, path
        assert find_placeholders(frames) == [], path
