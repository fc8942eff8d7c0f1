"""The cheap steps of a campaign as calcfunctions: make cells, choose frames, gather labels, find minima."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from aiida.engine import calcfunction
from aiida.orm import ArrayData, Dict, Int, Str
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.convergence import low_end_points, progress
from aiida_gaprss.analysis.hull import hull_weights
from aiida_gaprss.analysis.minima import Minimum, ranked_by_reference, unique_minima
from aiida_gaprss.analysis.parents import lowest_parents
from aiida_gaprss.calculations.common import frames_of, named, process_uuid
from aiida_gaprss.campaign import stages
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import joined
from aiida_gaprss.selection.alone import alone
from aiida_gaprss.selection.generation import choose_frames
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.compositions import Weights
from aiida_gaprss.structures.compositions import text as formula_text
from aiida_gaprss.structures.seeding import stage_seed

#: At most so many cells are made for one of the first ones, until one has not fallen apart.
MOST_TRIED = 5


def _cells(
    settings: RssSettings,
    counts: dict[str, int],
    prefix: str,
    seed: int,
    nodes: Mapping[str, Dataset],
    weights: Weights | None = None,
    whole: bool = False,
    parents: Sequence[Atoms] = (),
    **info: Any,
) -> list[Atoms]:
    """Return random cells; those of a kind that buildcell has made are among ``nodes`` as ``built_<kind>``.

    :param whole: other cells of the same kind in the place of those that fell apart; buildcell's are left out.
    """
    factor = settings.filter.max_neighbour_factor if whole else None
    frames: list[Atoms] = []
    for kind, count in counts.items():
        built = nodes.get(stages.named(stages.BUILT, kind))
        if built is None:
            made = partial(_made, settings, kind, seed, weights, parents)
            cells = made(count) if factor is None else _whole(made, kind, count, factor)
        else:
            cells = _bound(built.get_frames(), factor)
        for atoms in cells:
            atoms.info.update(config_type="random", **({"origin": process_uuid()} if built is None else {}), **info)
        frames += cells
    for number, atoms in enumerate(frames):
        atoms.info["frame_id"] = f"{prefix}-{number:04d}"
    return frames


def _bound(cells: Sequence[Atoms], factor: float | None) -> list[Atoms]:
    """Return the cells of which every atom has a neighbour; all, if no factor says within which distance."""
    return [atoms for atoms in cells if factor is None or not alone(atoms, factor).any()]


def _made(
    settings: RssSettings, kind: str, seed: int, weights: Weights | None, parents: Sequence[Atoms], count: int
) -> list[Atoms]:
    return make_cells(settings.seeds, settings.formula, {kind: count}, seed, weights, parents)


def _whole(made: Callable[[int], list[Atoms]], kind: str, count: int, factor: float) -> list[Atoms]:
    """Return so many cells that did not fall apart, as far as they can be had: more are made for those that did.

    :raises RandomCellError: if there is none.
    """
    wanted = count
    while len(bound := _bound(made(wanted), factor)) < count and wanted < MOST_TRIED * count:
        wanted += count - len(bound)
    if not bound:
        raise RandomCellError(
            f"{kind}: each of {wanted} cells has an atom without a neighbour within {factor:g} sums of covalent radii; "
            "take smaller volumes, or say filter: {max_neighbour_factor: null}"
        )
    return bound[:count]


def _applied(settings: RssSettings, when: str, part: str, name: str, seed: int, crystals: Sequence[Atoms] = ()) -> list[Atoms]:
    """Return the frames of one of the strategies of a campaign; none, if it has no such part then."""
    strategy = settings.strategies(when).get(part)
    frames = [] if strategy is None else strategy.apply(crystals, settings.formula, seed)
    for atoms in frames:
        atoms.info.update(frame_id=f"{name}-{atoms.info['frame_id']}", origin=process_uuid())
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
    database = frames_of(stages.all_named(stages.DATABASE, nodes))
    again = frames_of(stages.all_named(stages.RELABEL, nodes))
    known = {a.symbols[0] for a in [*database, *again] if fr.is_isolated_atom(a)}
    frames = []
    for symbol in model.formula:
        if symbol not in known:
            atom = Atoms(symbol, cell=[model.isolated_atom_box] * 3, pbc=True)
            atom.info.update(frame_id=f"{name.value}-atom-{symbol}", config_type="isolated_atom")
            frames.append(atom)
    frames += _applied(model, "start", "dimers", name.value, stage_seed(seed.value, 0, "dimers"))
    frames += [fr.to_label_again(source, f"{name.value}-again-{number:04d}") for number, source in enumerate(again)]
    if "crystals" in nodes:
        seed_of_crystals = stage_seed(seed.value, 0, "crystals")
        frames += _applied(model, "start", "crystals", name.value, seed_of_crystals, nodes["crystals"].get_frames())
    for atoms in frames:
        atoms.info.update(generation=0, origin=process_uuid())
    frames += _cells(model, dict(model.initial), f"{name.value}-g0", seed.value, nodes, whole=True, generation=0)
    return named(Dataset(frames, level_of_theory="unlabelled"), "first cells", frames)


@calcfunction
def distorted_crystals(settings: Dict, name: Str, seed: Int, crystals: Dataset) -> Dataset:
    """Make distorted cells of the known crystals, each crystal itself among them."""
    frames = _applied(RssSettings(**settings.get_dict()), "end", "crystals", name.value, seed.value, crystals.get_frames())
    return named(Dataset(frames, level_of_theory="unlabelled"), "distorted crystals")


@calcfunction
def known_crystals(**nodes: Dataset) -> Dataset:
    """Join crystals and targets, each structure once, under names of their own."""
    known: dict[bytes, Atoms] = {}
    names: set[str] = set()
    for atoms in frames_of(nodes):
        name = str(atoms.info["frame_id"])
        atoms.info["frame_id"] = name if name not in names else f"{name}-{len(names)}"
        if known.setdefault(fr.structure_key(atoms), atoms) is atoms:
            names.add(atoms.info["frame_id"])
    return named(Dataset(known.values(), level_of_theory="unlabelled"), "known crystals")


@calcfunction
def parents_of_cells(settings: Dict, generation: Int, **database: Dataset) -> Dataset:
    """Return the relaxed cells of the database that the cells of a generation are varied from, lowest reference energy first."""
    model = RssSettings(**settings.get_dict())
    kinds = [model.seeds[name] for name in model.recipe(generation.value).cells]
    parents = lowest_parents(frames_of(database), kinds, model.formula, fr.REFERENCE)
    level = joined(database[name].level for name in sorted(database))
    return named(Dataset(parents, level_of_theory=level), "parents of new cells")


@calcfunction
def random_cells_under_pressure(
    settings: Dict, name: Str, generation: Int, seed: Int, parents: Dataset | None = None, **nodes: Dataset
) -> Dataset:
    """Make the random cells of a generation, each with a random external pressure.

    :param parents: what cells of kinds that vary structures are made of, lowest first.
    :param nodes: ``built_…``: cells that buildcell has made of a kind of seed; the others are labelled frames, when compositions
        are drawn toward their convex hull.
    """
    model = RssSettings(**settings.get_dict())
    number = generation.value
    recipe = model.recipe(number)
    weights: Weights | None = None
    if recipe.hull_bias is not None:
        built = stages.all_named(stages.BUILT, nodes)
        known = hull_weights(frames_of({key: nodes[key] for key in nodes if key not in built}), recipe.hull_bias)

        def weights(counts: Mapping[str, int]) -> float:
            return known.get(formula_text(counts), 1.0)

    known_structures = parents.get_frames() if parents is not None else []
    frames = _cells(
        model,
        dict(recipe.cells),
        f"{name.value}-g{number}",
        seed.value,
        nodes,
        weights,
        parents=known_structures,
        generation=number,
    )
    for atoms, pressure in zip(
        frames, recipe.pressure.draw(len(frames), stage_seed(seed.value, number, "pressure")), strict=True
    ):
        atoms.info["pressure_GPa"] = round(float(pressure), 4)
    return named(Dataset(frames, level_of_theory="unlabelled"), "random cells", frames)


@calcfunction
def search_settings(settings: Dict) -> Dict:
    """Return the settings of the final search as those of a search by itself."""
    return named(Dict(RssSettings(**settings.get_dict()).final_search()), "settings of the final search")


@calcfunction
def lowest_frames(settings: Dict, **database: Dataset) -> Dataset:
    """Return the lowest labelled structures of the database, each once, which the final search relaxes once more."""
    model = RssSettings(**settings.get_dict())
    assert model.search is not None
    known = {a.info["frame_id"]: a for a in frames_of(database) if fr.is_labelled(a) and not fr.is_in_vacuum(a)}
    found = unique_minima(
        [_bare(known[name]) for name in sorted(known)] if model.search.again else [],
        window=np.inf,
        limit=model.search.again,
        pressure_GPa=model.search.pressure_GPa,
        prefix=fr.REFERENCE,
    )
    level = joined(database[name].level for name in sorted(database))
    return named(Dataset([known[one.frame_id] for one in found], level_of_theory=level), "lowest labelled structures")


def _bare(atoms: Atoms) -> Atoms:
    """Return a copy of a frame of which nothing says how it came about."""
    out = atoms.copy()
    out.info.pop("relax_status", None)
    return out


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
    described = [database[key] for name in datasets if (key := stages.vectors_of(name)) in database]
    recipe = model.recipe(generation.value).select
    chosen, report = choose_frames(
        candidates.get_frames(),
        frames_of(datasets),
        recipe,
        model.sanity_limits(),
        seed.value,
        vectors.get_array("vectors") if vectors else None,
        np.concatenate([node.get_array("vectors") for node in described]) if described else None,
        most.value if most is not None else None,
    )
    return {
        "frames": named(Dataset(chosen, level_of_theory="unlabelled"), "chosen frames", chosen),
        "report": named(Dict(report), "why frames were chosen", chosen),
    }


@calcfunction
def low_minima(relaxed: Dataset, settings: Dict) -> Dataset:
    """Return the low end points of a generation, by which its progress is measured."""
    stop = RssSettings(**settings.get_dict()).stop
    assert stop is not None
    low = low_end_points(relaxed.get_frames(), stop.window)
    return named(Dataset(low, level_of_theory="unlabelled"), "low end points", low)


@calcfunction
def measure_progress(settings: Dict, relaxed: Dataset, labelled: Dataset, **nodes: Dataset) -> Dict:
    """Return what a generation changed (``analysis.convergence.progress``).

    :param nodes: ``evaluated``: its low end points with predictions of the potential fitted after it; ``labelled_before``: the
        labelled frames of the generation before; ``seen_…``: low end points of all generations before.
    """
    stop = RssSettings(**settings.get_dict()).stop
    assert stop is not None
    evaluated, before = (nodes[key].get_frames() if key in nodes else [] for key in ("evaluated", "labelled_before"))
    seen = frames_of(stages.all_named(stages.SEEN, nodes))
    frames = relaxed.get_frames()
    return named(Dict(progress(stop, frames, evaluated, labelled.get_frames(), before, seen)), "progress", frames)


@calcfunction
def minima_beside_reference(
    minima: Dict, frames: Dataset, labelled: Dataset, held: Dict | None = None, **database: Dataset
) -> dict[str, Any]:
    """Return the minima of a search with the reference energies of those that were checked, which come first.

    :param minima: rows as of :class:`Minimum`, lowest first; ``frames``: theirs.
    :param labelled: the ones that were checked.
    :param held: of the others, errors by labels of frames beside them (``analysis.hold.Held``).
    :param database: the labelled frames of the campaign; of several elements, the hull is theirs, too.
    """
    checked = {atoms.info["frame_id"]: atoms for atoms in labelled.get_frames() if fr.is_labelled(atoms)}
    errors = {row["frame_id"]: row["energy"] for row in (held["minima"] if held is not None else [])}
    found = []
    for row, atoms in zip(minima["minima"], frames.get_frames(), strict=True):
        name = atoms.info["frame_id"]
        atoms = checked.get(name, atoms)
        energy = fr.energy(atoms)
        beside = errors.get(name) if energy is None else None
        reference = energy / len(atoms) if energy is not None else None if beside is None else row["predicted_energy"] - beside
        found.append(Minimum.from_row({**row, "ref_energy": reference}, atoms))
    ranked = ranked_by_reference(found, frames_of(database))
    return {
        "minima": named(Dict({"minima": [minimum.as_dict() for minimum in ranked]}), "table of minima"),
        "frames": named(
            Dataset([minimum.atoms for minimum in ranked], level_of_theory=labelled.level), "minima, some with labels"
        ),
    }
