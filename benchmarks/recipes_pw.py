"""pw.x as an ASE calculator with k-points by their spacing, for the benchmark of recipes: settings of examples/silicon_qe."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.espresso import Espresso, EspressoProfile
from ase.geometry.cell import Cell

#: 1/Å without 2π; Å, of a vacuum around an isolated atom.
SPACING, VACUUM = 0.06, 9.0

SYSTEM = {"ecutwfc": 18.0, "occupations": "smearing", "smearing": "mv", "nspin": 1}
ELECTRONS = {"conv_thr": 1e-8, "mixing_beta": 0.5, "electron_maxstep": 100}


class PwX(Calculator):
    """A single point by pw.x in a folder of its own; ``ESPRESSO_PSEUDO``, or else Debian's folder, has the pseudopotentials."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, pseudopotentials: dict[str, str], command: str = "pw.x", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pseudopotentials = pseudopotentials
        self.profile = EspressoProfile(command, os.environ.get("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo"))

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Run pw.x."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        isolated = len(self.atoms) == 1 and min(self.atoms.cell.lengths()) > VACUUM
        system = {**SYSTEM, "degauss": 0.002 if isolated else 0.01}
        data = {"control": {"tprnfor": True, "tstress": True}, "system": system, "electrons": ELECTRONS}
        with tempfile.TemporaryDirectory(prefix="gaprss-pw-") as folder:
            kpts = None if isolated else points(self.atoms.cell)
            given = {"pseudopotentials": self.pseudopotentials, "input_data": data, "kpts": kpts}
            inner = Espresso(profile=self.profile, directory=Path(folder), **given)
            inner.calculate(self.atoms, ["energy", "forces", "stress"], all_changes)
            self.results = {key: inner.results[key] for key in self.implemented_properties if key in inner.results}


def points(cell: Cell) -> tuple[int, ...]:
    """Return the numbers of k-points along the vectors of the reciprocal lattice."""
    lengths = np.linalg.norm(cell.reciprocal().array, axis=1)
    return tuple(int(n) for n in np.maximum(1, np.ceil(lengths / SPACING - 1e-6)))
