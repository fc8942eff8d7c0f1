"""The command ``aiida-gaprss``."""

from __future__ import annotations

import sys
from typing import Any

import click

from aiida_gaprss import __version__
from aiida_gaprss.cli import audit as _audit  # noqa: F401  registers "dataset audit"
from aiida_gaprss.cli import datasets as _datasets  # noqa: F401  registers "dataset filter" and its like
from aiida_gaprss.cli import evaluate as _evaluate  # noqa: F401  registers "potential evaluate"
from aiida_gaprss.cli.build import build
from aiida_gaprss.cli.campaign import demo, report, run, status, stop, trace
from aiida_gaprss.cli.compare import compare
from aiida_gaprss.cli.delta import delta
from aiida_gaprss.cli.fit import fit
from aiida_gaprss.cli.nodes import dataset
from aiida_gaprss.cli.potentials import potential
from aiida_gaprss.cli.query import query
from aiida_gaprss.cli.relabel import relabel
from aiida_gaprss.cli.resume import resume
from aiida_gaprss.cli.scans import committee, learning_curve, tune
from aiida_gaprss.cli.search import search
from aiida_gaprss.cli.setup import setup
from aiida_gaprss.cli.sharing import library, open_, share
from aiida_gaprss.cli.storage import storage
from aiida_gaprss.cli.validate import validate
from aiida_gaprss.outside import harmless
from aiida_gaprss.outside.terminal import harmless_output


class Commands(click.Group):
    """Commands of which no output acts, whatever names are in it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with harmless_output():
            try:
                return super().invoke(ctx)
            except click.ClickException as exception:
                exception.message = harmless(exception.message)
                raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Make machine-learned interatomic potentials (GAP) by random structure searching, with full provenance in AiiDA."""


COMMANDS = (
    setup,
    demo,
    run,
    resume,
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
    build,
    relabel,
    delta,
    compare,
    validate,
    dataset,
    potential,
    query,
    share,
    open_,
    library,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command; faults of the user end with one clear message, not a traceback."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as exception:
        exception.message = harmless(exception.message)
        exception.show()
        sys.exit(exception.exit_code)
    except click.exceptions.Exit as exception:
        sys.exit(exception.exit_code)
    except Exception as exception:
        if (said := in_words(exception)) is None:
            raise
        click.secho(f"Error: {harmless(said)}", fg="red", err=True)
        sys.exit(1)


def in_words(exception: Exception) -> str | None:
    """Return what is to be said of an exception that is no fault of this package; None if it may be one."""
    if isinstance(exception, ValueError):  # all our own errors, and those of the ports
        return str(exception)
    from aiida.common.exceptions import CorruptStorage, LockingProfileError, UnreachableStorage

    if isinstance(exception, CorruptStorage | LockingProfileError | UnreachableStorage):
        return f"the database does not answer: {exception}"
    from aiida_gaprss.workflows.here.trouble import trouble

    return trouble(exception)
