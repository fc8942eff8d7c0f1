"""Read the log of gap_fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ase import Atoms

from aiida_gaprss.frames import describe
from aiida_gaprss.models.regularisation import sigma_counts

_COUNT = re.compile(r"Number of target (energies|forces|virials) \(property name: (\S+)\) found:\s*(\d+)")
_SIGMAS = re.compile(
    r"Number of per-(?:configuration|atom|component) setting of "
    r"((?:energy|force|virial|force_atom|force_component|virial_component)_sigma) found:\s*(\d+)"
)
_VERSION = re.compile(r"git version\s+\S*,(\S+)")
_SPARSE = re.compile(r"Number of (?:sparse )?(?:descriptors|partial derivatives of descriptors):\s+(\d+)")
_PEAK = re.compile(r"^PEAK\s+([0-9.]+)\s*(KB|MB|GB|TB|B)", re.MULTILINE)
_UNKNOWN = re.compile(r"^param_read_line: unknown key (\S+)", re.MULTILINE)
_UNITS = {"B": 1e-6, "KB": 1e-3, "MB": 1.0, "GB": 1e3, "TB": 1e6}


@dataclass(frozen=True)
class Log:
    """What gap_fit says of a fit: how many targets it read, memory, and whether and why it stopped."""

    counts: dict[str, int] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)
    peak_memory_MB: float | None = None
    version: str = "unknown"
    abort: str | None = None
    warnings: list[str] = field(default_factory=list)


def read_log(text: str) -> Log:
    """Parse the log; ``abort`` holds the lines of a SYSTEM ABORT, which exit statuses may hide."""
    numbers = [int(n) for n in _SPARSE.findall(text)]
    peak = _PEAK.search(text)
    abort = None
    if "SYSTEM ABORT" in text:
        lines = text[text.index("SYSTEM ABORT") :].splitlines()
        abort = " ".join(line.strip() for line in lines[:6] if line.strip())
        abort += "".join(f" (unknown key {name})" for name in _UNKNOWN.findall(text))
    version = _VERSION.search(text)
    warnings = sorted({line.strip() for line in text.splitlines() if line.startswith("WARNING") and "OMP_STACKSIZE" not in line})
    return Log(
        counts={name: int(n) for name, _, n in _COUNT.findall(text)} | {name: int(n) for name, n in _SIGMAS.findall(text)},
        descriptors=numbers[::2],
        peak_memory_MB=float(peak[1]) * _UNITS[peak[2]] if peak else None,
        version=version[1] if version else "unknown",
        abort=abort,
        warnings=warnings,
    )


def expected_counts(frames: Sequence[Atoms]) -> dict[str, int]:
    """Return the counts gap_fit must report for a training set: six numbers a virial, and all sigmas."""
    known = describe(frames)
    counts = {"energies": known["energies"], "forces": known["forces"], "virials": 6 * known["virials"]}
    return counts | sigma_counts(frames)
