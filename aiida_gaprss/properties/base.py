"""What a property is: frames to be computed, and numbers made of the results, the same for every potential and the reference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ase import Atoms
from ase.calculators.calculator import Calculator
from pydantic import ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.runners.common import CalculatorTask
from aiida_gaprss.settings.model import Model, in_words
from aiida_gaprss.settings.plugins import PROPERTIES, KindError, kind_of


class PropertyError(ValueError):
    """A crystal, or results, of which a property cannot be had."""


class Property(Model):
    """A property: settings and functions in one. It knows nothing of AiiDA.

    Another package adds one as an entry point of the group ``aiida_gaprss.properties``, under its ``kind``.
    """

    kind: str
    #: The batched job that computes the plan.
    run: ClassVar[Literal["evaluate", "relax", "neb", "md"]] = "evaluate"

    @abstractmethod
    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the frames to be computed, each with a ``part`` in its ``info``.

        :raises PropertyError: for a crystal that has no such property.
        """

    @abstractmethod
    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return numbers and curves, units in their names.

        :param done: the frames of the plan in its order, with ``<prefix>_energy`` (eV), ``_forces`` (eV/Å), ``_virial`` (eV).
        :raises PropertyError: if a result is missing.
        """

    def compute(self, calculator: Calculator, crystal: Atoms) -> dict[str, Any]:
        """Return the property of a crystal with an ASE calculator: plan, evaluate, result."""
        done = [labelled(atoms, calculator) for atoms in self.plan(crystal)]
        return self.result(crystal, done, fr.REFERENCE)


def labelled(atoms: Atoms, calculator: Calculator, prefix: str = fr.REFERENCE) -> Atoms:
    """Return a copy with energy, forces and virial of a calculator, as jobs label frames; without virial if it gives no stress.

    :raises PropertyError: if what it gives are no finite numbers of the right shape.
    """
    task = CalculatorTask()
    task.use(calculator)
    try:
        out = task.single_point(atoms, prefix, "stress" in calculator.implemented_properties)
    except (ArithmeticError, ValueError) as error:
        raise PropertyError(f"frame {atoms.info.get('part', '?')}: {error}") from error
    out.info = {**atoms.info, **out.info}
    return out


def value_of(atoms: Atoms, name: str, prefix: str) -> Any:
    """Return a result of a frame.

    :param name: ``energy``, ``forces`` or ``virial``.
    :raises PropertyError: if it has none.
    """
    store: Mapping[str, Any] = atoms.arrays if name == "forces" else atoms.info
    if f"{prefix}_{name}" not in store:
        raise PropertyError(f"frame {atoms.info.get('part', '?')} has no {prefix}_{name}: {atoms.info.get('label_status', '')}")
    return store[f"{prefix}_{name}"]


def property_of(settings: Mapping[str, Any]) -> Property:
    """Return a property from its settings, ``{"kind": "elastic", …}``.

    :raises PropertyError: if there is no such kind, or a setting is wrong.
    """
    try:
        found: Property = kind_of(PROPERTIES, str(settings.get("kind")), Property)(**settings)
    except KindError as error:
        raise PropertyError(str(error)) from error
    except ValidationError as error:
        raise PropertyError(in_words(error, prefix=f"{settings.get('kind')}.")) from error
    return found
