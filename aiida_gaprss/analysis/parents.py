"""The lowest distinct structures that have been found, of which new cells are made by variation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ase import Atoms, units

from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.analysis.zero import EnergyZero
from aiida_gaprss.frames import PREDICTION
from aiida_gaprss.runners.status import ENDED
from aiida_gaprss.strategies.cells import CellStrategy


def lowest_parents(
    frames: Sequence[Atoms],
    kinds: Iterable[CellStrategy],
    formula: Mapping[str, int],
    prefix: str = PREDICTION,
    pressure_GPa: float = 0.0,
) -> list[Atoms]:
    """Return what children can be made of: for each kind that varies structures, the lowest distinct ones that suit it.

    Of relaxations that ended as they should the end points, each structure once (see :func:`unique_minima`), lowest first by
    enthalpy, of several compositions by height above the convex hull.

    :param prefix: whose energies count, ``PRED`` or ``REF``. :param pressure_GPa: of the enthalpies.
    """

    def enthalpy(atoms: Atoms) -> float:
        energy = float(atoms.info.get(f"{prefix}_energy", math.nan))
        return energy + pressure_GPa * units.GPa * float(atoms.get_volume())

    ended = [atoms for atoms in frames if atoms.info.get("relax_status") in ENDED and math.isfinite(enthalpy(atoms))]
    found: dict[str, Atoms] = {}
    for kind in kinds:
        suited = [atoms for atoms in ended if kind.suits(atoms, formula)] if kind.most_parents else []
        lowest = unique_minima(suited, math.inf, kind.most_parents, pressure_GPa, prefix=prefix)
        for minimum in lowest:
            found.setdefault(minimum.frame_id, minimum.atoms)  # of two of one name, the lowest
    zero = EnergyZero(ended, enthalpy)
    return sorted(found.values(), key=lambda atoms: (zero.above(atoms), atoms.info["frame_id"]))
