"""``aiida-gaprss compare`` of campaigns: run side by side, labels against what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.campaigns import Runs, Wanted, wanted_of
from aiida_gaprss.cli.fit import run_or_submit
from aiida_gaprss.cli.nodes import _profile, any_node
from aiida_gaprss.cli.side_by_side import tell_side_by_side
from aiida_gaprss.cli.told import ended

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_gaprss.data.dataset import Dataset

#: Seeds of each file, if none are given; letters of the label of a group.
SEEDS, MOST_LETTERS = (1, 2, 3), 255


def is_campaign(identifier: str) -> bool:
    """Tell whether this is a campaign file that is there, or the pk or uuid of a campaign.

    :raises click.ClickException: for what looks like a file, and is none.
    """
    if is_file(identifier):
        return True
    if identifier.endswith((".yaml", ".yml")):
        raise click.ClickException(f"no file {identifier}")
    _profile()
    try:
        return getattr(any_node(identifier), "process_label", None) == "RssWorkChain"
    except click.ClickException:
        return False


def is_file(identifier: str) -> bool:
    """Tell whether this is a file; a number is a pk, whatever files there are."""
    return not identifier.isdigit() and Path(identifier).is_file()


def compare_campaigns(options: dict[str, Any]) -> None:
    """Run the campaigns of files that have not run yet, and compare them, and those that are named by pk."""
    files = [Path(identifier) for identifier in options["datasets"] if is_file(identifier)]
    most = options["concurrent"] or 1
    if most > 1 and not options["submit"]:
        raise click.UsageError(
            "--concurrent: here campaigns run one after another, each with all cores; for more at one time add --submit, "
            "and the daemon runs them (verdi daemon start)"
        )
    _profile()
    named = named_campaigns([identifier for identifier in options["datasets"] if not is_file(identifier)])
    wanted = wanted_of(files, options["seeds"] or SEEDS) if files else []
    crystals = _crystals(options["crystals"])
    _refuse_others(named, wanted)
    nodes = _run(wanted, most, options["submit"])
    names = {**{one.name: one.file for one in wanted}, **{name: file_of(node) for name, node in named.items()}}
    _compare({**nodes, **named}, names, crystals, options)


def named_campaigns(identifiers: Sequence[str]) -> dict[str, WorkChainNode]:
    """Return campaigns that have ended, by their names; of those that share one, with the pk behind it.

    :raises click.ClickException: if one has not ended, or is given twice.
    """
    found: dict[str, WorkChainNode] = {}
    for node in (any_node(identifier) for identifier in identifiers):
        if not node.is_terminated:
            raise click.ClickException(f"campaign <{node.pk}> has not ended yet: aiida-gaprss status {node.pk}")
        if any(other.uuid == node.uuid for other in found.values()):
            raise click.ClickException(f"campaign <{node.pk}> is given twice")
        name = str(node.inputs.name.value)
        found[f"{name}-{node.pk}" if name in found else name] = node
    return found


def file_of(node: WorkChainNode) -> str:
    """Return what a campaign has in common with those of other seeds."""
    from aiida_gaprss.campaign.side_by_side import file_of as of_node

    return of_node(node)


def _crystals(paths: Sequence[Path]) -> Dataset | None:
    from aiida_gaprss.campaign.crystals import crystals_of

    return crystals_of(paths) if paths else None


def _refuse_others(named: dict[str, WorkChainNode], wanted: Sequence[Wanted]) -> None:
    """Refuse campaigns that cannot be compared, before any is run.

    :raises click.ClickException: if names are doubled, or elements or levels of theory differ.
    """
    from aiida_gaprss.campaign.side_by_side import labels_of
    from aiida_gaprss.levels import difference
    from aiida_gaprss.reference import level_of

    if doubled := sorted({one.name for one in wanted} & set(named)):
        raise click.ClickException(f"{', '.join(doubled)}: named by pk and asked for by a file; give it once")
    elements = {one.name: sorted(one.inputs["settings"]["formula"]) for one in wanted}
    elements |= {name: sorted(node.inputs.settings["formula"]) for name, node in named.items()}
    first = next(iter(elements))
    if others := [name for name, found in elements.items() if found != elements[first]]:
        what = f"{others[0]} is of {', '.join(elements[others[0]])}, {first} of {', '.join(elements[first])}"
        raise click.ClickException(f"campaigns of different elements cannot be compared: {what}")
    levels = {one.file: level_of(one.inputs["label"]) for one in wanted}
    levels |= {name: next(iter(labels.values())).level for name, node in named.items() if (labels := labels_of(node))}
    if other := difference(levels):
        raise click.ClickException(f"campaigns of different levels of theory cannot be compared: {other}")


def _run(wanted: Sequence[Wanted], most: int, in_daemon: bool) -> dict[str, WorkChainNode]:
    """Return the nodes of campaigns when all have ended, by name."""
    if not wanted:
        return {}
    runs = Runs(wanted, f"gaprss/compare/{'-'.join(dict.fromkeys(one.file for one in wanted))}"[:MOST_LETTERS])
    return runs.in_daemon(most) if in_daemon else runs.here()


def _compare(nodes: dict[str, WorkChainNode], files: dict[str, str], crystals: Dataset | None, options: dict[str, Any]) -> None:
    """Put the potentials of campaigns to their common test, unless that was done, and tell what came out."""
    from aiida_gaprss.analysis.side_by_side import SideBySideSettings
    from aiida_gaprss.campaign.again import found_again
    from aiida_gaprss.campaign.codes import code_of
    from aiida_gaprss.campaign.side_by_side import comparison_inputs
    from aiida_gaprss.cli.progress import resume_with_progress
    from aiida_gaprss.workflows.compare_campaigns import CompareCampaignsWorkChain
    from aiida_gaprss.workflows.here.claim import is_interrupted

    given = {key: options[key] for key in ("window", "lowest") if options[key] is not None}
    inputs = comparison_inputs(nodes, files, SideBySideSettings(**given), crystals)
    if options["python"]:
        inputs["jobs"]["code"] = code_of("python", options["python"])
    node = found_again(CompareCampaignsWorkChain, inputs["metadata"]["label"], inputs)
    if node is not None and is_interrupted(node):
        click.echo(f"the comparison <{node.pk}> was interrupted, and goes on")
        node = resume_with_progress(node)
    if node is not None and node.is_finished_ok:
        click.echo(f"compared: <{node.pk}>")
        tell_side_by_side(*ended(node, "compare", options["folder"]))
        return
    done = run_or_submit(CompareCampaignsWorkChain, inputs, "compare", options, True)
    if done is not None:
        tell_side_by_side(*done)
