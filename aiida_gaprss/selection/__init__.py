"""Choosing the frames that are worth a label: plain functions on numpy arrays and ASE atoms."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Selection:
    """Indices kept, in order of preference, and why each of the others was left out."""

    kept: list[int] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
