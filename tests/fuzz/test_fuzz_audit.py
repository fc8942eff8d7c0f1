"""The audit: mistakes made in random parts of right data are found, right data with noise are not called wrong."""

import audit_frames
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from audit_frames import CORRUPTIONS, altered, labelled, named, noisy
from fuzzing import Tally

from aiida_gaprss.audit import AuditSettings, audit
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

#: What a user would leave out for data as wild as these.
SKIP = ("outliers", "geometry", "level of theory")
FEW = AuditSettings(fit_atoms=250)


@pytest.fixture(scope="module")
def copper_gold():
    return audit_frames.copper_gold()


def test_mistakes_are_found(copper_gold, times):
    """Every kind in turn, in a random part of random data."""
    tally = Tally("audit, mistakes", seconds=60)
    rng = np.random.default_rng(14)
    names = rng.permutation(list(CORRUPTIONS))
    for number in range(times(2)):
        name = names[number % len(names)]
        fraction, change, finder, words = CORRUPTIONS[name]
        cells = [copper_gold[i] for i in (0, 1, *(2 + np.sort(rng.permutation(60)[:45])))]
        frames, _ = altered(cells, max(fraction, 0.25) if fraction < 1 else 1, change, seed=int(rng.integers(1000)))
        result = tally.attempt(name, lambda frames=frames: audit({"made here": frames}, settings=FEW, skip=SKIP))
        # What a part of the frames hides in so few the audit may leave open, if it says so.
        found = {"fault", "warning"} if fraction == 1 else {"fault", "warning", "not judged"}
        if result is not None and result.check(finder).verdict not in found:
            tally.fault("changed", name, f"{words} is not found: {result.check(finder).found}")
    tally.check()


def lattice(rng):
    symbol = str(rng.choice(["Cu", "Al", "Ni", "Pd", "Ag", "Au", "Pt"]))
    structure = str(rng.choice(["fcc", "bcc", "sc"]))
    edge = {"fcc": 1.0, "bcc": 0.79, "sc": 0.63}[structure] * bulk(symbol, "fcc").cell.lengths()[0] * np.sqrt(2)
    return bulk(symbol, structure, a=edge, cubic=bool(rng.integers(2)))


def shaken(atoms, rng, by, strain):
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += by * rng.normal(size=atoms.positions.shape)
    return atoms


def relaxed(rng):
    atoms = shaken(lattice(rng), rng, 0.1, 0.04)
    atoms.calc = EMT()
    frames = []
    for _ in FIRE(FrechetCellFilter(atoms), logfile=None).irun(fmax=1e-4, steps=40):
        frames.append(atoms.copy())
    return frames


def around(rng):
    atoms, by, strain = lattice(rng), 10 ** rng.uniform(-3, -0.5), 10 ** rng.uniform(-3, -1)
    return [shaken(atoms, rng, by, strain) for _ in range(25)]


def volumes(rng):
    atoms = shaken(lattice(rng), rng, 0.05, 0.0)
    frames = []
    for factor in np.linspace(0.9, 1.1, 25):
        frames.append(atoms.copy())
        frames[-1].set_cell(atoms.cell * factor, scale_atoms=True)
    return frames


def scattered(rng):
    spec = CellSpec({"Cu": 1}, n_atoms=(2, 4), volume_per_atom=(10, 18), min_separation=2.1)
    return list(random_cells(spec, 25, seed=int(rng.integers(10**6))))


def test_right_labels_are_never_wrong(times):
    tally = Tally("audit, right labels", seconds=60)
    rng = np.random.default_rng(15)
    kinds = (relaxed, around, volumes, scattered)
    for number in range(times(4)):
        kind = kinds[number % len(kinds)]
        level = float(rng.choice([0.0, 10 ** rng.uniform(-6, -3)]))
        frames = noisy(labelled(named(kind(rng))), level, seed=number)
        name = f"{number} {kind.__name__} of {frames[0].get_chemical_formula()}, noise {level:.1e} eV/atom"
        result = tally.attempt(name, lambda frames=frames: audit({"made here": frames}, settings=FEW, skip=SKIP))
        for check in result.checks if result is not None else ():
            if check.verdict == "fault":
                tally.fault("changed", name, f"{check.name}: {check.found[0]}")
    tally.check()
