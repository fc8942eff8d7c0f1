"""``aiida-gaprss demo, run, status, report, trace``."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.as_json import echo_json, last_words, listed, running_now, status_of, troubles
from aiida_gaprss.cli.kinds import CAMPAIGN, COMPARISON, DATABASE, VALIDATION, kind_of
from aiida_gaprss.cli.told import finish, how_to_go_on, tidy
from aiida_gaprss.cli.watch import PAGE_S, STATUS_S, until_ended, watched

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_gaprss.campaign.file import Campaign
    from aiida_gaprss.cli.kinds import Kind
    from aiida_gaprss.outside.terminal import PlainConsole

EXAMPLES = Path(__file__).parent.parent / "examples"


@click.command()
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Seed of the campaign.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("gaprss-demo"),
    show_default=True,
    help="Where the AiiDA profile (unless AIIDA_PATH is set) and the report go.",
)
def demo(seed: int, folder: Path) -> None:
    """Watch a silicon potential being made from random cells (about 10 minutes on two cores; no DFT code needed).

    The reference is the classical Stillinger–Weber potential. Nothing is told of the diamond structure: it has to be found.
    """
    folder = folder.absolute()
    if "AIIDA_PATH" not in os.environ:
        os.environ["AIIDA_PATH"] = str(folder / "aiida")
        Path(os.environ["AIIDA_PATH"]).mkdir(parents=True, exist_ok=True)
        click.echo(
            f"AiiDA lives in {os.environ['AIIDA_PATH']}; to look around later: export AIIDA_PATH={os.environ['AIIDA_PATH']}"
        )
    from aiida_gaprss.campaign.file import load_campaign
    from aiida_gaprss.cli.environment import load_or_make_profile, set_up_codes

    load_or_make_profile()
    missing = [finding for finding in set_up_codes(None, None, None)[:2] if not finding.found]
    if missing:
        raise click.ClickException("; ".join(f"{f.name}: {f.detail}. {f.how_to_get}" for f in missing))
    campaign = load_campaign(EXAMPLES / "silicon_sw.yaml")
    campaign = _with_seed(campaign, seed)
    report_folder = _claimed(folder / f"report-seed{seed}", campaign)
    finish(run_here(campaign), report_folder)


@click.command()
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--submit", is_flag=True, help="Hand the campaign to the daemon and return.")
@click.option("--seed", type=click.IntRange(min=1), help="Seed instead of the one in the file.")
@click.option("--check", is_flag=True, help="Check the file and the codes; run nothing.")
@click.option(
    "--report",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the report; default: gaprss-report-PK.",
)
def run(config: Path, submit: bool, seed: int | None, check: bool, folder: Path | None) -> None:
    """Run the campaign that the file CONFIG describes, here with live progress or (--submit) in the daemon."""
    from aiida_gaprss.campaign.file import load_campaign
    from aiida_gaprss.cli.environment import load_or_make_profile

    if check:
        from aiida_gaprss.cli.check import check as check_campaign

        check_campaign(config, seed)
        return
    campaign = _with_seed(load_campaign(config), seed)
    load_or_make_profile(make=False)
    if submit:
        submit_campaign(campaign)
        return
    if folder is not None:
        _claimed(folder, campaign)
    node = run_here(campaign)
    finish(node, folder or Path(f"gaprss-report-{node.pk}"))


def _claimed(folder: Path, campaign: Campaign) -> Path:
    """Return the folder of a report, which is made, before anything is run.

    :raises FolderError: if it has files of something else.
    """
    from aiida_gaprss.campaign.inputs import campaign_name
    from aiida_gaprss.report.folder import claim
    from aiida_gaprss.report.write import FILES

    return claim(folder, FILES, (campaign_name(campaign),))


def _with_seed(campaign: Campaign, seed: int | None) -> Campaign:
    from dataclasses import replace

    if seed is None:
        return campaign
    return replace(campaign, config=campaign.config.model_copy(update={"seed": seed}))


def submit_campaign(campaign: Campaign) -> None:
    """Hand a campaign to the daemon."""
    from aiida_gaprss.campaign.inputs import builder_inputs

    node = submitted(builder_inputs(campaign))
    click.echo(f"submitted campaign {node.label} as <{node.pk}>; follow it with: aiida-gaprss status {node.pk}")


def submitted(inputs: dict[str, Any]) -> WorkChainNode:
    """Return a campaign that was handed to the daemon.

    :raises click.ClickException: if there is no daemon, or it has too few slots.
    """
    from aiida_gaprss.cli.daemon import hand_over, lack_of_slots, processes_at_once
    from aiida_gaprss.workflows.rss import RssWorkChain

    if lack := lack_of_slots(processes_at_once(inputs)):
        raise click.ClickException(f"the campaign cannot be submitted: {lack}")
    node: WorkChainNode = hand_over(RssWorkChain, inputs, "campaign")
    return node


def run_here(campaign: Campaign) -> WorkChainNode:
    """Run a campaign in this process, showing what it does."""
    from aiida_gaprss.campaign.inputs import builder_inputs
    from aiida_gaprss.cli.progress import run_with_progress
    from aiida_gaprss.workflows.rss import RssWorkChain

    return run_with_progress(RssWorkChain, builder_inputs(campaign))


def load_campaign_node(identifier: str, *labels: str) -> WorkChainNode:
    """Return the campaign of a pk or uuid, or what else of ours is asked for.

    :param labels: process labels that it may have; default: that of campaigns.
    :raises click.ClickException: if there is none or it is something else.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import WorkChainNode, load_node

    try:
        node = load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError) as exception:
        raise click.ClickException(f"no campaign {identifier}: {exception}") from exception
    if not isinstance(node, WorkChainNode) or node.process_label not in (labels or (CAMPAIGN,)):
        kind = getattr(node, "process_label", None) or type(node).__name__
        what = "a campaign (RssWorkChain)"
        if COMPARISON in labels:
            what = "a campaign, a comparison of such, a database or a validation"
        raise click.ClickException(f"<{identifier}> is a {kind}, not {what}; `aiida-gaprss status` lists them")
    return node


