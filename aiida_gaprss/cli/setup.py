"""``aiida-gaprss setup``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--computer",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML file of a remote computer: registers it and its codes, installs the compute side, runs a job there.",
)
@click.option("--check/--no-check", default=True, show_default=True, help="Of a remote computer: run a job there.")
@click.option("--python", metavar="PATH", help="Python with ase and quippy-ase; default: this one.")
@click.option("--gap-fit", metavar="PATH", help="gap_fit binary; default: the one that comes with quippy-ase.")
@click.option("--pw", metavar="PATH", help="pw.x of Quantum ESPRESSO; default: the one on PATH.")
def setup(path: Path | None, check: bool, python: str | None, gap_fit: str | None, pw: str | None) -> None:
    """Find gap_fit, a python with quippy and pw.x on this machine, and register them as AiiDA codes; or on another computer.

    Without an AiiDA profile one is made in AIIDA_PATH that needs no service (SQLite and ZeroMQ). Exit status 1 if
    something is missing that no campaign can do without.
    """
    from aiida_gaprss.cli.environment import load_or_make_profile, set_up_codes
    from aiida_gaprss.outside.terminal import PlainConsole, styled

    console = PlainConsole()
    settings = None
    if path is not None:
        from aiida_gaprss.settings.computer import ComputerSettings
        from aiida_gaprss.settings.yamlfile import load

        settings = load(path, ComputerSettings, "label: cluster")
        for name, value in (("--python", python), ("--gap-fit", gap_fit), ("--pw", pw)):
            if value:
                raise click.UsageError(f"{name} is for this machine; on another computer its file says where programs are")
    profile = load_or_make_profile()
    console.print(styled("AiiDA profile ", (profile, "bold")))
    if settings is not None:
        from aiida_gaprss.cli.computer import set_up_computer

        set_up_computer(settings, console, check)
        codes = f"codes: {{gap_fit: gap_fit@{settings.label}, python: gaprss-python@{settings.label}}}"
        console.print(f"Ready. In a campaign file: {codes}", soft_wrap=True)
        return
    findings = set_up_codes(python, gap_fit, pw)
    for finding in findings:
        finding.tell(console)
    if not all(finding.found for finding in findings[:2]):
        raise click.ClickException("without gap_fit and a python with quippy no campaign can run")
    console.print("Ready. Next: aiida-gaprss demo, or aiida-gaprss run CONFIG.yaml")
