"""``aiida-gaprss validate``: may these potentials be used?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.fit import run_or_submit
from aiida_gaprss.cli.nodes import _load, _profile, any_node
from aiida_gaprss.cli.told import tell_validation
from aiida_gaprss.outside import shown

if TYPE_CHECKING:
    from aiida_gaprss.data.potential import Potential

FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.command()
@click.argument("potentials", nargs=-1, metavar="POTENTIAL...", required=False)
@click.option("--crystals", "crystals", multiple=True, type=FILE, help="File of crystals (CIF, XYZ, …). Repeatable.")
@click.option("--crystal-dataset", metavar="DATASET", help="Crystals of a dataset, as the minima of a search.")
@click.option("--suite", default="standard", show_default=True, help="Which properties. --suite list names them.")
@click.option("--settings", "path", type=FILE, help="YAML file: a suite of your own, or changes of one (suite: quick).")
@click.option(
    "--reference", metavar="FILE|POTENTIAL", help="File with reference: as in a campaign, or values: of a paper; or a potential."
)
@click.option("--test", "tests", multiple=True, metavar="DATASET", help="Labelled frames to compare with. Repeatable.")
@click.option("--check", "only_check", is_flag=True, help="Say what it will cost and what is wrong, and stop.")
@click.option("--processes", type=click.IntRange(min=1), help="Of each job; default: all cores.")
@click.option("--wallclock", type=click.IntRange(min=60), metavar="SECONDS", help="Time that each job is given.")
@click.option("--python", default=None, help="Label of the python that runs the potentials.")
@click.option("--submit", is_flag=True, help="Hand it to the daemon and return; afterwards give its pk as POTENTIAL.")
@click.option(
    "--report",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of results; default: gaprss-validation-PK.",
)
def validate(potentials: tuple[str, ...], **options: Any) -> None:
    """Compute properties of crystals with each POTENTIAL (pk or uuid, or a campaign: its last one) and judge them.

    With the pk of a finished validation instead, its results are told and written again.
    """
    if options["suite"] == "list":
        _list_suites()
        return
    if not potentials:
        raise click.UsageError("give at least one potential; aiida-gaprss potential list shows what there is")
    _profile()
    if node := _finished(potentials):
        tell_validation(node, options["folder"] or Path(f"gaprss-validation-{node.pk}"))
        return
    inputs = inputs_of_validation(potentials, options)
    _tell_cost(inputs)
    if options["only_check"]:
        return
    from aiida_gaprss.workflows.validate import ValidateWorkChain

    node = run_or_submit(ValidateWorkChain, inputs, "validation", options, also_failed=True)
    if node is not None:
        tell_validation(*node)


def _list_suites() -> None:
    from aiida_gaprss.properties.suite import SUITES, suite_of

    for name in SUITES.names():
        suite = suite_of(name)
        click.echo(f"{name:14s} {', '.join(suite.properties)}: {suite.description}")


def _finished(identifiers: tuple[str, ...]) -> Any:
    """Return the node of a validation, if it is the only thing that is named."""
    node = any_node(identifiers[0])
    if getattr(node, "process_label", None) != "ValidateWorkChain":
        return None
    if len(identifiers) > 1:
        raise click.ClickException(f"<{node.pk}> is a validation: give it alone")
    if not node.is_terminated:
        raise click.ClickException(f"validation <{node.pk}> has not ended yet; follow it with: verdi process status {node.pk}")
    return node


def potentials_of(identifiers: tuple[str, ...]) -> dict[str, Potential]:
    """Return potentials by names that links can have: of their labels, of campaigns the last one.

    :raises click.ClickException: if there is no such node, or it has no potential.
    """
    found: dict[str, Any] = {}
    for identifier in identifiers:
        node = any_node(identifier)
        if getattr(node, "process_label", None) in ("RssWorkChain", "FitWorkChain", "DeltaWorkChain"):
            if "potential" not in node.outputs:
                raise click.ClickException(f"<{node.pk}> has no potential: {node.exit_message or node.process_state}")
            node = node.outputs.potential
        node = _load(str(node.pk), "gaprss.potential")
        name = re.sub(r"[^A-Za-z0-9]+", "_", node.label.removesuffix(" potential")).strip("_") or f"potential_{node.pk}"
        name = name if name[0].isalpha() else f"p_{name}"
        if any(other.uuid == node.uuid for other in found.values()):
            raise click.ClickException(f"potential <{node.pk}> is given twice")
        found[f"{name}_{node.pk}" if name in found or name == "reference" else name] = node
    return found


def inputs_of_validation(identifiers: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of the work chain."""
    from aiida_gaprss.campaign.crystals import crystals_of
    from aiida_gaprss.campaign.validation import reference_from, suite_from, validation_inputs

    potentials = potentials_of(identifiers)
    if bool(options["crystals"]) == bool(options["crystal_dataset"]):
        raise click.UsageError("give crystals as files (--crystals) or as a dataset (--crystal-dataset)")
    crystals = crystals_of(options["crystals"]) if options["crystals"] else _load(options["crystal_dataset"], "gaprss.dataset")
    suite = suite_from(options["suite"], options["path"])
    reference: dict[str, Any] = {}
    given = options["reference"]
    if given is not None and Path(given).is_file():
        names = [atoms.info["frame_id"] for atoms in crystals.get_frames()]
        reference = reference_from(Path(given), crystals.elements, names, suite)
    elif given is not None and re.fullmatch(r"\d+|[0-9a-fA-F-]{8,}", given):
        reference = {"reference_potential": next(iter(potentials_of((given,)).values()))}
    elif given is not None:
        raise click.ClickException(f"--reference: there is no file {shown(given)}, and it is no pk or uuid of a potential")
    job = {"processes": options["processes"], "max_wallclock_seconds": options["wallclock"]}
    given_options = {key: value for key, value in job.items() if value}
    tests = [_load(name, "gaprss.dataset") for name in options["tests"]]
    return validation_inputs(potentials, crystals, suite, reference, options["python"], given_options, tests)


def _tell_cost(inputs: dict[str, Any]) -> None:
    """Print what a validation will ask for.

    :raises click.ClickException: with what is wrong.
    """
    from aiida_gaprss.campaign.validation import cost_of
    from aiida_gaprss.properties.suite import Suite
    from aiida_gaprss.workflows.validate import faults_of, lack_of_tests

    suite = Suite(**inputs["settings"].get_dict())
    others = {"reference": inputs["reference_potential"]} if "reference_potential" in inputs else {}
    if faults := faults_of(
        suite, inputs["crystals"], {**inputs["potentials"], **others}, inputs.get("label"), inputs.get("test")
    ):
        raise click.ClickException("\n".join(shown(fault, 500) for fault in faults))
    if lack := lack_of_tests(suite, inputs.get("test", {})):
        raise click.ClickException(lack)
    cost = cost_of(suite, inputs["crystals"])
    if "test" in inputs:
        click.echo(f"each potential, evaluate: {sum(node.n_frames for node in inputs['test'].values())} labelled frames")
    for run, number in cost.frames.items():
        click.echo(f"each potential, {run}: {number} frames, {cost.atoms[run]} atoms, the largest has {cost.largest[run]}")
    for name, memory in cost.memory.items():
        click.echo(f"each potential, job of {name}: about {memory:.0f} MB")
    if "label" in inputs or "reference_potential" in inputs:
        words = f", and of what potentials make for {', '.join(cost.made)}" if cost.made else ""
        click.echo(f"the reference: {cost.labels} labels at most{words}")
    else:
        click.echo("no reference labels frames: what is wrong in itself is told, errors are not")
