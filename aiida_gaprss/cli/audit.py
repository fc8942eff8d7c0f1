"""``aiida-gaprss dataset audit``: the physics check of labelled frames before a fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.nodes import _key_options, _keys, _load, _profile, dataset

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_gaprss.audit import Audit
    from aiida_gaprss.levels import Level

#: Names that labels have in files, tried in this order if the user names none.
USUAL_KEYS = {
    "energy": ("REF_energy", "dft_energy", "DFT_energy", "energy"),
    "forces": ("REF_forces", "dft_forces", "dft_force", "DFT_forces", "forces", "force"),
}
USUAL_VIRIALS = tuple((kind, prefix + kind) for prefix in ("REF_", "dft_", "DFT_", "") for kind in ("virial", "stress"))
_COLOURS = {"ok": "green", "not judged": "dim", "warning": "yellow", "fault": "bold red", "sound": "bold green"}


@dataset.command("audit")
@click.argument("sources", nargs=-1, required=True, metavar="NODE_OR_FILE...")
@_key_options
@click.option("--config-type", help="Configuration type of frames that have none; a single atom needs isolated_atom.")
@click.option("--max-force", type=float, default=50.0, show_default=True, help="Largest force that is not remarked, eV/Å.")
@click.option(
    "--max-energy", type=float, default=20.0, show_default=True, help="The same above the lowest of a composition, eV/atom."
)
@click.option("--min-distance", type=float, default=0.5, show_default=True, help="Smallest distance, in sums of covalent radii.")
@click.option("--mixed-levels", is_flag=True, help="Several levels of theory make a warning, not a fault.")
@click.option("--skip", multiple=True, metavar="CHECK", help="Leave out a check, by its name in the table. Repeatable.")
@click.option("--strict", is_flag=True, help="Warnings, too, change the exit status, to 1.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Keep the audit in this file.")
@click.option("--frames", "n_frames", type=int, default=3, show_default=True, help="Worst frames that are named per check.")
def dataset_audit(
    sources: tuple[str, ...],
    config_type: str | None,
    max_force: float,
    max_energy: float,
    min_distance: float,
    mixed_levels: bool,
    skip: tuple[str, ...],
    strict: bool,
    json_path: Path | None,
    n_frames: int,
    **options: Any,
) -> None:
    """Check the labels of datasets (pk or uuid) or extended XYZ files, taken together, before anybody fits to them.

    Are energies counted from one zero; have forces and virials the right sign and unit and belong to their frames; are there
    isolated atoms, duplicates, outliers, labels that are missing or not converged? Key and unit options are for files; without
    them the keys energy, forces, virial or stress are taken, with REF_, dft_, DFT_ before them or nothing.

    Exit status: 0 sound (or warnings only), 1 warnings with --strict, 2 faults, or something that cannot be read.
    """
    from aiida_gaprss.audit import AuditSettings, audit
    from aiida_gaprss.levels import line_of

    try:
        frames, levels, refused = _read(sources, options, config_type)
        settings = AuditSettings(max_force=max_force, max_energy=max_energy, min_distance=min_distance)
        result = audit(frames, levels, settings, mixed_levels, skip, refused)
    except (ValueError, click.ClickException) as exception:
        fault = click.ClickException(str(exception))
        fault.exit_code = 2  # 1 would say that there are only warnings
        raise fault from exception
    _show(result, n_frames)
    if json_path is not None:
        lines = {name: level and line_of(level) for name, level in levels.items()}
        contents = {"sources": {name: {"frames": len(frames[name]), "level_of_theory": lines[name]} for name in frames}}
        json_path.write_text(json.dumps(contents | result.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(result.exit_status(strict))


def _read(
    sources: tuple[str, ...], options: dict[str, Any], config_type: str | None
) -> tuple[dict[str, list[Atoms]], dict[str, Level | str | None], list[str]]:
    """Return frames and level of theory by source, and why other frames cannot be used."""
    from aiida_gaprss.frames import FrameError
    from aiida_gaprss.io.extxyz import import_frames

    frames: dict[str, list[Atoms]] = {}
    levels: dict[str, Level | str | None] = {}
    refused: list[FrameError] = []
    for source in sources:
        path = Path(source)
        if path.is_file():
            name = path.name if path.name not in frames else source
            named = any(options[key] for key in ("energy", "forces", "virial", "stress"))
            keys = _keys(options if named else options | _usual_keys(path))
            frames[name], levels[name] = import_frames(path, keys, config_type, refused), None
        elif path.suffix or len(path.parts) > 1:
            raise click.ClickException(f"{source}: no such file")
        else:
            _profile()
            node = _load(source, "gaprss.dataset")
            name = f"<{node.pk}> {node.label}".strip()
            frames[name], levels[name] = node.get_frames(), node.level
    return frames, levels, [str(fault) for fault in refused]


def _usual_keys(path: Path) -> dict[str, str]:
    """Return the usual names of labels that the frames of a file have."""
    from aiida_gaprss.io.extxyz import keys_of

    have = keys_of(path)
    found = {kind: name for kind, names in USUAL_KEYS.items() for name in reversed(names) if name in have}
    found.update(next(({kind: name} for kind, name in USUAL_VIRIALS if name in have), {}))
    if "energy" not in found:
        raise click.ClickException(
            f"{path.name} has none of the keys {', '.join(USUAL_KEYS['energy'])}; name the keys with --energy, --forces, ..."
        )
    return found


def _show(result: Audit, n_frames: int) -> None:
    """Print the table of checks and the verdict."""
    from rich.table import Table

    from aiida_gaprss.outside.terminal import PlainConsole, styled

    console = PlainConsole()
    table = Table("check", "verdict", "found", "frames", box=None)
    for check in result.checks:
        listed = list(check.frames[:n_frames])
        if len(check.frames) > len(listed):
            listed.append(f"and {len(check.frames) - len(listed)} more")
        verdict = styled((check.verdict, _COLOURS[check.verdict]))
        table.add_row(check.name, verdict, "\n".join(check.found), "\n".join(listed))
    console.print(table)
    faults = sum(check.verdict == "fault" for check in result.checks)
    warnings = sum(check.verdict == "warning" for check in result.checks)
    counts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((faults, "fault"), (warnings, "warning")) if n]
    words = f"{result.n_frames} frames: " + (" and ".join(counts) if counts else "sound")
    console.print(words, style=_COLOURS[result.verdict])
