"""The cheap steps of a validation as calcfunctions: plan frames, gather what the reference labels, make results and scorecard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from aiida.engine import calcfunction
from aiida.orm import Dict, List, Str
from ase import Atoms
from ase.units import GPa

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import frames_of, named, process_uuid
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.properties.planning import ERROR, Index, asked_of_reference, came_out, crystals_by_name, plan_of, results_of
from aiida_gaprss.properties.scorecard import scorecard
from aiida_gaprss.properties.suite import Suite
from aiida_gaprss.runners.status import CONVERGED, MAX_STEPS, NOT_REACHED

#: Names of outputs of the plan, and of inputs that are of one task.
PLANNED, TASKS, DONE, TEST, INDEX = "planned_", "tasks_", "done_", "test_", "index"

#: How the status begins of a crystal that the reference could not relax.
AS_GIVEN = "as given"


@calcfunction
def relaxed_crystals(crystals: Dataset, relaxed: Dataset) -> dict[str, Any]:
    """Return the crystals as a potential has relaxed them, under their own names, and why it could not relax the others.

    :return: ``crystals``; ``lost``, reasons by name.
    """
    ends = {a.info["parent"]: a for a in relaxed.get_frames()}
    out, lost = [], {}
    for name in (a.info["frame_id"] for a in crystals.get_frames()):
        status = ends[name].info["relax_status"] if name in ends else NOT_REACHED
        if status in (CONVERGED, MAX_STEPS):
            ends[name].info["frame_id"] = name
            out.append(ends[name])
        else:
            lost[name] = f"the potential could not relax the crystal: {status}"
    return {
        "crystals": named(Dataset(out, level_of_theory="unlabelled"), "relaxed crystals"),
        "lost": named(Dict(lost), "crystals that were not relaxed"),
    }


@calcfunction
def reference_crystals(crystals: Dataset, failure: Str, relaxed: Dataset | None = None) -> Dataset:
    """Return the crystals as the reference has relaxed them, and as they are given where it could not.

    :param failure: why crystals are missing among the relaxed ones.
    :param relaxed: frames with ``parent``, of which the last of each counts, or with the ``frame_id`` of the crystal.
    :return: under their own names; ``relax_status`` says how it ended, or that, and why, a crystal is as it is given.
    """
    ends = {a.info.get("parent", a.info["frame_id"]): a for a in (relaxed.get_frames() if relaxed is not None else ())}
    out = []
    for name, atoms in crystals_by_name(crystals.get_frames()).items():
        said = ends[name].info if name in ends else {}
        status = said.get("relax_status") or said.get("label_status") or failure.value or NOT_REACHED
        if status in (CONVERGED, MAX_STEPS):
            atoms.set_cell(ends[name].cell)
            atoms.positions = ends[name].positions
        else:
            status = f"{AS_GIVEN}: {status}"
        atoms.info = {"frame_id": name, "relax_status": status}
        out.append(atoms)
    return named(Dataset(out, level_of_theory="unlabelled"), "crystals as the reference has them")


def residuals(crystals: Dataset, labels: Dataset | None) -> dict[str, dict[str, Any]]:
    """Return what is left at the crystals that a reference has relaxed: pressure, largest stress and force of its labels there.

    The label is a single point with the plane waves and k-points of the relaxed cell, as all labels that it is compared with.
    """
    known = {fr.structure_key(a): a for a in (labels.get_frames() if labels is not None else ()) if fr.is_labelled(a)}
    out: dict[str, dict[str, Any]] = {}
    for atoms in crystals.get_frames():
        found: dict[str, Any] = {"status": atoms.info["relax_status"], "volume_A3": float(atoms.get_volume())}
        label = known.get(fr.structure_key(atoms))
        if label is not None:
            stress = fr.stress_from_virial(label.info[f"{fr.REFERENCE}_virial"], label.get_volume()) / GPa
            found |= {"pressure_GPa": -float(np.trace(stress)) / 3, "largest_stress_GPa": float(np.abs(stress).max())}
            found["largest_force_eV/A"] = float(np.linalg.norm(label.arrays[f"{fr.REFERENCE}_forces"], axis=1).max())
        out[atoms.info["frame_id"]] = found
    return out


@calcfunction
def validation_plan(
    settings: Dict, crystals: Dataset, lost: Dict | None = None, given: Dataset | None = None, **tests: Dataset
) -> dict[str, Any]:
    """Plan the frames of all properties of all crystals, by task, each once.

    :param lost: why there are no others, by name.
    :param given: the crystals as they were given.
    :param tests: labelled frames, ``test_…``.
    :return: ``index``; ``planned_<task>`` frames and ``tasks_<task>``, settings of single frames.
    """
    suite = Suite(**settings.get_dict())
    before = crystals_by_name(given.get_frames()) if given is not None else None
    plan = plan_of(suite, crystals_by_name(crystals.get_frames()), frames_of(tests), before)
    for name, why in (lost.get_dict() if lost is not None else {}).items():
        plan.index[name] = {wanted: {ERROR: why} for wanted, one in suite.properties.items() if one.per_crystal}
    out: dict[str, Any] = {INDEX: named(Dict(plan.index), "frames of each property")}
    for run, frames in plan.frames.items():
        for atoms in frames:
            atoms.info["origin"] = process_uuid()
        out[f"{PLANNED}{run}"] = named(Dataset(frames, level_of_theory="unlabelled"), f"frames of properties, {run}")
        if run in plan.tasks:
            out[f"{TASKS}{run}"] = named(Dict(plan.tasks[run]), f"settings of frames, {run}")
    return out


@calcfunction
def frames_beside(settings: Dict, index: Dict, potential: Str, crystals: Dataset | None = None, **done: Dataset) -> Dataset:
    """Return what came out of a potential's tasks that the reference is to label: its defects, paths, snapshots, crystals.

    :param potential: what it is called; the names of the frames begin with it.
    :param crystals: as it has relaxed them.
    """
    suite = Suite(**settings.get_dict())
    chosen: dict[str, Atoms] = {}
    for _, name, frames in _of_tasks(suite, index.get_dict(), done):
        for number in suite.properties[name].to_label(frames):
            chosen[frames[number].info["frame_id"]] = frames[number]
    for atoms in crystals.get_frames() if crystals is not None else []:
        chosen[f"crystal-{atoms.info['frame_id']}"] = atoms
    for name, atoms in chosen.items():
        atoms.info["frame_id"] = f"{potential.value}-{name}"
        atoms.info["config_type"] = "validation"
    return named(Dataset(chosen.values(), level_of_theory="unlabelled"), f"frames of {potential.value} for the reference")


def _of_tasks(suite: Suite, index: Index, done: Mapping[str, Dataset]) -> list[tuple[str, str, list[Atoms]]]:
    """Return crystal, property and frames of all that another task than ``evaluate`` has made and the reference is asked of."""
    frames = {key.removeprefix(DONE): node.get_frames() for key, node in done.items()}
    out = []
    for crystal, asked in index.items():
        for name, entries in asked.items():
            wanted = suite.properties[name]
            if wanted.run != "evaluate" and wanted.referenced and not isinstance(entries, dict):
                out.append((crystal, name, came_out(wanted, entries, frames.get(wanted.run, ()), ())))
    return out


@calcfunction
def frames_to_label(settings: Dict, index: Dict | None = None, planned: Dataset | None = None, **beside: Dataset) -> Dataset:
    """Join what the reference is to label; of the same structure the first only.

    :param index: of its own plan, of which it labels what properties ask a reference of.
    :param beside: what potentials have made.
    """
    suite = Suite(**settings.get_dict())
    own = asked_of_reference(suite, index.get_dict()) if index is not None else set()
    frames = [atoms for atoms in (planned.get_frames() if planned is not None else []) if atoms.info["frame_id"] in own]
    known: dict[bytes, Atoms] = {}
    for atoms in [*frames, *frames_of(beside)]:
        known.setdefault(fr.structure_key(atoms), atoms)
    return named(Dataset(known.values(), level_of_theory="unlabelled"), "frames for the reference")


@calcfunction
def labels_of_potential(predictions: Dataset) -> Dataset:
    """Return predictions of a potential that is the reference as labels."""
    frames = predictions.get_frames()
    for atoms in frames:
        for store in (atoms.info, atoms.arrays):
            for key in [key for key in store if key.startswith(f"{fr.PREDICTION}_")]:
                store[key.replace(fr.PREDICTION, fr.REFERENCE, 1)] = store.pop(key)
        atoms.info["label_status"] = "ok"
    uuid = frames[0].info["potential"] if frames else "unknown"
    return named(Dataset(frames, level_of_theory=f"potential {uuid}"), "labels of a potential")


def _labelled(frames: Sequence[Atoms], labels: Dataset) -> list[Atoms]:
    """Return frames with the labels of the same structures."""
    known = {fr.structure_key(a): a for a in labels.get_frames()}
    out = []
    for atoms in frames:
        source = known.get(fr.structure_key(atoms))
        if source is not None:
            fr.take_labels(atoms, source)
        out.append(atoms)
    return out


@calcfunction
def property_results(settings: Dict, crystals: Dataset, index: Dict, prefix: Str, **nodes: Dataset | Dict) -> Dict:
    """Make the properties of what a potential, or the reference, gives for the frames.

    :param prefix: of its energies, forces and virials.
    :param nodes: ``planned_evaluate``; ``done_<task>``; ``test_…``, labelled frames; ``labels`` of the reference for what tasks
        have made, without such for the planned frames; ``solved_<crystal>__<property>``, by their numbers, what jobs
        have made; ``given``, the crystals as they were given.
    """
    suite = Suite(**settings.get_dict())
    planned = nodes[f"{PLANNED}evaluate"].get_frames() if f"{PLANNED}evaluate" in nodes else []
    done = {key.removeprefix(DONE): cast(Dataset, node).get_frames() for key, node in nodes.items() if key.startswith(DONE)}
    runs = None
    if "labels" in nodes:
        done = {run: _labelled(frames, cast(Dataset, nodes["labels"])) for run, frames in (done or {"evaluate": planned}).items()}
        runs = list(done)
    solved = {}
    for key, node in nodes.items():
        if key.startswith("solved_"):
            crystal, _, name = key.removeprefix("solved_").partition("__")
            solved[list(index)[int(crystal)], list(suite.properties)[int(name)]] = node.get_dict()
    known = crystals_by_name(crystals.get_frames())
    tests = frames_of({key: cast(Dataset, node) for key, node in nodes.items() if key.startswith(TEST)})
    before = crystals_by_name(cast(Dataset, nodes["given"]).get_frames()) if "given" in nodes else None
    found = results_of(suite, known, index.get_dict(), done, prefix.value, planned, solved, runs, tests, before)
    return named(Dict(plain(found)), "properties")


@calcfunction
def validation_scorecard(settings: Dict, **results: Dict) -> Dict:
    """Judge the properties of potentials.

    :param results: ``results_<potential>``; ``reference`` or ``values`` of a file; ``beside_<potential>``, of the reference.
    """
    suite = Suite(**settings.get_dict())
    of = {key.removeprefix("results_"): node.get_dict() for key, node in results.items() if key.startswith("results_")}
    beside = {name: results[f"beside_{name}"].get_dict() if f"beside_{name}" in results else {} for name in of}
    stored = "values" in results
    reference = results["values"]["crystals"] if stored else results["reference"].get_dict() if "reference" in results else {}
    return named(Dict(plain(scorecard(suite, of, reference, beside, stored))), "scorecard")


@calcfunction
def solver_frames(
    crystals: Dataset, planned: Dataset, done: Dataset, index: Dict, crystal: Str, name: Str, labels: List
) -> Dataset:
    """Return a crystal and the frames of one of its properties, for the job that makes the result of them.

    :param labels: [] for predictions, ["REF"] if ``done`` are labels of the same structures.
    """
    (own,) = (a for a in crystals.get_frames() if a.info["frame_id"] == crystal.value)
    wanted = {frame: part for frame, part in index[crystal.value][name.value]}
    frames = [a for a in planned.get_frames() if a.info["frame_id"] in wanted]
    if labels.get_list():
        frames = _labelled(frames, done)
    else:
        known = {a.info["frame_id"]: a for a in done.get_frames()}
        frames = [known.get(a.info["frame_id"], a) for a in frames]
    return named(Dataset([own, *frames], level_of_theory="unlabelled"), f"frames of {name.value}")


def plain(value: Any) -> Any:
    """Return numbers that a node can hold: what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
