"""``aiida-gaprss storage``: what a campaign, or a database, takes of the profile."""

from __future__ import annotations

import click

#: Numbers of labels of the forecast.
SIZES = (5_000, 50_000)


@click.command()
@click.argument("campaign")
def storage(campaign: str) -> None:
    """Tell how much CAMPAIGN, or a database (pk or uuid), takes of the profile, stage by stage.

    And what 5,000 and 50,000 labels would.
    """
    from aiida_gaprss.cli.environment import load_or_make_profile

    load_or_make_profile(make=False)
    from rich.table import Table

    from aiida_gaprss.cli.campaign import CAMPAIGN, DATABASE, load_campaign_node
    from aiida_gaprss.outside.terminal import wide_console
    from aiida_gaprss.report.storage import storage_use

    use = storage_use(load_campaign_node(campaign, CAMPAIGN, DATABASE))
    table = Table("stage", box=None)
    for name in ("labels", "nodes", "repository/MB", "kB per label"):
        table.add_column(name, justify="right")
    for stage in use.stages:
        each = f"{stage.bytes / 1e3 / stage.labels:.1f}" if stage.labels else ""
        table.add_row(stage.stage, str(stage.labels), str(stage.nodes), f"{stage.bytes / 1e6:.2f}", each)
    labels, size = sum(stage.labels for stage in use.stages), sum(stage.bytes for stage in use.stages)
    each = f"{size / 1e3 / labels:.1f}" if labels else ""
    table.add_row("all", str(labels), str(sum(stage.nodes for stage in use.stages)), f"{size / 1e6:.2f}", each)
    console = wide_console()
    console.print(table)
    profile = f"{use.profile_nodes} nodes, database {use.database / 1e6:.1f} MB, repository {use.repository / 1e6:.1f} MB"
    console.print(f"the whole profile: {profile} (verdi storage maintain --compress packs it)")
    if use.scratch_folders:
        console.print(f"{use.scratch_folders} jobs have a folder in the scratch of their computer (verdi calcjob cleanworkdir)")
    for number in SIZES if labels else ():
        repository, database = use.forecast(number)
        console.print(f"{number:,} labels like these: repository {repository / 1e6:.0f} MB, database {database / 1e6:.0f} MB")
