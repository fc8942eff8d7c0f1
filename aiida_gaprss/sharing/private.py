"""What must not leave with an archive: paths, addresses, names of persons and computers, licensed files; what replaces it."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiida_gaprss.outside import MOST_BYTES, MOST_RATIO, RATIO_FROM

#: What stands in the place of a path, of an address, and of other words.
PATH, ADDRESS, WORD = "/not-shared", "not@shared.invalid", "not-shared"

#: Keys of job options and of process nodes that say who ran where, or carry lines of a shell; at any depth.
KEYS = frozenset(
    {
        *("account", "append_text", "custom_scheduler_commands", "detailed_job_info", "environment_variables"),
        *("environment_variables_double_quotes", "import_sys_environment", "job_id", "last_job_info", "mpirun_extra_params"),
        *("prepend_text", "qos", "queue_name", "remote_workdir", "scheduler_lastchecktime", "stash", "unstash", "checkpoints"),
    }
)

#: An absolute path of two parts or more, also behind an option, but for those that every machine has.
_PATH = re.compile(
    r"(?:(?<![\w/.~)\]}])|(?<=-[BILW]))/(?!(?:bin|dev|etc|lib|lib64|proc|sbin|sys|usr)/)(?=[\w.+~@-]*[A-Za-z])[\w.+~@-]+/[\w.+~@=:/-]*"
)
_ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")

#: What ends the head of a POTCAR, before its numbers; no output of VASP has it.
_POTCAR = b"END of PSCTR-controll parameters"

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"

#: Shortest word that is looked for: shorter ones are parts of others.
_SHORTEST = 4


class Licensed(ValueError):
    """A file that may not be passed on."""


class Unreadable(ValueError):
    """A file in which private words cannot be replaced."""


@dataclass(frozen=True)
class Private:
    """What a profile knows of persons and places, the longest first."""

    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: Iterable[str | None]) -> Private:
        """Return these words without those that are too short to be looked for."""
        kept = {word.strip() for word in words if word and len(word.strip()) >= _SHORTEST} - {"localhost", PATH, ADDRESS, WORD}
        return cls(tuple(sorted(kept, key=lambda word: (-len(word), word))))

    def found(self, text: str) -> list[str]:
        """Return what is private in a text."""
        words = [word for word in self.words if _whole(word).search(text)]
        others = [*_PATH.findall(text), *(a for a in _ADDRESS.findall(text) if a != ADDRESS)]
        return [*words, *dict.fromkeys(others)]

    def replaced(self, text: str) -> str:
        """Return a text with what is private replaced."""
        for word in self.words:
            if word in text:
                text = _whole(word).sub(PATH if word.startswith("/") else WORD, text)
        return _PATH.sub(PATH, _ADDRESS.sub(ADDRESS, text))

    def clean(self, value: Any) -> Any:
        """Return plain data with all texts in it replaced, and without the keys of :data:`KEYS`."""
        if isinstance(value, str):
            return self.replaced(value)
        if isinstance(value, dict):
            return {self.replaced(key): self.clean(item) for key, item in value.items() if key not in KEYS}
        return [self.clean(item) for item in value] if isinstance(value, list) else value

    def clean_file(self, content: bytes) -> bytes:
        """Return the content of a file with what is private replaced, also within gzip and zip.

        :raises Licensed: if it is, or has in it, a POTCAR.
        :raises Unreadable: if it is binary and has private words, or cannot be looked into.
        """
        if _POTCAR in content:
            raise Licensed("is a POTCAR")
        if content.startswith(_GZIP):
            return self._changed(content, unpacked(content), lambda new: gzip.compress(new, mtime=0))
        if content.startswith(_ZIP):
            return self._clean_zip(content)
        if b"\0" in content:
            if self._in_binary(content):
                raise Unreadable("is binary, and names a person or a place")
            return content
        text = content.decode("utf-8", errors="surrogateescape")
        return self.replaced(text).encode("utf-8", errors="surrogateescape") if "/" in text or self.found(text) else content

    def _in_binary(self, content: bytes) -> list[str]:
        """Return the words in what is no text, but for paths of one part, which may be there by chance."""
        return [word for word in self.words if word.encode() in content and not re.fullmatch("/[^/]*", word)]

    def _changed(self, packed: bytes, content: bytes, pack: Any) -> bytes:
        clean = self.clean_file(content)
        return packed if clean == content else bytes(pack(clean))

    def _clean_zip(self, content: bytes) -> bytes:
        members = unzipped(content)
        clean = {name: self.clean_file(member) for name, member in members.items()}
        if clean == members:
            return content
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, member in clean.items():
                archive.writestr(zipfile.ZipInfo(name), member, zipfile.ZIP_DEFLATED)
        return out.getvalue()

    def found_in_file(self, content: bytes) -> list[str]:
        """Return what is private, or licensed, in a file; of binary ones the words of :attr:`words`."""
        if _POTCAR in content:
            return ["a POTCAR"]
        if content.startswith(_GZIP):
            return self.found_in_file(unpacked(content))
        if content.startswith(_ZIP):
            return [found for member in unzipped(content).values() for found in self.found_in_file(member)]
        if b"\0" in content:
            return self._in_binary(content)
        return self.found(content.decode("utf-8", errors="surrogateescape"))


def _whole(word: str) -> re.Pattern[str]:
    """Return what finds a word that is no part of another one; a path also where it goes on."""
    after = r"(?:/[\w.+~@=:/-]*)?" if word.startswith("/") else ""
    return re.compile(rf"(?<![\w.]){re.escape(word)}{after}(?!\w)")


def unpacked(content: bytes) -> bytes:
    """Return what is in a gzip file.

    :raises Unreadable: if it is damaged, has several members, or is made to fill memory.
    """
    machine = zlib.decompressobj(wbits=31)
    try:
        out = machine.decompress(content, MOST_BYTES)
    except zlib.error as exception:
        raise Unreadable(f"is no gzip: {exception}") from exception
    if not machine.eof or machine.unused_data.strip(b"\0"):
        raise Unreadable("is gzip of several parts, cut, or too large")
    return out


def unzipped(content: bytes) -> dict[str, bytes]:
    """Return the files in a zip file.

    :raises Unreadable: if it is damaged, or grows more than a job's results would.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
            if total > MOST_BYTES or total > RATIO_FROM + MOST_RATIO * len(content):
                raise Unreadable("is a zip that grows too large")
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as exception:
        raise Unreadable(f"is no zip: {exception}") from exception
