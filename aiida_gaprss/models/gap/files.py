"""The files of a potential besides its xml: sparse points, and what an export adds. None of them is opened here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from aiida_gaprss.models.base import EXPORTED, PotentialError
from aiida_gaprss.models.gap.xmltext import check_numbers
from aiida_gaprss.outside import OutsideError, base_name

_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class SparseFile:
    """A file of sparse points as the xml announces it: numbers in it, md5 sum (none in old files)."""

    name: str
    numbers: int
    md5: str | None


def check_sparse(file: SparseFile, content: bytes, where: str) -> None:
    """Compare a file of sparse points with what the xml tells of it.

    :raises PotentialError: for another md5 sum, another number of numbers, or what is no number.
    """
    here = f"{where}: its sparse-point file {file.name}"
    refuse_stand_ins(content, here)
    if file.md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        if hashlib.md5(content.replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest() == file.md5:
            raise PotentialError(
                f"{here} has line ends of Windows, expected those that gap_fit wrote: something on its way changed them; "
                "copy it again as it is, or undo it with dos2unix"
            )
        raise PotentialError(f"{here} has another md5 sum than the xml says ({file.md5}): it is another file, or damaged")
    check_numbers(content, file.numbers, here)


def refuse_stand_ins(content: bytes, where: str) -> None:
    """Refuse what stands in the place of a file.

    :raises PotentialError: for the pointer that Git LFS leaves, naming it.
    """
    if content.startswith(_LFS):
        raise PotentialError(
            f"{where} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull` in the clone it comes from"
        )


def check_name(name: str, where: str) -> None:
    """Refuse names that lead out of the folder, and those of the files that an export adds.

    :raises PotentialError: naming them.
    """
    try:
        base_name(name, where)
    except OutsideError as exception:
        raise PotentialError(str(exception)) from exception
    if name.casefold() in EXPORTED:
        raise PotentialError(f"{where} is {name!r}, which an export writes itself; expected another name")
