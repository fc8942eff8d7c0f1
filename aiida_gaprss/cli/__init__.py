"""The command ``aiida-gaprss``."""

from __future__ import annotations

import sys

import click

from aiida_gaprss import __version__
from aiida_gaprss.cli import audit as _audit  # noqa: F401  registers "dataset audit"
from aiida_gaprss.cli import datasets as _datasets  # noqa: F401  registers "dataset filter" and its like
from aiida_gaprss.cli import evaluate as _evaluate  # noqa: F401  registers "potential evaluate"
from aiida_gaprss.cli.campaign import demo, report, run, status, stop, trace
from aiida_gaprss.cli.fit import fit
from aiida_gaprss.cli.nodes import dataset, potential
from aiida_gaprss.cli.scans import committee, learning_curve, tune
from aiida_gaprss.cli.search import search
from aiida_gaprss.cli.setup import setup
from aiida_gaprss.cli.storage import storage


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Make machine-learned interatomic potentials (GAP) by random structure searching, with full provenance in AiiDA."""


COMMANDS = (
    setup,
    demo,
    run,
    status,
    stop,
    report,
    trace,
    storage,
    fit,
    learning_curve,
    tune,
    committee,
    search,
    dataset,
    potential,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command; faults of the user end with one clear message, not a traceback."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as exception:
        exception.show()
        sys.exit(exception.exit_code)
    except click.exceptions.Exit as exception:
        sys.exit(exception.exit_code)
    except ValueError as exception:  # all our own errors, and those of the ports
        click.secho(f"Error: {exception}", fg="red", err=True)
        sys.exit(1)
