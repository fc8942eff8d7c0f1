"""How stress and forces of a crystal answer to strain, and forces to displacements: which frames tell it, and what they tell.

What the space group of a crystal makes equal is computed once: of the six strains those whose images under the group span all, of
two signs one where an operation changes it; displacements are the symmetry-distinct ones of phonopy in one cell. The answers to
all images follow by rotation, and the linear response to all of them is the solution of one least-squares problem. It has the
symmetry of the crystal exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from phonopy import Phonopy
from pymatgen.analysis.elasticity import Strain
from scipy.linalg import null_space, polar

from aiida_gaprss.properties.base import PropertyError
from aiida_gaprss.runners.conductivity import phonopy_atoms

#: Of force constants at Γ, relative to the largest: motion that costs nothing.
SOFTEST = 1e-6

#: What a symmetry that holds only nearly leaves of what it forbids: of the images of a unit strain, and of a response.
NEARLY, _LEFT = 0.05, 1e-3


@dataclass(frozen=True)
class Operations:
    """Operations of a space group.

    :param rotations: Cartesian, shape (n, 3, 3); ``images``: where each atom goes, shape (n, natoms).
    """

    rotations: np.ndarray
    images: np.ndarray

    def moved(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors of atoms, shape (natoms, 3), after all operations, shape (n, natoms, 3)."""
        out = np.empty((len(self.rotations), *vectors.shape))
        for one, rotation, image in zip(out, self.rotations, self.images, strict=True):
            one[image] = vectors @ rotation.T
        return out

    def turned(self, tensor: np.ndarray) -> np.ndarray:
        """Return a tensor, shape (3, 3), after all operations, shape (n, 3, 3)."""
        return np.asarray(self.rotations @ tensor @ self.rotations.transpose(0, 2, 1))


def phonopy_of(crystal: Atoms, symmetry: bool, tolerance: float) -> Phonopy:
    """Return phonopy with one cell as its supercell: its force constants are those at Γ.

    :param tolerance: distance within which atoms are equivalent, Å; ``symmetry``: whether any of it is used.
    :raises PropertyError: if phonopy does not take the crystal, as one of which atoms are in the same place.
    """
    try:
        cell, one = phonopy_atoms(crystal), np.eye(3, dtype=int)
        return Phonopy(cell, one, primitive_matrix=np.eye(3), symprec=tolerance, is_symmetry=symmetry)
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise PropertyError(f"no symmetry can be found at a tolerance of {tolerance:g} Å: {reason}") from error


def operations_of(crystal: Atoms, symmetry: bool, tolerance: float) -> Operations:
    """Return the operations of the space group of a crystal; without symmetry, the identity."""
    if not symmetry:
        return Operations(np.eye(3)[None], np.arange(len(crystal))[None])
    cell, scaled = crystal.cell[:], crystal.get_scaled_positions()
    found = phonopy_of(crystal, symmetry, tolerance).symmetry.symmetry_operations
    rotations, images = [], []
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        apart = (scaled @ rotation.T + translation)[:, None] - scaled[None]
        rotations.append(polar(cell.T @ rotation @ np.linalg.inv(cell.T))[0])  # the cell has its symmetry only nearly
        images.append(np.linalg.norm((apart - np.round(apart)) @ cell, axis=2).argmin(axis=1))
    return Operations(np.array(rotations), np.array(images))


def distinct_strains(operations: Operations) -> list[tuple[int, int]]:
    """Return those of the strains that tell all, as component (Voigt's order, from 0) and sign."""
    known, out = np.zeros((0, 6)), []
    for component in range(6):
        strain = np.eye(6)[component]
        if _rank(np.vstack([known, strain])) == _rank(known):
            continue
        images = np.array([Strain(image).voigt for image in operations.turned(np.asarray(Strain.from_voigt(strain)))])
        known = np.vstack([known, images])
        both = not (np.abs(images + strain).max(axis=1) < NEARLY).any()
        out += [(component, sign) for sign in ((-1, 1) if both else (1,))]
    return out


def _rank(vectors: np.ndarray) -> int:
    """Return how many directions unit vectors have, up to what is only nearly zero."""
    return int(np.linalg.matrix_rank(vectors, tol=NEARLY)) if len(vectors) else 0


def coupled(operations: Operations) -> bool:
    """Return whether symmetry lets atoms move when the cell is strained: whether a third-rank tensor per atom survives it."""
    number = operations.images.shape[1]
    response = np.random.default_rng(0).normal(size=(number, 3, 3, 3))
    mean = np.zeros_like(response)
    for rotation, image in zip(operations.rotations, operations.images, strict=True):
        mean[image] += np.einsum("ai,bj,ck,nijk->nabc", rotation, rotation, rotation, response + response.swapaxes(2, 3))
    mean -= mean.mean(axis=0)
    return bool(np.abs(mean).max() > _LEFT * len(operations.rotations))


def linear(
    operations: Operations, strains: Sequence[Strain], stresses: Sequence[np.ndarray], forces: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return ∂S/∂η, shape (6, 6), and ∂F/∂η, shape (6, 3·natoms), η in Voigt's order with shear doubled.

    :param stresses: what strain adds to the second Piola–Kirchhoff stress, shape (3, 3); ``forces``: what it adds to the forces.
    """
    given, answers = [], []
    for strain, stress, force in zip(strains, stresses, forces, strict=True):
        given += [Strain(image).voigt for image in operations.turned(np.asarray(strain))]
        pairs = zip(operations.turned(stress), operations.moved(force), strict=True)
        answers += [np.concatenate([_voigt(one), moved.ravel()]) for one, moved in pairs]
    slopes = np.linalg.lstsq(np.array(given), np.array(answers), rcond=None)[0]
    return slopes[:, :6], slopes[:, 6:]


def _voigt(stress: np.ndarray) -> np.ndarray:
    return np.array([stress[0, 0], stress[1, 1], stress[2, 2], stress[1, 2], stress[0, 2], stress[0, 1]])


def softening(internal: np.ndarray, constants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Λ K⁺ Λᵀ, eV, shape (6, 6), and the eigenvalues of K without the three translations, eV/Å².

    :param internal: Λ = ∂F/∂η, shape (6, 3·natoms); ``constants``: K, shape (natoms, natoms, 3, 3), as phonopy has them.
    """
    number = len(constants)
    matrix = constants.transpose(0, 2, 1, 3).reshape(3 * number, 3 * number)
    free = null_space(np.tile(np.eye(3), number))
    values, vectors = np.linalg.eigh(free.T @ (matrix + matrix.T) @ free / 2)
    along = internal @ free @ vectors
    stiff = np.abs(values) > SOFTEST * np.abs(values).max()
    return (along[:, stiff] / values[stiff]) @ along[:, stiff].T, values