#: All kinds of processes that are looked at.
KINDS = (CAMPAIGN, DATABASE, COMPARISON, VALIDATION)


@click.command()
@click.argument("campaign", required=False)
@watched(STATUS_S, "Show it again and again")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else; its keys: docs/report.md.")
def status(campaign: str | None, watch: float | None, as_json: bool) -> None:
    """List campaigns, comparisons and databases of this profile, or show how far CAMPAIGN, or another, is (pk or uuid)."""
    from aiida_gaprss.cli.environment import load_or_make_profile

    if watch is not None and (campaign is None or as_json):
        raise click.UsageError("--watch needs CAMPAIGN before it, and goes without --json")
    load_or_make_profile(make=False)
    from aiida_gaprss.outside.terminal import wide_console

    if as_json:
        echo_json(listed() if campaign is None else status_of(load_campaign_node(campaign, *KINDS)))
        return
    console = wide_console()
    if campaign is None:
        _list(console)
        return
    node = load_campaign_node(campaign, *KINDS)
    if watch is None:
        _show(node, console)
    elif until_ended(node, watch, lambda: _show_again(node, console)):
        _show_again(node, console)


def _show_again(node: WorkChainNode, console: PlainConsole) -> None:
    """Show how far a process is, in the place of what was shown before."""
    if console.is_terminal:
        console.clear()
    _show(node, console)


def _list(console: PlainConsole) -> None:
    """Print the campaigns of the profile and their like."""
    from rich.table import Table

    from aiida_gaprss.workflows.here.claim import interrupted

    table = Table("pk", "what", "name", "state", "labels", "begun", box=None)
    for row in listed()["processes"]:
        table.add_row(*(str(row[key]) for key in ("pk", "what", "name", "state", "labels")), row["begun"][:16].replace("T", " "))
    console.print(table if table.row_count else "no campaigns yet: aiida-gaprss demo, or aiida-gaprss run CONFIG.yaml")
    for paused in interrupted():
        console.print(how_to_go_on(paused))


