"""The Potential node: a fitted model of any family, with its files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiida.orm import Data
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers

from aiida_gaprss.data.attributes import attribute
from aiida_gaprss.data.folder import content_hash, read_potential, write_whole
from aiida_gaprss.models.base import LAMMPS, Family, PotentialError, Source
from aiida_gaprss.models.families import DEFAULT, family_of
from aiida_gaprss.outside import shown, size
from aiida_gaprss.settings.plugins import KindError

#: Attributes that the node has of its own, besides what its files tell.
_OWN = ("family", "main", "xml", "files", "sigma", "content_hash", "elements", "embedded")

#: Stored potentials whose files this process has found to be theirs.
_checked: set[str] = set()


class Potential(Data):
    """The files of a fitted model under the names that they have for each other, and what they tell.

    Attributes: ``family``, ``main`` (name of the file that is read first), ``elements``, ``cutoff`` (Å, the largest), ``e0`` (eV
    per element), ``sigma`` (what the fit was told of expected errors), ``content_hash``, and what else files of the family tell.
    Of a GAP these are ``descriptors`` (one line each), ``n_sparse``, ``gap_version``; ``terms`` of a sum of several potentials,
    of which the other attributes are those of the sum; of what the xml tells of the fit, ``command_line`` (gap_fit's input)
    and ``embedded`` (frames, atoms and elements of a training set inside the xml).
    """

    class AttributesModel(Data.AttributesModel):
        """The attributes, as ``Potential.fields`` has them; other families than GAP have some of their own besides.

        The attribute ``label`` of a GAP is none of them: it would hide the label of the node.
        """

        family: str | None = attribute("family", "Kind of model; none: gap")
        main: str | None = attribute("main", "Name of the file that is read first")
        xml: str | None = attribute("xml", "The same, of nodes of version 0.1")
        files: list[str] | None = attribute("files", "Names of all files, the main one first")
        elements: list[str] | None = attribute("elements", "Chemical symbols that it knows, sorted")
        cutoff: float | None = attribute("cutoff", "The largest cutoff, Å")
        e0: dict[str, float] | None = attribute("e0", "Energies of isolated atoms by element, eV")
        sigma: dict[str, Any] | None = attribute("sigma", "What the fit was told of expected errors")
        content_hash: str | None = attribute("content_hash", "Hash of names and contents of the files")
        descriptors: list[str] | None = attribute("descriptors", "Of a GAP: its descriptors, one line each")
        n_sparse: list[int] | None = attribute("n_sparse", "Of a GAP: sparse points of each descriptor")
        gap_version: int | None = attribute("gap_version", "Of a GAP: time of the version of GAP, s since 1970")
        command_line: str | None = attribute("command_line", "Of a GAP: input of gap_fit")
        init_args: str | None = attribute("init_args", "Of a GAP: by which QUIP finds it in its file")
        terms: list[str] | None = attribute("terms", "Of a sum of GAPs: its parts")
        embedded: dict[str, Any] | None = attribute("embedded", "Of a GAP: frames, atoms, elements of a training set inside")
        card_of_origin: dict[str, Any] | None = attribute("card_of_origin", "Of an imported one: the card that lay beside it")

    def __init__(
        self,
        folder: str | Path | None = None,
        main: str | None = None,
        sigma: dict[str, Any] | None = None,
        elements: Sequence[str] | None = None,
        family: str = DEFAULT,
        **kwargs: Any,
    ):
        """Read the potential ``folder/main`` with the files beside it that belong to it.

        :param main: default: the name that the family gives it.
        :param elements: needed for files that do not tell them: no descriptor names its species, no training set inside.
        :raises PotentialError: if a file is missing or is no potential, or its elements are not known or not those given.
        """
        super().__init__(**kwargs)
        if folder is None:
            raise PotentialError("a potential needs the folder with its files")
        kind = _family(family)
        main = main or kind.MAIN
        facts, files = read_potential(Path(folder), main, kind)
        _settle_elements(facts, elements)
        for name, content in files.items():
            self.base.repository.put_object_from_bytes(content, name)
        own = {"family": family, "main": main, "files": list(files), "sigma": sigma or {}, "content_hash": content_hash(files)}
        for key, value in {**facts, **own}.items():
            self.base.attributes.set(key, value)

    @property
    def family(self) -> Family:
        """The family of the model; older nodes name none.

        :raises PotentialError: if it is not installed.
        """
        return _family(self.base.attributes.get("family", DEFAULT))

    @property
    def facts(self) -> dict[str, Any]:
        """What the files tell, as the node has it."""
        return dict(self.base.attributes.all)

    def checked_files(self) -> dict[str, bytes]:
        """Return the files by name, the main one first, after everything that reading them from a folder checks.

        Whatever leaves the node goes by here: an imported archive never passed the constructor, and may hold anything.

        :raises PotentialError: naming the node, if its files are not as they were when it was made, or must not be used.
        """
        where = f"potential <{self.pk}>" if self.is_stored else "potential (not stored)"
        facts, files = self.family.open(_Stored(self, where), self._main(where), where)
        if list(files) != self.base.attributes.get("files", None):
            told = self.base.attributes.get("files", None)
            names = f"{', '.join(files)}, as the {_kind_of_file(files)} has them"
            raise PotentialError(f"{where}: its files are said to be {shown(told)}, expected {names}")
        if content_hash(files) != self.base.attributes.get("content_hash", None):
            raise PotentialError(f"{where}: its files do not have the content hash that the node tells: they were changed")
        self._settle(facts, where)
        for key in (key for key in {**facts, "terms": None} if key not in _OWN):
            told = self.base.attributes.get(key, facts.get(key))
            if _comparable(told) != _comparable(facts.get(key)):
                raise PotentialError(f"{where}: its {key} is said to be {shown(told)}, and its files say {shown(facts.get(key))}")
        return files

    def _settle(self, facts: dict[str, Any], where: str) -> None:
        elements = self.base.attributes.get("elements", None)
        if not elements or not isinstance(elements, list) or not set(map(str, elements)) <= atomic_numbers.keys():
            raise PotentialError(f"{where}: its elements are said to be {shown(elements)}, expected symbols")
        try:
            _settle_elements(facts, elements)
        except PotentialError as exception:
            raise PotentialError(f"{where}: {exception}") from exception

    def check(self) -> None:
        """Check the files of the node as :meth:`checked_files` does; those of a stored one once in a process.

        :raises PotentialError: as there.
        """
        if self.uuid not in _checked:
            self.checked_files()
            if self.is_stored:
                _checked.add(self.uuid)

    def _main(self, where: str) -> str:
        main = self.base.attributes.get("main", None) or self.base.attributes.get("xml", None)  # of older nodes
        if not isinstance(main, str):
            raise PotentialError(f"{where}: does not tell the name of its main file")
        return main

    @property
    def elements(self) -> list[str]:
        """Chemical symbols the potential knows."""
        return list(self.base.attributes.get("elements"))

    @property
    def main(self) -> str:
        """Name of the file that is read first; the others lie beside it."""
        return self._main(f"potential <{self.pk}>")

    @property
    def files(self) -> list[str]:
        """Names of all files, the main one first."""
        return list(self.base.attributes.get("files"))

    @property
    def needs(self) -> str:
        """What is needed to use it."""
        return self.family.needs(self.facts)

    def to_folder(
        self,
        folder: str | Path,
        types: Sequence[str] | None = None,
        force: bool = False,
        beside: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Write the files, and ``lammps.txt`` (the lines of :meth:`lammps`) if there are such lines, to ``folder``, all or none.

        :param force: replace the potential that is in the folder.
        :param beside: more files, by name.
        :return: path of the main file.
        :raises PotentialError: as :meth:`checked_files`; if there is a potential in the folder already, or it cannot be written.
        """
        lines = self.lammps(types)
        files = {**self.checked_files(), **({LAMMPS: lines.encode()} if lines else {}), **(beside or {})}
        write_whole(files, Path(folder), force)
        return Path(folder) / self.main

    def export(self, path: str | Path, fileformat: str | None = None, overwrite: bool = False, **options: Any) -> list[str]:
        """Write the files to a folder as :meth:`to_folder` does, and return their paths, as nodes of AiiDA do.

        :param path: of the folder.
        :param fileformat: ``folder``, the only one.
        :param overwrite: replace the potential that is in the folder.
        :raises PotentialError: as :meth:`to_folder`; for another format.
        """
        if fileformat not in (None, "folder"):
            raise PotentialError(f"no format {shown(fileformat)!r} of a potential; there is folder")
        self.to_folder(path, force=overwrite, **options)
        return [str(Path(path, name)) for name in (*self.files, LAMMPS) if Path(path, name).is_file()]

    def _prepare_folder(self, main_file_name: str = "", **_: Any) -> tuple[bytes, dict[str, bytes]]:
        """Return the content of the main file, and of all others by their names beside it."""
        content = self.checked_files()
        folder = Path(main_file_name).parent
        return content.pop(self.main), {str(folder / name): other for name, other in content.items()}

    def lammps(self, types: Sequence[str] | None = None) -> str | None:
        """Return the lines that use the potential in LAMMPS, or None if none are known.

        :param types: elements of LAMMPS' atom types 1, 2, …; default: the potential's, by name.
        :raises PotentialError: if the potential does not know one of them, or as :meth:`check`.
        """
        self.check()
        types = list(types or self.elements)
        unknown = sorted(set(types) - set(self.elements))
        if unknown:
            raise PotentialError(f"the potential knows {', '.join(self.elements)}, not {', '.join(unknown)}")
        return self.family.lammps(self.facts, self.main, types)

    def calculator(self, args: str = "") -> Calculator:
        """Return an ASE calculator in this process.

        :param args: initialisation string for QUIP, instead of the potential's own.
        :raises PotentialError: if it cannot be had here; see the ``load`` of the family.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self.family.load(self.facts, self.to_folder(folder), args)


def _family(name: Any) -> Family:
    try:
        return family_of(str(name))
    except KindError as exception:
        raise PotentialError(f"the {exception}") from exception


def _kind_of_file(files: Mapping[str, bytes]) -> str:
    """Return what a person calls the main file: its suffix."""
    return Path(next(iter(files))).suffix.removeprefix(".") or "main file"


class _Stored(Source):
    """The files in the repository of a node."""

    def __init__(self, node: Potential, where: str) -> None:
        self.repository, self.where = node.base.repository, where
        self.names = set(self.repository.list_object_names())

    def has(self, name: str) -> bool:
        return name in self.names

    def content(self, name: str, most: int) -> bytes:
        if name not in self.names:
            raise PotentialError(f"{self.where}: has no file {name}")
        try:
            with self.repository.open(name, "rb") as handle:
                content = bytes(handle.read(most + 1))
        except OSError as exception:
            raise PotentialError(f"{self.where}: its file {name} cannot be read: {exception}") from exception
        if len(content) > most:
            raise PotentialError(f"{self.where}: its file {name} is larger than it can be ({size(most)})")
        return content


def _comparable(value: Any) -> Any:
    """Return a value as older versions of this package have stored it, too: words without the blanks between them."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, float):  # a database keeps 14 digits of it
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value


def _settle_elements(attributes: dict[str, Any], given: Sequence[str] | None) -> None:
    """Set the elements and cut the list of e0 down to them.

    :raises PotentialError: if they are neither told by the file nor given, or both and different.
    """
    told = attributes["elements"]
    wanted = sorted(set(given or told))
    if not wanted:
        raise PotentialError(
            "the file does not tell its elements (no descriptor names its species, no training set is inside): say them, "
            "elements=['Mo'], on the command line --elements Mo"
        )
    wrong = [s for s in wanted if s not in attributes["e0"]]
    if wrong or (told and wanted != told):
        raise PotentialError(f"the file is a potential of {', '.join(told) or 'other elements'}, not of {', '.join(wanted)}")
    attributes["elements"] = wanted
    attributes["e0"] = {s: attributes["e0"][s] for s in wanted}
