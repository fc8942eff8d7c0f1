"""The way from bcc to fcc at constant volume (C. Allen and A. P. Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), eq. 7)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from pydantic import Field

from aiida_gaprss.settings.model import Real
from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.nondiagonal import NonDiagonal


class Bain(NonDiagonal):
    """Cells on the Bain path with the volume of a crystal of one element, and non-diagonal supercells of each.

    η = 0 is bcc, 1 fcc. Symmetry is looked for narrowly, so that a cell near the ends is not taken for one of them.
    """

    kind: Literal["bain"] = "bain"  # type: ignore[assignment]
    etas: list[Annotated[Real, Field(ge=-0.5, le=1.5)]] = Field(
        [0.0, 0.5, 1.0], min_length=1, description="where on the path: 0 bcc, 1 fcc"
    )
    symmetry_A: Annotated[float, Field(gt=0, le=0.1)] = Field(1e-4, description="to which the symmetry is looked for, Å")

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the frames of one η after another."""
        if len(set(crystal.symbols)) > 1:
            raise StrategyError(f"is {crystal.symbols}, expected one element: cells on the path have one atom")
        frames = []
        for eta in self.etas:
            cell = bain_cell(crystal.symbols[0], crystal.get_volume() / len(crystal), eta)
            made = super().of_crystal(cell, rng)
            for atoms in made:
                atoms.info["parameters"] = f"eta {eta:g}, {atoms.info['parameters']}"
            frames += made
        return frames


def bain_cell(symbol: str, volume: float, eta: float) -> Atoms:
    """Return the body-centred tetragonal cell of one atom at a place of the path.

    With x = 1 − η + 2^⅓ η, c = a₀ x and a = a₀/√x, so that c/a is 1 at η = 0 (bcc) and √2 at η = 1 (fcc), and a² c = a₀³. In
    eq. 7 of the paper a and c have changed places: with its c/a, η = 1 is not fcc, and a² c changes along the path.

    :param volume: of an atom, Å³; a₀³ is twice that.
    :raises StrategyError: for what is no element, or a volume that is not above 0.
    """
    if atomic_numbers.get(symbol, 0) == 0 or not 0 < volume < np.inf:
        raise StrategyError(f"bain: {symbol!r} with {volume} Å³ per atom, expected an element and a volume above 0")
    edge = (2 * volume) ** (1 / 3)
    x = 1 - eta + 2 ** (1 / 3) * eta
    c, a = edge * x, edge / np.sqrt(x)
    vectors = np.array([[-a, a, c], [a, -a, c], [a, a, -c]]) / 2
    return Atoms(symbol, cell=vectors, pbc=True)
