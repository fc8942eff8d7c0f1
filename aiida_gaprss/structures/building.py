"""One trial of a random cell: lattice, symmetry, atoms and rigid units at random, pushed apart until they keep their distance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import spglib
from ase import Atoms
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from aiida_gaprss.structures.checks import GivenUpError, RandomCellError, Separations
from aiida_gaprss.structures.packing import MOST_WORK, OutOfWork, TooWide, Work, lattice_shifts, push_apart, separations
from aiida_gaprss.structures.spacegroups import Operations, Site, primitive_operations, random_lattice, random_site

#: Different contents drawn for one cell, and random trials for each, before giving up.
DRAWS, TRIALS = 20, 100
#: Steps of the repulsion in one trial.
STEPS = 200
#: Of fractional coordinates.
DECIMALS = 9


@dataclass(frozen=True)
class Shape:
    """Which lattices are drawn.

    ``aspect``: largest ratio of two lattice vectors of the reduced cell. ``angles``: range of the angles before the cell is
    reduced, degrees. ``flatness``: smallest volume of the cell of these angles with edges of length 1. ``reduced``: take
    Niggli's reduced cell.
    """

    aspect: float = 4.0
    angles: tuple[float, float] = (50.0, 130.0)
    flatness: float = 0.1
    reduced: bool = True


@dataclass(frozen=True, eq=False)
class Unit:
    """Atoms that keep their places relative to each other; a single atom is the smallest.

    ``offsets`` (m, 3), Å, from the centre. ``start``: where the centre is at first, Å; None: anywhere. ``reach``: radius (Å) of
    the ball around ``start`` it is drawn from. ``turn``: largest angle of its random rotation, degrees; None: any orientation.
    ``fixed``: neither drawn nor pushed. ``solid``: no other atom may lie inside its convex hull.
    """

    symbols: tuple[str, ...]
    offsets: np.ndarray
    start: np.ndarray | None = None
    reach: float = 0.0
    turn: float | None = None
    fixed: bool = False
    solid: bool = False

    def placed(self, lattice: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return a fractional position (3,) and the offsets (m, 3), Å, in an orientation."""
        inverse = np.linalg.inv(lattice)
        if self.fixed and self.start is not None:
            return self.start @ inverse, self.offsets
        if self.start is None:
            point = rng.random(3)
        else:
            direction = rng.normal(size=3)
            radius = self.reach * rng.random() ** (1 / 3)  # uniform in the ball
            point = (self.start + radius * direction / np.linalg.norm(direction)) @ inverse
        if len(self.symbols) == 1:
            return point, self.offsets
        if self.turn is None:
            return point, Rotation.from_quat(rng.normal(size=4)).apply(self.offsets)
        axis = rng.normal(size=3)
        angle = np.radians(self.turn) * rng.random()
        return point, Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).apply(self.offsets)


@dataclass(frozen=True, eq=False)
class Recipe:
    """What one trial is made of.

    ``volume`` of the primitive cell, Å³; ``atoms``, number of single atoms of every element; ``units`` in general positions, each
    standing for as many as there are operations; ``lattice`` (3, 3), Å, where it is not random (only without symmetry);
    ``jitter``: Å by which every atom is displaced to break the symmetry, None to keep it.
    """

    volume: float
    space_group: int
    separations: Separations
    atoms: Mapping[str, int] = field(default_factory=dict)
    units: Sequence[Unit] = ()
    shape: Shape = Shape()
    lattice: np.ndarray | None = None
    jitter: float | None = None

    @property
    def order(self) -> int:
        """Number of operations."""
        return len(primitive_operations(self.space_group))

    @property
    def total(self) -> int:
        """Number of atoms of the cell."""
        return sum(self.atoms.values()) + self.order * sum(len(unit.symbols) for unit in self.units)


class Spec(Protocol):
    """What random cells are made of: draws one recipe after another."""

    def recipes(self, rng: np.random.Generator, draws: int, trials: int) -> Iterator[Recipe]:
        """Yield recipes, ``trials`` for each of ``draws`` contents; the generator is used by the trials in between as well."""

    def limits(self) -> str:
        """Return, for a message, what the atoms did not keep."""


@dataclass(frozen=True, eq=False)
class Body:
    """A unit or atom at a site of the cell."""

    site: Site
    symbols: tuple[str, ...]
    offsets: np.ndarray
    turns: bool
    solid: bool = False


