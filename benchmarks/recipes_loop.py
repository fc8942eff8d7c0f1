"""A campaign without AiiDA: cells, relaxations, choice, labels and fits of its settings, one after another in this process."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from common import gap_fit
from recipes_truth import Reference

from aiida_gaprss.campaign.settings import REPLACED, GenerationSettings, RssSettings, complete
from aiida_gaprss.models.families import family_of
from aiida_gaprss.models.training import join
from aiida_gaprss.runners import task_of
from aiida_gaprss.selection.alone import alone
from aiida_gaprss.selection.generation import choose_frames
from aiida_gaprss.settings.protocols import merged
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.structures.seeding import stage_seed

FAMILY = family_of("gap")

#: Otherwise than in ``quick``, so that a campaign takes a minute: fewer radial functions and sparse points, and no angles, which
#: leave nothing of what standard deviations tell (``uncertainty.py --angles``).
SMALL = [
    {"kind": "distance_2b", "cutoff": 5.0, "n_sparse": 20, "delta": 1.0},
    {"kind": "soap_turbo", "cutoff": 4.0, "n_max": 6, "l_max": 4, "atom_sigma": 0.5, "n_sparse": 200, "delta": 0.5},
]
ANGLES = {"kind": "angle_3b", "cutoff": "1.6 b", "n_sparse": 50, "delta": 0.3}

#: Part of the frames that a member of a committee is fitted to.
PART = 0.8


@dataclass(frozen=True)
class State:
    """Where a campaign is after a fit: labels paid for, the potential, and what the relaxations with the one before found."""

    generation: int
    labels: int
    xml: str
    relaxed: list[Atoms]
    known: list[Atoms]


def settings_of(reference: Reference, recipe: dict[str, Any]) -> RssSettings:
    """Return the settings of a campaign: those of ``quick`` with the changes of a recipe."""
    base = {
        "formula": reference.formula,
        "seeds": {"random": reference.seed},
        "isolated_atom_box": reference.box,
    }
    return RssSettings(**complete("quick", merged({**base, "fit": {"descriptors": SMALL}, "hold": None}, recipe, REPLACED)))


def campaign(settings: RssSettings, reference: Reference, seed: int, members: int = 0) -> Iterator[State]:
    """Yield the state after every fit, until the generations or the labels are spent.

    With a committee of ``members``, the rules by variances take where its forces differ.
    """
    known = reference.labelled([*_atoms(settings), *_cells(settings, dict(settings.initial), seed, 0)])
    relaxed: list[Atoms] = []
    most = settings.max_labels or settings.label_budget()
    for generation in range(1, settings.n_generations + 1):
        xml = fit(known, settings, stage_seed(seed, generation - 1, "fit"))
        yield State(generation - 1, len(known), xml, relaxed, known)
        if len(known) >= most:
            return
        recipe = settings.recipe(generation)
        relaxed = _relaxed(settings, recipe, xml, seed, generation)
        if members:
            _disagreement(relaxed, committee(known, settings, members, stage_seed(seed, generation, "committee")))
        elif recipe.select.uses("variance"):
            _examined(relaxed, xml)
        number = stage_seed(seed, generation, "selection")
        limits = settings.sanity_limits()
        chosen, _ = choose_frames(relaxed, known, recipe.select, limits, number, most=most - len(known))
        known = [*known, *reference.labelled(chosen)]
    yield State(settings.n_generations, len(known), fit(known, settings, stage_seed(seed, 99, "fit")), relaxed, known)


def _atoms(settings: RssSettings) -> list[Atoms]:
    out = [Atoms(symbol, cell=[settings.isolated_atom_box] * 3, pbc=True) for symbol in settings.formula]
    for atoms in out:
        atoms.info.update(frame_id=f"atom-{atoms.symbols[0]}", config_type="isolated_atom")
    return out


def _cells(settings: RssSettings, counts: dict[str, int], seed: int, generation: int) -> list[Atoms]:
    """Return random cells; in the place of those that fell apart, as far as they are to be labelled, others."""
    twice = {kind: 2 * count for kind, count in counts.items()} if generation == 0 else counts
    made = make_cells(settings.seeds, settings.formula, twice, stage_seed(seed, generation, "cells"))
    factor = settings.filter.max_neighbour_factor
    whole = [atoms for atoms in made if generation or factor is None or not alone(atoms, factor).any()]
    for number, atoms in enumerate(whole):
        atoms.info.update(frame_id=f"g{generation}-{number:04d}", config_type="random")
    return whole[: sum(counts.values())]


def fit(frames: list[Atoms], settings: RssSettings, seed: int) -> str:
    """Fit a GAP, and return the path of its xml.

    :raises RuntimeError: with the end of what gap_fit said.
    """
    from aiida_gaprss.io.extxyz import extxyz_text

    training = join([[atoms.copy() for atoms in frames]])
    folder = Path(tempfile.mkdtemp(prefix="gaprss-recipe-"))
    FAMILY.prepare(training, settings.fit)
    job = FAMILY.job(training, settings.fit, seed, "train.extxyz")
    for name, text in {"train.extxyz": extxyz_text(training), **job.files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([gap_fit(), *job.argv], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not (folder / FAMILY.MAIN).is_file():
        raise RuntimeError(f"gap_fit in {folder}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return str(folder / FAMILY.MAIN)


def driver(xml: str) -> dict[str, Any]:
    """Return the part of the settings of a job that makes the calculator of a GAP."""
    return FAMILY.calculator({}, xml)


def _relaxed(settings: RssSettings, recipe: GenerationSettings, xml: str, seed: int, generation: int) -> list[Atoms]:
    """Return all frames of the relaxations of a generation, with variances if the rules ask for them."""
    cells = _cells(settings, dict(recipe.cells), seed, generation)
    pressures = recipe.pressure.draw(len(cells), stage_seed(seed, generation, "pressure"))
    task, out = task_of("relax"), []
    given = recipe.relax.model_dump()
    given["min_distance"] = given["min_distance"] or settings.hard_core
    task.setup({**given, **driver(xml)})
    for atoms, pressure in zip(cells, pressures, strict=True):
        atoms.info["pressure_GPa"] = round(float(pressure), 4)
        for frame in task.run(atoms, np.inf)[1]:
            name = f"{atoms.info['frame_id']}-s{frame.info['step']}"
            frame.info.update(frame_id=name, pressure_GPa=atoms.info["pressure_GPa"], config_type="snapshot")
            out.append(frame)
    return out


def committee(known: list[Atoms], settings: RssSettings, members: int, seed: int) -> list[str]:
    """Return the xml files of fits to different parts of the frames; the isolated atoms are in all."""
    rng = np.random.default_rng(seed)
    atoms, rest = [a for a in known if len(a) == 1], [a for a in known if len(a) > 1]
    parts = [[*atoms, *(rest[i] for i in rng.permutation(len(rest))[: int(PART * len(rest))])] for _ in range(members)]
    return [fit(part, settings, seed) for part in parts]


def evaluated(xml: str, frames: Sequence[Atoms], variances: bool = False) -> list[Atoms]:
    """Return what a potential says of frames."""
    task = task_of("evaluate")
    task.setup({**driver(xml), "local_energies": False, "variances": variances})
    return [task.run(atoms, np.inf)[1][0] for atoms in frames]


def _examined(frames: Sequence[Atoms], xml: str) -> None:
    for atoms, done in zip(frames, evaluated(xml, frames, variances=True), strict=True):
        atoms.arrays["PRED_local_variance"] = done.arrays["PRED_local_variance"]


def _disagreement(frames: Sequence[Atoms], xmls: Sequence[str]) -> None:
    members = [evaluated(xml, frames) for xml in xmls]
    for number, atoms in enumerate(frames):
        forces = np.array([member[number].arrays["PRED_forces"] for member in members])
        atoms.arrays["PRED_local_variance"] = (forces.std(axis=0) ** 2).sum(axis=1)
