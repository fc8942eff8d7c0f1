"""A folder of archives: what their cards say of potentials, to be looked through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida_gaprss.analysis.errors import QUANTITIES
from aiida_gaprss.outside import OutsideError, shown
from aiida_gaprss.properties.scorecard import LIGHTS
from aiida_gaprss.sharing.archive import DAMAGED, card_of

#: Archives that are looked at in one folder.
MOST = 10_000


@dataclass(frozen=True)
class Entry:
    """A potential in an archive.

    :param errors: RMSE by quantity, in the units of :data:`~aiida_gaprss.analysis.errors.UNITS`: on frames that were held back
        if there were any (``tested``), else on the training set.
    :param lights: the worst of each property that was validated.
    """

    file: str
    name: str
    family: str
    elements: list[str]
    levels: list[str]
    frames: int | None
    errors: dict[str, float]
    tested: bool
    lights: dict[str, str | None]
    licence: str | None
    uuid: str


@dataclass(frozen=True)
class Wanted:
    """Which potentials are wanted.

    :param elements: those that it knows, at least.
    :param properties: that were validated, and are not bad.
    :param most: largest RMSE by quantity.
    :param words: in the names of the file and of the archive, the family, the level of theory or the licence.
    """

    elements: Sequence[str] = ()
    properties: Sequence[str] = ()
    most: Mapping[str, float] | None = None
    words: Sequence[str] = ()

    def fits(self, entry: Entry) -> bool:
        """Tell whether a potential is one of them; what is not known of it does not fit."""
        text = " ".join([entry.file, entry.name, entry.family, *entry.levels, entry.licence or ""]).casefold()
        return (
            set(self.elements) <= set(entry.elements)
            and all(entry.lights.get(name) in LIGHTS[:2] for name in self.properties)
            and all(entry.errors.get(q, float("inf")) <= limit for q, limit in (self.most or {}).items())
            and all(word.casefold() in text for word in self.words)
        )


def archives_in(folder: Path) -> list[Path]:
    """Return the archives in a folder and its folders, in the order of their names."""
    return sorted(path for path in folder.rglob("*.aiida") if path.is_file())[:MOST]


def entries(folder: Path, refused: dict[str, str]) -> Iterator[Entry]:
    """Yield the potentials in the archives of a folder, of which only the cards are read.

    :param refused: gets the names of archives whose card cannot be read, with the reason.
    """
    for path in archives_in(folder):
        name = str(path.relative_to(folder))
        try:
            yield from _entries(name, card_of(path))
        except OutsideError as exception:
            refused[name] = exception.message
        except DAMAGED as exception:
            refused[name] = f"its card is damaged: {type(exception).__name__} {shown(exception)}"


def _entries(file: str, card: Mapping[str, Any]) -> list[Entry]:
    return [_entry(file, card, potential) for potential in card["potentials"]]


def _entry(file: str, card: Mapping[str, Any], potential: Mapping[str, Any]) -> Entry:
    head, test, training = potential["potential"], potential["test_errors"], potential["training_errors"]
    data, lights = potential["training_data"] or {}, card["lights"].get(head["uuid"], {})
    return Entry(
        file=file,
        name=str(card["name"]),
        family=str(head["family"]),
        elements=[str(symbol) for symbol in head["elements"]],
        levels=[str(level) for level in data.get("levels_of_theory") or card["levels_of_theory"]],
        frames=None if data.get("frames") is None else int(data["frames"]),
        errors=_errors(test or training),
        tested=test is not None,
        lights={str(name): light if light in LIGHTS else None for name, light in lights.items()},
        licence=None if card["licence"] is None else str(card["licence"]),
        uuid=str(head["uuid"]),
    )


def _errors(found: Mapping[str, Any] | None) -> dict[str, float]:
    values = {quantity: (found or {"all": {}})["all"].get(quantity, {}).get("rmse") for quantity in QUANTITIES}
    return {quantity: float(value) for quantity, value in values.items() if value is not None}
