"""References: the programs that label frames. The only modules that know a DFT plugin.

``base`` says what a reference is. Ours are one module each, and are found by name as those of other packages are. ``ase`` is for
any ASE calculator: its frames go into one job anyway. No module imports a plugin before it is asked for: ``plugins`` says which
they need, and what is said where one is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from aiida.engine import PortNamespace
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.io.common import Step
from aiida_gaprss.io.placeholders import not_calculated
from aiida_gaprss.levels import Level
from aiida_gaprss.reference import ase
from aiida_gaprss.reference.base import (
    Bundled,
    BundledReference,
    Moving,
    MovingReference,
    Reference,
    Relaxing,
    RelaxingReference,
    lacks,
)
from aiida_gaprss.reference.common import level_of_content, sorted_by_number, unsorted
from aiida_gaprss.settings.plugins import REFERENCES, KindError, installed, loaded

if TYPE_CHECKING:
    from aiida_gaprss.reference import castep, quantumespresso, vasp

    _OURS: tuple[BundledReference, ...] = (castep, quantumespresso, vasp)
    _RELAXING: tuple[RelaxingReference, ...] = (quantumespresso,)
    _MOVING: tuple[MovingReference, ...] = (quantumespresso,)

#: The reference of ASE calculators, all frames in one job.
ASE = "ase"


def per_frame() -> list[str]:
    """Return the names of the installed references that label one frame per process."""
    return list(installed(REFERENCES))


def names() -> list[str]:
    """Return the names of all references."""
    return [ASE, *per_frame()]


def reference_named(name: str) -> Reference:
    """Return the reference of a name that labels one frame per process.

    :raises KindError: if there is none, with those that there are; if it cannot be imported, or lacks what a reference has.
    """
    if name not in installed(REFERENCES):
        raise KindError(f"no reference is called {name!r}; installed: {', '.join(names())}")
    found = loaded(REFERENCES, name)
    if not isinstance(found, Reference):
        where = installed(REFERENCES)[name][0].value
        raise KindError(f"{name} ({where}) is no reference: it has no {', '.join(lacks(found, Reference))}")
    return found


def bundled(name: str) -> BundledReference:
    """Return the reference of a name if it offers bundles.

    :raises KindError: if it does not, or as :func:`reference_named`.
    """
    found = reference_named(name)
    if not isinstance(found, BundledReference):
        raise KindError(f"{name} offers no bundles: it has no {', '.join(lacks(found, Bundled))}")
    return found


def relaxing(name: str) -> RelaxingReference:
    """Return the reference of a name if it relaxes crystals.

    :raises KindError: if it does not, with those that do, or as :func:`reference_named`.
    """
    found = reference_named(name)
    if not isinstance(found, RelaxingReference):
        lack = ", ".join(lacks(found, Relaxing))
        there = ", ".join([ASE, *_that_are(RelaxingReference)])
        raise KindError(f"{name} relaxes no crystals (it has no {lack}); references that do: {there}")
    return found


def moving(name: str) -> MovingReference:
    """Return the reference of a name if it runs molecular dynamics.

    :raises KindError: if it does not, with those that do, or as :func:`reference_named`.
    """
    found = reference_named(name)
    if not isinstance(found, MovingReference):
        lack, there = ", ".join(lacks(found, Moving)), ", ".join(_that_are(MovingReference))
        raise KindError(f"{name} runs no molecular dynamics (it has no {lack}); references that do: {there}")
    return found


def lack_of_relaxing(inputs: Any) -> str | None:
    """Return why the reference among the inputs of a labelling cannot relax crystals, or None."""
    name = reference_of(inputs)
    try:
        if name is not None and name != ASE:
            relaxing(name)
    except KindError as error:
        return str(error)
    return None


def lack_of_moving(inputs: Any) -> str | None:
    """Return why the reference among the inputs of a labelling cannot run molecular dynamics, or None."""
    name = reference_of(inputs)
    if name is None:
        return f"there is no reference, expected one of {', '.join(names())}"
    if name == ASE:
        return "an ASE calculator runs in a job of gaprss.md: give it as calculator, and leave by out"
    try:
        moving(name)
    except KindError as error:
        return str(error)
    return None


def _that_are(protocol: type) -> list[str]:
    """Return the names of the references that have what a protocol asks for; what cannot be used is left out."""
    out = []
    for name in per_frame():
        try:
            able = isinstance(reference_named(name), protocol)
        except KindError:
            continue
        out += [name] if able else []
    return out


def define(namespace: PortNamespace, with_bundles: bool = False) -> None:
    """Add the namespaces of the references that label one frame per process, none of them required.

    One that cannot be used has a namespace, too: whoever gives it is told why.

    :param with_bundles: only of those that offer bundles.
    """
    for name in per_frame():
        inner = PortNamespace(name, required=False, populate_defaults=False)
        try:
            module = bundled(name) if with_bundles else reference_named(name)
            module.define(inner)
            inner.help = f"Labels from {module.NAME}."
        except Exception as exception:  # whatever the code of another package comes across
            inner = _refused(name, str(exception))
        namespace[name] = inner


def _refused(name: str, why: str) -> PortNamespace:
    """Return the namespace of a reference that cannot be used."""
    return PortNamespace(name, required=False, dynamic=True, help=why, validator=lambda given, _: why if given else None)


def reference_of(inputs: Any) -> str | None:
    """Return the name of the one reference among the inputs, or None."""
    given = [name for name in names() if inputs.get(name)]
    return given[0] if len(given) == 1 else None


def level_of(inputs: Any) -> Level | str:
    """Return the level of theory of the labels."""
    name = reference_of(inputs)
    assert name is not None
    if name == ASE:
        return ase.level_of_theory(inputs[ASE]["settings"])
    return level_of_content(reference_named(name).level_of_theory(inputs[name]))


def set_labels_of_step(step: Step, atoms: Atoms) -> None:
    """Put the labels of a step, read from an output of the sorted structure of ``atoms``, on ``atoms`` in the order of ``atoms``.

    :raises ValueError: if the step must not be used, lacks a label, or is of other atoms.
    """
    structure, order = sorted_by_number(atoms)
    if step.problem is not None:
        raise ValueError(step.problem)
    if step.atoms.get_chemical_symbols() != structure.get_chemical_symbols():
        raise ValueError(f"sent {structure.symbols}, but the output is of {step.atoms.symbols}")
    if step.energy is None or step.forces is None or (step.stress is None and not fr.is_in_vacuum(atoms)):
        raise ValueError("the output lacks energy, forces or stress")
    _set(atoms, order, step.energy, np.asarray(step.forces), step.stress)


def put_labels_of_step(step: Step, atoms: Atoms, prefix: str) -> None:
    """Put what a step, read from an output of the sorted structure of ``atoms``, says of it on ``atoms`` under another prefix.

    :raises ValueError: as :func:`set_labels_of_step`.
    """
    labelled = atoms.copy()
    set_labels_of_step(step, labelled)
    atoms.info |= {f"{prefix}_{key}": labelled.info[f"{fr.REFERENCE}_{key}"] for key in ("energy", "virial")}
    atoms.set_array(f"{prefix}_forces", labelled.arrays[f"{fr.REFERENCE}_forces"])


def set_sorted_labels(module: Reference, outputs: dict[str, Any], atoms: Atoms) -> None:
    """Put the labels that ``outputs`` hold for the sorted structure of ``atoms`` on ``atoms``, in the order of ``atoms``.

    :raises ValueError: if the outputs hold no valid labels.
    """
    structure, order = sorted_by_number(atoms)
    energy, forces, stress = module.labels(outputs, structure.get_chemical_symbols())
    _set(atoms, order, energy, forces, stress)


def _set(atoms: Atoms, order: np.ndarray, energy: float, forces: np.ndarray, stress: np.ndarray | None) -> None:
    """Put labels of the sorted structure on ``atoms``.

    :raises ValueError: if forces or stress stand for "not calculated".
    """
    stress = None if stress is None or fr.is_in_vacuum(atoms) else np.asarray(stress)
    _, _, notes = not_calculated(Step(sorted_by_number(atoms)[0], energy, forces, stress))
    if notes:
        raise ValueError("; ".join(notes))
    virial = None if stress is None else fr.virial_from_stress(stress, atoms.get_volume())
    fr.set_labels(atoms, energy, unsorted(forces, order), virial)


def set_relaxed(module: RelaxingReference, outputs: dict[str, Any], atoms: Atoms) -> None:
    """Put ``atoms`` where ``outputs`` say that their sorted structure was relaxed to, with the labels there.

    :raises ValueError: if the outputs hold no crystal of these atoms with valid labels.
    """
    structure, order = sorted_by_number(atoms)
    step = module.relaxed(outputs, structure.get_chemical_symbols())
    moved = Atoms(atoms.numbers, unsorted(step.atoms.positions, order), cell=step.atoms.cell, pbc=True)
    set_labels_of_step(step, moved)
    atoms.set_cell(moved.cell)
    atoms.positions = moved.positions
    fr.take_labels(atoms, moved)


@dataclass(frozen=True)
class Asked:
    """What is asked of a reference for a frame: the process that does it, and what becomes of the frame."""

    #: From reference, inputs, sorted structure, whether it is isolated, and attempt to process class and inputs.
    submission: Callable[[Any, Any, Any, bool, int], tuple[Any, dict[str, Any]]]
    outputs: Callable[[Any], tuple[str, ...]]
    #: Changes the frame by the outputs; raises ValueError if they do not serve.
    put: Callable[[Any, dict[str, Any], Atoms], None]


LABELS = Asked(lambda module, *given: module.submission(*given), lambda module: module.OUTPUTS, set_sorted_labels)
RELAXATION = Asked(
    lambda module, inputs, structure, _, attempt: module.relaxation(inputs, structure, attempt),
    lambda module: module.RELAXED_OUTPUTS,
    set_relaxed,
)
