"""Results of jobs, damaged in every way: no exception, and no label that the job has not given to this very frame."""

import json

import numpy as np
import pytest
from fuzzing import WORDS, Tally, damaged
from jobs import KINDS, content, job

from aiida_gaprss.outside import shown
from aiida_gaprss.runners.identity import sealed
from aiida_gaprss.runners.status import NOT_REACHED

#: What stands in the place of a value.
VALUES = (None, True, -1, 0, 3, 10**30, 1.5, -0.0, 1e300, "", "ok", "x", "3", [], {}, [1], {"a": [None]}, "\ud800", "a" * 5000)


@pytest.fixture(params=KINDS)
def done(request, aiida_profile, remembered, monkeypatch):
    """A job of each kind that has ended well; names of nodes, which the database is asked for, are left out."""
    for module in ("frames", "describe"):
        monkeypatch.setattr(f"aiida_gaprss.parsers.{module}.named", lambda node, *_: node)
    key = f"job of {request.param}"
    if key not in remembered:
        remembered[key] = job(request.param)
    return remembered[key]


def changed(good, outputs):
    """Return the names of frames of which something else is said than the job said."""
    return [
        name
        for name, said in content(outputs).items()
        if said != good.get(name)
        and not (isinstance(said, str) and f'label_status="{NOT_REACHED}"' in said and "REF_energy" not in said)
        and not (isinstance(said, bytes) and np.isnan(np.frombuffer(said)).all())
    ]


def restructured(lines, rng):
    """Return lines of which one has another key, value or place, by the name of the damage."""
    lines = [dict(line) for line in lines]
    one, two = rng.choice(len(lines), size=2, replace=False)
    key = list(lines[one])[rng.integers(len(lines[one]))]
    way = ("drop", "value", "swap_value", "swap", "twice", "add", "lost", "word", "index")[rng.integers(9)]
    if way == "drop":
        del lines[one][key]
    elif way == "value":
        lines[one][key] = VALUES[rng.integers(len(VALUES))]
    elif way == "swap_value":
        lines[one][key], lines[two][key] = lines[two][key], lines[one][key]
    elif way == "swap":
        lines[one], lines[two] = lines[two], lines[one]
    elif way == "twice":
        lines.insert(one, lines[two])
    elif way == "add":
        lines[one]["more"] = 1
    elif way == "lost":
        del lines[one]
    elif way == "word":
        words = lines[one]["frames"].split(" ")
        words[rng.integers(len(words))] = WORDS[rng.integers(len(WORDS))].decode()
        lines[one]["frames"] = " ".join(words)
    else:
        lines[one]["index"] = int(rng.integers(-1, len(lines) + 1))
    return f"{way} {key}", lines


def text_of(lines, seal):
    if seal:
        return "".join(f"{_sealed(line)}\n" for line in lines).encode()
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _sealed(line):
    try:
        return sealed({key: value for key, value in line.items() if key != "sum"})
    except ValueError:  # of nan
        return json.dumps(line)


def attempt(tally, name, done, folder, good, results=None, files=None, may_change=False):
    def call():
        code, outputs = done.parse(folder, results, files)
        if not may_change and (names := changed(good, outputs)):
            tally.fault("changed", name, ", ".join(map(str, names)))
        if code is not None:
            assert 300 <= code.status <= 400
            assert shown(code.message, most=10_000) == code.message
            raise ValueError(code.message)

    tally.attempt(name, call)


def test_damaged_results(done, tmp_path, times):
    """Bytes changed anywhere, lines lost or moved, values swapped between them: what a disk or a network may do."""
    rng = np.random.default_rng(KINDS.index(done.kind))
    tally = Tally(f"results of {done.kind}")
    code, outputs = done.parse(tmp_path)
    assert code is None
    good = content(outputs)
    assert len(good) >= 4
    lines = done.lines()
    for number in range(times(15)):
        name, data = damaged(done.results, rng)
        attempt(tally, f"{number} {name}", done, tmp_path, good, data)
        name, other = restructured(lines, rng)
        attempt(tally, f"{number} {name}", done, tmp_path, good, text_of(other, seal=False))
        file = list(done.files)[rng.integers(len(done.files))]
        name, data = damaged(done.files[file], rng)
        attempt(tally, f"{number} {file} {name}", done, tmp_path, good, files={**done.files, file: data})
    tally.check()


def test_results_of_another_runner(done, tmp_path, times):
    """Lines with a checksum that is right: what a runner with a fault would write. Numbers may be others; all else may not."""
    rng = np.random.default_rng(10 + KINDS.index(done.kind))
    tally = Tally(f"sealed results of {done.kind}")
    good = content(done.parse(tmp_path)[1])
    for number in range(times(15)):
        name, other = restructured(done.lines(), rng)
        digits = "word" in name or (done.kind in ("relax", "buildcell") and name.split()[1] in ("frames", "status"))
        failed = name.split()[1] in ("status", "frames")  # a frame that failed has no label, and says so
        attempt(tally, f"{number} {name}", done, tmp_path, good, text_of(other, seal=True), may_change=digits or failed)
    tally.check()


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000 + b"\n",
        b'{"index": ' + b"9" * 5000 + b"}\n",
        b'{"index": NaN}\n',
        b'{"index": 0, "index": 1}\n',
        b"\xff\xfe\n",
        b"\0" * 1000 + b"\n",
        b"null\n",
        b"\n",
        b'{"index": 0, "status": "' + b"x" * 10**6 + b'"}\n',
    ],
)
def test_lines_that_break_readers(aiida_profile, remembered, tmp_path, text):
    done = remembered.setdefault("job of label", job("label"))
    code, outputs = done.parse(tmp_path, text + done.results)
    assert code.status == 320
    assert "results.jsonl, line 1: " in code.message
    assert len(code.message) < 1000
    assert all("REF_energy" in said for said in content(outputs).values()), "the whole lines count"
