"""Labels that are placeholders: found where they stand in for a number, and not where symmetry demands a zero."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.spacegroup import crystal
from helpers import label

from aiida_gaprss import frames as fr
from aiida_gaprss.audit.placeholders import find_placeholders, nothing_acts


def distorted(number=12, seed=1):
    """Cells without symmetry and with labels, as of a search."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        atoms = bulk("Cu", a=3.6, cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.1, (4, 3))
        label(atoms, EMT())
        frames.append(fr.canonical(atoms))
    return frames


def kinds(frames):
    return {(p.label, p.kind): sorted(p.reasons) for p in find_placeholders(frames)}


def test_right_labels_of_symmetric_and_other_cells_are_none():
    frames = distorted()
    for name, a in (("fcc", 3.5), ("bcc", 2.9), ("sc", 2.4), ("hcp", 2.6)):
        for scale in (0.95, 1.0, 1.05):
            frames.append(bulk("Cu", name, a=a * scale))
            frames.append(bulk("Cu", name, a=a * scale).repeat(2))
    sheared = bulk("Cu", "fcc", a=3.7, cubic=True)
    sheared.set_cell(sheared.cell.array @ np.array([[1, 0.05, 0], [0.05, 1, 0], [0, 0, 1.02]]), scale_atoms=True)
    layer = fcc111("Cu", (1, 1, 3), vacuum=6.0, periodic=True)
    wyckoff = crystal(["Cu", "Au"], [(0, 0, 0), (0.3, 0.3, 0)], spacegroup=136, cellpar=[4.6, 4.6, 3.0, 90, 90, 90])
    frames += [sheared, layer, wyckoff]
    for atoms in frames:
        label(atoms, EMT())
    assert kinds([fr.canonical(atoms) for atoms in frames]) == {}


def test_the_end_of_a_relaxation_has_equal_energies():
    """To the digits that are printed: steps that end within thousandths of an Å of the minimum."""
    frames = []
    for number, a in enumerate([*np.linspace(3.9, 3.65, 10), *np.linspace(3.5885, 3.5915, 20)]):
        atoms = bulk("Cu", a=a, cubic=True)
        atoms.positions[0, 0] += 0.1 if number < 10 else 0.0
        label(atoms, EMT())
        frames.append(fr.canonical(atoms))
        frames[-1].info["REF_energy"] = round(frames[-1].info["REF_energy"], 5)
    assert max(Counter(f.info["REF_energy"] for f in frames).values()) > 2
    assert kinds(frames) == {}


def test_where_nothing_acts_zeros_are_true():
    gas = Atoms("Cu2", positions=[(0, 0, 0), (6, 6, 6)], cell=[12.0] * 3, pbc=True)
    dimer = Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 2.2)], cell=[12.0] * 3, pbc=True, info={"config_type": "dimer"})
    atom = Atoms("Cu", cell=[12.0] * 3, pbc=True, info={"config_type": "isolated_atom"})
    for atoms in (gas, dimer, atom):
        fr.set_labels(atoms, 0.0, np.zeros((len(atoms), 3)), np.zeros(9))
    assert nothing_acts(gas)
    assert not nothing_acts(dimer)
    assert kinds([*distorted(), gas, dimer, atom]) == {}


def zero(name, part):
    def change(frames):
        for atoms in frames[::part]:
            store = atoms.arrays if name == "forces" else atoms.info
            store[f"REF_{name}"] = np.zeros_like(store[f"REF_{name}"]) if name != "energy" else 0.0

    return change


def each(change):
    return lambda frames: [change(atoms) for atoms in frames]


def triangle(side):
    def change(atoms):
        tensor = atoms.info["REF_virial"].reshape(3, 3)
        atoms.info["REF_virial"] = (np.triu(tensor) if side == "upper" else np.tril(tensor)).reshape(9)

    return change


def held(atoms):
    atoms.arrays["REF_forces"][:2] = 0


def along_one_axis(atoms):
    atoms.arrays["REF_forces"][:, 2] = 0


def constrained(atoms):
    atoms.info["REF_virial"][[1, 2, 3, 5, 6, 7]] = 0


def one_shear(atoms):
    atoms.info["REF_virial"][[1, 3]] = 0


def pressure(atoms):
    atoms.info["REF_virial"] = np.eye(3).reshape(9) * atoms.info["REF_virial"][0]


def skewed(atoms):
    atoms.info["REF_virial"][1] += 1.0


def one_virial(frames):
    for atoms in frames[4:8]:
        atoms.info["REF_virial"] = frames[0].info["REF_virial"]


def one_block(frames):
    frames[5].arrays["REF_forces"] = frames[4].arrays["REF_forces"].copy()


def last_energy(frames):
    for atoms in frames[:6]:
        atoms.info["REF_energy"] = frames[6].info["REF_energy"]


