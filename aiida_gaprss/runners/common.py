"""What the tasks share."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator
from ase.stress import voigt_6_to_full_3x3_stress

#: Beside this script on the compute machine, in one package with it here.
hasten = import_module(f"{__package__}.direct" if __package__ else "direct").hasten


class GiveUp(Exception):
    """A relaxation or a trajectory has left the range in which it makes sense, or its time is over."""


def stripped(atoms: Atoms) -> Atoms:
    """Return a copy without calculator, constraints or stored arrays, keeping ``info``."""
    out = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.info.update(atoms.info)
    return out


def load_class(name: str) -> Any:
    """Return the calculator class behind a dotted path, or behind a name ASE knows (``emt``, ``lj``, …).

    :raises TypeError: if something else is behind it; it is not called.
    """
    if "." not in name:
        from ase.calculators.calculator import get_calculator_class

        return _calculator(name, get_calculator_class(name))
    module, _, attribute = name.rpartition(".")
    return _calculator(name, getattr(import_module(module), attribute))


def _calculator(name: str, found: Any) -> Any:
    """Return ``found`` if it is the class of an ASE calculator, or has all that is asked of one."""
    of_ase = isinstance(found, type) and issubclass(found, BaseCalculator)
    if of_ase or (isinstance(found, type) and all(hasattr(found, part) for part in ("get_property", "implemented_properties"))):
        return found
    raise TypeError(f"{name} is no ASE calculator but {'a class' if isinstance(found, type) else f'a {type(found).__name__}'}")


def numbers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return what a calculator gave as an array of numbers.

    :raises ValueError: if it is something else, or of another shape.
    """
    array = np.array(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"the calculator gave {name} of type {type(value).__name__} ({array.dtype}), expected real numbers")
    if array.shape != shape and not (array.size == 1 and shape == ()):
        raise ValueError(f"the calculator gave {name} of shape {array.shape}, expected {shape}")
    return array.astype(float).reshape(shape)


class CalculatorTask:
    """A task that needs one calculator in every worker, made from ``settings['calculator']`` and ``settings['arguments']``."""

    settings: dict[str, Any]
    calculator: Calculator

    def settings_of(self, atoms: Atoms) -> dict[str, Any]:
        """Return the settings for a frame: some may have their own, by ``frame_id``."""
        return {**self.settings, **self.settings.get("tasks", {}).get(str(atoms.info.get("frame_id")), {})}

    def setup(self, settings: dict[str, Any]) -> None:
        """Make the calculator."""
        self.settings = settings
        self.use(load_class(settings["calculator"])(**settings["arguments"]))

    def use(self, calculator: Calculator) -> None:
        """Take a calculator that there is."""
        self.calculator = calculator
        if hasattr(self.calculator, "set_default_properties"):  # quippy: else the stress is a calculation of its own
            self.calculator.set_default_properties(["energy", "forces", "stress"])
            hasten(self.calculator)

    def properties(self, atoms: Atoms, names: list[str]) -> list[Any]:
        """Return properties of ``atoms`` as the calculator gives them."""
        get = self.calculator.get_property
        if isinstance(self.calculator, Calculator):  # asked without atoms, it need not find out whether they are still the same
            return [get(names[0], atoms), *(get(name) for name in names[1:])]
        return [get(name, atoms) for name in names]

    def local_energies(self, atoms: Atoms) -> np.ndarray:
        """Return the energy of each atom, eV, shape ``(natoms,)``.

        :raises ArithmeticError: if one of them is not finite.
        """
        energies = numbers("local energies", self.calculator.get_property("energies", stripped(atoms)), (len(atoms),))
        if not np.isfinite(energies).all():
            raise ArithmeticError("a local energy is not a finite number")
        return energies

    def variances(self, atoms: Atoms) -> np.ndarray:
        """Return the variance of the energy of each atom, eV², shape ``(natoms,)``; what the calculator knew is left to it.

        :raises ArithmeticError: if one of them is not finite.
        """
        calculator: Any = self.calculator
        kept = {name: getattr(calculator, name) for name in ("atoms", "results", "extra_results")}
        calculator.reset()  # it would not calculate again what it thinks it knows
        try:
            calculator.calculate(stripped(atoms), ["energy"], ["positions"], calc_args="local_gap_variance")
            found = numbers("local variances", calculator.extra_results["atoms"]["local_gap_variance"], (len(atoms),))
        finally:
            vars(calculator).update(kept)
        if not np.isfinite(found).all():
            raise ArithmeticError("a local variance is not a finite number")
        return found

    def single_point(self, atoms: Atoms, prefix: str, stress: bool = True) -> Atoms:
        """Return a copy of ``atoms`` with energy (eV; the one the forces are derivatives of), forces (eV/Å) and virial (eV).

        :raises ArithmeticError: if one of them is not finite.
        :raises ValueError: if one of them has not the shape, or is not of the kind, of such a label.
        """
        work, out = stripped(atoms), stripped(atoms)
        out.info = {}
        names = ["free_energy" if "free_energy" in self.calculator.implemented_properties else "energy", "forces"]
        energy, forces, *rest = self.properties(work, [*names, *(["stress"] if stress else [])])
        out.info[f"{prefix}_energy"] = float(numbers("energy", energy, ()))
        out.arrays[f"{prefix}_forces"] = numbers("forces", forces, (len(atoms), 3))
        for given in rest:
            full = voigt_6_to_full_3x3_stress(given) if np.shape(given) == (6,) else given
            full = numbers("stress", full, (3, 3))
            out.info[f"{prefix}_virial"] = (-full * work.get_volume()).reshape(9)
        values = [out.info[f"{prefix}_energy"], out.arrays[f"{prefix}_forces"], out.info.get(f"{prefix}_virial", 0.0)]
        if not all(np.isfinite(value).all() for value in values):
            raise ArithmeticError("the calculator returned a value that is not a finite number")
        return out
