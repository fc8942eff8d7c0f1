"""Right labels with noise, and those that say little, are never called wrong; placeholders are."""

import re

import audit_frames
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from audit_frames import altered, forces_times, labelled, named, noisy, virial_times
from helpers import label

from aiida_gaprss.audit import CHECKS, audit
from aiida_gaprss.frames import set_labels
from aiida_gaprss.io.extxyz import Keys, import_frames
from aiida_gaprss.io.outputs import read_outputs


def faults(result):
    return {c.name: c.found for c in result.checks if c.verdict == "fault"}


def shaken(atoms, seed, by=0.1, strain=0.05):
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(by, rng=rng)
    return atoms


def relaxation(atoms, calculator, cell=True, steps=60):
    """Return the frames of a relaxation to its very end, with labels."""
    atoms = atoms.copy()
    atoms.calc = calculator
    frames = []
    optimiser = BFGS(FrechetCellFilter(atoms) if cell else atoms, logfile=None)
    for _ in optimiser.irun(fmax=1e-5, steps=steps):
        frames.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
        label(frames[-1], calculator)
    return named(frames)


SOFT = LennardJones(sigma=2.3, epsilon=0.4, rc=6.0, smooth=True)


def slab_cell():
    atoms = bulk("Cu", cubic=True) * (1, 1, 2)
    atoms.center(vacuum=6.0, axis=2)
    return atoms


def molecules():
    frames = []
    for number in range(24):
        atoms = molecule(("H2O", "CH4", "NH3", "CH3OH")[number % 4])
        atoms.center(vacuum=6.0)
        atoms.pbc = True
        frames.append(shaken(atoms, number, 0.05, 0.0))
    return labelled(named(frames))


#: Right labels that say little of one thing or another.
RIGHT = {
    "one atom, relaxed": lambda: relaxation(shaken(bulk("Cu"), 2, 0.0), EMT()),
    "three relaxations": lambda: named(
        [a for k in range(3) for a in relaxation(shaken(bulk("Cu", "hcp", a=2.6, c=4.2), k), EMT(), steps=30)]
    ),
    "fixed cell, relaxed": lambda: relaxation(shaken(bulk("Cu", cubic=True), 3, 0.2, 0.0), EMT(), cell=False),
    "Lennard-Jones, relaxed": lambda: relaxation(shaken(bulk("Ni", cubic=True), 4), SOFT),
    "slab, relaxed": lambda: relaxation(shaken(slab_cell(), 5, 0.1, 0.0), EMT(), cell=False),
    "energies and volumes": lambda: labelled(named([bulk("Cu", a=a, cubic=True) for a in np.linspace(3.3, 3.9, 25)])),
    "small strains": lambda: labelled(named([shaken(bulk("Cu", cubic=True), k, 0.0, 0.005) for k in range(24)])),
    "small displacements": lambda: labelled(named([shaken(bulk("Cu", cubic=True), k, 0.01, 0.0) for k in range(24)])),
    "large displacements": lambda: labelled(named([shaken(bulk("Cu", cubic=True), k, 0.4, 0.05) for k in range(24)])),
    "molecules": molecules,
}


@pytest.mark.parametrize("kind", RIGHT)
def test_right_labels_with_noise_are_never_wrong(kind):
    """Noise of the energies up to a meV/atom, of forces and virials ten times as large in their units."""
    frames = RIGHT[kind]()
    assert len(frames) > 20
    for level in (0.0, 1e-4, 1e-3):
        result = audit({"made here": noisy(frames, level, seed=1)}, skip=("outliers", "geometry"))
        assert not faults(result), level


def test_relaxation_with_jumps_of_the_basis():
    """A breathing cell near its minimum: energies follow the pressure, but jump by as much where the basis changes."""
    rng = np.random.default_rng(3)
    frames = []
    for step in range(50):
        frames.append(bulk("Cu", a=3.61 * (1 + 4e-4 * np.cos(step) * 0.97**step)))
    labelled(named(frames))
    jump = np.repeat(1e-4 * rng.normal(size=10), 5)
    for atoms, by in zip(frames, jump, strict=True):
        atoms.info["REF_energy"] += by
    result = audit({"made here": frames}, skip=("isolated atoms",))
    assert not faults(result)


@pytest.mark.parametrize(
    ("change", "finder", "words"),
    [(virial_times(-1), "virials", "virials are sign reversed"), (forces_times(1 / 25.711), "forces", "forces are in Ry/bohr")],
)
def test_mistakes_are_named_in_spite_of_noise(change, finder, words):
    frames = labelled(named([shaken(bulk("Cu", cubic=True), k, 0.05, 0.03) for k in range(40)]))
    wrong, _ = altered(noisy(frames, 1e-4, seed=2), 1, change)
    check = audit({"made here": wrong}, skip=("outliers",)).check(finder)
    assert check.verdict == "fault"
    assert any(words in sentence for sentence in check.found), check.found


def test_single_frames_are_not_wrong_by_chance():
    """Cells of so high symmetry that their forces are one number, which a poor model gets wrong by any factor or sign."""
    rng = np.random.default_rng(1)
    frames = []
    for _ in range(60):
        edges = rng.uniform(2.3, 3.4, size=3)
        frames.append(Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.5, 0.5, rng.uniform(0.35, 0.65))], cell=edges, pbc=True))
    labelled(named(frames))
    for atoms in frames:  # what no sum of pairs and angles knows of
        force = float(atoms.arrays["REF_forces"][0, 2])
        atoms.arrays["REF_forces"][:, 2] = np.array([1, -1]) * (force + rng.choice((-1, 1)) * 1.5 * abs(force))
    assert not audit({"made here": frames}, skip=("outliers", "geometry")).check("forces").frames


