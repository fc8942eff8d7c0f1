"""Campaigns side by side: what a potential makes of the lowest structures, and how many labels it took to come so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from pydantic import Field

from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import Count, Model, Positive

#: meV in an eV.
MEV = 1000.0


class SideBySideSettings(Model):
    """How campaigns are compared."""

    window: Positive = Field(0.3, description="eV/atom above the hull up to which labelled frames are in the common test")
    lowest: Count = Field(5, le=50, description="so many of the lowest structures are relaxed by every potential")
    force: Positive = Field(0.2, description="eV/Å, largest component that the reference may leave in a lowest structure")
    pressure: Positive = Field(1.0, description="GPa, largest component of the stress that it may leave there")
    known_within: Positive = Field(0.05, description="eV/atom above the ground state up to which a frame of its structure is it")
    tie: Positive = Field(0.001, description="eV/atom; structures nearer than this in energy have no order")
    coarse: Positive = Field(0.01, description="eV/atom, error of the ground state below which it is found roughly")
    fine: Positive = Field(0.001, description="eV/atom, below which it is found")
    enough: Count = Field(10, description="frames that a potential has not seen, of which an error is told")
    relax: RelaxSettings = Field(
        default_factory=lambda: RelaxSettings(fmax=0.01, snapshot_steps=[]), description="of the lowest structures"
    )


@dataclass(frozen=True)
class Relaxed:
    """What a potential makes of one of the lowest structures.

    :param height: of the structure above the hull of the reference, eV/atom.
    :param error: energy of the potential's own minimum minus that of the reference for the structure, eV/atom; None without one.
    :param same: whether that minimum is the structure still.
    """

    name: str
    height: float
    error: float | None
    same: bool

    @property
    def held(self) -> bool:
        """Whether there is a minimum, and of this structure."""
        return self.same and self.error is not None


def of_lowest(relaxed: Sequence[Relaxed], tie: float) -> dict[str, Any]:
    """Return what is told of the lowest structures with a potential; the first of them is the ground state. Energies in meV/atom.

    ``difference``: largest magnitude of the error of an energy relative to the ground state; None if that is lost. ``swapped``:
    of ``pairs`` that are further apart than ``tie`` (eV/atom) by the reference, and that are held, those in the wrong order.
    """
    ground, held = relaxed[0], [one for one in relaxed if one.held]
    apart = [(a, b) for a, b in combinations(held, 2) if abs(a.height - b.height) > tie]
    differences = [abs(_error(one) - _error(ground)) for one in held] if ground.held and len(held) > 1 else []
    return {
        "ground_error": MEV * ground.error if ground.error is not None else None,
        "ground_held": ground.held,
        "held": len(held),
        "of": len(relaxed),
        "difference": MEV * max(differences) if differences else None,
        "swapped": sum((_height(a) - _height(b)) * (a.height - b.height) < 0 for a, b in apart),
        "pairs": len(apart),
        "lost": [one.name for one in relaxed if not one.held],
    }


def _error(one: Relaxed) -> float:
    assert one.error is not None
    return one.error


def _height(one: Relaxed) -> float:
    """Return the height above the hull as the potential has it, but for what is common to all, eV/atom."""
    return one.height + _error(one)


@dataclass(frozen=True)
class Reached:
    """A number of labels after which something held; or, if it never did, all labels there were."""

    labels: float
    reached: bool

    def __str__(self) -> str:
        """Return it in words, ``> 170`` for more than there were."""
        return f"{'' if self.reached else '> '}{self.labels:g}"


def labels_until(labels: Sequence[int], good: Sequence[bool]) -> Reached:
    """Return the labels from which on something is good to the end.

    :param labels: of each part, in the order of the parts; ``good``: whether it holds there.
    :raises ValueError: without parts.
    """
    if not labels or len(labels) != len(good):
        raise ValueError(f"expected a yes or no for each of one part or more, got {len(good)} for {len(labels)}")
    first = len(good)
    while first and good[first - 1]:
        first -= 1
    return Reached(labels[first], True) if first < len(good) else Reached(labels[-1], False)


def median(values: Sequence[Reached]) -> Reached:
    """Return the median; those that were never reached lie above all others, and a median among them is told as more than that.

    :raises ValueError: without values.
    """
    ordered = _ordered(values)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return Reached(sum(one.labels for one in middle) / len(middle), all(one.reached for one in middle))


def span(values: Sequence[Reached]) -> tuple[Reached, Reached]:
    """Return the least and the largest.

    :raises ValueError: without values.
    """
    ordered = _ordered(values)
    return ordered[0], ordered[-1]


def _ordered(values: Sequence[Reached]) -> list[Reached]:
    if not values:
        raise ValueError("expected one campaign or more, got none")
    return sorted(values, key=lambda one: (not one.reached, one.labels))


#: What is told of a campaign, and of all seeds of a file: labels until something holds, and errors at the end.
UNTIL, AT_END = ("found", "coarse", "fine"), ("ground_error", "difference", "energy_rmse", "forces_rmse")


def of_campaign(
    rows: Sequence[Mapping[str, Any]], settings: SideBySideSettings, with_checks: int | None = None
) -> dict[str, Any]:
    """Return what is told of a campaign.

    :param rows: of its parts with a potential, in their order: ``labels``, ``known``, ``ground_held``, ``ground_error``, …
    :param with_checks: all labels, those of the minima of its last search too, if the ground state is among these.
    """
    labels = [row["labels"] for row in rows]
    good = {
        "found": [row["known"] for row in rows],
        "coarse": [is_within(row, settings.coarse) for row in rows],
        "fine": [is_within(row, settings.fine) for row in rows],
    }
    until = {name: labels_until(labels, values) for name, values in good.items()}
    if with_checks is not None and not until["found"].reached:
        until["found"] = Reached(with_checks, True)
    told = {name: asdict(one) for name, one in until.items()}
    last = rows[-1] if rows[-1]["ground_held"] else {**rows[-1], "ground_error": None}
    return {"labels": labels[-1], **told, "end": {key: last[key] for key in AT_END}}


def is_within(row: Mapping[str, Any], limit: float) -> bool:
    """Tell whether the ground state is held with an error up to a limit, eV/atom."""
    error = row["ground_error"]
    return bool(row["ground_held"]) and error is not None and abs(error) <= MEV * limit


def of_file(campaigns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return median and range over the seeds of a file, of the labels until something holds and of the errors at the end.

    Of errors the magnitudes count; a campaign without one, as its potential loses the ground state, makes it None.
    """
    out: dict[str, Any] = {"campaigns": len(campaigns)}
    for key in UNTIL:
        values = [Reached(**campaign[key]) for campaign in campaigns]
        out[key] = {"median": asdict(median(values)), "range": [asdict(one) for one in span(values)]}
    out["end"] = {key: _of_errors([campaign["end"][key] for campaign in campaigns]) for key in AT_END}
    return out


def _of_errors(errors: Sequence[float | None]) -> dict[str, Any]:
    """Return median and range of magnitudes; an error that is not there is larger than any."""
    values = [Reached(abs(error), True) if error is not None else Reached(0.0, False) for error in errors]
    told = [median(values), *span(values)]
    middle, *ends = [one.labels if one.reached else None for one in told]
    return {"median": middle, "range": ends}
