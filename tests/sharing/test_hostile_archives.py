"""Archives that are damaged, not whole, or made by somebody who means harm: refused with the reason, nothing half imported."""

import hashlib
import json
import re
import stat
import sys
import uuid
import zipfile

import pytest
from forgery import DATASET, PROCESS, Forgery
from helpers import shell_in

from aiida_gaprss.sharing.archive import CARD, CARD_JSON, DATABASE, ArchiveError
from aiida_gaprss.sharing.verify import verify


@pytest.fixture
def forgery(archive, tmp_path):
    return Forgery(archive[0], tmp_path)


def refused(path):
    with pytest.raises(ArchiveError) as error:
        verify(path)
    return str(error.value)


def test_what_is_put_together_again_is_accepted(forgery):
    """As the refusals below would show nothing otherwise."""
    checked = verify(forgery.sign().write())
    assert len(checked.nodes) == checked.card["contents"]["nodes"]


# --- damaged ---


def test_a_bit_that_fell_over(archive, tmp_path):
    content = bytearray(archive[0].read_bytes())
    with zipfile.ZipFile(archive[0]) as whole:
        entry = max((e for e in whole.infolist() if e.filename.startswith("repo/")), key=lambda e: e.compress_size)
    content[entry.header_offset + 200] ^= 4
    (tmp_path / "bad.aiida").write_bytes(content)
    assert re.search(r"repo/[0-9a-f]{64} is damaged", refused(tmp_path / "bad.aiida"))


def test_a_file_that_is_cut(archive, tmp_path):
    (tmp_path / "bad.aiida").write_bytes(archive[0].read_bytes()[:-1000])
    assert "is no archive of AiiDA, or is cut" in refused(tmp_path / "bad.aiida")


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_no_archive_at_all(kind, tmp_path):
    path = tmp_path / "bad.aiida"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("nothing")
    expected = {"missing": "no such file", "folder": "is a folder, expected a file", "text": "is no archive of AiiDA"}
    assert expected[kind] in refused(path)


def test_another_content_of_a_file(forgery):
    key = next(name for name in forgery.parts if name.startswith("repo/"))
    forgery.parts[key] += b"\n"
    assert re.search(r"of \w+ [0-9a-f-]{36} was changed: its content does not have the SHA-256", refused(forgery.write()))


def test_another_database(forgery):
    assert "is not the one that the card is of" in refused(forgery.sql("UPDATE db_dbnode SET label = 'x'").write())


def test_another_card(forgery):
    forgery.parts[CARD] += b"licence: do what you like\n"
    assert "card.md is not the one of which ro-crate-metadata.json has the SHA-256" in refused(forgery.write())


def test_a_database_that_is_none(forgery):
    good = forgery.parts[DATABASE]
    forgery.sign()
    card = json.loads(forgery.parts[CARD_JSON])
    for bad in (b"SQLite format 3\0 nothing", good[:5000], good[: len(good) // 2]):
        card["contents"]["database"]["sha256"] = hashlib.sha256(bad).hexdigest()
        forgery.parts |= {DATABASE: bad, CARD_JSON: json.dumps(card).encode()}
        assert "its database is damaged" in refused(forgery.sign_cards().write())


# --- missing ---


@pytest.mark.parametrize("name", ["metadata.json", "db.sqlite3", "card.md", "card.json", "ro-crate-metadata.json"])
def test_a_part_is_missing(name, forgery):
    del forgery.parts[name]
    assert f"has no {name}" in refused(forgery.write())


def test_a_file_is_missing(forgery):
    (content,) = forgery.rows(f"SELECT repository_metadata FROM db_dbnode WHERE {DATASET} LIMIT 1")[0]
    del forgery.parts[f"repo/{json.loads(content)['o']['frames.extxyz']['k']}"]
    message = refused(forgery.sign().write())
    assert re.search(r"1 files are missing: frames.extxyz of Dataset [0-9a-f-]{36}", message), message


def test_a_node_is_missing(forgery):
    forgery.sql(f"DELETE FROM db_dbnode WHERE id = (SELECT id FROM db_dbnode WHERE {DATASET} LIMIT 1)")
    assert "refers to one which is not there" in refused(forgery.sign().write())


def test_links_are_missing(forgery):
    forgery.sql("DELETE FROM db_dblink")
    forgery.sign()
    card = json.loads(forgery.parts[CARD_JSON])
    card["contents"]["links"] = 209
    forgery.parts[CARD_JSON] = json.dumps(card).encode()
    assert "has 0 links, and its card says 209" in refused(forgery.sign_cards().write())


def test_the_card_is_of_another(forgery):
    card = json.loads(forgery.parts[CARD_JSON])
    card["what"][0]["uuid"] = str(uuid.uuid4())
    assert "its card is of node" in refused(forgery.card(**card).write())


# --- hostile: the zip file ---


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "repo/../../evil", "repo/evil.sh", "repo", "C:\\evil", "\x1b[31m"])
def test_names_that_lead_elsewhere(name, forgery):
    forgery.parts[name] = b"evil"
    message = refused(forgery.write())
    assert "has a part" in message
    assert "\x1b" not in message


