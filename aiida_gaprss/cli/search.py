"""``aiida-gaprss search``: what a potential finds from random cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.fit import read_yaml, run_or_submit
from aiida_gaprss.cli.nodes import _load, _profile, any_node
from aiida_gaprss.cli.told import tell_search

if TYPE_CHECKING:
    from aiida_gaprss.campaign.search import DiagnosticSearchSettings

EXAMPLE = "formula: {Si: 1}"
FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.command()
@click.argument("potential")
@click.option("--settings", "path", type=FILE, help="YAML file: formula, seeds, cells, and if wanted relax, pressure_GPa, …")
@click.option("--like", metavar="CAMPAIGN", help="Seeds and settings of this campaign's search; --settings changes them.")
@click.option("--attempts", type=click.IntRange(min=1), help="Random cells in all, of the kinds in proportion.")
@click.option("--pressure", type=float, metavar="GPA", help="Pressure of the search.")
@click.option("--target", "targets", multiple=True, type=FILE, help="Structure to be found (CIF, XYZ, …). Repeatable.")
@click.option("--target-dataset", metavar="DATASET", help="Structures to be found.")
@click.option("--again", metavar="DATASET", help="Frames that are relaxed once more, beside the random cells.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of everything that is random.")
@click.option("--concurrent", type=click.IntRange(min=1), default=1, show_default=True, help="Jobs at one time.")
@click.option("--processes", type=click.IntRange(min=1), help="Of each job; default: all cores.")
@click.option("--wallclock", type=click.IntRange(min=60), metavar="SECONDS", help="Time that each job is given.")
@click.option("--python", default=None, help="Label of the python that relaxes.")
@click.option("--submit", is_flag=True, help="Hand it to the daemon and return; afterwards give its pk as POTENTIAL.")
@click.option(
    "--report", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder of results; default: gaprss-search-PK."
)
def search(potential: str, **options: Any) -> None:
    """Relax thousands of random cells with POTENTIAL (pk or uuid) and rank the minima.

    With the pk of a finished search instead of a potential, its results are told and written again.
    """
    _profile()
    from aiida.orm import WorkChainNode

    from aiida_gaprss.workflows.search import SearchWorkChain

    node = any_node(potential)
    if isinstance(node, WorkChainNode) and node.process_label == SearchWorkChain.__name__:
        if not node.is_terminated:
            raise click.ClickException(
                f"search <{node.pk}> has not ended yet; follow it with: verdi process status {node.pk}; if it was interrupted, "
                f"it goes on with: aiida-gaprss resume {node.pk}"
            )
        tell_search(node, options["folder"] or Path(f"gaprss-search-{node.pk}"))
        return
    done = run_or_submit(SearchWorkChain, inputs_of_search(_load(potential, "gaprss.potential"), options), "search", options)
    if done is not None:
        tell_search(*done)


def inputs_of_search(potential: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of the work chain."""
    from aiida_gaprss.campaign.codes import CodeError
    from aiida_gaprss.workflows.inputs import search_inputs

    asked = {"processes": options["processes"], "max_wallclock_seconds": options["wallclock"]}
    job = {key: value for key, value in asked.items() if value}
    try:
        inputs = search_inputs(potential, search_settings(options), options["python"], job, options["seed"])
    except CodeError as exception:
        raise click.ClickException(str(exception)) from exception
    inputs["max_concurrent"] = options["concurrent"]
    if options["again"]:
        inputs["again"] = _load(options["again"], "gaprss.dataset")
    if options["targets"] and options["target_dataset"]:
        raise click.UsageError("give targets as files (--target) or as a dataset (--target-dataset), not both")
    if options["target_dataset"]:
        inputs["targets"] = _load(options["target_dataset"], "gaprss.dataset")
    if options["targets"]:
        inputs["targets"] = targets_of(options["targets"])
    return inputs


def search_settings(options: dict[str, Any]) -> DiagnosticSearchSettings:
    """Return the settings of campaign, file and options, checked."""
    from pydantic import ValidationError

    from aiida_gaprss.campaign.search import DiagnosticSearchSettings, scaled
    from aiida_gaprss.cli.campaign import load_campaign_node
    from aiida_gaprss.settings.model import in_words

    given: dict[str, Any] = {}
    if options["like"]:
        campaign = load_campaign_node(options["like"]).inputs.settings.get_dict()
        like = campaign.get("search") or {}
        given = {key: campaign[key] for key in ("formula", "seeds")}
        given |= {key: value for key, value in like.items() if key in DiagnosticSearchSettings.model_fields}
    elif options["path"] is None:
        raise click.UsageError("give --settings FILE with formula, seeds and cells, or --like CAMPAIGN")
    given |= read_yaml(options["path"], EXAMPLE)
    if options["pressure"] is not None:
        given["pressure_GPa"] = options["pressure"]
    where = options["path"] or f"campaign {options['like']}"
    try:
        model = DiagnosticSearchSettings(**given)
    except ValidationError as error:
        faults = in_words(error, between="\n")
        raise click.ClickException(f"{where}:\n{faults}") from error
    if options["attempts"]:
        model = model.model_copy(update={"cells": scaled(model.cells, options["attempts"])})
    return model


def targets_of(paths: tuple[Path, ...]) -> Any:
    """Return the structures of files, each called like its file."""
    from ase import Atoms
    from ase.io import read

    from aiida_gaprss.data.dataset import Dataset
    from aiida_gaprss.frames import FrameError, plain_name
    from aiida_gaprss.outside import lack_of_file, words_of

    frames = []
    for path in paths:
        if lack := lack_of_file(path):
            raise click.ClickException(f"--target: {lack}")
        try:
            atoms = read(path)
        except Exception as error:  # whatever ASE's readers come across
            raise click.ClickException(f"{path}: ASE cannot read it: {words_of(error)}") from error
        if not isinstance(atoms, Atoms) or not atoms.pbc.all():
            raise click.ClickException(f"{path}: expected a crystal with a cell that repeats in all directions")
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        name = plain_name(path.stem, "config_type")
        bare.info.update(frame_id=name, config_type=name)
        frames.append(bare)
    try:
        return Dataset(frames)
    except FrameError as error:
        raise click.ClickException(f"--target: {error}") from error
