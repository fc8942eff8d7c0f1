"""Archives, damaged in every way, with and without hashes that belong to the damage: refused with a reason, or taken whole."""

import json
import sqlite3
import zipfile

import numpy as np
import pytest
from aiida.orm import Dict
from forgery import Forgery
from fuzzing import Tally, damaged

from aiida_gaprss.calculations.dataset_functions import filter_frames
from aiida_gaprss.sharing.about import Terms
from aiida_gaprss.sharing.about_text import text
from aiida_gaprss.sharing.archive import CARD_JSON, DATABASE, card_of
from aiida_gaprss.sharing.library import entries
from aiida_gaprss.sharing.opening import checked, open_archive
from aiida_gaprss.sharing.verify import verify
from aiida_gaprss.sharing.write import share

#: What stands in the place of a value.
VALUES = (None, True, -1, 0, 10**30, 1.5, "", "x", "/etc/passwd", "not-shared", [], {}, [1], {"a": [None]}, "\ud800", "a" * 5000)
VALUES += (
    "data.core.enum.EnumData.",
    "data.core.folder.FolderData.",
    "aiida.calculations:core.arithmetic.add",
    "0" * 64,
    b"\xff\0",
)

TABLES = ("db_dbnode", "db_dblink", "db_dbuser", "db_dbnode", "db_dbcomputer")


@pytest.fixture
def small(dataset, potential, tmp_path):
    """An archive of a few nodes of all kinds that are ours."""
    made = filter_frames(dataset.store(), Dict({"n_atoms": [2, 3]}))
    path = tmp_path / "small.aiida"
    share([made, potential.store()], path, Terms("small"))
    return path


def somewhere(value, rng):
    """Change a value in plain data, at a random place."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = list(value)[rng.integers(len(value))]
        return {**value, key: somewhere(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        index = int(rng.integers(len(value)))
        return [*value[:index], somewhere(value[index], rng), *value[index + 1 :]]
    return [v for v in VALUES if not isinstance(v, bytes)][rng.integers(len(VALUES) - 1)]


def forged(path, folder, rng):
    """Return an archive of which one thing was changed, signed as if it were whole, and what it was."""
    forgery = Forgery(path, folder)
    way = ("row", "json", "card", "file", "part")[rng.integers(5)]
    if way == "row":
        table = TABLES[rng.integers(len(TABLES))]
        columns = [row[1] for row in forgery.rows(f"PRAGMA table_info({table})")]
        rows = [row[0] for row in forgery.rows(f"SELECT rowid FROM {table}")]
        column, value = columns[rng.integers(len(columns))], VALUES[rng.integers(len(VALUES))]
        value = str(value) if isinstance(value, list | dict | int) or value == "\ud800" else value
        forgery.sql((f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, rows[rng.integers(len(rows))] if rows else 0)))
    elif way == "json":
        column = ("attributes", "extras", "repository_metadata")[rng.integers(3)]
        rows = forgery.rows(f"SELECT id, {column} FROM db_dbnode")
        pk, content = rows[rng.integers(len(rows))]
        forgery.sql((f"UPDATE db_dbnode SET {column} = ? WHERE id = ?", (json.dumps(somewhere(json.loads(content), rng)), pk)))
    elif way == "card":
        changed = somewhere(json.loads(forgery.parts[CARD_JSON]), rng)
        forgery.parts[CARD_JSON] = json.dumps(changed).encode()
        return way, forgery.sign_cards().write()
    elif way == "file":
        owned = "repository_metadata LIKE '%{}%' LIMIT 1"
        keys = [name.removeprefix("repo/") for name in forgery.parts if name.startswith("repo/")]
        key = keys[rng.integers(len(keys))]
        (content,) = forgery.rows(f"SELECT repository_metadata FROM db_dbnode WHERE {owned.format(key)}")[0]
        name = next(name for name, item in json.loads(content)["o"].items() if item["k"] == key)
        forgery.file(owned.format(key).removesuffix(" LIMIT 1"), name, lambda old: damaged(old, rng)[1])
    else:
        name = list(forgery.parts)[rng.integers(len(forgery.parts))]
        forgery.parts[name] = damaged(forgery.parts[name], rng)[1]
        return way, forgery.write()
    return way, forgery.sign().write()


def test_forged_archives(small, tmp_path, times):
    tally, rng = Tally("archives forged"), np.random.default_rng(1)
    for number in range(times(60)):
        try:
            way, path = forged(small, tmp_path, rng)
        except (sqlite3.Error, UnicodeEncodeError):  # the database itself does not take it
            continue
        if tally.attempt(f"{way} {number}", lambda path=path: verify(path)) is not None:
            tally.attempt(f"{way} {number} into the profile", lambda path=path: open_archive(*checked(path)))
    tally.check()
    assert tally.counts["refused"] > 20


def test_damaged_archives(small, tmp_path, times):
    """Whatever falls over on the way: refused, unless it is a time or a name that zip files have besides."""
    tally, rng, content = Tally("archives damaged"), np.random.default_rng(2), small.read_bytes()
    with zipfile.ZipFile(small) as whole:
        good = {name: whole.read(name) for name in whole.namelist()}
    for number in range(times(100)):
        (tmp_path / "bad.aiida").write_bytes(damaged(content, rng)[1])
        if tally.attempt(str(number), lambda: verify(tmp_path / "bad.aiida")) is not None:
            with zipfile.ZipFile(tmp_path / "bad.aiida") as archive:
                if {name: archive.read(name) for name in archive.namelist()} != good:
                    tally.fault("changed", str(number), "another content was accepted")
    tally.check()


def test_cards_in_a_library(small, tmp_path, times):
    """Cards are read without a check of the rest: whatever they hold, they are listed, or told with a reason."""
    tally, rng = Tally("cards"), np.random.default_rng(3)
    for number in range(times(100)):
        forgery = Forgery(small, tmp_path)
        changed = somewhere(json.loads(forgery.parts[CARD_JSON]), rng)
        folder = tmp_path / "library"
        folder.mkdir(exist_ok=True)
        forgery.parts = {CARD_JSON: json.dumps(changed).encode(), DATABASE: b""}
        forgery.write().replace(folder / "forged.aiida")
        tally.attempt(f"{number} listed", lambda folder=folder: list(entries(folder, {})))
        tally.attempt(f"{number} read", lambda folder=folder: card_of(folder / "forged.aiida"))
        tally.attempt(f"{number} shown", lambda folder=folder: _shown(folder / "forged.aiida"))
    tally.check()


def _shown(path):
    try:
        return text(card_of(path))
    except (KeyError, TypeError, AttributeError, IndexError) as exception:  # as the command takes them
        raise ValueError(f"damaged: {exception!r}") from exception
