"""From what a user names to the inputs of a validation: crystals of files, a suite, a reference."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiida.orm import Dict
from pydantic import Field, ValidationError

from aiida_gaprss.campaign.codes import code_of
from aiida_gaprss.campaign.file import check_reference
from aiida_gaprss.campaign.inputs import label_inputs
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.properties.base import PropertyError
from aiida_gaprss.properties.planning import Plan, asked_of_reference, crystals_by_name, plan_of
from aiida_gaprss.properties.suite import Suite, suite_of
from aiida_gaprss.settings.computer import job_options
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.settings.model import Line, Model, Real, complaints
from aiida_gaprss.settings.yamlfile import ConfigError, parse, read


class StoredValues(Model):
    """A reference that is numbers of a file, as of a paper."""

    source: Line = Field(min_length=1, description="where they are from")
    values: dict[str, dict[str, dict[str, Real]]] = Field(
        min_length=1,
        description="by crystal and property, by the names that results have: {diamond: {eos: {bulk_modulus_GPa: 98.8}}}",
    )


def suite_from(name: str, path: Path | None) -> Suite:
    """Return a suite by its name, or that of a file, which may change one (``suite: quick``).

    :raises ValueError: with what is wrong, in a file with its line.
    """
    if path is None:
        return suite_of(name)
    data, lines = parse(read(path), path, "properties: {elastic: }")
    try:
        return suite_of(data)
    except PropertyError as error:
        if isinstance(error.__cause__, ValidationError):
            raise ConfigError(str(path), lines.located(complaints(error.__cause__))) from error
        raise ConfigError(str(path), lines.located([Fault(("suite",), str(error))])) from error


def reference_from(
    path: Path, elements: Collection[str], crystals: Collection[str] = (), suite: Suite | None = None
) -> dict[str, Any]:
    """Return the inputs that a file with a reference becomes: ``label``, or ``values``.

    :param crystals: names of crystals that numbers may be of, and ``suite``: whose properties; default: any.
    :raises ConfigError: with what is wrong, and its line.
    """
    data, lines = parse(read(path), path, "reference: {ase: {calculator: emt}}")
    if "values" not in data:
        return {"label": label_inputs(check_reference(data, lines, path, elements))}
    try:
        stored = StoredValues(**data)
    except ValidationError as error:
        raise ConfigError(str(path), lines.located(complaints(error))) from error
    faults = [
        Fault(("values", name), f"no crystal is called so, but {', '.join(crystals)}")
        for name in stored.values
        if crystals and name not in crystals
    ]
    for name, numbers in stored.values.items():
        known = suite.properties if suite is not None else numbers
        faults += [
            Fault(("values", name, key), f"no property of the suite, which has {', '.join(known)}")
            for key in numbers
            if key not in known
        ]
    if faults:
        raise ConfigError(str(path), lines.located(faults))
    return {"values": Dict({"source": stored.source, "crystals": stored.values})}


def validation_inputs(
    potentials: Mapping[str, Potential],
    crystals: Dataset,
    suite: Suite,
    reference: Mapping[str, Any] | None = None,
    python: Any = None,
    options: Mapping[str, Any] | None = None,
    tests: Sequence[Dataset] = (),
) -> dict[str, Any]:
    """Return the inputs of ``ValidateWorkChain``.

    :param reference: ``{"label": …}``, ``{"reference_potential": …}`` or ``{"values": …}``.
    :param python: code of the python that runs the potentials; default: that of this machine.
    :param options: of the jobs; those of the computer are added.
    :param tests: labelled frames; ``errors`` is added to the suite if it has no property of such.
    :raises CodeError: if there is no such code.
    """
    code = code_of("python", python)
    if tests and all(one.per_crystal for one in suite.properties.values()):
        suite = Suite(**{**dict(suite), "properties": {**suite.properties, "errors": None}})
    return {
        "potentials": dict(potentials),
        "crystals": crystals,
        **({"test": {f"d{number:02d}": node for number, node in enumerate(tests)}} if tests else {}),
        "settings": Dict(suite.model_dump()),
        "jobs": {"code": code, "metadata": {"options": job_options(code.computer, dict(options or {}))}},
        **(reference or {}),
    }


@dataclass
class Cost:
    """What a validation asks for, by task: frames and atoms."""

    frames: dict[str, int] = field(default_factory=dict)
    atoms: dict[str, int] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)
    labels: int = 0  #: of frames that are planned, by the reference
    made: list[str] = field(default_factory=list)  #: properties whose frames the reference labels when they have been made
    memory: dict[str, float] = field(default_factory=dict)  #: MB of jobs that make results, by property


def cost_of(suite: Suite, crystals: Dataset) -> Cost:
    """Return what a potential computes for a suite, and the reference labels, counted before anything runs."""
    by_name = crystals_by_name(crystals.get_frames())
    plan: Plan = plan_of(suite, by_name)
    cost = Cost()
    for run, frames in sorted(plan.frames.items()):
        cost.frames[run] = len(frames)
        cost.atoms[run] = sum(len(atoms) for atoms in frames)
        cost.largest[run] = max(len(atoms) for atoms in frames)
    cost.labels = len(asked_of_reference(suite, plan.index))
    cost.made = [name for name, wanted in suite.properties.items() if wanted.run != "evaluate" and wanted.referenced]
    for name, wanted in suite.properties.items():
        needed = getattr(wanted, "memory_MB", None)
        if wanted.solver and needed is not None:
            cost.memory[name] = max(needed(atoms) for atoms in by_name.values())
    return cost
