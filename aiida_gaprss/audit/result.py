"""What an audit says: one verdict per check, with the numbers and the frames behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: From best to worst. ``not judged`` says that the data do not allow a verdict, and counts as ``ok``.
VERDICTS = ("ok", "not judged", "warning", "fault")


def worst(verdicts: Iterable[str]) -> str:
    """Return the worst of some verdicts; ``ok`` if there are none."""
    return max(verdicts, key=VERDICTS.index, default="ok")


@dataclass(frozen=True)
class AuditSettings:
    """Limits of the checks.

    ``max_force``: largest |F| on one atom, eV/Å. ``max_energy``: largest energy above the lowest of the same composition,
    eV/atom. ``min_distance``: smallest distance in sums of covalent radii. ``cohesive_energy``: range of the lowest energy
    relative to isolated atoms, eV/atom. ``duplicate_energy``: difference between equal structures that is no more numerical
    noise, eV/atom. ``fit_atoms``: atoms in the frames to which the local model is fitted.
    """

    max_force: float = 50.0
    max_energy: float = 20.0
    min_distance: float = 0.5
    cohesive_energy: tuple[float, float] = (-12.0, 0.0)
    duplicate_energy: float = 0.005
    fit_atoms: int = 12000

    def __post_init__(self) -> None:
        """Refuse limits that are not positive."""
        for name in ("max_force", "max_energy", "min_distance", "duplicate_energy", "fit_atoms"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a number above 0")
        if not self.cohesive_energy[0] < self.cohesive_energy[1]:
            raise ValueError(f"cohesive_energy is {self.cohesive_energy!r}, expected a smaller and a larger number")


@dataclass
class Check:
    """The outcome of one check.

    ``found`` are sentences for a reader, the worst first; ``numbers`` the same for a program; ``frames`` the names of the frames
    concerned, worst first.
    """

    name: str
    verdict: str = "ok"
    found: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)

    def add(self, verdict: str, sentence: str, frames: Sequence[str] = ()) -> None:
        """Add a finding; the check is as bad as its worst one."""
        if VERDICTS.index(verdict) > VERDICTS.index(self.verdict) or not self.found:
            self.found.insert(0, sentence)
        else:
            self.found.append(sentence)
        self.verdict = worst((self.verdict, verdict))
        self.frames += [name for name in frames if name not in self.frames]


@dataclass(frozen=True)
class Audit:
    """All checks of an audit."""

    checks: list[Check]
    n_frames: int
    settings: AuditSettings

    @property
    def verdict(self) -> str:
        """``sound``, ``warning`` or ``fault``."""
        verdict = worst(check.verdict for check in self.checks)
        return verdict if verdict in ("warning", "fault") else "sound"

    def exit_status(self, strict: bool = False) -> int:
        """Return 2 if there are faults, 1 if there are warnings and ``strict``, else 0."""
        return {"fault": 2, "warning": 1 if strict else 0}.get(self.verdict, 0)

    def check(self, name: str) -> Check:
        """Return one check.

        :raises KeyError: if there is none of this name.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "verdict": self.verdict,
            "frames": self.n_frames,
            "settings": asdict(self.settings),
            "checks": [asdict(check) for check in self.checks],
        }