def test_a_part_that_is_there_twice(forgery):
    forgery.extra.append((DATABASE, b"another"))
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = forgery.write()
    assert "has the part 'db.sqlite3' twice" in refused(path)


def test_a_link_instead_of_a_file(forgery):
    entry = zipfile.ZipInfo(f"repo/{'0' * 64}")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    forgery.extra.append((entry, b"/etc/passwd"))
    assert "is a link or a folder" in refused(forgery.write())


def test_a_file_that_would_fill_the_disk(forgery):
    content = bytes(2**25)
    forgery.parts[f"repo/{hashlib.sha256(content).hexdigest()}"] = content
    assert "it is made to fill the disk" in refused(forgery.write())


def test_a_size_that_is_a_lie(forgery):
    """What the table of contents says of a part is less than what comes."""
    path = forgery.write()
    with zipfile.ZipFile(path) as whole:
        told = whole.getinfo(DATABASE).file_size
    path.write_bytes(path.read_bytes().replace(told.to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert "damaged" in refused(path)


def test_a_file_of_nobody(forgery):
    content = b"#!/bin/sh\n"
    forgery.parts[f"repo/{hashlib.sha256(content).hexdigest()}"] = content
    assert "files are of no node" in refused(forgery.sign().write())


def test_another_version(forgery):
    forgery.parts["metadata.json"] = json.dumps({"export_version": "0.1", "key_format": "sha256"}).encode()
    assert "has AiiDA's archive format 0.1, expected main_" in refused(forgery.write())


def test_another_version_of_this_package(forgery):
    assert "has the format 'aiida-gaprss archive 9', expected" in refused(forgery.card(format="aiida-gaprss archive 9").write())


# --- hostile: the card ---


@pytest.mark.parametrize(
    "new",
    [
        {"what": 3},
        {"contents": []},
        {"potentials": [{}]},
        {"data": [None]},
        {"elements": None},
        {"scorecards": {"x": {"potentials": []}}},
    ],
)
def test_a_card_that_is_none(new, forgery):
    assert "its card is damaged" in refused(forgery.card(**new).write())


def test_a_card_without_an_end(forgery):
    forgery.parts[CARD_JSON] = b'{"format": ' + b"[" * 100_000
    assert "card.json is no JSON" in refused(forgery.write())


def test_nothing_acts_in_a_card(forgery, call):
    path = forgery.card(name="\x1b[31m<script>", licence="\u202e").write()
    for words in (("open", "--card", path), ("library", path.parent)):
        assert not set(call(*words)) & {"\x1b", "\u202e"}


# --- hostile: the database ---

UUID = "11111111-2222-4333-8444-555555555555"
COMPUTER = "UPDATE db_dbcomputer SET "
FILES = f"UPDATE db_dbnode SET repository_metadata = '{{}}' WHERE {DATASET}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("CREATE VIEW evil AS SELECT 1", "has a view 'evil'"),
        ("CREATE TABLE evil (a)", "has a table 'evil'"),
        ("CREATE TRIGGER evil AFTER INSERT ON db_dbnode BEGIN SELECT 1; END", "has a trigger 'evil'"),
        ("ALTER TABLE db_dbnode ADD COLUMN evil AS (1 + 1)", "has a table db_dbnode of"),
        ("UPDATE db_dbuser SET email = 'eve@example.org'", "is of users"),
        (COMPUTER + "hostname = 'cluster.example.org'", "on host cluster.example.org"),
        (COMPUTER + 'metadata = \'{"prepend_text": "rm -r ~"}\'', "expected a nameless one without settings"),
        (COMPUTER + "label = 'localhost'", "has a computer localhost"),
        (COMPUTER + "transport_type = '../evil'", "expected names of entry points"),
        ("INSERT INTO db_dbauthinfo SELECT 1, 1, id, '{}', '{}', 1 FROM db_dbcomputer", "db_dbauthinfo"),
        (f"UPDATE db_dbnode SET node_type = 'data.core.jsonable.JsonableData.' WHERE {DATASET}", "type 'data.core.jsonable"),
        (f"UPDATE db_dbnode SET node_type = 'data.evil.thing.Thing.' WHERE {DATASET}", "type 'data.evil.thing.Thing.'"),
        (f"UPDATE db_dbnode SET node_type = x'ff00' WHERE {DATASET}", "of type \"b'"),
        (f"UPDATE db_dbnode SET process_type = 'os.system' WHERE {PROCESS}", "made by 'os.system'"),
        (f"UPDATE db_dbnode SET attributes = '{{}}' WHERE {PROCESS}", "a process that has not ended"),
        (f"UPDATE db_dbnode SET attributes = '[1]' WHERE {DATASET}", "has a list at node"),
        (f"UPDATE db_dbnode SET attributes = '{{\"a\": NaN}}' WHERE {DATASET}", "NaN is no number"),
        (f"UPDATE db_dbnode SET attributes = '{'[' * 100_000}' WHERE {DATASET}", "has no JSON at node"),
        (f'UPDATE db_dbnode SET extras = \'{{"_aiida_hash": "0"}}\' WHERE {DATASET}', "with the extra _aiida_hash"),
        (f'UPDATE db_dbnode SET repository_metadata = \'{{"o": {{"../x": {{"k": "{"0" * 64}"}}}}}}\' WHERE {DATASET}', "'../x'"),
        (f'UPDATE db_dbnode SET repository_metadata = \'{{"o": {{"x": {{"k": "../x"}}}}}}\' WHERE {DATASET}', "of key ../x"),
        (f"UPDATE db_dbnode SET repository_metadata = '{{\"o\": 3}}' WHERE {DATASET}", "damaged list of files"),
        ("UPDATE db_dbnode SET uuid = 'evil' WHERE id = (SELECT min(id) FROM db_dbnode)", "with the uuid 'evil'"),
        ("UPDATE db_dblink SET type = 'evil' WHERE id = (SELECT min(id) FROM db_dblink)", "of type 'evil'"),
        ("UPDATE db_dblink SET label = 'a b' WHERE id = (SELECT min(id) FROM db_dblink)", "with the label 'a b'"),
        ("UPDATE db_dblink SET type = 'create' WHERE type = 'input_calc'", "between nodes that have none such"),
    ],
)
def test_databases_that_aiida_does_not_write(command, message, forgery):
    found = refused(forgery.sql(command).sign().write())
    assert message in found, found