@pytest.mark.parametrize(
    ("change", "expected", "where"),
    [
        (zero("energy", 1), ("energy", "energies that are exactly 0"), range(12)),
        (zero("virial", 1), ("virial", "virials that are exactly 0"), range(12)),
        (zero("virial", 3), ("virial", "virials that are exactly 0"), range(0, 12, 3)),
        (zero("forces", 1), ("forces", "forces that are exactly 0"), range(12)),
        (zero("forces", 4), ("forces", "forces that are exactly 0"), range(0, 12, 4)),
        (each(triangle("upper")), ("virial", "virials of which one half is missing"), range(12)),
        (each(triangle("lower")), ("virial", "virials of which one half is missing"), range(12)),
        (each(held), ("forces", "forces that are exactly 0 in part"), range(12)),
        (each(along_one_axis), ("forces", "forces that are exactly 0 in part"), range(12)),
        (each(constrained), ("virial", "virials that are exactly 0 in part"), range(12)),
        (each(one_shear), ("virial", "virials that are exactly 0 in part"), range(12)),
        (each(skewed), ("virial", "virials that are not symmetric"), range(12)),
        (each(pressure), ("virial", "virials that are one value again and again"), range(12)),
        (one_virial, ("virial", "virials that are one value again and again"), [0, 4, 5, 6, 7]),
        (one_block, ("forces", "forces that are one value again and again"), [4, 5]),
        (last_energy, ("energy", "energies that are one number"), range(7)),
    ],
)
def test_every_kind_is_found_and_only_there(change, expected, where):
    frames = distorted()
    change(frames)
    assert kinds(frames) == {expected: list(where)}


def test_zero_virial_of_a_strained_crystal():
    """Symmetry takes shear away, never the pressure."""
    crystals = []
    for scale in (0.94, 0.97, 1.03):
        crystals.append(bulk("Cu", a=3.6 * scale))
        label(crystals[-1], EMT())
        crystals[-1].info["REF_virial"] = np.zeros(9)
    assert kinds(crystals) == {("virial", "virials that are exactly 0"): [0, 1, 2]}


def test_the_same_structure_may_have_the_same_labels():
    frames = distorted(3)
    shifted = frames[0].copy()
    shifted.positions += 0.7
    shifted.wrap()
    larger = frames[1].copy()
    assert kinds([*frames, shifted, larger, larger.copy()]) == {}


def test_numbers_of_few_digits_are_not_blamed_for_chance():
    """Near the minimum a force of two decimals is 0 now and then."""
    rng = np.random.default_rng(0)
    frames = distorted(10)
    for atoms in frames:
        atoms.arrays["REF_forces"] = np.round(rng.normal(0, 0.02, (4, 3)), 2)
        atoms.info["REF_virial"] = np.round(atoms.info["REF_virial"] * 0.01, 2)
        atoms.info["REF_virial"][[3, 6, 7]] = atoms.info["REF_virial"][[1, 2, 5]]
        atoms.info["REF_energy"] = round(atoms.info["REF_energy"], 1)
    found = find_placeholders(frames)
    assert [p for p in found if "in part" in p.kind or p.label == "energy"] == []


def test_other_prefix_and_missing_labels():
    frames = distorted(3)
    for atoms in frames:
        atoms.info["PRED_virial"] = np.zeros(9)
        del atoms.info["REF_virial"]
    assert find_placeholders(frames) == []
    (found,) = find_placeholders(frames, "PRED")
    assert found.reasons[0] == "its virial is exactly 0"


def test_a_flat_sheet_and_a_molecule_in_a_box():
    """A short-ranged potential has true zeros across a flat sheet."""
    sheet = graphene(vacuum=8.0)
    sheet.pbc = True
    water = molecule("N2", cell=[12.0] * 3, pbc=True)
    water.center()
    for atoms in (sheet, water):
        label(atoms, LennardJones(sigma=1.2, rc=3.0))
    assert kinds([fr.canonical(sheet), fr.canonical(water)]) == {}


def test_along_a_screw_axis_forces_are_zero():
    """No site there has any symmetry: all atoms would be pulled alike along the axis, and nothing is left over."""
    rng, frames = np.random.default_rng(4), []
    for a, c, x, y in rng.uniform((3.4, 7.5, 0.1, 0.3), (3.8, 8.5, 0.2, 0.4), (12, 4)):
        places = [(x, y, 0), (-y, x, 0.25), (-x, -y, 0.5), (y, -x, 0.75)]
        atoms = Atoms("Cu4", scaled_positions=places, cell=[a, a, c], pbc=True)
        label(atoms, EMT())
        assert np.abs(atoms.arrays["REF_forces"]).max() > 0.05
        assert np.abs(atoms.arrays["REF_forces"][:, 2]).max() < 1e-9
        atoms.arrays["REF_forces"] = np.round(atoms.arrays["REF_forces"], 8) + 0.0
        frames.append(atoms)
    assert kinds(frames) == {}
    for atoms in frames[:4]:
        atoms.arrays["REF_forces"][:, 1] = 0
    assert {label for label, _ in kinds(frames)} == {"forces"}


def test_pairs_that_see_nothing_else():
    """Dimers in a lattice, beyond the range of the potential: all of the virial is along them, to the digits that are kept."""
    rng, frames = np.random.default_rng(6), distorted()
    for d in rng.uniform(2.2, 2.6, 3):
        atoms = Atoms("Cu2", positions=[(0, 0, 0), (0, d, 1e-6)], cell=[9.0, 10.0, 11.0], pbc=True)
        label(atoms, LennardJones(sigma=2.2, epsilon=0.5, rc=4.0))
        atoms.info["REF_virial"] = np.round(atoms.info["REF_virial"], 8) + 0.0
        assert np.count_nonzero(atoms.info["REF_virial"]) == 3
        frames.append(atoms)
    assert kinds(frames) == {}
