"""Children of crystals: heredity by cut and splice, permutation of species, lattice strain, with the operators of ase-ga.

The operators are those of evolutionary searches: Deaven and Ho, PRL 75, 288 (1995); Glass, Oganov and Hansen, Comp. Phys. Comm.
175, 713 (2006); Lonie and Zurek, Comp. Phys. Comm. 182, 372 (2011). Here each is applied once, at any distances; whether a child
will do is decided as for random cells.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import spglib
from ase import Atoms
from ase_ga.cutandsplicepairing import CutAndSplicePairing
from ase_ga.standardmutations import PermutationMutation, StrainMutation
from ase_ga.utilities import CellBounds

from aiida_gaprss.structures.building import DECIMALS, STEPS, Assembly, Body, minimum_of
from aiida_gaprss.structures.checks import Separations
from aiida_gaprss.structures.packing import OutOfWork, TooWide, Work, push_apart
from aiida_gaprss.structures.packing import separations as distances
from aiida_gaprss.structures.spacegroups import Site, primitive_operations

#: Part of their separation down to which two atoms of a child may be near, and are pushed apart; nearer ones refuse it.
LOOSE = 0.7

#: Part of the atoms that each parent gives at least, as USPEX has it.
LEAST_PART = 0.25

#: Makes a child of parents, None if it did not succeed; atoms may be at any distance.
Operator = Callable[[Sequence[Atoms], np.random.RandomState], Atoms | None]


def generator(seed: int) -> np.random.RandomState:
    """Return the generator of a seed, of the kind that ase-ga asks for."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))


def standardised(atoms: Atoms) -> Atoms:
    """Return the bare atoms, sorted by species, in Niggli's reduced cell: a along x, b in the xy plane, right-handed."""
    lattice = spglib.niggli_reduce(atoms.cell.array)
    lattice = atoms.cell.array if lattice is None else lattice
    lattice = lattice * np.sign(np.linalg.det(lattice))  # right-handed
    order = np.argsort(atoms.numbers, kind="stable")
    scaled = np.round(atoms.positions[order] @ np.linalg.inv(lattice), DECIMALS) % 1.0
    out = Atoms(atoms.numbers[order], cell=lattice, pbc=True)
    out.cell = out.cell.standard_form()[0]
    out.set_scaled_positions(scaled)
    return out


def heredity(parents: Sequence[Atoms], rng: np.random.RandomState) -> Atoms | None:
    """Return a slab of one parent joined to a slab of the other, in a cell between theirs.

    :param parents: two of one composition, :func:`standardised`, of two atoms or more.
    """
    number = len(parents[0])
    part = max(LEAST_PART, 1 / number)
    limits = _any_distance(parents[0])
    operator = CutAndSplicePairing(Atoms(pbc=True), number, limits, 3, minfrac=part, rng=rng)
    return operator.cross(*(atoms.copy() for atoms in parents))


def permutation(parents: Sequence[Atoms], rng: np.random.RandomState) -> Atoms | None:
    """Return the parent with pairs of atoms of different species exchanged, one pair for six atoms; its cell is kept."""
    (parent,) = parents
    return PermutationMutation(len(parent), rng=rng).mutate(parent.copy())


def strain(deviation: float) -> Operator:
    """Return the operator that strains a parent at its volume; scaled positions are kept.

    :param deviation: standard deviation of the components of the strain matrix (of those off the diagonal: half of it).
    """

    def operator(parents: Sequence[Atoms], rng: np.random.RandomState) -> Atoms | None:
        (parent,) = parents
        mutation = StrainMutation(_any_distance(parent), cellbounds=CellBounds(), stddev=deviation, rng=rng)
        return mutation.mutate(parent.copy())

    return operator


def child_of(
    parents: Sequence[Atoms], operator: Operator, separations: Separations, aspect: float, rng: np.random.RandomState
) -> Atoms | None:
    """Return a child in its reduced cell, no two atoms of which are nearer than their separation; None if there is none.

    :param parents: :func:`standardised`. :param aspect: largest ratio of two lattice vectors.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's of divisions, on the way to cells that are refused
        raw = operator(parents, rng)
    if raw is None:
        return None
    child = standardised(raw)
    lengths = child.cell.lengths()
    if not lengths.max() <= aspect * lengths.min():
        return None
    try:
        return _pushed_apart(child, separations)
    except (TooWide, OutOfWork):
        return None


def _pushed_apart(atoms: Atoms, separations: Separations) -> Atoms | None:
    """Return the atoms in the same cell, at their separations; None if some are much nearer, or do not come apart.

    :raises TooWide: if distances reach over too many lattice points. :raises OutOfWork: after too many of them.
    """
    lattice = atoms.cell.array
    sites = [Site(point, np.eye(3), np.array([0])) for point in atoms.get_scaled_positions()]
    bodies = [Body(site, (s,), np.zeros((1, 3)), turns=False) for site, s in zip(sites, atoms.symbols, strict=True)]
    assembly = Assembly(primitive_operations(1), lattice, bodies)
    minimum = minimum_of(assembly.symbols, separations)

    def near(part: float) -> bool:
        kept = part * minimum - 1e-9
        return bool((distances(assembly.fractional(), lattice, float(minimum.max()), assembly.same) < kept).any())

    if near(LOOSE) or not push_apart(assembly, lattice, minimum, STEPS, Work()) or near(1.0):
        return None
    return Atoms(assembly.symbols, scaled_positions=np.round(assembly.fractional(), DECIMALS) % 1.0, cell=lattice, pbc=True)


def _any_distance(atoms: Atoms) -> dict[tuple[int, int], float]:
    """Return, by pairs of atomic numbers, the least distance (Å) that ase-ga is to keep: none."""
    present = {int(z) for z in atoms.numbers}
    return {(a, b): 0.0 for a in present for b in present}
