"""What comes from outside: files, names and texts."""

import gzip
import os

import numpy as np
import pytest
from fuzzing import Tally, cost, damaged

from aiida_gaprss.outside import OutsideError, base_name, read_bytes, read_text, shown


def test_files_are_read_plain_and_compressed(tmp_path):
    (tmp_path / "plain").write_bytes(b"abc")
    (tmp_path / "packed").write_bytes(gzip.compress(b"a" * 5_000_000) + gzip.compress(b"bc") + b"\0" * 512)
    assert read_bytes(tmp_path / "plain") == b"abc"
    assert read_bytes(tmp_path / "packed") == b"a" * 5_000_000 + b"bc"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/zero", "is a device"),
        ("/dev/null", "is a device"),
        ("/", "is a folder"),
        ("/no/such", "no such file"),
        ("a\0b", "not readable"),
    ],
)
def test_what_is_no_file_is_refused(path, reason):
    with pytest.raises(OutsideError, match=reason):
        read_bytes(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        said, _ = cost(lambda name=name: read_bytes(tmp_path / name))
        assert "is a named pipe, expected a file" in said


def test_a_file_that_grows_without_bound_is_refused_in_little_memory(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**29)))
    said, megabytes = cost(lambda: read_bytes(tmp_path / "bomb.gz"))
    assert "times when decompressed, expected at most 200 times" in said
    assert megabytes < 200
    with (tmp_path / "large").open("wb") as handle:
        handle.truncate(2**40)
    said, megabytes = cost(lambda: read_bytes(tmp_path / "large"))
    assert "has 1.1e+03 GB, expected at most 1.07 GB" in said
    assert megabytes < 10


def test_damaged_gzip_is_refused_or_whole(tmp_path, times):
    content = np.random.default_rng(0).bytes(3000)
    packed = gzip.compress(content)
    tally, rng = Tally("gzip files"), np.random.default_rng(1)
    for number in range(times(300)):
        name, data = damaged(packed, rng)
        (tmp_path / "file").write_bytes(data)
        result = tally.attempt(f"{number} {name}", lambda: read_bytes(tmp_path / "file"))
        if result is not None and data[:2] == packed[:2] and content not in result:
            tally.fault("changed", f"{number} {name}", "other content")
    tally.check()


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "latin").write_bytes("eins\nzwei ä".encode("latin-1"))
    with pytest.raises(OutsideError, match="line 2 has the byte 0xe4, which is no UTF-8"):
        read_text(tmp_path / "latin")


@pytest.mark.parametrize("name", ["gap.xml", "gap.xml.sparseX.GAP_2026_11_29_0_4_40_22_8801", "Si-C+H.xml"])
def test_plain_names_are_kept(name):
    assert base_name(name, "it") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "/a", "a\\b", ".bashrc", "-rf", "a b", "a\n", "a;b", "$HOME", "a\0", "ä", "x" * 201, "a'b"],
)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(OutsideError, match="expected a plain file name"):
        base_name(name, "sparseX_filename")


def test_nothing_that_is_shown_acts():
    assert shown("a\x1b[31mb\nc\u202ed\x00é") == "a\\x1b[31mb\\nc\\u202ed\\x00é"
    assert shown("x" * 300) == "x" * 200 + "…"
