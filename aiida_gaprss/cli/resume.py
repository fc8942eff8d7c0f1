"""``aiida-gaprss resume``: what was interrupted goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.side_by_side import tell_side_by_side
from aiida_gaprss.cli.told import (
    WHAT,
    ended,
    finish,
    how_to_go_on,
    named,
    tell_build,
    tell_committee,
    tell_comparison,
    tell_curve,
    tell_delta,
    tell_fit,
    tell_relabelling,
    tell_search,
    tell_trials,
    tell_validation,
)

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode


#: Process labels of what `aiida-gaprss status` shows.
SHOWN = ("RssWorkChain", "BuildWorkChain", "CompareCampaignsWorkChain")


@click.command()
@click.argument("pk", required=False, metavar="[PK]")
@click.option("--submit", is_flag=True, help="Hand it to the daemon and return.")
@click.option(
    "--report",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of report or figures; default: that of the command that was interrupted, without --report.",
)
def resume(pk: str | None, submit: bool, folder: Path | None) -> None:
    """Go on with a campaign, fit, search, … (pk or uuid) that was interrupted; without PK with the only one there is.

    The result is that of a run without interruption. Nothing that was finished is calculated again; a job that was stopped in the
    middle goes on with the next frame, or, as a fit, begins anew.
    """
    from aiida_gaprss.cli.environment import load_or_make_profile

    load_or_make_profile(make=False)
    node = _load(pk) if pk else _the_only_one()
    if node.is_terminated:
        state = node.process_state.value if node.process_state else "?"
        raise click.ClickException(f"{named(node)} has ended: {node.exit_message or state}")
    from aiida_gaprss.workflows.here.claim import HERE, is_run_here

    if not node.base.extras.get(HERE, False):
        _play(node)
    elif is_run_here(node):
        raise click.ClickException(f"{named(node)} is running, in another process of this machine")
    elif submit:
        _hand_over(node)
    else:
        from aiida_gaprss.cli.progress import resume_with_progress

        _tell(resume_with_progress(node), folder)


def _load(identifier: str) -> WorkChainNode:
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import WorkChainNode, load_node

    try:
        node = load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError) as exception:
        raise click.ClickException(f"nothing to go on with: {exception}") from exception
    if not isinstance(node, WorkChainNode) or node.process_label not in WHAT:
        raise click.ClickException(
            f"<{identifier}> is nothing that goes on: aiida-gaprss resume, without a pk, says what was interrupted here"
        )
    above = node.caller
    while above is not None and above.caller is not None:
        above = above.caller
    if above is not None:
        raise click.ClickException(f"<{identifier}> is a part of <{above.pk}>: aiida-gaprss resume {above.pk}")
    return node


def _the_only_one() -> WorkChainNode:
    from aiida_gaprss.workflows.here.claim import interrupted

    found = interrupted()
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.ClickException("nothing was interrupted; what the daemon runs: aiida-gaprss status")
    raise click.ClickException("several were interrupted, say which:\n" + "\n".join(f"  {how_to_go_on(node)}" for node in found))


def _play(node: WorkChainNode) -> None:
    """Let the daemon go on with what it has paused of a work chain."""
    from aiida.engine.processes.control import play_processes

    from aiida_gaprss.cli.daemon import daemon_trouble

    if trouble := daemon_trouble():
        raise click.ClickException(f"{named(node)} was submitted, and {trouble}")
    paused = [process for process in (node, *node.called_descendants) if process.paused and not process.is_terminated]
    if paused:
        play_processes(paused)
    what = ", ".join(f"<{process.pk}>" for process in paused)
    click.echo(f"{named(node)} is with the daemon" + (f", which goes on with {what}" if paused else " and not paused"))


def _hand_over(node: WorkChainNode) -> None:
    """Give a work chain, and all that it waits for, to the daemon."""
    from aiida.manage import get_manager

    from aiida_gaprss.cli.daemon import daemon_trouble
    from aiida_gaprss.workflows.here.claim import HERE, Claim
    from aiida_gaprss.workflows.here.interruption import revive
    from aiida_gaprss.workflows.here.runner import HereRunner

    if trouble := daemon_trouble():
        raise click.ClickException(f"{named(node)} cannot be submitted: {trouble}")
    controller, persister = get_manager().get_process_controller(), get_manager().get_persister()
    runner = HereRunner()
    with Claim(node) as claim:
        for process in revive(runner, claim, node):
            persister.save_checkpoint(process)
            process.close()
            controller.continue_process(process.pid, nowait=True, no_reply=True)
        node.base.extras.delete(HERE)
        claim.end()
    how = "aiida-gaprss status" if node.process_label in SHOWN else "verdi process status"
    click.echo(f"{named(node)} goes on in the daemon; follow it with: {how} {node.pk}")


def _tell(node: WorkChainNode, folder: Path | None) -> None:
    """Print and write what the command does that was interrupted."""
    if node.process_label == "RssWorkChain":
        finish(node, folder or Path(f"gaprss-report-{node.pk}"))
        return
    if tell_all := {"BuildWorkChain": tell_build, "RelabelWorkChain": tell_relabelling}.get(str(node.process_label)):
        tell_all(node)
        return
    others: dict[str, tuple[str, Any]] = {
        "FitWorkChain": ("fit", tell_fit),
        "DeltaWorkChain": ("fit", tell_delta),
        "SearchWorkChain": ("search", tell_search),
        "ValidateWorkChain": ("validation", tell_validation),
        "LearningCurveWorkChain": ("learning-curve", tell_curve),
        "CompareWorkChain": ("compare", tell_comparison),
        "CompareCampaignsWorkChain": ("compare", tell_side_by_side),
        "HyperparametersWorkChain": ("tune", tell_trials),
        "CommitteeWorkChain": ("committee", tell_committee),
    }
    what, tell_it = others[str(node.process_label)]
    tell_it(*ended(node, what, folder))
