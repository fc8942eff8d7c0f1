"""``aiida-gaprss setup``."""

from __future__ import annotations

import click


@click.command()
@click.option("--python", metavar="PATH", help="Python with ase and quippy-ase; default: this one.")
@click.option("--gap-fit", metavar="PATH", help="gap_fit binary; default: the one that comes with quippy-ase.")
@click.option("--pw", metavar="PATH", help="pw.x of Quantum ESPRESSO; default: the one on PATH.")
def setup(python: str | None, gap_fit: str | None, pw: str | None) -> None:
    """Find gap_fit, a python with quippy and pw.x on this machine, and register them as AiiDA codes.

    Without an AiiDA profile one is made in AIIDA_PATH that needs no service (SQLite and ZeroMQ). Exit status 1 if
    something is missing that no campaign can do without.
    """
    from rich.console import Console

    from aiida_gaprss.cli.environment import load_or_make_profile, set_up_codes

    profile = load_or_make_profile()
    console = Console(highlight=False)
    console.print(f"AiiDA profile [bold]{profile}[/]")
    findings = set_up_codes(python, gap_fit, pw)
    for finding in findings:
        if finding.found:
            console.print(f"  [green]found[/]    {finding.name}: {finding.found} ({finding.detail})", soft_wrap=True)
        else:
            console.print(f"  [yellow]missing[/]  {finding.name}: {finding.detail}. {finding.how_to_get}", soft_wrap=True)
    if not all(finding.found for finding in findings[:2]):
        raise click.ClickException("without gap_fit and a python with quippy no campaign can run")
    console.print("Ready. Next: aiida-gaprss demo, or aiida-gaprss run CONFIG.yaml")
