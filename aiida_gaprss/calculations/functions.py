"""The cheap steps of a campaign as calcfunctions: make cells, choose frames, gather labels, find minima."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from aiida.engine import Process, calcfunction
from aiida.orm import ArrayData, Dict, Float, Int, List, Str, StructureData
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.convergence import low_end_points, progress
from aiida_gaprss.analysis.hull import hull_weights
from aiida_gaprss.analysis.minima import Minimum, ranked_by_reference
from aiida_gaprss.analysis.zero import EnergyZero
from aiida_gaprss.campaign import RssSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.parsers.frames import NOT_REACHED, TIME_LIMIT
from aiida_gaprss.reference import PER_FRAME, set_sorted_labels
from aiida_gaprss.reference.common import one_line, sorted_by_number
from aiida_gaprss.seeding import stage_seed
from aiida_gaprss.selection.generation import choose_frames
from aiida_gaprss.selection.sanity import Limits, shortest_distances, why_absurd
from aiida_gaprss.structures.compositions import Weights
from aiida_gaprss.structures.compositions import text as formula_text
from aiida_gaprss.structures.dimers import dimer_curve
from aiida_gaprss.structures.distortions import distorted
from aiida_gaprss.structures.seeds import make_cells


def _uuid() -> str:
    process = Process.current()
    assert process is not None
    return str(process.node.uuid)  # type: ignore[attr-defined]


def _cells(
    settings: RssSettings,
    counts: dict[str, int],
    prefix: str,
    seed: int,
    nodes: Mapping[str, Dataset],
    weights: Weights | None = None,
    **info: Any,
) -> list[Atoms]:
    """Return random cells; those of a kind that buildcell has made are among ``nodes`` as ``built_<kind>``."""
    frames: list[Atoms] = []
    for kind, count in counts.items():
        built = nodes.get(f"built_{kind}")
        cells = (
            make_cells(settings.seeds, settings.formula, {kind: count}, seed, weights) if built is None else built.get_frames()
        )
        for atoms in cells:
            atoms.info.update(config_type="random", **({"origin": _uuid()} if built is None else {}), **info)
        frames += cells
    for number, atoms in enumerate(frames):
        atoms.info["frame_id"] = f"{prefix}-{number:04d}"
    return frames


def _frames(nodes: dict[str, Dataset]) -> list[Atoms]:
    return [atoms for _, node in sorted(nodes.items()) for atoms in node.get_frames()]


def _crystals(settings: RssSettings, name: str, seed: int, crystals: Dataset) -> list[Atoms]:
    how = settings.crystals
    assert how is not None
    frames = []
    for index, crystal in enumerate(crystals.get_frames()):
        perfect = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
        rng = np.random.default_rng(stage_seed(seed, index, "crystal"))
        parent = crystal.info["frame_id"]
        cells = distorted(perfect, how.number, how.displacement, how.strain, how.volume, rng)
        for number, atoms in enumerate([perfect, *cells]):
            atoms.info.update(frame_id=f"{name}-crystal-{parent}-{number:04d}", parent=parent, config_type="crystal")
            atoms.info["origin"] = _uuid()
            frames.append(atoms)
    return frames


@calcfunction
def initial_cells(settings: Dict, name: Str, seed: Int, **nodes: Dataset) -> Dataset:
    """Make the frames that are labelled first.

    These are the isolated atom of every element that the database lacks, dimers if asked for, random cells, and the frames of an
    earlier search that are labelled anew.

    :param nodes: ``database_…``: labelled frames that the campaign begins with; ``relabel_…``: frames to be labelled anew;
        ``built_…``: cells that buildcell has made of a kind of seed; ``crystals``: known crystals, if distorted cells of them
        belong to the start.
    """
    model = RssSettings(**settings.get_dict())
    database = _frames({key: node for key, node in nodes.items() if key.startswith("database_")})
    again = _frames({key: node for key, node in nodes.items() if key.startswith("relabel_")})
    known = {a.symbols[0] for a in [*database, *again] if fr.is_isolated_atom(a)}
    frames = []
    for symbol in model.formula:
        if symbol not in known:
            atom = Atoms(symbol, cell=[model.isolated_atom_box] * 3, pbc=True)
            atom.info.update(frame_id=f"{name.value}-atom-{symbol}", config_type="isolated_atom")
            frames.append(atom)
    if model.dimers is not None:
        for a, b in combinations_with_replacement(model.formula, 2):
            curve = dimer_curve(a, b, model.dimers.points, model.dimers.range, model.isolated_atom_box)
            for number, atoms in enumerate(curve):
                atoms.info.update(frame_id=f"{name.value}-dimer-{a}-{b}-{number:02d}", config_type="dimer")
            frames += curve
    for number, source in enumerate(again):
        atoms = Atoms(source.numbers, source.positions, cell=source.cell, pbc=True)
        kept = {key: source.info[key] for key in ("config_type", "relax_status") if key in source.info}
        atoms.info.update(kept, frame_id=f"{name.value}-again-{number:04d}", parent=source.info["frame_id"])
        frames.append(atoms)
    if "crystals" in nodes:
        frames += _crystals(model, name.value, stage_seed(seed.value, 0, "crystals"), nodes["crystals"])
    for atoms in frames:
        atoms.info.update(generation=0, origin=_uuid())
    frames += _cells(model, dict(model.initial), f"{name.value}-g0", seed.value, nodes, generation=0)
    return Dataset(frames, level_of_theory="unlabelled")


@calcfunction
def distorted_crystals(settings: Dict, name: Str, seed: Int, crystals: Dataset) -> Dataset:
    """Make distorted cells of the known crystals, each crystal itself among them."""
    return Dataset(_crystals(RssSettings(**settings.get_dict()), name.value, seed.value, crystals), level_of_theory="unlabelled")


@calcfunction
def random_cells_under_pressure(settings: Dict, name: Str, generation: Int, seed: Int, **nodes: Dataset) -> Dataset:
    """Make the random cells of a generation, each with a random external pressure.

    :param nodes: ``built_…``: cells that buildcell has made of a kind of seed; the others are labelled frames, when compositions
        are drawn toward their convex hull.
    """
    model = RssSettings(**settings.get_dict())
    number = generation.value
    recipe = model.recipe(number)
    weights: Weights | None = None
    if recipe.hull_bias is not None:
        database = {key: node for key, node in nodes.items() if not key.startswith("built_")}
        known = hull_weights(_frames(database), recipe.hull_bias)

        def weights(counts: Mapping[str, int]) -> float:
            return known.get(formula_text(counts), 1.0)

    frames = _cells(model, dict(recipe.cells), f"{name.value}-g{number}", seed.value, nodes, weights, generation=number)
    for atoms, pressure in zip(
        frames, recipe.pressure.draw(len(frames), stage_seed(seed.value, number, "pressure")), strict=True
    ):
        atoms.info["pressure_GPa"] = round(float(pressure), 4)
    return Dataset(frames, level_of_theory="unlabelled")


@calcfunction
def search_settings(settings: Dict) -> Dict:
    """Return the settings of the final search as those of a search by itself."""
    return Dict(RssSettings(**settings.get_dict()).final_search())


@calcfunction
def lowest_frames(settings: Dict, **database: Dataset) -> Dataset:
    """Return the lowest labelled frames of the database, which the final search relaxes once more."""
    model = RssSettings(**settings.get_dict())
    assert model.search is not None
    known = [a for a in _frames(database) if fr.is_labelled(a) and not fr.is_in_vacuum(a)]
    zero = EnergyZero(known)
    known.sort(key=lambda atoms: (zero.above(atoms), atoms.info["frame_id"]))
    levels = sorted({node.level_of_theory for node in database.values()})
    return Dataset(known[: model.search.again], level_of_theory=" | ".join(levels))


@calcfunction
def select_frames(
    candidates: Dataset,
    settings: Dict,
    generation: Int,
    seed: Int,
    vectors: ArrayData | None = None,
    most: Int | None = None,
    **database: Dataset | ArrayData,
) -> dict[str, Any]:
    """Choose the frames of a generation that are labelled, and say why the others are not.

    :param vectors: of the candidates, from ``gaprss.describe``; needed if the selection measures with SOAP vectors.
    :param most: what is left of the budget of labels.
    :param database: datasets by name, and the vectors of each under its name with ``_vectors`` behind.
    """
    model = RssSettings(**settings.get_dict())
    datasets = {name: node for name, node in sorted(database.items()) if isinstance(node, Dataset)}
    described = [database[f"{name}_vectors"] for name in datasets if f"{name}_vectors" in database]
    recipe = model.recipe(generation.value).select
    chosen, report = choose_frames(
        candidates.get_frames(),
        _frames(datasets),
        recipe,
        model.sanity_limits(),
        seed.value,
        vectors.get_array("vectors") if vectors else None,
        np.concatenate([node.get_array("vectors") for node in described]) if described else None,
        most.value if most is not None else None,
    )
    return {"frames": Dataset(chosen, level_of_theory="unlabelled"), "report": Dict(report)}


@calcfunction
def low_minima(relaxed: Dataset, settings: Dict) -> Dataset:
    """Return the low end points of a generation, by which its progress is measured."""
    stop = RssSettings(**settings.get_dict()).stop
    assert stop is not None
    return Dataset(low_end_points(relaxed.get_frames(), stop.window), level_of_theory="unlabelled")


@calcfunction
def measure_progress(settings: Dict, relaxed: Dataset, labelled: Dataset, **nodes: Dataset) -> Dict:
    """Return what a generation changed (``analysis.convergence.progress``).

    :param nodes: ``evaluated``: its low end points with predictions of the potential fitted after it; ``labelled_before``: the
        labelled frames of the generation before; ``seen_…``: low end points of all generations before.
    """
    stop = RssSettings(**settings.get_dict()).stop
    assert stop is not None
    evaluated, before = (nodes[key].get_frames() if key in nodes else [] for key in ("evaluated", "labelled_before"))
    seen = _frames({key: node for key, node in nodes.items() if key.startswith("seen_")})
    return Dict(progress(stop, relaxed.get_frames(), evaluated, labelled.get_frames(), before, seen))


@calcfunction
def frame_structure(frames: Dataset, index: Int) -> StructureData:
    """Return one frame as the StructureData that DFT plugins want, its atoms sorted by atomic number."""
    atoms = frames.frame(index.value)
    structure = StructureData(ase=sorted_by_number(atoms)[0])
    structure.label = atoms.info["frame_id"]
    return structure


@calcfunction
def settle_labels(frames: Dataset, min_distance_factor: Float, level: Str, **known: Dataset) -> dict[str, Dataset]:
    """Set aside the frames that need no calculation: those already labelled at this level, and those too absurd for one.

    :return: ``settled`` with labels or reasons, and ``left``.
    """
    labels = {fr.same_structure(a): a for a in _frames(known) if fr.is_labelled(a)}
    settled, left = [], []
    for atoms in frames.get_frames():
        source = labels.get(fr.same_structure(atoms))
        reason = why_absurd(atoms, Limits(min_distance=shortest_distances(atoms, min_distance_factor.value)))
        if source is not None:
            fr.take_labels(atoms, source)
            settled.append(atoms)
        elif reason is not None:
            fr.drop_labels(atoms)
            atoms.info["label_status"] = f"failed: absurd, not calculated: {reason}"
            settled.append(atoms)
        else:
            left.append(atoms)
    return {"settled": Dataset(settled, level_of_theory=level.value), "left": Dataset(left, level_of_theory="unlabelled")}


@calcfunction
def gather_labels(frames: Dataset, indices: List, reference: Str, level: Dict, failures: Dict, **outputs: Any) -> Dataset:
    """Put the labels of single calculations on the frames ``indices``.

    ``outputs`` are the nodes named in ``OUTPUTS`` of the reference as ``f<index>_a<attempt>_<name>``;
    ``failures`` says per index why there are none.
    """
    module = PER_FRAME[reference.value]
    given: dict[int, dict[str, Any]] = {}
    attempt: dict[int, int] = {}
    for key, node in outputs.items():
        match = re.fullmatch(r"f(\d+)_a(\d+)_(\w+)", key)
        assert match is not None
        given.setdefault(int(match[1]), {})[match[3]] = node
        attempt[int(match[1])] = int(match[2])
    out = []
    for index in indices.get_list():
        atoms = frames.frame(index)
        fr.drop_labels(atoms)
        reason = failures.get_dict().get(str(index))
        if index in given:
            nodes = given[index]
            atoms.info["label_uuid"] = nodes[module.OUTPUTS[0]].creator.uuid
            try:
                set_sorted_labels(module, nodes, atoms)
            except (ValueError, KeyError) as exception:
                reason = f"failed: {exception}"
            if attempt[index]:
                atoms.info["label_attempt"] = attempt[index] + 1
        atoms.info["label_status"] = reason or "ok"
        out.append(atoms)
    return Dataset(out, level_of_theory=one_line(level.get_dict()))


@calcfunction
def pick_frames(frames: Dataset, indices: List) -> Dataset:
    """Return some frames of a dataset that are to be labelled."""
    return Dataset([frames.frame(index) for index in indices.get_list()], level_of_theory="unlabelled")


@calcfunction
def frames_left(frames: Dataset, indices: List) -> Dataset:
    """Return the frames that a job has left to another one."""
    return Dataset([frames.frame(index) for index in indices.get_list()], level_of_theory=frames.level_of_theory)


@calcfunction
def join_frames(frames: Dataset, key: Str, **parts: Dataset | Dict) -> dict[str, Any]:
    """Join what several jobs made of ``frames``, each of what the one before had left, in the order of the frames.

    :param key: what names the frame that an output frame comes from, ``frame_id`` or ``parent``.
    :param parts: ``part_000_frames``, ``part_000_summary``, ``part_001_frames``, …
    """
    made: dict[str, list[Atoms]] = {}
    nodes = [node for _, node in sorted(parts.items()) if isinstance(node, Dataset)]
    for node in nodes:
        found: dict[str, list[Atoms]] = {}
        for atoms in node.get_frames():
            found.setdefault(atoms.info[key.value], []).append(atoms)
        made.update(found)
    out = [atoms for source in frames.get_frames() for atoms in made.get(source.info["frame_id"], [])]
    return {"frames": Dataset(out, level_of_theory=nodes[0].level_of_theory), "summary": _joined_summary(frames, parts)}


@calcfunction
def join_vectors(frames: Dataset, **parts: ArrayData | Dict) -> dict[str, Any]:
    """Join the vectors that several jobs made of ``frames``, each of what the one before had left.

    :param parts: ``part_000_vectors``, ``part_000_summary``, ``part_001_vectors``, …
    """
    arrays = [node.get_array("vectors") for _, node in sorted(parts.items()) if isinstance(node, ArrayData)]
    out = np.full((frames.n_frames, max(array.shape[1] for array in arrays)), np.nan)
    numbers = np.arange(frames.n_frames)
    for array, summary in zip(arrays, _summaries(parts), strict=True):
        out[numbers, : array.shape[1]] = array
        numbers = numbers[summary.get("left", [])]
    vectors = ArrayData()
    vectors.set_array("vectors", out)
    return {"vectors": vectors, "summary": _joined_summary(frames, parts)}


def _summaries(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [node.get_dict() for _, node in sorted(parts.items()) if isinstance(node, Dict)]


def _joined_summary(frames: Dataset, parts: Mapping[str, Any]) -> Dict:
    """Return the summary of several jobs as if it were one; relaxations that a later job began anew count once."""
    summaries = _summaries(parts)
    last = summaries[-1]
    status: Counter[str] = Counter()
    missing: dict[str, str] = {}
    for summary, after in zip(summaries, [*summaries[1:], None], strict=True):
        status.update(summary["status"])
        cut, left = summary.get("cut", []), summary.get("left", [])
        if after is not None and after["frames"] == len(cut) + len(left):
            status[TIME_LIMIT] -= len(cut)
        missing = {name: reason for name, reason in missing.items() if reason != NOT_REACHED} | summary.get("missing", {})
    times = {key: round(sum(s.get(key, 0.0) for s in summaries), 3) for key in ("wall_s", "work_s", "cpu_s")}
    joined = {"frames": frames.n_frames, "done": sum(status.values()), "status": dict(sorted((+status).items())), **times}
    joined |= {"complete": joined["done"] == frames.n_frames, "jobs": len(summaries)}
    joined |= {key: last[key] for key in ("processes", "python") if key in last}
    return Dict(joined | ({"missing": missing} if "missing" in last else {}))


@calcfunction
def merge_labels(frames: Dataset, reason: Str, **parts: Dataset) -> Dataset:
    """Join the parts of a labelled dataset in the order of ``frames``; labels win over failures.

    :param reason: why frames that are in no part have no label; they are then kept with it. Empty: they are left out.
    """
    best: dict[str, Atoms] = {}
    level = "unknown"
    for _, node in sorted(parts.items()):
        level = node.level_of_theory
        for atoms in node.get_frames():
            name = atoms.info["frame_id"]
            if name not in best or not fr.is_labelled(best[name]):
                best[name] = atoms
    out = []
    for atoms in frames.get_frames():
        if atoms.info["frame_id"] in best:
            out.append(best[atoms.info["frame_id"]])
        elif reason.value:
            fr.drop_labels(atoms)
            atoms.info["label_status"] = f"failed: {reason.value}"
            out.append(atoms)
    return Dataset(out, level_of_theory=level)


@calcfunction
def minima_beside_reference(minima: Dict, frames: Dataset, labelled: Dataset, **database: Dataset) -> dict[str, Any]:
    """Return the minima of a search with the reference energies of those that were checked, which come first.

    :param minima: rows as of :class:`Minimum`, lowest first; ``frames``: theirs.
    :param labelled: the ones that were checked.
    :param database: the labelled frames of the campaign; of several elements, the hull is theirs, too.
    """
    checked = {atoms.info["frame_id"]: atoms for atoms in labelled.get_frames() if fr.is_labelled(atoms)}
    found = []
    for row, atoms in zip(minima["minima"], frames.get_frames(), strict=True):
        atoms = checked.get(atoms.info["frame_id"], atoms)
        energy = fr.energy(atoms)
        found.append(Minimum(**{**row, "ref_energy": None if energy is None else energy / len(atoms)}, atoms=atoms))
    ranked = ranked_by_reference(found, _frames(database))
    return {
        "minima": Dict({"minima": [minimum.as_dict() for minimum in ranked]}),
        "frames": Dataset([minimum.atoms for minimum in ranked], level_of_theory=labelled.level_of_theory),
    }
