"""``aiida-gaprss demo, run, status, report, trace``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.told import WHAT, finish, how_to_go_on, print_report, tidy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiida.orm import WorkChainNode

    from aiida_gaprss.campaign.file import Campaign
    from aiida_gaprss.outside.terminal import PlainConsole

#: Process labels of what these commands look at.
CAMPAIGN, DATABASE, COMPARISON = "RssWorkChain", "BuildWorkChain", "CompareCampaignsWorkChain"

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
        what = "a campaign, a comparison of such or a database" if COMPARISON in labels else "a campaign (RssWorkChain)"
        raise click.ClickException(f"<{identifier}> is a {kind}, not {what}; `aiida-gaprss status` lists them")
    return node


@click.command()
@click.argument("campaign", required=False)
def status(campaign: str | None) -> None:
    """List campaigns, comparisons and databases of this profile, or show how far CAMPAIGN, or another, is (pk or uuid)."""
    from aiida_gaprss.cli.environment import load_or_make_profile

    load_or_make_profile(make=False)
    from rich.table import Table

    from aiida_gaprss.outside.terminal import wide_console
    from aiida_gaprss.workflows.here.claim import HERE, interrupted, is_interrupted

    console = wide_console()
    if campaign is None:
        table = Table("pk", "what", "name", "state", "labels", "begun", box=None)
        for node in _ours():
            state = node.exit_message or (node.process_state.value if node.process_state else "?")
            state = "paused" if is_interrupted(node) else state
            row = (str(node.pk), WHAT[str(node.process_label)], node.label, state, str(_labels(node)))
            table.add_row(*row, f"{node.ctime:%Y-%m-%d %H:%M}")
        console.print(table if table.row_count else "no campaigns yet: aiida-gaprss demo, or aiida-gaprss run CONFIG.yaml")
        for paused in interrupted():
            console.print(how_to_go_on(paused))
        return
    from aiida.orm import Log

    from aiida_gaprss.cli.daemon import daemon_trouble, paused_processes
    from aiida_gaprss.cli.databases import show_database
    from aiida_gaprss.cli.progress import running_stage
    from aiida_gaprss.cli.side_by_side import show_comparison

    node = load_campaign_node(campaign, CAMPAIGN, DATABASE, COMPARISON)
    show = {DATABASE: show_database, COMPARISON: show_comparison}.get(str(node.process_label), _show_campaign)
    show(node, "paused" if is_interrupted(node) else "", console)
    for log in Log.collection.get_logs_for(node, order_by=[{"time": "asc"}])[-5:]:
        console.print(f"{log.time.astimezone():%H:%M:%S} {tidy(log.message)}")
    if is_interrupted(node):
        console.print(how_to_go_on(node))
        return
    if not node.is_terminated and (now := running_stage(node)):
        console.print(f"now: {now}")
    if not node.is_terminated and not node.base.extras.get(HERE, False):
        for trouble in (paused_processes(), daemon_trouble()):
            if trouble:
                console.print(trouble)


def _ours() -> Iterator[WorkChainNode]:
    """Yield the campaigns of the profile, their comparisons, and the databases that are no part of one, in the order of time."""
    from aiida.orm import QueryBuilder, WorkChainNode

    labels = {"attributes.process_label": {"in": [CAMPAIGN, DATABASE, COMPARISON]}}
    query = QueryBuilder().append(WorkChainNode, filters=labels, tag="c").order_by({"c": "id"})
    yield from (node for node in query.all(flat=True) if node.process_label == CAMPAIGN or node.caller is None)


def _labels(node: WorkChainNode) -> int:
    from aiida_gaprss.cli.databases import number_of_labels
    from aiida_gaprss.report.collect import training_labels

    if node.process_label == COMPARISON:
        return node.outputs.test.n_frames if "test" in node.outputs else 0
    return number_of_labels(node) if node.process_label == DATABASE else training_labels(node)


def _show_campaign(node: WorkChainNode, state: str, console: PlainConsole) -> None:
    """Print the parts of a campaign.

    :param state: in a word; empty: as the node says it.
    """
    from aiida_gaprss.report.collect import collect
    from aiida_gaprss.report.text import generations_table

    record = collect(node)
    console.print(f"{record.label} <{node.pk}>: {state or record.state}")
    console.print(generations_table(record))


@click.command()
@click.argument("campaign")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: gaprss-report-PK.")
@click.option("--force", is_flag=True, help="Replace files in the folder that are of something else.")
def report(campaign: str, output: Path | None, force: bool) -> None:
    """Write the report of CAMPAIGN, a database or a comparison of campaigns (pk or uuid).

    It is one HTML page, its figures, the numbers as CSV and JSON.
    """
    from aiida_gaprss.cli.databases import report_database
    from aiida_gaprss.cli.environment import load_or_make_profile
    from aiida_gaprss.cli.side_by_side import tell_side_by_side

    load_or_make_profile(make=False)
    node = load_campaign_node(campaign, CAMPAIGN, DATABASE, COMPARISON)
    write = {DATABASE: report_database, COMPARISON: tell_side_by_side}.get(str(node.process_label), print_report)
    click.echo(f"Report: {write(node, output or Path(f'gaprss-report-{node.pk}'), force)}")


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
