"""What the fuzzers share: seeded damage, a count of what became of it, and the bounds of time and memory."""

from __future__ import annotations

import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

#: All tallies of this run, for the summary.
TALLIES: list[Tally] = []


class Hang(BaseException):
    """The call did not come back in time."""


class Tally:
    """Counts of what became of damaged inputs; faults are exceptions of other kinds than refusals, hangs, and changed labels."""

    def __init__(self, what: str, seconds: int = 20, allowed: tuple[type[Exception], ...] = (ValueError,)) -> None:
        self.what, self.seconds, self.allowed = what, seconds, allowed
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        TALLIES.append(self)

    def attempt(self, name: str, call: Callable[[], Any]) -> Any:
        """Return what ``call`` returns, or None if it refuses, as it may; whatever else happens is a fault."""
        self.counts["tried"] += 1
        try:
            with _alarm(self.seconds):
                result = call()
        except Hang:
            self.fault("hangs", name, f"did not come back in {self.seconds} s")
        except self.allowed as refusal:
            self.counts["refused"] += 1
            if not str(refusal).strip():
                self.fault("exceptions", name, f"refused without a word: {refusal!r}")
        except Exception:
            self.fault("exceptions", name, traceback.format_exc(limit=-4))
        else:
            self.counts["accepted"] += 1
            return result
        return None

    def fault(self, kind: str, name: str, text: str) -> None:
        """Count a fault of the input ``name``: kind is exceptions, hangs or changed."""
        self.counts[kind] += 1
        self.faults.append(f"{kind}: {name}: {text}")

    def __str__(self) -> str:
        numbers = ", ".join(
            f"{key} {self.counts[key]}" for key in ("tried", "refused", "accepted", "exceptions", "hangs", "changed")
        )
        return f"{self.what}: {numbers}"

    def check(self) -> None:
        """Fail if there was a fault, or if nothing was tried."""
        assert self.counts["tried"] > 0, "nothing was tried"
        assert not self.faults, f"{self}\n" + "\n".join(self.faults[:10])


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return one way of damage by its name, and the damaged bytes."""
    ways: dict[str, Callable[[], bytes]] = {
        "cut": lambda: data[: rng.integers(len(data))],
        "byte": lambda: _splice(data, rng.integers(len(data)), 1, bytes([rng.integers(256)])),
        "insert": lambda: _splice(data, rng.integers(len(data)), 0, bytes([rng.integers(256)])),
        "delete": lambda: _splice(data, rng.integers(len(data)), int(rng.integers(1, 20)), b""),
        "repeat": lambda: _repeat(data, rng),
        "line_lost": lambda: _lines(data, rng, "lost"),
        "line_twice": lambda: _lines(data, rng, "twice"),
        "lines_swapped": lambda: _lines(data, rng, "swapped"),
        "word": lambda: _word(data, rng),
    }
    name = list(ways)[rng.integers(len(ways))]
    return name, ways[name]()


#: Words that have broken readers.
WORDS = (
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"0",
    b"-1",
    b"1_0",
    b"0x10",
    b"*****",
    b"T",
    b"None",
    b"",
    b"99999999999999999999",
    b"\xc3\xa9",
    b"\x1b[31m",
)


def _splice(data: bytes, at: int, n: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + n :]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    piece = data[start : start + int(rng.integers(1, 200))]
    return _splice(data, start, 0, piece)


def _lines(data: bytes, rng: np.random.Generator, how: str) -> bytes:
    lines = data.splitlines(keepends=True)
    one, two = rng.integers(len(lines), size=2)
    if how == "lost":
        del lines[one]
    elif how == "twice":
        lines.insert(one, lines[one])
    else:
        lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


def _word(data: bytes, rng: np.random.Generator) -> bytes:
    words = data.split(b" ")
    words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))]
    return b" ".join(words)


def cost(call: Callable[[], Any]) -> tuple[str, float]:
    """Return what a call in a process of its own said (the refusal, or ``accepted``), and by how many MB its memory grew."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            with open("/proc/self/clear_refs", "w") as handle:  # the peak starts here
                handle.write("5")
            before = _memory()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            try:
                call()
                said = "accepted"
            except BaseException as exception:
                said = f"{type(exception).__name__}: {exception}"
            os.write(writer, f"{_memory() - before}\n{said}"[:4000].encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode(errors="replace")
    os.waitpid(child, 0)
    grown, _, said = text.partition("\n")
    return (said or "did not come back in 60 s, or was killed"), float(grown or 0)


def _memory() -> float:
    with open("/proc/self/status") as handle:
        return next(int(line.split()[1]) for line in handle if line.startswith("VmHWM")) / 1000
