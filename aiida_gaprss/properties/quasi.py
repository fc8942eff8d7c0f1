"""Thermal expansion in the quasi-harmonic approximation: harmonic phonons at several volumes, and phonopy's minimum of F(V, T).

A. Togo, L. Chaput, I. Tanaka and G. Hug, Phys. Rev. B 81, 174301 (2010). The cell is scaled alike in all directions, and atoms
keep their fractional coordinates: exact where symmetry leaves neither anything else to do, as in cubic crystals without free
parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from phonopy import Phonopy
from phonopy.qha.core import QHA
from pydantic import Field

from aiida_gaprss.properties.harmonic import ACOUSTIC, rounded
from aiida_gaprss.properties.standard import Standard
from aiida_gaprss.settings.model import Model, Positive
from aiida_gaprss.structures.supercells import scaled as cell


class Quasi(Model):
    """Volumes and temperatures of the quasi-harmonic approximation."""

    volumes: tuple[Positive, ...] = Field(
        (0.94, 0.96, 0.98, 1.0, 1.02, 1.04, 1.06), min_length=5, description="of the crystals, over that of the one given"
    )
    highest_K: Positive = 1000.0
    step_K: Positive = Field(10.0, description="between temperatures; the expansion is a difference of two steps")
    eos: Literal["vinet", "birch_murnaghan", "murnaghan"] = "vinet"

    def temperatures(self) -> np.ndarray:
        """Return the temperatures, K: from zero to two steps above the highest, which the differences need."""
        return np.arange(0.0, self.highest_K + 2.5 * self.step_K, self.step_K)

    def solved(self, phonons: Sequence[Phonopy], energies: Sequence[float]) -> dict[str, Any]:
        """Return volume, expansion, bulk modulus and Gibbs energy against temperature.

        :param phonons: of each volume, with frequencies on a mesh.
        :param energies: of the primitive cells, eV.
        """
        temperatures = self.temperatures()
        free, heat, entropy = (np.transpose(values) for values in zip(*(_thermal(p, temperatures) for p in phonons), strict=True))
        volumes = [float(p.primitive.volume) for p in phonons]
        found = QHA(volumes, energies, temperatures, heat, entropy, free, eos=self.eos, t_max=self.highest_K)
        found.run()
        last, atoms = len(found.thermal_expansion), len(phonons[0].primitive)
        at = np.asarray(found.volume_temperature)[:last]
        return {
            "temperatures_K": temperatures[:last].tolist(),
            "volume_A3_per_atom": rounded(at / atoms),
            "thermal_expansion_1e-6/K": rounded(np.asarray(found.thermal_expansion) * 1e6),
            "bulk_modulus_GPa": rounded(np.asarray(found.bulk_modulus_temperature)[:last]),
            "gibbs_eV_per_atom": rounded(np.asarray(found.gibbs_temperature)[:last] / atoms),
            "within_volumes": bool(min(volumes) < at.min() and at.max() < max(volumes)),
        }


def scaled(standard: Standard, factor: float) -> Standard:
    """Return standard cells at another volume."""
    return replace(standard, primitive=cell(standard.primitive, factor), conventional=cell(standard.conventional, factor))


def _thermal(phonon: Phonopy, temperatures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return free energy (kJ/mol), heat capacity and entropy (J/K/mol) of the primitive cell."""
    phonon.run_thermal_properties(temperatures=temperatures, cutoff_frequency=ACOUSTIC)
    found = phonon.get_thermal_properties_dict()
    return found["free_energy"], found["heat_capacity"], found["entropy"]