# --- placeholders ---


def without(kind):
    def change(atoms):
        if kind == "forces":
            atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
        elif "REF_virial" in atoms.info:
            atoms.info["REF_virial"] = np.zeros(9)

    return change


def half_a_tensor(atoms):
    if "REF_virial" in atoms.info:
        atoms.info["REF_virial"] = np.triu(np.reshape(atoms.info["REF_virial"], (3, 3))).ravel()


def one_virial(atoms):
    if "REF_virial" in atoms.info:
        atoms.info["REF_virial"] = np.array([1.5, 0.2, 0.1, 0.2, 1.0, 0.3, 0.1, 0.3, 2.0])


@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("virial"), "virials are exactly 0, which no calculation gives"),
        (without("forces"), "forces are exactly 0, which no calculation gives"),
        (half_a_tensor, "virials of which one half is missing, which no calculation gives"),
        (one_virial, "virials are one value again and again, which no calculation gives"),
    ],
)
def test_placeholders_are_faults(fraction, change, words):
    frames, changed = altered(audit_frames.copper(), fraction, change)
    result = audit({"made here": frames})
    assert result.check("labels").verdict == "fault"
    assert any(words in sentence for sentence in result.check("labels").found), result.check("labels").found
    assert len(changed & set(result.check("labels").frames)) > 0.8 * len(changed)
    assert list(faults(result)) == ["labels"], "what is no label is not judged as one"


def test_zeros_of_symmetry_are_labels():
    frames = [bulk("Cu", a=a, cubic=True) for a in np.linspace(3.4, 3.8, 5)]
    frames += [bulk("Cu", "hcp", a=a, c=1.63 * a) for a in np.linspace(2.4, 2.7, 5)]
    labelled(named(frames))
    for atoms in frames[:5]:
        atoms.arrays["REF_forces"][:] = 0.0
        atoms.info["REF_virial"] = atoms.info["REF_virial"] * np.eye(3).ravel()
    assert not faults(audit({"made here": frames}))


# --- what fell apart ---


def test_evaporated_cells():
    """A cell without neighbours has the energy 0 with a short-ranged potential; that is no placeholder, and no structure."""
    frames = [a.copy() for a in audit_frames.copper()]
    far = Atoms("Cu2", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[5.5] * 3, pbc=True)
    set_labels(far, 0.0, np.zeros((2, 3)), np.zeros(9))
    far.info.update(frame_id="far", config_type="random")
    result = audit({"made here": [*frames, far]}, skip=("energy zero",))
    assert result.check("labels").verdict == "ok"
    assert result.check("geometry").verdict == "warning"
    assert result.check("geometry").found == [
        "1 frames fell apart: in far 2 of 2 atoms have no neighbour within 1.6 sums of covalent radii"
    ]
    argon = bulk("Ar", a=5.26)
    argon.info.update(frame_id="solid", config_type="bulk")
    assert audit({"a": [argon]}, skip=[c for c in CHECKS if c != "geometry"]).verdict == "sound"


def test_absurd_labels_are_named():
    frames = [a.copy() for a in audit_frames.copper()]
    frames[3].info["REF_energy"] += 221.0 * len(frames[3])
    frames[4].arrays["REF_forces"][0] = (1.7e4, 0, 0)
    check = audit({"a": frames}, skip=[c for c in CHECKS if c != "outliers"]).check("outliers")
    assert any("2 labels are absurd" in sentence for sentence in check.found)


# --- real ones ---


@pytest.mark.parametrize(
    "name", ["castep/Si-geom-stress.castep.gz", "castep/H2-geom.castep.gz", "castep/N2-md.castep.gz", "vasp"]
)
def test_outputs_of_relaxations(data, name):
    path = data / name if name != "vasp" else data / "vasp/converged/OUTCAR.gz"
    frames = read_outputs([path]).frames
    assert frames
    assert not faults(audit({name: frames}, skip=("level of theory",)))


@pytest.mark.parametrize("name", ["aB12", "aGa", "gB28"])
def test_published_volumes(data, name):
    (path,) = (data / "boron").glob(f"tf_bulk_B_{name}_REF_relaxed*.xyz")
    frames = import_frames(path, Keys(energy="REF_energy"))
    assert not faults(audit({name: frames}))


@pytest.mark.parametrize("excess", [-3.0, 2.0])
@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_constant_pressure_shows_along_paths(excess, noise):
    """A model of 25 terms takes it up, as all cells are much the same; the energies of strained cells know nothing of it."""
    rng, frames = np.random.default_rng(5), []
    for _ in range(60):
        atoms = bulk("Mg", "hcp", a=3.2, c=5.2)
        atoms.symbols = "Cu2"
        atoms.set_cell(atoms.cell.array @ (np.eye(3) * 0.8 + rng.uniform(-0.01, 0.01, (3, 3))), scale_atoms=True)
        frames.append(atoms)
    frames = labelled(named(frames))
    for atoms in frames:
        atoms.info["REF_energy"] += rng.normal(0, noise) * len(atoms)
    assert audit({"right": frames}).check("virials").verdict == "ok"

    def pulay(atoms):
        atoms.info["REF_virial"] = atoms.info["REF_virial"] + excess * len(atoms) * np.eye(3).ravel()

    wrong = audit({"wrong": altered(frames, 1.0, pulay)[0]}).check("virials")
    assert wrong.verdict == "fault"
    found = float(
        re.search(r"virials have ([+-][\d.]+) eV/atom that energies and forces know nothing of", " ".join(wrong.found))[1]
    )
    assert found == pytest.approx(excess, rel=0.1)
