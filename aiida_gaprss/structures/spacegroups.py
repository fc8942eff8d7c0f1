"""Space groups as operations of their primitive cell, random lattices that have them, and their special positions.

The operations come from the database of spglib, in the first setting it lists for a group (unique axis b, hexagonal axes
for rhombohedral groups).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import spglib

#: Columns are the primitive vectors in the conventional basis (obverse setting for R), International Tables A, 1.5.1.
PRIMITIVE_VECTORS: dict[str, np.ndarray] = {
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 0.5, -0.5], [0, 0.5, 0.5]]),
    "C": np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "R": np.array([[2 / 3, -1 / 3, -1 / 3], [1 / 3, 1 / 3, -2 / 3], [1 / 3, 1 / 3, 1 / 3]]),
}

#: Shortest length of a lattice vector drawn, the longest being 1; chosen so that reduced cells have the shapes of AIRSS's.
SHORTEST = 0.05

#: Fractional coordinates closer than this are the same point.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Operations:
    """The operations x → R x + t (column vectors, fractional) of one space group in one primitive basis.

    ``rotations`` has shape (n, 3, 3), integer; ``translations`` (n, 3).
    """

    rotations: np.ndarray
    translations: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)

    def in_basis(self, matrix: np.ndarray) -> Operations:
        """Return the operations for the lattice ``matrix @ lattice`` (lattice vectors are rows, ``matrix`` integer)."""
        forward, back = np.linalg.inv(matrix).T, matrix.T
        rotations = np.rint(forward @ self.rotations @ back)
        return Operations(rotations, self.translations @ forward.T)

    def images(self, point: np.ndarray) -> np.ndarray:
        """Return all images of a fractional point, shape (n, 3)."""
        return self.rotations @ point + self.translations


@cache
def _hall_numbers() -> dict[int, int]:
    first: dict[int, int] = {}
    for hall in range(1, 531):
        first.setdefault(_type(hall).number, hall)
    return first


def _type(hall: int) -> spglib.SpaceGroupType:
    kind = spglib.get_spacegroup_type(hall)
    assert kind is not None  # Hall numbers 1 to 530 all exist
    return kind


@cache
def primitive_operations(space_group: int) -> Operations:
    """Return the operations of a space group (international number) in its primitive cell, the identity first."""
    hall = _hall_numbers()[space_group]
    vectors = PRIMITIVE_VECTORS[centring(space_group)]
    inverse = np.linalg.inv(vectors)
    database = spglib.get_symmetry_from_database(hall)
    assert database is not None
    unique: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for rotation, translation in zip(database["rotations"], database["translations"], strict=True):
        # One operation per rotation: the others differ by a centring, which is a lattice vector here.
        unique.setdefault(rotation.tobytes(), (np.rint(inverse @ rotation @ vectors), inverse @ translation))
    rotations, translations = zip(*unique.values(), strict=True)
    return Operations(np.array(rotations), np.array(translations))


@cache
def centring(space_group: int) -> str:
    """Return the centring letter of the conventional cell: P, A, C, I, F or R."""
    return str(_type(_hall_numbers()[space_group]).international_short)[0]


@cache
def space_groups_by_order() -> dict[int, tuple[int, ...]]:
    """Return {number of operations of the primitive cell: space groups that have as many}."""
    table: dict[int, list[int]] = {}
    for number in range(1, 231):
        table.setdefault(len(primitive_operations(number)), []).append(number)
    return {order: tuple(numbers) for order, numbers in sorted(table.items())}


def random_lattice(space_group: int, rng: np.random.Generator, angles: tuple[float, float], flatness: float = 0.1) -> np.ndarray:
    """Return random primitive lattice vectors (rows, unit volume) that a space group leaves unchanged.

    Lengths of the conventional cell are uniform between :data:`SHORTEST` and 1 before scaling, angles uniform in
    ``angles`` (degrees), both as far as the crystal system leaves them free. The volume of the cell of these angles with edges of
    length 1 is at least ``flatness``.
    """
    while True:
        a, b, c = rng.uniform(SHORTEST, 1.0, 3)
        alpha, beta, gamma = np.radians(rng.uniform(*angles, 3))
        right, third = np.pi / 2, 2 * np.pi / 3
        if space_group > 2:
            alpha = gamma = right
        if space_group > 15:
            beta = right
        if space_group > 74:
            b = a
        if 142 < space_group < 195:
            gamma = third
        if space_group > 194:
            c = a
        cosines = np.cos([alpha, beta, gamma])
        gram = np.outer([a, b, c], [a, b, c]) * np.array(
            [[1, cosines[2], cosines[1]], [cosines[2], 1, cosines[0]], [cosines[1], cosines[0], 1]]
        )
        # Three angles that no cell has, or an almost flat cell.
        if np.linalg.det(gram) > (flatness * a * b * c) ** 2:
            break
    lattice = PRIMITIVE_VECTORS[centring(space_group)].T @ np.linalg.cholesky(gram)
    return lattice / np.abs(np.linalg.det(lattice)) ** (1 / 3)


@dataclass(frozen=True, eq=False)
class Site:
    """A point, the directions it can move in without losing its site symmetry, and one operation per image.

    ``point`` (3,) fractional; ``freedom`` (3, 3) projects a fractional displacement onto the allowed ones; ``members``
    are indices of the operations that make the orbit, as many as it has points.
    """

    point: np.ndarray
    freedom: np.ndarray
    members: np.ndarray


def _site(operations: Operations, point: np.ndarray) -> Site:
    images = operations.images(point)
    images_wrapped = images - np.floor(images + TOLERANCE)
    difference = images_wrapped[:, None] - images_wrapped[None, :]
    same = np.abs(difference - np.rint(difference)).max(axis=2) < 10 * TOLERANCE
    members = np.flatnonzero(same.argmax(axis=1) == np.arange(len(operations)))
    # The mean rotation of the site-symmetry group projects onto the vectors it leaves alone.
    freedom = operations.rotations[same[0]].mean(axis=0)
    return Site(point, freedom, members)


def random_site(operations: Operations, most: int, rng: np.random.Generator) -> Site | None:
    """Return a site with at most ``most`` equivalent points, in general position if that is enough.

    A random point is projected onto the points fixed by one operation after the other, drawn at random, until its orbit
    is small enough; None if that ends at a point no other operation can share.
    """
    point = rng.random(3)
    if most >= len(operations):
        return Site(point, np.eye(3), np.arange(len(operations)))
    equations = np.zeros((0, 3))
    constants = np.zeros(0)
    for index in rng.permutation(len(operations)):
        image = operations.rotations[index] @ point + operations.translations[index]
        shift = np.rint(image - point)
        trial_equations = np.vstack([equations, operations.rotations[index] - np.eye(3)])
        trial_constants = np.concatenate([constants, shift - operations.translations[index]])
        pseudo_inverse = np.linalg.pinv(trial_equations)
        moved = point - pseudo_inverse @ (trial_equations @ point - trial_constants)
        if np.abs(trial_equations @ moved - trial_constants).max() > TOLERANCE:
            continue  # a screw axis, a glide plane, or an element that misses the point
        point, equations, constants = moved, trial_equations, trial_constants
        site = _site(operations, point)
        if len(site.members) <= most:
            return site
    return None
