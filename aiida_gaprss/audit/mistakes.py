"""The usual mistakes with labels, as factors that would put them right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

_GPA = 1 / units.GPa  # 160.2, GPa in 1 eV/Å³
_FORCE = units.Hartree / units.Bohr  # 51.4, eV/Å in 1 Ha/bohr


@dataclass(frozen=True)
class Mistake:
    """Labels of ``kind`` that are right once multiplied by ``value`` · (number of atoms)^``atoms`` · (volume in Å³)^``volume``.

    ``words`` complete a sentence, "forces are …". ``rare`` mistakes must explain the data better than common ones.
    """

    kind: str
    words: str
    value: float = 1.0
    atoms: int = 0
    volume: int = 0
    rare: bool = False

    def factor(self, n_atoms: np.ndarray | float, volume: np.ndarray | float) -> np.ndarray:
        """Return the factors for cells with ``n_atoms`` and a ``volume`` in Å³."""
        return self.value * np.asarray(n_atoms, dtype=float) ** self.atoms * np.asarray(volume, dtype=float) ** self.volume


def _mistakes() -> tuple[Mistake, ...]:
    found = [
        Mistake("forces", "sign reversed", -1.0),
        Mistake("virial", "sign reversed", -1.0),
        Mistake("energy", "in Ha", units.Hartree),
        Mistake("energy", "in Ry", units.Rydberg),
        Mistake("energy", "in kJ/mol", units.kJ / units.mol),
        Mistake("energy", "in kcal/mol", units.kcal / units.mol),
        Mistake("energy", "per atom instead of per cell", atoms=1),
        Mistake("energy", "in meV", 1e-3, rare=True),
        Mistake("energy", "converted from Ha though it was eV", 1 / units.Hartree, rare=True),
        Mistake("energy", "converted from Ry though it was eV", 1 / units.Rydberg, rare=True),
    ]
    for sign, how in ((1.0, ""), (-1.0, ", sign reversed")):
        found += [
            Mistake("forces", f"in Ha/bohr{how}", sign * _FORCE),
            Mistake("forces", f"in Ry/bohr{how}", sign * _FORCE / 2),
            Mistake("forces", f"in eV/bohr{how}", sign / units.Bohr),
            Mistake("forces", f"in meV/Å{how}", sign * 1e-3, rare=True),
            Mistake("forces", f"converted from Ha/bohr though it was eV/Å{how}", sign / _FORCE, rare=True),
            Mistake("forces", f"converted from Ry/bohr though it was eV/Å{how}", sign * 2 / _FORCE, rare=True),
            Mistake("virial", f"made from a stress in GPa taken as eV/Å³{how}", sign / _GPA),
            Mistake("virial", f"made from a stress in kbar taken as eV/Å³{how}", sign / _GPA / 10),
            Mistake("virial", f"made from a stress in kbar taken as GPa{how}", sign / 10),
            Mistake("virial", f"in Ha{how}", sign * units.Hartree),
            Mistake("virial", f"in Ry{how}", sign * units.Rydberg),
            Mistake("virial", f"made from a stress in eV/Å³ taken as GPa{how}", sign * _GPA, rare=True),
            Mistake("virial", f"made from a stress in eV/Å³ taken as kbar{how}", sign * _GPA * 10, rare=True),
            Mistake("virial", f"per atom instead of per cell{how}", sign, atoms=1, rare=True),
            Mistake("virial", f"multiplied by the volume twice{how}", sign, volume=-1, rare=True),
        ]
    for sign, how in ((-1.0, "sign of a stress"), (1.0, "sign of a virial")):
        found += [
            Mistake("virial", f"a stress in eV/Å³, not a virial, {how}", sign, volume=1),
            Mistake("virial", f"a stress in GPa, not a virial, {how}", sign / _GPA, volume=1),
            Mistake("virial", f"a stress in kbar, not a virial, {how}", sign / _GPA / 10, volume=1),
        ]
    return tuple(found)


MISTAKES = _mistakes()
