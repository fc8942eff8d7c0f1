"""What comes from outside is not believed: files that are none or too large, names that lead elsewhere, characters that act.

Everything that a user or a stranger hands us is opened by :func:`read_bytes` or :func:`read_text`, every name that becomes a file
goes through :func:`base_name`, and every text that a person gets to see through :func:`shown` or :func:`harmless`.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import unicodedata
import zlib
from pathlib import Path

#: Largest content of a file that is read whole, bytes; after decompression.
MOST_BYTES = 2**30

#: A gzip file that grows by more than this factor, once it has given so many bytes, was made to fill memory. Outputs of DFT codes
#: shrink to a twentieth, a table of zeros to a hundredth.
MOST_RATIO, RATIO_FROM = 200, 2**24

_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
_BASE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_LONGEST_NAME = 200

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class OutsideError(ValueError):
    """Something from outside that must not be used: where it is, and what is wrong there."""

    def __init__(self, where: str | Path, message: str, between: str = ": ") -> None:
        """Keep both, for those who name the place in their own way."""
        self.where, self.message = str(where), message
        super().__init__(f"{shown(where)}{between}{message}")


def words_of(error: BaseException) -> str:
    """Return what an exception says, or its name if it says nothing."""
    return str(error).strip() or type(error).__name__


def lack_of_file(path: str | Path) -> str | None:
    """Return why there is no regular file at a path, or None if there is one."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return f"no such file: {shown(path)}"
    except (OSError, ValueError) as exception:
        return f"{shown(path)}: not readable: {getattr(exception, 'strerror', None) or exception}"
    if not stat.S_ISREG(mode):
        return f"{shown(path)}: is {next((name for test, name in _KINDS if test(mode)), 'no regular file')}, expected a file"
    return None


def read_bytes(path: str | Path, most: int = MOST_BYTES, as_it_is: bool = False) -> bytes:
    """Return the content of a regular file, decompressed if it is gzip.

    :param most: largest content, bytes.
    :param as_it_is: refuse gzip: another program reads the same file, and does not decompress it.
    :raises OutsideError: if there is no such file, it is a pipe, device or folder, cannot be read, is too large, is cut within
        its compressed data, or was compressed so much that it can only be meant to fill memory.
    """
    path = Path(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
    except FileNotFoundError as exception:
        raise OutsideError(path, "no such file") from exception
    except (OSError, ValueError) as exception:
        raise OutsideError(path, f"not readable: {getattr(exception, 'strerror', None) or exception}") from exception
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        raise OutsideError(path, f"is {kind}, expected a file")
    with os.fdopen(handle, "rb") as stream:
        head = stream.read(2)
        stream.seek(0)
        if head == _GZIP and as_it_is:
            raise OutsideError(path, "is compressed (gzip), expected it as it is; decompress it")
        if head == _GZIP:
            return _decompressed(path, stream, most)
        if status.st_size > most:
            raise OutsideError(path, f"has {size(status.st_size)}, expected at most {size(most)}")
        return stream.read()


def read_text(path: str | Path, most: int = MOST_BYTES, errors: str = "strict") -> str:
    """Return the text of a file as :func:`read_bytes` reads it.

    :param errors: what to do with bytes that are no UTF-8, as in :meth:`bytes.decode`.
    :raises OutsideError: as :func:`read_bytes`, and for bytes that are no UTF-8, with their place.
    """
    content = read_bytes(path, most)
    try:
        return content.decode("utf-8", errors=errors)
    except UnicodeDecodeError as exception:
        line = content[: exception.start].count(b"\n") + 1
        byte = content[exception.start]
        raise OutsideError(path, f"line {line} has the byte 0x{byte:02x}, which is no UTF-8; save it as UTF-8") from exception


def refuse_existing(path: str | Path, force: bool = False) -> None:
    """Refuse to write where something is already.

    :param force: a file that is there may be replaced; a folder, pipe or device may not.
    :raises OutsideError: naming it.
    """
    if not os.path.exists(path):
        return
    if lack := lack_of_file(path):
        raise OutsideError(path, f"cannot be written over: {lack}")
    if not force:
        raise OutsideError(path, "is there already; --force writes over it", between=" ")


def write_file(path: str | Path, content: bytes, force: bool = False) -> None:
    """Write a file, the whole of it or nothing; where a link leads, not over the link.

    :param force: replace a file that is there.
    :raises OutsideError: as :func:`refuse_existing`, and if it cannot be written.
    """
    refuse_existing(path, force)
    target = Path(os.path.realpath(path))
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as folder:
            new = Path(folder, target.name)
            new.write_bytes(content)
            os.replace(new, target)
    except OSError as exception:
        raise OutsideError(path, f"cannot be written: {exception.strerror or exception}") from exception


def base_name(name: str, where: str) -> str:
    """Return the name of a file if it is a plain one, which lies in the folder that it is looked for in and nowhere else.

    :param where: how to name the place of the name in the message.
    :raises OutsideError: for names with folders, blanks, characters of a shell or of another alphabet, empty or endless ones.
    """
    if not _BASE_NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise OutsideError(
            where,
            f"is {shown(name)!r}, expected a plain file name without folders "
            f"(letters, digits, _ . + -; not beginning with . + or -; at most {_LONGEST_NAME} characters)",
            between=" ",
        )
    return name


def shown(text: object, most: int = 200) -> str:
    """Return a text from outside as one line that a terminal, a log or a page can show: control characters written out.

    :param most: characters after which it is cut.
    """
    line = str(text)
    cut = len(line) > most
    plain = "".join(_written_out(c) if unicodedata.category(c) in _ACTING else c for c in line[:most])
    return f"{plain}…" if cut else plain


def harmless(text: str) -> str:
    """Return a text of several lines with its control characters written out, however long it is."""
    if text.isascii() and text.isprintable():
        return text
    return "\n".join(shown(line, most=len(line)) for line in text.split("\n"))


#: Unicode categories of characters that act: control, format (direction of writing), surrogates, line and paragraph separators.
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def size(n_bytes: float) -> str:
    """Return a number of bytes for a reader, such as ``3.2 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"


def _decompressed(path: Path, stream: object, most: int) -> bytes:
    """Return the content of a gzip stream (which may have several members), watching how it grows."""
    out, taken, parts = 0, 0, []
    machine = zlib.decompressobj(wbits=31)
    rest = b""
    while True:
        piece = rest or stream.read(_CHUNK)  # type: ignore[attr-defined]
        if not piece:
            break
        taken += 0 if rest else len(piece)
        if machine.eof:
            if not piece.strip(b"\0"):
                rest = b""
                continue  # padding after the last member
            machine = zlib.decompressobj(wbits=31)
        try:
            part = machine.decompress(piece, _CHUNK)
        except zlib.error as exception:
            raise OutsideError(path, f"not readable as gzip: {exception}") from exception
        rest = machine.unused_data if machine.eof else machine.unconsumed_tail
        out += len(part)
        parts.append(part)
        if out > most:
            raise OutsideError(path, f"has more than {size(most)} when decompressed, expected at most that")
        if out > RATIO_FROM and out > MOST_RATIO * taken:
            raise OutsideError(
                path,
                f"grows {out / taken:.0f} times when decompressed, expected at most {MOST_RATIO} times; "
                "decompress it yourself if it is meant to",
            )
    if not machine.eof:
        raise OutsideError(path, "is cut: its compressed data have no end")
    return b"".join(parts)
