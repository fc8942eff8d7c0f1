"""What a property is: frames to be computed, and numbers made of the results, the same for every potential and the reference."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator
from pydantic import ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.runners import task_of
from aiida_gaprss.runners.common import CalculatorTask
from aiida_gaprss.settings.model import Model, in_words
from aiida_gaprss.settings.plugins import PROPERTIES, KindError, kind_of
from aiida_gaprss.structures.symmetry import CrystalError


class PropertyError(ValueError):
    """A crystal, or results, of which a property cannot be had."""


@dataclass(frozen=True)
class Curve:
    """Lines of a figure, drawn alike for every property: those of several potentials, and the reference, go into one.

    :param x: values along the abscissa; ``lines``: one or more sets of ordinates, each as long as ``x``.
    :param ticks: places along x that have a name, as (place, name).
    :param points: draw points, not lines.
    :param together: curves of all crystals go into one figure.
    """

    x: Sequence[float]
    lines: Sequence[Sequence[float]]
    xlabel: str
    ylabel: str
    ticks: Sequence[tuple[float, str]] = field(default=())
    points: bool = False
    together: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """Up to where the size of a score is good, and up to where one should look; beyond it is bad.

    :param source: of the two numbers: a paper, or why they were chosen.
    """

    good: float
    look: float
    unit: str
    source: str

    def light(self, score: float | None) -> str:
        """Return ``good``, ``look`` or ``bad``; ``bad`` for what is no finite number."""
        if score is None or not math.isfinite(score):
            return "bad"
        return "good" if abs(score) <= self.good else "look" if abs(score) <= self.look else "bad"


class Property(Model):
    """A property: settings and functions in one. It knows nothing of AiiDA.

    Another package adds one as an entry point of the group ``aiida_gaprss.properties``, under its ``kind``.
    """

    kind: str
    #: The task (``runners/<run>.py``, CalcJob ``gaprss.<run>``) that computes the frames of the plan with a potential: all frames
    #: of all properties with the same one go into one job. What ``evaluate`` does the reference can do itself; of what another
    #: one does (relaxed defects, images of a path, snapshots of a trajectory) it labels the frames that come out.
    run: ClassVar[str] = "evaluate"
    #: Whether it is had of each crystal; else of many labelled frames together (``properties/errors.py``).
    per_crystal: ClassVar[bool] = True
    #: Whether local energies are needed, which a reference does not have.
    local: ClassVar[bool] = False
    #: Whether the reference is asked for it at all.
    referenced: ClassVar[bool] = True
    #: Whether it begins with the crystal as it is given, also where potentials relax the crystals first.
    from_given: ClassVar[bool] = False
    #: A job (CalcJob ``gaprss.<solver>``) that makes the result of the frames where that takes long; None: ``result`` does.
    solver: ClassVar[str | None] = None
    #: What is good, by the names of the scores; a suite may say something else.
    LIMITS: ClassVar[Mapping[str, Limits]] = {}

    def __init_subclass__(cls, **given: Any) -> None:
        """Let each property tell as its own what geometry says of a crystal (``structures/``), wherever it looks at it."""
        super().__init_subclass__(**given)
        for name in {"plan", "result"} & set(vars(cls)):
            setattr(cls, name, _told_as_property(vars(cls)[name]))

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong with a crystal, or with these settings for it, before anything runs.

        :param reach: cutoff of the potential, Å.
        """
        try:
            self.plan(crystal)
        except PropertyError as error:
            return [str(error)]
        return []

    @abstractmethod
    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the frames to be computed, each with a ``part`` of its own in its ``info``.

        Where ``run`` is not ``evaluate``, ``info["task"]`` may have settings of the task for this frame.

        :raises PropertyError: for a crystal that has no such property.
        """

    @abstractmethod
    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return numbers and curves as plain data, units in their names.

        :param done: of ``evaluate`` the frames of the plan in its order; of another task those that came out, in the order of the
            plan, with the ``part`` of the planned frame, and the task's own words in their ``info``. They have
            ``<prefix>_energy`` (eV), ``_forces`` (eV/Å), ``_virial`` (eV).
        :raises PropertyError: if a result is missing.
        """

    def to_label(self, done: Sequence[Atoms]) -> list[int]:
        """Return the numbers of the frames that came out which the reference labels; of ``evaluate`` it labels all."""
        return list(range(len(done)))

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return what is judged: numbers whose size tells how bad it is, with units in their names.

        :param reference: the result of the reference, if there is one.
        """
        return {}

    def incomparable(self, result: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, str]:
        """Return why parts of a result have no score though there is a reference; it is told beside the scores."""
        return {}

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return what is drawn of a result, by names of figures; of ``across``, ``figure/crystal`` are curves of one figure."""
        return {}

    def across(self, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return what is told of several crystals together, of which there is a result each; ``scores`` are asked of it, too."""
        return {}

    def compute(self, calculator: Calculator, crystal: Atoms) -> dict[str, Any]:
        """Return the property of a crystal with an ASE calculator: plan, task, result."""
        return self.result(crystal, self.computed(calculator, crystal), fr.PREDICTION)

    def computed(self, calculator: Calculator, crystal: Atoms) -> list[Atoms]:
        """Return what comes out of the plan with an ASE calculator, in this process.

        :raises PropertyError: if a frame fails.
        """
        plan = self.plan(crystal)
        if self.run == "evaluate":
            return [labelled(atoms, calculator, fr.PREDICTION, self.local) for atoms in plan]
        done = []
        for atoms in plan:
            task = task_of(self.run)
            task.settings = self.task_settings(atoms.info.get("task", {}))
            task.use(calculator)
            work = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            try:
                status, frames = task.run(work, math.inf)
            except (ArithmeticError, ValueError) as error:
                raise PropertyError(f"frame {atoms.info.get('part', '?')}: {error}") from error
            if not frames:
                raise PropertyError(f"frame {atoms.info.get('part', '?')}: {status}")
            for frame in frames:
                frame.info["part"] = atoms.info["part"]
            done += frames
        return done

    @staticmethod
    def task_settings(given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of the task, of those that a frame of the plan has; a property with another task makes its own."""
        return dict(given)


def _told_as_property(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose ``CrystalError`` is a ``PropertyError`` with the same words."""

    @wraps(function)
    def told(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except CrystalError as error:
            raise PropertyError(str(error)) from error

    return told


def labelled(atoms: Atoms, calculator: Calculator, prefix: str = fr.REFERENCE, local: bool = False) -> Atoms:
    """Return a copy with energy, forces and virial of a calculator, as jobs label frames; without virial if it gives no stress.

    :param local: local energies, too.
    :raises PropertyError: if what it gives are no finite numbers of the right shape.
    """
    task = CalculatorTask()
    task.use(calculator)
    try:
        out = task.single_point(atoms, prefix, "stress" in calculator.implemented_properties)
        if local:
            out.arrays[f"{prefix}_local_energy"] = task.local_energies(atoms)
    except (ArithmeticError, ValueError) as error:
        raise PropertyError(f"frame {atoms.info.get('part', '?')}: {error}") from error
    out.info = {**atoms.info, **out.info}
    return out


def value_of(atoms: Atoms, name: str, prefix: str) -> Any:
    """Return a result of a frame.

    :param name: ``energy``, ``forces``, ``virial`` or ``local_energy``.
    :raises PropertyError: if it has none.
    """
    store: Mapping[str, Any] = atoms.arrays if name in ("forces", "local_energy") else atoms.info
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
