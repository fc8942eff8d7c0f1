"""``aiida-gaprss run --check``: everything that can be known of a campaign before anything of it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.campaign.file import Campaign, load_campaign
from aiida_gaprss.cli.environment import load_or_make_profile
from aiida_gaprss.outside import shown
from aiida_gaprss.settings.yamlfile import ConfigError, parse, read

if TYPE_CHECKING:
    from aiida_gaprss.campaign.inputs import Findings
    from aiida_gaprss.properties.suite import Suite


def check(path: Path, seed: int | None) -> None:
    """Print what a campaign would do and need.

    :param seed: instead of the one in the file.
    :raises ConfigError: with everything that is wrong with the file, and, as far as that can be told then, in the profile.
    """
    from aiida_gaprss.campaign.forecast import label_budget
    from aiida_gaprss.campaign.inputs import campaign_name

    campaign, inputs, findings = judged(path, seed)
    table = [
        *_programs(inputs, campaign),
        *(("cells", made.describe()) for made in findings.cells),
        *(("fit", need.describe()) for need in findings.needs),
        *(("cost", text) for text in _core_hours(inputs, findings)),
    ]
    if campaign.settings.validation is not None:
        table += [("validate", _validation(campaign.settings.validation, inputs))]
    click.echo(f"{shown(path)}: good; campaign {campaign_name(campaign)}, at most {label_budget(inputs)} labels")
    for what, text in table:
        click.echo(f"  {what:<9} {shown(text, 500)}")
    for remark in findings.remarks:
        click.echo(f"  remark    {shown(remark, 500)}")


def judged(path: Path, seed: int | None, name: str | None = None) -> tuple[Campaign, dict[str, Any], Findings]:
    """Return a campaign without faults, the inputs of its work chain, and what else was found.

    :param seed: instead of the one in the file; ``name``: instead of its own.
    :raises ConfigError: with everything that is wrong with the file, and, as far as that can be told then, in the profile.
    """
    campaign = _load(path, seed, name)
    from aiida_gaprss.campaign.inputs import judge
    from aiida_gaprss.workflows.rss import RssWorkChain

    inputs, findings = judge(campaign)
    if not findings.faults:
        ports: Any = RssWorkChain.spec().inputs
        if error := ports.validate(ports.pre_process(ports.serialize(inputs))):
            findings.fault((), f"{error.port}: {error.message}")
    if findings.faults:
        raise ConfigError(str(path), findings.faults)
    return campaign, inputs, findings


def _core_hours(inputs: dict[str, Any], findings: Findings) -> Iterator[str]:
    """Yield what all labels will take, as unrelaxed cells do, where the profile has labels of the same reference."""
    from aiida_gaprss.campaign.build import spacing_of
    from aiida_gaprss.campaign.cost import calibrated, in_hours, in_words, sizes_of
    from aiida_gaprss.campaign.forecast import label_budget

    model, spacing = calibrated(inputs["label"]), spacing_of(inputs["label"])
    sizes = sizes_of([atoms for made in findings.cells for atoms in made.cells], spacing)
    if model is not None and sizes:
        best, low, high = (label_budget(inputs) / len(sizes) * seconds for seconds in model.predict(sizes))
        yield f"{in_hours((best, low, high))} core-hours for all labels, if they are as these cells; {in_words(model, spacing)}"


def _validation(suite: Suite, inputs: dict[str, Any]) -> str:
    """Return what the validations of a campaign ask of the reference besides."""
    from aiida_gaprss.campaign.validation import cost_of

    what = ", ".join(suite.properties)
    given = [cost_of(suite, inputs[key]) for key in ("crystals", "targets") if key in inputs]
    if not given:
        return f"{what}: of the lowest minima, with the potentials of all generations; labels besides, as many as that takes"
    labels = sum(cost.labels for cost in given)
    names = sum(inputs[key].n_frames for key in ("crystals", "targets") if key in inputs)
    return f"{what}: of {names} crystals, after every fit; {labels} labels besides, and what potentials make of the crystals"


def _load(path: Path, seed: int | None, name: str | None = None) -> Campaign:
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
    changes = {key: value for key, value in (("seed", seed), ("name", name)) if value is not None}
    return replace(campaign, config=campaign.config.model_copy(update=changes)) if changes else campaign


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
        **({"the last fit": (inputs["final_code"], {})} if "final_code" in inputs else {}),
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
