"""From a suite and crystals to the frames that are computed, each once, and from what came out back to the properties."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import Property, PropertyError
from aiida_gaprss.properties.errors import with_predictions
from aiida_gaprss.properties.suite import Suite

#: Under it a result says why there is none.
ERROR = "error"

#: Results by crystal and property.
Results = dict[str, dict[str, dict[str, Any]]]

#: Of labelled frames: for how many of them a potential gave nothing.
NOT_PREDICTED = "not_predicted"

#: What stands in the place of a crystal for what is told of several together, and of labelled frames.
TOGETHER, TESTS = "all crystals", "test frames"

#: By crystal and property: the id of each frame of the plan, and the part that it is; or why there is no plan.
Index = dict[str, dict[str, Any]]


@dataclass
class Plan:
    """The frames that are computed, and which property asked for which.

    :param frames: by task, each once, with a ``frame_id``; ``tasks``: settings of single frames, by task and id.
    """

    frames: dict[str, list[Atoms]] = field(default_factory=dict)
    tasks: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    index: Index = field(default_factory=dict)

    def add(self, run: str, atoms: Atoms, name: str) -> str:
        """Take a frame unless it is there; return its id."""
        task = atoms.info.get("task", {})
        key = (run, fr.structure_key(atoms), repr(sorted(task.items())))
        if key not in self._known:
            frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
            frame.info = {"frame_id": name, "config_type": name.split("-")[1]}
            self.frames.setdefault(run, []).append(frame)
            self._known[key] = name
            if task:
                self.tasks.setdefault(run, {})[name] = task
        return self._known[key]

    def __post_init__(self) -> None:
        """Begin without frames."""
        self._known: dict[tuple[str, bytes, str], str] = {}


def crystals_by_name(frames: Sequence[Atoms]) -> dict[str, Atoms]:
    """Return crystals by their ``frame_id``, bare."""
    return {str(a.info["frame_id"]): Atoms(a.numbers, a.positions, cell=a.cell, pbc=True) for a in frames}


def plan_of(
    suite: Suite, crystals: Mapping[str, Atoms], tests: Sequence[Atoms] = (), given: Mapping[str, Atoms] | None = None
) -> Plan:
    """Return what is to be computed; a crystal that has no such property is told in the index.

    :param tests: labelled frames, for properties that are of many frames together.
    :param given: the crystals as they were given, if a potential has relaxed them since.
    """
    plan = Plan()
    asked = {name: wanted for name, wanted in suite.properties.items() if wanted.per_crystal}
    for number, crystal in enumerate(crystals):
        plan.index[crystal] = {}
        for name, wanted in asked.items():
            try:
                frames = wanted.plan(as_begun(wanted, crystal, crystals, given))
            except PropertyError as error:
                plan.index[crystal][name] = {ERROR: str(error)}
                continue
            ids = [(plan.add(wanted.run, a, f"c{number:02d}-{name}-{i:04d}"), a.info["part"]) for i, a in enumerate(frames)]
            plan.index[crystal][name] = [list(pair) for pair in ids]
    if others := [name for name in suite.properties if name not in asked]:
        entries = [[plan.add("evaluate", _bare(a), f"t-test-{i:05d}"), str(i)] for i, a in enumerate(tests)]
        plan.index[TESTS] = {name: entries or {ERROR: "no labelled frames are given for it"} for name in others}
    return plan


def as_begun(wanted: Property, name: str, crystals: Mapping[str, Atoms], given: Mapping[str, Atoms] | None) -> Atoms:
    """Return the crystal that a property begins with."""
    return given[name] if given is not None and wanted.from_given else crystals[name]


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def asked_of_reference(suite: Suite, index: Index) -> set[str]:
    """Return the ids of the frames of the task ``evaluate`` that properties ask a reference of."""
    wanted = {name for name, one in suite.properties.items() if one.run == "evaluate" and one.referenced}
    asked = [row[name] for row in index.values() for name in wanted if isinstance(row.get(name), list)]
    return {frame for entries in asked for frame, _ in entries}


def came_out(wanted: Property, entries: Sequence[Sequence[str]], done: Sequence[Atoms], planned: Sequence[Atoms]) -> list[Atoms]:
    """Return the frames that came out for a property, in the order of its plan, each with its part.

    :param done: of the task; a frame that is missing stands as it was planned, without results.
    """
    by_name: dict[str, list[Atoms]] = {}
    for atoms in done:
        by_name.setdefault(str(atoms.info["frame_id" if wanted.run == "evaluate" else "parent"]), []).append(atoms)
    absent = {str(a.info["frame_id"]): a for a in planned} if wanted.run == "evaluate" else {}
    out = []
    for name, part in entries:
        for atoms in by_name.get(name, [absent[name]] if name in absent else []):
            frame = atoms.copy()
            frame.info["part"] = part
            frame.info.setdefault("label_status", "not computed")
            out.append(frame)
    return out


def results_of(
    suite: Suite,
    crystals: Mapping[str, Atoms],
    index: Index,
    done: Mapping[str, Sequence[Atoms]],
    prefix: str,
    planned: Sequence[Atoms] = (),
    solved: Mapping[tuple[str, str], dict[str, Any]] | None = None,
    runs: Collection[str] | None = None,
    tests: Sequence[Atoms] = (),
    given: Mapping[str, Atoms] | None = None,
) -> Results:
    """Return all properties, each with its numbers, or with the reason why there are none.

    :param done: what came out, by task; ``planned``: the frames that were to be evaluated.
    :param solved: results that a job has made, by crystal and property.
    :param tests: labelled frames, for properties that are of many frames together.
    :param given: the crystals as they were given.
    :param runs: tasks whose properties are asked for; default: all.
    """
    out: Results = {}
    for crystal, asked in index.items():
        out[crystal] = {}
        for name, entries in asked.items():
            wanted = suite.properties[name]
            if runs is not None and (wanted.run not in runs or not wanted.referenced):
                continue
            if isinstance(entries, dict):
                out[crystal][name] = dict(entries)
                continue
            if not wanted.per_crystal:
                out[crystal][name] = _result_of_tests(wanted, entries, done.get("evaluate", ()), tests)
                continue
            if solved and (crystal, name) in solved:
                out[crystal][name] = solved[crystal, name]
                continue
            frames = came_out(wanted, entries, done.get(wanted.run, ()), planned)
            out[crystal][name] = _result(wanted, as_begun(wanted, crystal, crystals, given), frames, prefix)
    _add_across(suite, out)
    return out


def _result_of_tests(
    wanted: Any, entries: Sequence[Sequence[str]], done: Sequence[Atoms], tests: Sequence[Atoms]
) -> dict[str, Any]:
    by_id = {str(a.info["frame_id"]): a for a in done}
    frames = []
    for name, number in entries:
        if name in by_id:
            frames.append(with_predictions(tests[int(number)], by_id[name], fr.PREDICTION))
    try:
        found: dict[str, Any] = wanted.of(frames)
    except PropertyError as error:
        return {ERROR: str(error)}
    return {**found, NOT_PREDICTED: len(entries) - len(frames)}


def _result(wanted: Property, crystal: Atoms, frames: Sequence[Atoms], prefix: str) -> dict[str, Any]:
    if not frames:
        return {ERROR: f"nothing came out of the task {wanted.run}"}
    try:
        return wanted.result(crystal, frames, prefix)
    except PropertyError as error:
        return {ERROR: str(error)}
    except Exception as error:  # what libraries raise of numbers that make no sense; the other properties go on
        return {ERROR: f"{type(error).__name__}: {error}"}


def _add_across(suite: Suite, results: Results) -> None:
    together = {}
    for name, wanted in suite.properties.items():
        named = {crystal: row[name] for crystal, row in results.items() if name in row and crystal != TESTS}
        found = {crystal: result for crystal, result in named.items() if ERROR not in result}
        if len(found) > 1 and (across := wanted.across(found)):
            together[name] = across
    if together:
        results[TOGETHER] = together
