"""What ties a result to its frame and keeps it whole (uploaded with the job, and imported by the parsers)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from ase import Atoms

#: Å; that of positions in extended XYZ: two readings of one file differ by less.
DIGIT = 1e-8

#: Of a trajectory that is cut off: the folder of what is kept of it, and its files by the number of the frame.
STATES, STATE, SNAPSHOTS = "states", "{index:05d}.json", "{index:05d}.xyz"


def geometry(atoms: Atoms) -> str:
    """Return a digest of species, positions and cell to the digits that extended XYZ has."""
    lengths = np.concatenate([atoms.cell.array, atoms.positions])
    digits = np.rint(lengths / DIGIT) + 0.0  # no negative zero
    return _digest(atoms.numbers.astype("<i8").tobytes() + digits.astype("<f8").tobytes())


def identity(index: int, atoms: Atoms) -> dict[str, Any]:
    """Return what says of which frame a result is: its number in the input, its name there, and the structure that was read."""
    name = atoms.info.get("frame_id")
    return {"index": index, "frame": None if name is None else str(name), "geometry": geometry(atoms)}


def owner(atoms: Atoms) -> dict[str, Any]:
    """Return what says of which frame the state of a trajectory is: in another job it has another number."""
    return {key: value for key, value in identity(0, atoms).items() if key != "index"}


def whole(text: str, atoms: Atoms) -> dict[str, Any] | None:
    """Return the state that a text holds, if it is whole and of this frame."""
    try:
        state = json.loads(text)
        good = state["sum"] == checksum(state) and owner(atoms).items() <= state.items()
    except (ValueError, LookupError, TypeError):
        return None
    return state if good else None


def checksum(line: dict[str, Any]) -> str:
    """Return a digest of everything that a line of the results says, but the checksum."""
    return digest_of({key: value for key, value in line.items() if key != "sum"})


def digest_of(content: dict[str, Any]) -> str:
    """Return a digest of what can be said in JSON, in whatever order it is said."""
    return _digest(json.dumps(content, sort_keys=True).encode("ascii"))


def sealed(line: dict[str, Any]) -> str:
    """Return a line of the results as text, with its checksum."""
    return json.dumps({**line, "sum": checksum(line)}, allow_nan=False)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
