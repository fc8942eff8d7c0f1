"""Which frames the audit takes for the same structure."""

import audit_frames
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal
from audit_frames import labelled, named

from aiida_gaprss.audit import CHECKS, audit
from aiida_gaprss.frames import set_labels
from aiida_gaprss.io.extxyz import Keys, import_frames
from aiida_gaprss.selection.fingerprints import fingerprints


@pytest.fixture(scope="session")
def copper_gold():
    return audit_frames.copper_gold()


def duplicates(frames):
    return audit({"made here": frames}, skip=[c for c in CHECKS if c != "duplicates"]).check("duplicates")


def with_energies(frames, per_atom):
    for number, (atoms, energy) in enumerate(zip(frames, per_atom, strict=True)):
        set_labels(atoms, energy * len(atoms))
        atoms.info.update(frame_id=f"frame-{number}", config_type="bulk")
    return frames


def turned_supercell(atoms):
    """The same structure as a turned supercell with its atoms in another order."""
    out = make_supercell(atoms, [[2, 0, 0], [1, 1, 0], [0, 0, 1]])
    out.rotate(40, (1, 2, 3), rotate_cell=True)
    out = out[np.random.default_rng(3).permutation(len(out))]
    out.info.update(atoms.info, frame_id="again")
    out.info["REF_energy"] = 2 * atoms.info["REF_energy"]
    return out


def test_duplicates(copper_gold):
    assert duplicates(copper_gold).verdict == "ok"
    source = copper_gold[5]
    again = turned_supercell(source)
    check = duplicates([*copper_gold, again])
    assert check.verdict == "warning"
    assert set(check.frames) == {source.info["frame_id"], "again"}

    again.info["REF_energy"] += 0.004 * len(again)
    assert duplicates([*copper_gold, again]).verdict == "warning"
    again.info["REF_energy"] += 0.003 * len(again)
    check = duplicates([*copper_gold, again])
    assert check.verdict == "fault"
    assert "differ by 0.007 eV/atom" in check.found[0]

    moved = source.copy()
    moved.positions[0] += (0.006, 0, 0)
    moved.info["frame_id"] = "moved"
    assert duplicates([*copper_gold, moved]).verdict == "ok"


def test_one_displaced_atom_is_no_duplicate():
    """As in a phonon calculation: distances change in second order, or in pairs of opposite sign."""
    perfect = bulk("Cu", cubic=True) * (2, 2, 2)
    frames = []
    for shift in (0.0, 0.01, 0.02):
        atoms = perfect.copy()
        atoms.positions[0, 0] += shift
        frames.append(atoms)
    labelled(named(frames))
    assert duplicates(frames).verdict == "ok"


def layers(where, spacing=1.9):
    """Return eight square layers, of which those at ``where`` are gold and the others copper."""
    symbols = ["Au" if n in where else "Cu" for n in range(8)]
    return Atoms(symbols, positions=[(0, 0, n * spacing) for n in range(8)], cell=[2.8, 2.8, 8 * spacing], pbc=True)


def test_homometric_decorations_are_two_structures():
    """{0, 1, 3, 4} and {0, 1, 2, 5} modulo 8 have all differences in common, so that the layers have all distances."""
    one, other = layers((0, 1, 3, 4)), layers((0, 1, 2, 5))
    assert np.allclose(np.sort(one.get_all_distances(mic=True), axis=None), np.sort(other.get_all_distances(mic=True), axis=None))
    assert duplicates(with_energies([one, other], (-3.0, -3.02))).verdict == "ok"
    mirrored = layers((7, 6, 5, 2))
    check = duplicates(with_energies([one, other, mirrored], (-3.0, -3.02, -3.02)))
    assert check.verdict == "warning"
    assert check.frames == ["frame-1", "frame-2"]
    # A campaign that dropped one of them as a duplicate would never see it.
    prints = fingerprints([one, other, mirrored])
    assert np.linalg.norm(prints[0] - prints[1]) > 0.1
    assert np.linalg.norm(prints[1] - prints[2]) < 1e-8


def test_decorations_of_a_lattice():
    """All ways to put two gold atoms into 2×2×2 cells of fcc copper, of which three are different."""
    frames = []
    for second in range(1, 8):
        atoms = bulk("Cu", a=3.8) * (2, 2, 2)
        atoms.symbols[[0, second]] = "Au"
        frames.append(atoms)
    labelled(named(frames))
    energies = {round(a.info["REF_energy"], 5) for a in frames}
    check = duplicates(frames)
    assert check.verdict == "warning"
    assert check.numbers["structures"] + (7 - len(check.frames)) == len(energies)


def test_mirror_images_are_one_structure():
    """Quartz of either hand has the same energy."""
    right = crystal(
        ["Si", "O"], [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)], spacegroup=152, cellpar=[4.91, 4.91, 5.40, 90, 90, 120]
    )
    left = right.copy()
    left.set_cell(right.cell.array * [1, 1, -1])
    left.positions = right.positions * [1, 1, -1]
    assert duplicates(with_energies([right, left], (-6.0, -6.0))).verdict == "warning"
    assert duplicates(with_energies([right, left], (-6.0, -6.02))).verdict == "fault"


def test_noise_of_energies_is_no_second_level():
    """Fifty times the same cell, as at the end of a relaxation, with energies that scatter by a meV/atom."""
    scatter = 1.3e-3 * np.random.default_rng(0).normal(size=50)
    assert np.ptp(scatter) > 0.005
    frames = [bulk("Cu", cubic=True) for _ in scatter]
    assert duplicates(with_energies(frames, -3.5 + scatter)).verdict == "warning"
    assert duplicates(with_energies(frames, -3.5 + scatter + 0.02 * (np.arange(50) % 2))).verdict == "fault"


def test_a_slow_relaxation_is_not_one_structure():
    """Each step is within the tolerance of the next, and meV below it; the first and the last are not the same."""
    frames = []
    for edge in np.linspace(3.40, 3.46, 31):
        frames.append(bulk("Cu", a=edge, cubic=True))
    labelled(named(frames))
    energies = np.array([a.info["REF_energy"] / len(a) for a in frames])
    assert np.abs(np.diff(energies)).max() > 0.003
    assert duplicates(frames).verdict != "fault"


def test_twice_in_published_silicon(data):
    """Strains that cubic symmetry makes equal, some of them in training and test set."""
    keys = Keys(energy="dft_energy", forces="dft_force", virial="dft_virial")
    frames = {name: import_frames(data / f"mlearn/{name}.xyz.gz", keys) for name in ("Si_training", "Si_test")}
    check = audit(frames, skip=[c for c in CHECKS if c != "duplicates"]).check("duplicates")
    assert check.verdict == "warning"
    assert sum(name.startswith("Si_test") for name in check.frames) == 6
