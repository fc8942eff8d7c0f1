"""The Potential node: a GAP as gap_fit wrote it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from aiida.orm import Data
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers

from aiida_gaprss.data.folder import Source, content_hash, read_files, read_gap, write_whole
from aiida_gaprss.models.gap.files import LAMMPS
from aiida_gaprss.models.gap.xmltext import PotentialError
from aiida_gaprss.outside import shown, size

#: Basis of the soap_turbo descriptors that this process has loaded, see ``Potential.calculator``.
_soap_turbo_basis: set[str] = set()

#: First quippy-ase that brings this version of GAP. A potential is read by its own version and all later ones.
QUIPPY_RELEASES = {1686220958: "0.9.14", 1769700636: "0.10.3"}

#: Attributes that tell what the files tell.
_TOLD = ("label", "init_args", "gap_version", "descriptors", "n_sparse", "cutoff", "terms", "command_line")

#: Stored potentials whose files this process has found to be theirs.
_checked: set[str] = set()


class Potential(Data):
    """The xml file of a GAP and its sparse-point files under the names the xml refers to.

    Attributes: ``elements``, ``cutoff`` (Å, the largest), ``descriptors`` (one line each), ``e0`` (eV per element), ``n_sparse``,
    ``gap_version``, ``sigma`` (what the fit was told of expected errors), ``content_hash``; ``terms`` of a sum of several
    potentials, of which the other attributes are those of the sum; of what the xml itself tells of the fit, ``command_line``
    (gap_fit's input) and ``embedded`` (frames, atoms and elements of a training set inside the xml).
    """

    XML = "gap.xml"

    def __init__(
        self,
        folder: str | Path | None = None,
        xml: str = XML,
        sigma: dict[str, Any] | None = None,
        elements: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        """Read the potential ``folder/xml`` with the sparse files beside it.

        :param elements: needed for files that do not tell them: no descriptor names its species, no training set inside.
        :raises PotentialError: if a file is missing or is no GAP, or its elements are not known or not those given.
        """
        super().__init__(**kwargs)
        if folder is None:
            raise PotentialError("a potential needs the folder with its xml file")
        attributes, files = read_gap(Path(folder), xml)
        _settle_elements(attributes, elements)
        for name, content in files.items():
            self.base.repository.put_object_from_bytes(content, name)
        self.base.attributes.set("xml", xml)
        self.base.attributes.set("files", list(files))
        self.base.attributes.set("sigma", sigma or {})
        self.base.attributes.set("content_hash", content_hash(files))
        for key, value in attributes.items():
            self.base.attributes.set(key, value)

    def checked_files(self) -> dict[str, bytes]:
        """Return the files by name, the xml first, after everything that reading them from a folder checks.

        Whatever leaves the node goes by here: an imported archive never passed the constructor, and may hold anything.

        :raises PotentialError: naming the node, if its files are not as they were when it was made, or must not be used.
        """
        where = f"potential <{self.pk}>" if self.is_stored else "potential (not stored)"
        attributes, files = read_files(_Stored(self, where), self._xml(where), where)
        if list(files) != self.base.attributes.get("files", None):
            told = self.base.attributes.get("files", None)
            raise PotentialError(
                f"{where}: its files are said to be {shown(told)}, expected {', '.join(files)}, as the xml has them"
            )
        if content_hash(files) != self.base.attributes.get("content_hash", None):
            raise PotentialError(f"{where}: its files do not have the content hash that the node tells: they were changed")
        self._settle(attributes, where)
        for key in (*_TOLD, "e0"):
            told = self.base.attributes.get(key, attributes.get(key))
            if _comparable(told) != _comparable(attributes.get(key)):
                raise PotentialError(
                    f"{where}: its {key} is said to be {shown(told)}, and its files say {shown(attributes.get(key))}"
                )
        return files

    def _settle(self, attributes: dict[str, Any], where: str) -> None:
        elements = self.base.attributes.get("elements", None)
        if not elements or not isinstance(elements, list) or not set(map(str, elements)) <= atomic_numbers.keys():
            raise PotentialError(f"{where}: its elements are said to be {shown(elements)}, expected symbols")
        try:
            _settle_elements(attributes, elements)
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

    def _xml(self, where: str) -> str:
        xml = self.base.attributes.get("xml", None)
        if not isinstance(xml, str):
            raise PotentialError(f"{where}: does not tell the name of its xml")
        return xml

    @property
    def elements(self) -> list[str]:
        """Chemical symbols the potential knows."""
        return list(self.base.attributes.get("elements"))

    @property
    def xml(self) -> str:
        """Name of the xml file."""
        return str(self.base.attributes.get("xml"))

    @property
    def files(self) -> list[str]:
        """Names of all files, the xml first."""
        return list(self.base.attributes.get("files"))

    @property
    def gap_version(self) -> int:
        """Version of the GAP code that wrote it (seconds since 1970), 0 if the file does not say."""
        return int(self.base.attributes.get("gap_version"))

    def to_folder(
        self,
        folder: str | Path,
        types: Sequence[str] | None = None,
        force: bool = False,
        beside: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Write the files and ``lammps.txt`` (the lines of :meth:`lammps`) to ``folder``, all or none; return the xml's path.

        :param force: replace the potential that is in the folder.
        :param beside: more files, by name.
        :raises PotentialError: as :meth:`checked_files`; if there is a potential in the folder already, or it cannot be written.
        """
        files = {**self.checked_files(), LAMMPS: self.lammps(types).encode(), **(beside or {})}
        write_whole(files, Path(folder), force)
        return Path(folder) / self.xml

    @property
    def init_args(self) -> str:
        """QUIP's initialisation string of this potential."""
        return str(self.base.attributes.get("init_args", f"Potential xml_label={self.base.attributes.get('label')}"))

    def lammps(self, types: Sequence[str] | None = None) -> str:
        """Return the lines that use the potential in LAMMPS with the QUIP package.

        :param types: elements of LAMMPS' atom types 1, 2, …; default: the potential's, by name.
        :raises PotentialError: if the potential does not know one of them, or as :meth:`check`.
        """
        self.check()
        types = list(types or self.elements)
        unknown = sorted(set(types) - set(self.elements))
        if unknown:
            raise PotentialError(f"the potential knows {', '.join(self.elements)}, not {', '.join(unknown)}")
        order = ", ".join(f"{number} = {symbol}" for number, symbol in enumerate(types, start=1))
        numbers = " ".join(str(atomic_numbers[symbol]) for symbol in types)
        return (
            f"# {' '.join(self.elements)}: for a LAMMPS with the QUIP package, which needs {needs(self.gap_version)}\n"
            "# before the box is defined:\n"
            "units metal\n"
            "atom_style atomic\n"
            f"# after it; the numbers at the end are the elements of the atom types in their order: {order}\n"
            "# (put them as your data file has its types; the path of the xml may be any, its other files lie beside it)\n"
            "pair_style quip\n"
            f'pair_coeff * * {self.xml} "{self.init_args}" {numbers}\n'
        )

    def calculator(self, args: str = "") -> Calculator:
        """Return an ASE calculator (quippy must be installed here).

        quippy keeps the basis of the first soap_turbo potential of a process and evaluates later ones with it, wrong by eV per
        atom and without a word (versions 0.9.14 and 0.10.3). A second basis is therefore refused; ``gaprss.evaluate`` gives
        every potential processes of its own.

        :raises PotentialError: if quippy is missing, or is older than the GAP that wrote this potential; or if this process
            has loaded a soap_turbo potential with another basis.
        """
        basis = {_basis(line) for line in self.base.attributes.get("descriptors") if line.startswith("soap_turbo")}
        if basis and _soap_turbo_basis and basis != _soap_turbo_basis:
            raise PotentialError(
                "this process has loaded a soap_turbo potential with another basis, and quippy would evaluate this one wrongly; "
                "use a process for each (gaprss.evaluate does)"
            )
        try:
            potential = import_module("quippy.potential").Potential
        except ImportError as exception:
            raise PotentialError("quippy is not installed in this environment: pip install quippy-ase") from exception
        here = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            path = self.to_folder(folder)
            try:
                calculator = potential(args or self.init_args, param_filename=str(path))
            except (RuntimeError, UnicodeDecodeError) as exception:
                message = _quip_message(exception)
                here_version = gap_version_here()
                # The buffer that QUIP's message comes from may hold anything by then: where it can be known, the version decides.
                if "later version" in message or (here_version is not None and self.gap_version > here_version):
                    raise PotentialError(too_new(self.gap_version, here_version)) from exception
                raise PotentialError(f"quippy cannot read this potential: {message}") from exception
            finally:
                os.chdir(here)  # where quippy does not return to when it fails
        _soap_turbo_basis.update(basis)
        return calculator


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


def gap_version_here() -> int | None:
    """Return the version of the GAP in the quippy of this environment, or None if it is not one of :data:`QUIPPY_RELEASES`."""
    try:
        release = metadata.version("quippy-ase")
    except metadata.PackageNotFoundError:
        return None
    return next((known for known, name in QUIPPY_RELEASES.items() if name == release), None)


def _quip_message(exception: RuntimeError | UnicodeDecodeError) -> str:
    """Return QUIP's message without what may follow it in its buffer, which need not be text at all."""
    raw = exception.object.decode(errors="replace") if isinstance(exception, UnicodeDecodeError) else str(exception)
    return re.split("[\x00-\x08\ufffd]", raw)[0].strip()


def _comparable(value: Any) -> Any:
    """Return a value as older versions of this package have stored it, too: words without the blanks between them."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value


def _basis(descriptor: str) -> str:
    """Return what a soap_turbo descriptor's basis depends on."""
    return " ".join(re.sub(r"\b(?:delta|zeta|n_sparse|sparse_method|central_index|Z)=\S+", "", descriptor).split())


def written(version: int) -> str:
    """Return the day from which a version of GAP is."""
    return datetime.fromtimestamp(version, tz=timezone.utc).date().isoformat()


def needs(version: int) -> str:
    """Say which GAP a potential needs that was written by this version."""
    if not version:
        return "any GAP (the file names no version)"
    release = next((name for known, name in sorted(QUIPPY_RELEASES.items()) if known >= version), None)
    if release:
        tail = f"quippy-ase {release} and later have it"
    else:
        tail = f"a quippy-ase later than {list(QUIPPY_RELEASES.values())[-1]}"
    return f"GAP version {version} ({written(version)}) or newer; {tail}"


def too_new(version: int, here: int | None = None) -> str:
    """Say that the potential was written by a newer GAP than the one that should read it, whose version is ``here``."""
    return (
        f"the potential was written by a newer GAP (version {version}) than the quippy here{f' ({here})' if here else ''}; "
        f"install a newer quippy-ase to use it: it needs {needs(version)}"
    )


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