def _show(node: WorkChainNode, console: PlainConsole) -> None:
    """Print how far a process is, what it has said last, what runs, and what is amiss."""
    from aiida_gaprss.workflows.here.claim import is_interrupted

    kind_of(node).show(node, "paused" if is_interrupted(node) else "", console)
    for log in last_words(node):
        console.print(f"{log.time.astimezone():%H:%M:%S} {tidy(log.message)}")
    if is_interrupted(node):
        console.print(how_to_go_on(node))
        return
    if now := running_now(node):
        console.print(f"now: {now}")
    for trouble in troubles(node):
        console.print(trouble)


@click.command()
@click.argument("campaign")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: gaprss-report-PK.")
@click.option("--force", is_flag=True, help="Replace files in the folder that are of something else.")
@watched(PAGE_S, "Write it again and again")
@click.option("--json", "as_json", is_flag=True, help="Print what report.json has, and nothing else; write no files.")
def report(campaign: str, output: Path | None, force: bool, watch: float | None, as_json: bool) -> None:
    """Write the report of CAMPAIGN, a database, a validation or a comparison of campaigns (pk or uuid).

    It is one HTML page, its figures, the numbers as CSV and JSON. The page of what has not ended loads itself again.
    """
    from aiida_gaprss.cli.environment import load_or_make_profile

    if as_json and (watch is not None or output is not None):
        raise click.UsageError("--json writes no files: it goes without --output and --watch")
    load_or_make_profile(make=False)
    node = load_campaign_node(campaign, *KINDS)
    kind = kind_of(node)
    if as_json:
        echo_json(kind.data(node))
        return
    folder = output or Path(f"gaprss-report-{node.pk}")
    if watch is None or until_ended(node, watch, lambda: _write_again(node, kind, folder, force)):
        click.echo(f"Report: {kind.tell(node, folder, force)}")


def _write_again(node: WorkChainNode, kind: Kind, folder: Path, force: bool) -> None:
    """Write a page, and say that there is one."""
    page = kind.write(node, folder, force)
    click.echo(f"{datetime.now():%H:%M:%S} written: {page}")


@click.command()
@click.argument("frame_id")
@click.option("--campaign", help="Pk or uuid, when several campaigns or databases have a frame of this name.")
def trace(frame_id: str, campaign: str | None) -> None:
    """Tell the history of a frame: its label, the relaxation it comes from, the potential that drove it, back to its seed."""
    from aiida_gaprss.cli.environment import load_or_make_profile

    load_or_make_profile(make=False)
    from aiida_gaprss.outside.terminal import PlainConsole
    from aiida_gaprss.report.trace import TraceError, history

    try:
        tree = history(frame_id, None if campaign is None else load_campaign_node(campaign, CAMPAIGN, DATABASE))
    except TraceError as exception:
        raise click.ClickException(str(exception)) from exception
    PlainConsole().print(tree)


@click.command()
@click.argument("campaign")
def stop(campaign: str) -> None:
    """End CAMPAIGN (pk or uuid) after the generation that is running: the final fit and the search follow."""
    from aiida_gaprss.cli.environment import load_or_make_profile

    load_or_make_profile(make=False)
    from aiida_gaprss.workflows.jobs.lock import alone
    from aiida_gaprss.workflows.rss import RssWorkChain

    node = load_campaign_node(campaign)
    if node.is_terminated:
        raise click.ClickException(f"campaign <{node.pk}> has ended already")
    with alone():
        node.base.extras.set(RssWorkChain.STOP, True)
    click.echo(f"campaign <{node.pk}> ends after this generation, with the final fit and the search")
