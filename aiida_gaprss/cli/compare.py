"""``aiida-gaprss compare``: strategies at equal cost, or whole campaigns side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from aiida_gaprss.cli.campaigns import seeds_of
from aiida_gaprss.cli.compare_campaigns import compare_campaigns, is_campaign
from aiida_gaprss.cli.compare_strategies import compare_strategies
from aiida_gaprss.cli.fit import fit_options
from aiida_gaprss.cli.scans import numbers

FILE = click.Path(dir_okay=False, exists=True, path_type=Path)

#: Options of both comparisons, and those of campaigns alone; all others are of strategies.
OF_BOTH = ("datasets", "concurrent", "crystals", "submit", "folder", "python")
OF_CAMPAIGNS = ("seeds", "window", "lowest")


@click.command()
@fit_options
@click.option(
    "--concurrent",
    type=click.IntRange(min=1),
    help="Fits at one time (default: 2), or campaigns (1; more need --submit).",
)
@click.option("--crystals", multiple=True, type=FILE, help="Crystals whose properties are computed, or that are in the test.")
@click.option(
    "--costs", callback=numbers, help="Σ N³ n_k of the frames of a fit, with commas; default: three that all strategies reach."
)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Fits of each strategy at each cost.")
@click.option("--common", multiple=True, metavar="DATASET", help="Frames that every fit has besides. Repeatable.")
@click.option("--suite", default="quick", show_default=True, metavar="NAME|FILE", help="Which properties; none: none.")
@click.option("--reference", type=FILE, help="File with the reference of the properties; default: that of the database.")
@click.option("--spacing", type=click.FloatRange(min=0, min_open=True), help="Of k-points, 1/Å without 2π, for the cost.")
@click.option("--seeds", callback=seeds_of, metavar="N|A,B,…", help="Of campaigns: so many, or these, for each file; default: 3.")
@click.option(
    "--window",
    type=click.FloatRange(min=0, min_open=True),
    metavar="EV",
    help="Of campaigns: errors are of frames so far above the hull, eV/atom; default: 0.3.",
)
@click.option(
    "--lowest", type=click.IntRange(min=1, max=50), metavar="N", help="Of campaigns: structures that are relaxed; default: 5."
)
@click.pass_context
def compare(context: click.Context, **options: Any) -> None:
    """Fit to each strategy's frames at the same cost, and hold properties of crystals to the reference.

    DATASET is a database (pk of a build), of which each strategy is compared, or the datasets of strategies.

    Or run whole campaigns side by side: DATASET is then files of campaigns, each of which is run with every seed, or pks of
    campaigns that have ended. Labels are drawn against the errors of the lowest structures and of all low frames.
    """
    given = [is_campaign(identifier) for identifier in options["datasets"]]
    if any(given) and not all(given):
        strange = options["datasets"][given.index(False)]
        raise click.UsageError(
            f"{strange} is no campaign, as the others are: expected a campaign file that is there, or a pk of one"
        )
    _refuse(context, OF_BOTH + OF_CAMPAIGNS if any(given) else None)
    (compare_campaigns if any(given) else compare_strategies)(options)


def _refuse(context: click.Context, known: tuple[str, ...] | None) -> None:
    """Refuse options that are of the other comparison.

    :param known: names of those that are of this one; None: all but those of campaigns.
    :raises click.UsageError: with the first of them.
    """
    for option in context.command.params:
        name = str(option.name)
        strange = name in OF_CAMPAIGNS if known is None else name not in known
        if strange and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            other, here = ("campaigns", "strategies") if known is None else ("strategies", "campaigns")
            raise click.UsageError(f"{option.opts[0]} is of a comparison of {other}, and these are {here}: leave it out")