class Assembly:
    """Bodies and their images under symmetry; only one body of every orbit is followed, the images go along."""

    def __init__(self, operations: Operations, lattice: np.ndarray, bodies: Sequence[Body]) -> None:
        """Set up the images: for every body, one after another, its atoms under each operation."""
        self.inverse = np.linalg.inv(lattice)
        self.points = np.array([body.site.point for body in bodies])
        self.freedom = np.array([body.site.freedom for body in bodies])
        self.offsets = np.concatenate([body.offsets for body in bodies])
        sizes = [len(body.symbols) for body in bodies]
        self.owner = np.repeat(np.arange(len(bodies)), sizes)
        ends = np.cumsum(sizes)
        slices = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.turning = [atoms for body, atoms in zip(bodies, slices, strict=True) if body.turns]
        self.solid = [(index, atoms) for index, (body, atoms) in enumerate(zip(bodies, slices, strict=True)) if body.solid]
        self.symbols: list[str] = []
        atoms, rotations, translations, followed = [], [], [], []
        images: list[int] = []
        count = 0
        for body, end, size in zip(bodies, ends, sizes, strict=True):
            members = body.site.members
            followed.append(len(self.symbols) + np.arange(size))  # the first operation is the identity
            self.symbols += list(body.symbols) * len(members)
            atoms.append(np.tile(np.arange(end - size, end), len(members)))
            rotations.append(np.repeat(operations.rotations[members], size, axis=0))
            translations.append(np.repeat(operations.translations[members], size, axis=0))
            images += [count + number for number in range(len(members)) for _ in range(size)]
            count += len(members)
        self.atoms = np.concatenate(atoms)
        self.rotations = np.concatenate(rotations)
        self.translations = np.concatenate(translations)
        self.representatives = np.concatenate(followed)
        self.same = np.equal.outer(images, images)

    def fractional(self) -> np.ndarray:
        """Return the fractional coordinates of all atoms, shape (n, 3), those of one body side by side."""
        own = self.points[self.owner] + self.offsets @ self.inverse
        return np.einsum("nij,nj->ni", self.rotations, own[self.atoms]) + self.translations

    def move(self, push: np.ndarray) -> None:
        """Shift every body by the sum of the pushes (Å) on its atoms, and turn it by their torque."""
        shift = np.zeros_like(self.points)
        np.add.at(shift, self.owner, push @ self.inverse)
        self.points = self.points + np.einsum("oij,oj->oi", self.freedom, shift)
        for atoms in self.turning:
            arms = self.offsets[atoms]
            torque = np.cross(arms, push[atoms]).sum(axis=0)
            # A push on the outermost atom moves it by that much.
            turn = torque / max((arms**2).sum(axis=1).max(), 1e-6)
            self.offsets[atoms] = Rotation.from_rotvec(turn).apply(arms)

    def entered(self, lattice: np.ndarray) -> bool:
        """Tell whether an atom lies inside the convex hull of a solid body that it does not belong to."""
        fractional = self.fractional()
        for body, atoms in self.solid:
            arms = self.offsets[atoms]
            if np.linalg.matrix_rank(arms - arms[0], tol=1e-3) < 3:
                continue  # flat or straight: it has no inside
            faces = ConvexHull(arms).equations  # normals outwards
            difference = fractional - self.points[body]
            shifts = lattice_shifts(lattice, float(np.linalg.norm(arms, axis=1).max()), len(fractional))
            vectors = ((difference - np.rint(difference))[:, None] + shifts) @ lattice
            if ((vectors @ faces[:, :3].T + faces[:, 3]) < -1e-3).all(axis=2).any():
                return True
        return False


def random_cells(spec: Spec, n: int, seed: int) -> list[Atoms]:
    """Return ``n`` random cells; cell i depends on ``seed`` and i alone.

    ``info`` of each has ``seed`` (what :func:`random_cell` makes this one cell from), ``n_operations`` and
    ``space_group`` (international number).

    :raises RandomCellError: if a cell cannot be made.
    """
    return [random_cell(spec, child) for child in child_seeds(seed, n)]


