"""Expected errors (sigmas) of single frames, written under the keys that gap_fit reads.

gap_fit takes the sigmas of a frame as absolute numbers, those of ``default_sigma`` and ``config_type_sigma`` per atom, which it
scales by √N itself. Here, sigmas are per atom throughout; the √N is put in when they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from ase import Atoms
from pydantic import PositiveFloat

from aiida_gaprss import frames as fr
from aiida_gaprss.validation import Model

#: Keys of Atoms.info that gap_fit reads.
SIGMA_KEYS = ("energy_sigma", "force_sigma", "virial_sigma")


class EnergyRegularisation(Model):
    """Sigmas that grow with the energy above the lowest frame: low-lying structures are fitted tightly, wild ones loosely.

    σ_E = low·(high/low)^x eV/atom with x = (E − E_min)/width, at most 1; forces and virials follow in proportion. The idea, with
    the distance above the convex hull as measure, is that of Deringer, Proserpio, Csányi and Pickard (Faraday Discuss. 211, 45,
    2018); for one element hull and lowest energy are the same.
    """

    kind: Literal["energy"] = "energy"
    low: PositiveFloat = 0.002
    high: PositiveFloat = 0.05
    width: PositiveFloat = 1.5
    forces: PositiveFloat = 20.0
    virial: PositiveFloat = 5.0

    def apply(self, frames: Sequence[Atoms]) -> int:
        """Write the sigmas of all frames but isolated atoms; return their number.

        :raises ValueError: if the frames contain more than one element.
        """
        elements = sorted({s for atoms in frames for s in atoms.get_chemical_symbols()})
        if len(elements) > 1:
            raise ValueError(f"energy regularisation is for one element, the training set has {', '.join(elements)}")
        chosen = [atoms for atoms in frames if not fr.is_isolated_atom(atoms)]
        energies = np.array([atoms.info["REF_energy"] / len(atoms) for atoms in chosen])
        x = np.clip((energies - energies.min()) / self.width, 0.0, 1.0)
        for atoms, sigma in zip(chosen, self.low * (self.high / self.low) ** x, strict=True):
            root = np.sqrt(len(atoms))
            atoms.info["energy_sigma"] = float(sigma * root)
            atoms.info["force_sigma"] = float(self.forces * sigma)
            atoms.info["virial_sigma"] = float(self.virial * sigma * root)
        return len(chosen)
