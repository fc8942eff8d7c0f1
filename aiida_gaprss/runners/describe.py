"""SOAP vectors of frames (uploaded with the job; needs ase and quippy)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from common import stripped

#: Of the vectors, whose length is one: what rounds away the noise of threads and processors.
DECIMALS = 10


class Describe:
    """One vector for each frame; ``settings`` as in ``DescribeSettings``."""

    def setup(self, settings: dict[str, Any]) -> None:
        """Make one descriptor for every element at the centre."""
        from quippy.descriptors import Descriptor

        self.numbers = [atomic_numbers[symbol] for symbol in settings["elements"]]
        species = " ".join(map(str, self.numbers))
        keys = ("cutoff", "cutoff_transition_width", "n_max", "l_max", "atom_sigma")
        text = "soap " + " ".join(f"{key}={settings[key]}" for key in keys)
        text += f" normalise=T n_species={len(self.numbers)} species_Z={{{species}}}"
        self.descriptors = {number: Descriptor(f"{text} Z={number}") for number in self.numbers}

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        unknown = sorted(set(atoms.get_chemical_symbols()) - {s for s, z in atomic_numbers.items() if z in self.numbers})
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is not among the elements of the settings")
        parts = []
        for number, descriptor in self.descriptors.items():
            part = np.zeros(descriptor.dimensions())
            if number in atoms.numbers:
                # Each of the vectors is of length one; the parts have the weights of their elements.
                part = np.asarray(descriptor.calc(stripped(atoms))["data"]).sum(axis=0) / len(atoms)
            parts.append(part)
        vector = np.concatenate(parts)
        vector = vector / np.linalg.norm(vector)
        if not np.isfinite(vector).all():
            raise ArithmeticError("the vector has a value that is not a finite number")
        out = stripped(atoms)
        out.info = {"vector": np.round(vector, DECIMALS)}
        return "ok", [out]


TASK = Describe()