@pytest.mark.parametrize(
    ("where", "new", "message"),
    [
        ("node_type LIKE 'data.core.remote.%'", {"remote_path": "/home/you"}, "a folder elsewhere: /home/you"),
        ("node_type LIKE 'data.core.code.%'", {"filepath_executable": "/tmp/evil"}, "a code at /tmp/evil"),
        ("node_type LIKE 'data.core.code.%'", {"prepend_text": "rm -r ~"}, "with prepend_text"),
        (PROCESS, {"checkpoints": "!!python/object/apply:os.system ['true']"}, "with checkpoints"),
        (
            PROCESS,
            {"metadata_inputs": {"metadata": {"options": {"custom_scheduler_commands": "x"}}}},
            "custom_scheduler_commands",
        ),
        (DATASET, {"frames": 10_000}, "is not what it says: frames is said to be 10000"),
        (DATASET, {"level": {"code": 3}}, "is not what it says"),
        (DATASET, {"units_version": 0}, "units_version is 0, expected 1"),
        ("node_type LIKE 'data.gaprss.potential%'", {"content_hash": "0"}, "do not have the content hash"),
        ("node_type LIKE 'data.gaprss.potential%'", {"cutoff": 9.0}, "its cutoff is said to be 9.0"),
        ("node_type LIKE 'data.gaprss.potential%'", {"family": "evil"}, "is not what it says"),
    ],
)
def test_nodes_that_are_not_what_they_say(where, new, message, forgery):
    found = refused(forgery.attributes(where, **new).sign().write())
    assert message in found, found