def child_seeds(seed: int, n: int) -> list[int]:
    """Return ``n`` independent seeds below 2⁵² (exact in any file format); the first k do not depend on ``n``.

    :raises RandomCellError: for a negative or fractional seed or number.
    """
    for name, value in (("seed", seed), ("n", n)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise RandomCellError(f"{name} is {value!r}, expected a whole number from 0 up")
    children = np.random.SeedSequence(int(seed)).spawn(int(n))
    return [int(child.generate_state(1, np.uint64)[0] >> np.uint64(12)) for child in children]


def random_cell(spec: Spec, seed: int, draws: int = DRAWS, trials: int = TRIALS, most_work: float = MOST_WORK) -> Atoms:
    """Return the one random cell that belongs to ``seed``.

    :param draws: how many contents are tried, each in up to ``trials`` random cells.
    :param most_work: vectors between atoms that may be computed.
    :raises RandomCellError: if no cell is found within the bounded number of trials.
    """
    rng = np.random.default_rng(seed)
    tried, totals, orders, work, given_up = 0, set(), set(), Work(most_work), False
    for recipe in spec.recipes(rng, draws, trials):
        tried += 1
        totals.add(recipe.total)
        orders.add(recipe.order)
        try:
            atoms = build(recipe, rng, work)
        except OutOfWork:
            given_up = True
            break
        if atoms is not None:
            atoms.info["seed"] = int(seed)
            return atoms
    if not tried:
        raise RandomCellError(f"none of {draws} draws of contents fits (seed {seed}); expected numbers of atoms that go together")
    raise (GivenUpError if given_up else RandomCellError)(
        f"no cell with n_operations {', '.join(map(str, sorted(orders)))} and {', '.join(map(str, sorted(totals)))} atoms kept "
        f"{spec.limits()} in {tried} trials (seed {seed}){', after which it was given up' if given_up else ''}; "
        "expected smaller separations, larger volumes, or other n_operations"
    )


def build(recipe: Recipe, rng: np.random.Generator, work: Work) -> Atoms | None:
    """Return the cell of one trial, or None if its lattice is no good or its atoms do not come apart.

    :raises OutOfWork: if ``work`` is used up.
    """
    try:
        return _built(recipe, rng, work)
    except TooWide:
        return None


def _built(recipe: Recipe, rng: np.random.Generator, work: Work) -> Atoms | None:
    operations = primitive_operations(recipe.space_group)
    lattice, operations = _lattice(recipe, operations, rng)
    if lattice is None:
        return None
    bodies = []
    for unit in recipe.units:
        point, offsets = unit.placed(lattice, rng)
        freedom = np.zeros((3, 3)) if unit.fixed else np.eye(3)
        site = Site(point, freedom, np.arange(len(operations)))
        turns = len(unit.symbols) > 1 and not unit.fixed
        bodies.append(Body(site, unit.symbols, offsets, turns, unit.solid))
    for symbol, count in recipe.atoms.items():
        left = count
        while left:
            place = random_site(operations, left, rng)
            if place is None:
                return None
            bodies.append(Body(place, (symbol,), np.zeros((1, 3)), turns=False))
            left -= len(place.members)
    assembly = Assembly(operations, lattice, bodies)
    minimum = minimum_of(assembly.symbols, recipe.separations)
    symmetry = (len(operations), recipe.space_group)
    if recipe.jitter is not None:
        if not push_apart(assembly, lattice, minimum, STEPS, work):
            return None
        assembly, symmetry = _freed(assembly, lattice, recipe.jitter, rng), (1, 1)
    if not push_apart(assembly, lattice, minimum, STEPS, work):
        return None
    if assembly.entered(lattice):
        return None
    fractional = assembly.fractional()
    if (separations(fractional, lattice, float(minimum.max()), assembly.same) < minimum - 1e-9).any():
        return None
    # In the orientation of the conventional cell, whose axes lie along those of space: pw.x finds rotations in no other, and
    # spares the k-points that they make equivalent. Rounded, so that an atom on the border of the cell is not here on one side
    # and there on the other.
    scaled = np.round(fractional, DECIMALS) % 1.0
    atoms = Atoms(assembly.symbols, scaled_positions=scaled, cell=lattice, pbc=True)
    atoms.info.update({"n_operations": symmetry[0], "space_group": symmetry[1]})
    return atoms


def _lattice(
    recipe: Recipe, operations: Operations, rng: np.random.Generator
) -> tuple[np.ndarray, Operations] | tuple[None, Operations]:
    """Return a random lattice with the operations in its basis; None if it is too long or atoms would touch their images."""
    if recipe.lattice is None:
        shape = recipe.shape
        primitive = random_lattice(recipe.space_group, rng, shape.angles, shape.flatness) * recipe.volume ** (1 / 3)
    else:
        primitive = recipe.lattice
    lattice = spglib.niggli_reduce(primitive) if recipe.shape.reduced else primitive
    if lattice is None:
        return None, operations
    if recipe.lattice is None:
        lengths = np.linalg.norm(lattice, axis=1)
        # Every atom is repeated by every lattice vector.
        symbols = {s for s, count in recipe.atoms.items() if count} | {s for unit in recipe.units for s in unit.symbols}
        closest = max(recipe.separations[s, s] for s in symbols)
        if lengths.max() > recipe.shape.aspect * lengths.min() or lengths.min() < closest:
            return None, operations
    return lattice, operations.in_basis(np.rint(lattice @ np.linalg.inv(primitive)))


def minimum_of(symbols: Sequence[str], table: Separations) -> np.ndarray:
    """Return the minimum separation (Å) of all atoms, shape (n, n)."""
    names = sorted(set(symbols))
    index = np.array([names.index(symbol) for symbol in symbols])
    return np.array([[table[a, b] for b in names] for a in names])[np.ix_(index, index)]


def _freed(assembly: Assembly, lattice: np.ndarray, jitter: float, rng: np.random.Generator) -> Assembly:
    """Return the same bodies and images, each one free of the others and displaced by up to ``jitter`` Å."""
    fractional = assembly.fractional()
    inverse = np.linalg.inv(lattice)
    bodies = []
    for first in np.flatnonzero(assembly.same.argmax(axis=1) == np.arange(len(fractional))):
        rows = np.flatnonzero(assembly.same[first])
        direction = rng.normal(size=3)
        shift = jitter * rng.random() ** (1 / 3) * direction / np.linalg.norm(direction)
        centre = fractional[rows].mean(axis=0)
        site = Site(centre + shift @ inverse, np.eye(3), np.array([0]))
        symbols = tuple(assembly.symbols[row] for row in rows)
        bodies.append(Body(site, symbols, (fractional[rows] - centre) @ lattice, turns=len(rows) > 1))
    return Assembly(primitive_operations(1), lattice, bodies)
