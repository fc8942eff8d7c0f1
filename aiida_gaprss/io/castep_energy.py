"""Which of the energies that CASTEP prints in one step is the one that its forces and stress are derivatives of."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms, units

from aiida_gaprss.io.castep_level import NUMBER, Header, real
from aiida_gaprss.io.common import Wrong

_PRINTED = {
    "free": re.compile(r"^[ \t]*Final free energy \(E-TS\)\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "total": re.compile(r"^[ \t]*Final energy\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "internal": re.compile(r"^[ \t]*Final energy, E\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "zero_kelvin": re.compile(r"^[ \t]*NB est\. 0K energy \(E-0\.5TS\)\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "dispersion_free": re.compile(r"^[ \t]*Dispersion corrected final free energy\*.*=\s*(.*?)\s*(?:eV)?\s*$"),
    "dispersion_total": re.compile(r"^[ \t]*Dispersion corrected final energy\*.*=\s*(.*?)\s*(?:eV)?\s*$"),
    "dispersion": re.compile(r"^[ \t]*\(SEDC\) Total Energy Correction\s*:\s*(.*?)\s*(?:eV)?\s*$"),
    "finite_basis": re.compile(r"^[ \t]*Total energy corrected for finite basis set\s*=\s*(.*?)\s*(?:eV)?\s*$"),
}
_CYCLE = re.compile(rf"^[ \t]*\d+\s+({NUMBER})\s.*<-- SCF")

#: How far (eV) the energy that the minimiser works with may be from the one that is read: it is printed with fewer digits.
_ENTHALPY_TOLERANCE = 2e-4

#: How far (relative to it) the final energy may be from the last one of the SCF, which is printed with nine digits.
_SCF_TOLERANCE = 1e-6


@dataclass
class Energies:
    """The energies (eV) of one step: as CASTEP prints them, of its last SCF cycle, and the enthalpy of the minimiser."""

    printed: dict[str, float] = field(default_factory=dict)
    scf: bool = False  # an SCF began
    last_cycle: float | None = None
    enthalpy: float | None = None

    def take_cycle(self, line: str) -> None:
        """Take a line of the SCF."""
        self.scf = True
        if match := _CYCLE.match(line):
            self.last_cycle = real(match[1])

    def take(self, line: str) -> None:
        """Take what a line says, if it tells an energy."""
        for name, pattern in _PRINTED.items():
            if match := pattern.match(line):
                self.printed[name] = real(match[1])


def energy_of(energies: Energies, header: Header, atoms: Atoms) -> float:
    """Return the energy (eV) that the printed forces and stress of a step belong to.

    :raises Wrong: if there is none, or what is printed does not belong together.
    """
    unread = [name for name, value in energies.printed.items() if not np.isfinite(value)]
    if unread:
        raise Wrong(f"its {unread[0].replace('_', ' ')} energy cannot be read")
    plain = _plain(energies)
    energy = plain if header.dispersion is None else _with_dispersion(energies, header, plain)
    minimised = _minimised(energies, header, atoms)
    if header.finite_basis:
        energy = _with_finite_basis(energies, header, plain, energy, minimised)
    if minimised is not None and abs(minimised - energy) > max(_ENTHALPY_TOLERANCE, 1e-8 * abs(energy)):
        raise Wrong(f"its forces belong to another energy: the minimiser works with {minimised:.6f} eV, not {energy:.6f} eV")
    return energy


def _plain(energies: Energies) -> float:
    """Return the energy of the SCF, which CASTEP prints several times."""
    printed = energies.printed
    if not energies.scf:
        raise Wrong("no SCF belongs to its energy")
    free, internal = printed.get("free"), printed.get("internal")
    if "total" in printed and free is None and internal is None:
        plain = printed["total"]
    elif free is None or internal is None:
        raise Wrong("no final energy printed" if free is internal else "only one of its energies E and E-TS is printed")
    else:
        plain = free
        _check_smearing(free, internal, printed.get("zero_kelvin"))
    last = energies.last_cycle
    if last is not None and not abs(last - plain) < _SCF_TOLERANCE * abs(plain) + 1e-5:
        raise Wrong(f"its energy {plain:.6f} eV is not that of the last SCF cycle, {last:.6f} eV")
    return plain


def _check_smearing(free: float, internal: float, zero_kelvin: float | None) -> None:
    """Compare E-TS and E with what stands in the middle between them."""
    middle = (free + internal) / 2 if zero_kelvin is None else zero_kelvin
    if abs(middle - (free + internal) / 2) > 1e-6:
        raise Wrong(f"its energies E, E-TS and E-0.5TS do not belong together: {internal:.6f}, {free:.6f}, {middle:.6f} eV")


def _with_dispersion(energies: Energies, header: Header, plain: float) -> float:
    """Return the energy with the dispersion correction, which must be the sum of both."""
    printed = energies.printed
    if "dispersion_free" in printed:
        energy = printed["dispersion_free"]
    elif "free" not in printed and "dispersion_total" in printed:
        energy = printed["dispersion_total"]
    elif "dispersion" in printed:
        energy = plain + printed["dispersion"]
    else:
        raise Wrong(f"dispersion correction {header.dispersion}, but no dispersion-corrected free energy printed")
    if "dispersion" in printed and abs(plain + printed["dispersion"] - energy) > 2e-6 + 1e-9 * abs(energy):
        raise Wrong(f"its dispersion-corrected energy {energy:.6f} eV is not the sum of energy and correction")
    return energy


def _with_finite_basis(energies: Energies, header: Header, plain: float, energy: float, minimised: float | None) -> float:
    """Return the energy corrected for the finite basis set, of which the printed stress is the derivative.

    CASTEP prints it only once, at the first step; later it is what the minimiser works with.

    :param energy: with the dispersion correction, ``plain`` is without.
    """
    corrected = energies.printed.get("finite_basis", minimised)
    if corrected is None:
        raise Wrong("its energy corrected for the finite basis set is not printed, but its stress is corrected")
    if header.dispersion is not None and abs(corrected - energy) > abs(corrected - plain):
        raise Wrong(f"{corrected:.6f} eV, corrected for the finite basis set, is without the dispersion correction")
    return corrected


def _minimised(energies: Energies, header: Header, atoms: Atoms) -> float | None:
    """Return what the minimiser of a geometry optimization takes as energy (eV): the printed enthalpy without p·V."""
    if energies.enthalpy is None:
        return None
    match = re.search(r"External pressure/stress \(GPa\)\s*\n((?:.*\n){3})", header.run)
    values = [real(word) for word in match[1].split()] if match else [0.0] * 6
    if len(values) != 6:
        return None
    xx, xy, xz, yy, yz, zz = values
    if any((xy, xz, yz)) or not xx == yy == zz:
        return None
    return energies.enthalpy - xx * units.GPa * atoms.get_volume()
