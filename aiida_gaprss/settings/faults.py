"""What is wrong with what was given, and where: data, from whoever finds it to whoever tells it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from aiida_gaprss.outside import shown

#: Keys and numbers of items that lead to a value.
Place: TypeAlias = tuple[str | int, ...]

#: Characters that are shown of one fault.
MOST_CHARACTERS = 1000


def dotted(place: Place) -> str:
    """Return a place as users write it."""
    return ".".join(str(part) for part in place)


@dataclass(frozen=True)
class Fault:
    """Something wrong at a place; ``line`` is that in a file, 0 where there is none."""

    place: Place
    message: str
    line: int = 0

    @property
    def where(self) -> str:
        """The place as users write it."""
        return dotted(self.place)

    def under(self, *place: str | int) -> Fault:
        """Return the fault as one of what this was a part of."""
        return replace(self, place=(*place, *self.place))

    def __str__(self) -> str:
        """Return ``line 12, settings.seeds: ...``, characters that would act written out."""
        before = ", ".join(part for part in (f"line {self.line}" if self.line else "", shown(self.where)) if part)
        message = shown(self.message, MOST_CHARACTERS)
        return f"{before}: {message}" if before else message


class FaultError(ValueError):
    """Everything that is wrong with a value, each fault with its place in it."""

    def __init__(self, faults: Sequence[Fault], text: str | None = None) -> None:
        """Keep the faults.

        :param text: what is said of them; default: all of them, one a line.
        """
        self.faults = list(faults)
        super().__init__("\n".join(map(str, faults)) if text is None else text)


def news(known: Iterable[Fault], found: Iterable[Fault], of_whole: bool = False) -> list[Fault]:
    """Return the faults at places of which nothing is known yet.

    :param of_whole: nor of a part of what is there: the faults found are those of things of which each part should be right.
    """
    places = {fault.place for fault in known}
    if of_whole:
        places |= {fault.place[:length] for fault in known for length in range(1, len(fault.place))}
    return [fault for fault in found if fault.place not in places]