LABELLED = f"{DATASET} AND attributes NOT LIKE '%\"energies\": 0%'"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"REF_energy=", b"REF_energy=nan other="),
        (b"Si ", b"Xx "),
        (b'pbc="T T T"', b'pbc="F F F"'),
        (b"frame_id=", b"frame_name="),
    ],
)
def test_frames_that_are_none(old, new, forgery):
    forged = forgery.file(LABELLED, "frames.extxyz", lambda content: content.replace(old, new))
    assert re.search(r"dataset [0-9a-f-]{36} is not what it says", refused(forged.sign().write()))


@pytest.mark.parametrize("name", ["gap.xml", r"gap\.xml\.sparseX.*"])
def test_potentials_that_were_changed(name, forgery):
    forged = forgery.file("node_type LIKE 'data.gaprss.potential%'", name, lambda content: content.replace(b"1", b"2"))
    assert re.search(r"potential [0-9a-f-]{36} is not what it says", refused(forged.sign().write()))


def test_links_in_a_circle(forgery):
    query = "SELECT input_id, output_id FROM db_dblink WHERE type = 'create'"
    calculation, data = forgery.rows(query)[0]
    forgery.sql(
        f"INSERT INTO db_dblink (input_id, output_id, type, label) VALUES ({data}, {calculation}, 'input_calc', 'itself')"
    )
    assert "links that lead in a circle" in refused(forgery.sign().write())


# --- what a profile has already ---


def test_another_content_of_a_node_that_is_there(forgery, call):
    path = forgery.attributes("node_type LIKE 'data.core.int%' AND attributes LIKE '%11%'", value=12).sign().write()
    verify(path)
    assert "which the profile has with other content" in call("open", path, ok=False)


def test_an_output_for_a_process_that_is_there(forgery, call):
    """A process of the profile must not get another output: what it has made is known."""
    columns = "node_type, process_type, label, description, ctime, mtime, attributes, extras"
    columns += ", repository_metadata, dbcomputer_id, user_id"
    forgery.sql(
        f"INSERT INTO db_dbnode (uuid, {columns}) SELECT '{UUID}', {columns} FROM db_dbnode WHERE {LABELLED} LIMIT 1",
        "INSERT INTO db_dblink (input_id, output_id, type, label) SELECT min(n.id), "
        f"(SELECT id FROM db_dbnode WHERE uuid = '{UUID}'), 'create', 'evil' FROM db_dbnode n "
        "WHERE n.node_type LIKE 'process.calculation.%'",
    )
    path = forgery.sign().write()
    verify(path)
    assert "adds a link evil from" in call("open", path, ok=False)


COUNT = """
from aiida import load_profile
from aiida.orm import Computer, Group, Node, QueryBuilder, User
from aiida.manage import get_manager
load_profile()
print([QueryBuilder().append(kind).count() for kind in (Node, User, Computer, Group)])
"""

FAIL = """
import sys
from pathlib import Path
from aiida import load_profile
from aiida.tools.archive import imports
from aiida_gaprss.sharing.opening import checked, open_archive
load_profile()
def fail(*arguments):
    raise imports.ImportValidationError("the disk is full")
setattr(imports, sys.argv[2], fail)
try:
    open_archive(*checked(Path(sys.argv[1])))
except ValueError as error:
    print("refused:", error)
"""


def test_nothing_is_half_imported(archive, forgery, tmp_path):
    path, _ = archive
    hostile = forgery.attributes(DATASET, frames=3).sign().write()
    shell = shell_in(tmp_path)
    assert "is not what it says" in shell("aiida-gaprss", "open", hostile, check=False)
    assert "no AiiDA profile" in shell("aiida-gaprss", "status", check=False), "a profile was made for what was refused"
    shell("verdi", "presto", "--use-zeromq")
    before = shell(sys.executable, "-c", COUNT)
    assert before.strip().startswith("[0, 1,")
    for step in ("_import_links", "_add_files_to_repo"):
        said = shell(sys.executable, "-c", FAIL, path, step)
        assert "could not be imported, and nothing of it was: the disk is full" in said
        assert shell(sys.executable, "-c", COUNT) == before
