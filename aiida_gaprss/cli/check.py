"""``aiida-gaprss run --check``: everything that can be known of a campaign before anything of it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.campaign.file import Campaign, load_campaign
from aiida_gaprss.cli.environment import load_or_make_profile
from aiida_gaprss.models.gap.forecast import Forecast, forecast
from aiida_gaprss.outside import shown, size
from aiida_gaprss.settings.yamlfile import ConfigError, parse, read
from aiida_gaprss.structures.building import random_cell
from aiida_gaprss.structures.checks import GivenUpError, RandomCellError
from aiida_gaprss.structures.packing import MOST_WORK
from aiida_gaprss.structures.seeding import stage_seed

if TYPE_CHECKING:
    from aiida_gaprss.campaign.inputs import Findings

#: Cells that are made of every kind, and the part of the work of a campaign that one of them may take.
CELLS, PART_OF_WORK = 3, 0.02


def check(path: Path, seed: int | None) -> None:
    """Print what a campaign would do and need.

    :param seed: instead of the one in the file.
    :raises ConfigError: with everything that is wrong with the file, and, as far as that can be told then, in the profile.
    """
    campaign = _load(path, seed)
    from aiida_gaprss.campaign.inputs import campaign_name, judge
    from aiida_gaprss.workflows.rss import RssWorkChain, label_budget

    inputs, findings = judge(campaign)
    cells = dict(_cells(campaign, findings))
    if not findings.faults:
        ports: Any = RssWorkChain.spec().inputs
        if error := ports.validate(ports.pre_process(ports.serialize(inputs))):
            findings.fault((), f"{error.port}: {error.message}")
    labels = label_budget(inputs) if not findings.faults else 0
    table = list(_programs(inputs, campaign)) if not findings.faults else []
    table += [("cells", text) for text in _described(cells)]
    table += [("fit", text) for text in _fits(campaign, inputs, cells, labels, findings)] if not findings.faults else []
    if findings.faults:
        raise ConfigError(str(path), findings.faults)
    click.echo(f"{shown(path)}: good; campaign {campaign_name(campaign)}, at most {labels} labels")
    for what, text in table:
        click.echo(f"  {what:<9} {shown(text, 500)}")
    for remark in findings.remarks:
        click.echo(f"  remark    {shown(remark, 500)}")


def _load(path: Path, seed: int | None) -> Campaign:
    """Load the profile, and return the campaign of a file.

    :raises ConfigError: with what is wrong with the file, and with what it names in the profile.
    :raises click.ClickException: if there is no profile, though the file is good.
    """
    error = None
    try:
        campaign = load_campaign(path)
    except ConfigError as exception:
        error = exception
    try:
        load_or_make_profile(make=False)
    except click.ClickException as no_profile:
        raise error or no_profile from None
    if error is not None:
        raise _with_profile(error, path) from None
    if seed is None:
        return campaign
    return replace(campaign, config=campaign.config.model_copy(update={"seed": seed}))


def _with_profile(error: ConfigError, path: Path) -> ConfigError:
    """Return the faults of a file with those that it has in the profile, if it can be read at all."""
    from aiida_gaprss.campaign.inputs import faults_besides

    try:
        data, lines = parse(read(path), path, "protocol: quick")
    except ConfigError:
        return error
    return ConfigError(str(path), [*error.faults, *faults_besides(path, data, lines, error.faults)])


def _programs(inputs: dict[str, Any], campaign: Campaign) -> Iterator[tuple[str, str]]:
    """Yield what runs where, and the lines of shells and schedulers that go with it."""
    label = inputs["label"]
    jobs: dict[str, tuple[Any, dict[str, Any]]] = {
        "fits": (inputs["fit"]["code"], inputs["fit"]["metadata"]["options"]),
        "cells are relaxed": (inputs["relax"]["code"], inputs["relax"]["metadata"]["options"]),
    }
    if "ase" in label:
        what = f"labels by {campaign.config.reference.ase.calculator}"  # type: ignore[union-attr]
        jobs[what] = (label["ase"]["code"], label["ase"]["metadata"]["options"])
    elif campaign.config.reference.per_frame:
        name, _ = campaign.config.reference.per_frame
        jobs[f"labels by {name}"] = (label[name]["code"], label[name]["options"].get_dict())
    if "bundle" in label:
        jobs["bundles of labels"] = (label["bundle"]["code"], label["bundle"]["metadata"]["options"])
    if "buildcell" in inputs:
        jobs["cells of AIRSS seeds"] = (inputs["buildcell"], {})
    for what, (code, options) in jobs.items():
        yield "runs", f"{what}: {code.full_label}, {getattr(code, 'filepath_executable', code)}"
        for name in ("custom_scheduler_commands", "prepend_text", "append_text"):
            own = getattr(code, name, "") if name != "custom_scheduler_commands" else ""
            for source, text in (("options", options.get(name)), (code.full_label, own)):
                yield from (("line", f"{name} of {source}: {line}") for line in (text or "").splitlines() if line.strip())


def _cells(campaign: Campaign, findings: Findings) -> Iterator[tuple[str, list[Atoms]]]:
    """Yield some cells of every kind of seed that is used."""
    settings = campaign.settings
    for name, kind in settings.seeds.items():
        if kind not in settings.used_seeds:
            continue
        made = []
        try:
            for number in range(CELLS):
                seed = stage_seed(campaign.config.seed, number, f"check {name}")
                made.append(random_cell(kind.spec(settings.formula), seed, most_work=PART_OF_WORK * MOST_WORK))
        except GivenUpError as exception:
            findings.remarks.append(f"settings.seeds.{name}: cells are hard to make: {exception}")
        except RandomCellError as exception:
            findings.fault(("settings", "seeds", name), str(exception))
        yield name, made


def _described(cells: dict[str, list[Atoms]]) -> Iterator[str]:
    for name, made in cells.items():
        examples = ", ".join(f"{a.get_chemical_formula()} of {a.get_volume() / len(a):.1f} Å³ per atom" for a in made)
        yield f"{name}: {examples or 'none was made here'}"


def _fits(
    campaign: Campaign, inputs: dict[str, Any], cells: dict[str, list[Atoms]], labels: int, findings: Findings
) -> Iterator[str]:
    """Yield what the first and the last fit will need, as far as cells tell that are not relaxed yet; compare it with the job."""
    settings = campaign.settings
    sample = [_as_labelled(atoms) for made in cells.values() for atoms in made]
    known = sum(node.n_frames for node in inputs["database"].values())
    first = sum(settings.initial.values()) + len(settings.formula) + known
    if not sample:
        return
    for what, frames, model in (
        ("first", first, settings.fit),
        ("last", labels + known, settings.final_fit or settings.fit),
    ):
        need = _grown(forecast(sample, model), frames / len(sample))
        yield f"{what}, of {'up to ' if what == 'last' else ''}{frames} frames: {need.describe().partition(';')[0]}"
        have, source = _memory(inputs["fit"])
        if have and 1e6 * need.memory_MB > have:
            text = f"the {what} fit needs about {size(1e6 * need.memory_MB)}, {source} {size(have)}"
            if what == "first":
                findings.fault(("settings", "fit"), text)
            else:
                findings.remarks.append(text)
        options = inputs["fit"]["metadata"]["options"]
        limit = options.get("max_wallclock_seconds")
        if limit and need.cpu_seconds / options["threads"] > limit:
            findings.remarks.append(f"the {what} fit takes longer than the {limit} s that options.fit gives it")


def _as_labelled(atoms: Atoms) -> Atoms:
    """Return a copy with labels as gap_fit counts them."""
    out = atoms.copy()
    fr.set_labels(out, 0.0, np.zeros((len(atoms), 3)), np.zeros(9))
    return out


def _grown(of_sample: Forecast, factor: float) -> Forecast:
    """Return the forecast for so many times as many frames of the same kinds."""
    counts = ("n_descriptors", "n_derivatives", "gradients", "neighbours")
    descriptors = tuple(replace(d, **{name: round(getattr(d, name) * factor) for name in counts}) for d in of_sample.descriptors)
    numbers = {name: round(getattr(of_sample, name) * factor) for name in ("frames", "atoms", "rows", "pairs")}
    return replace(of_sample, descriptors=descriptors, columns=sum(d.n_sparse for d in descriptors), **numbers)


def _memory(fit: dict[str, Any]) -> tuple[float, str]:
    """Return the memory (bytes) that the job of a fit has, 0 if nobody knows, and who says so."""
    from aiida_gaprss.settings.computer import is_here

    asked = fit["metadata"]["options"].get("max_memory_kb")
    if asked:
        return 1000.0 * asked, "options.fit gives"
    if default := fit["code"].computer.get_default_memory_per_machine():
        return 1000.0 * default, f"{fit['code'].computer.label} has"
    if is_here(fit["code"]):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), "this machine has"
    return 0.0, ""
