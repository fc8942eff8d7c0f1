"""The Potential node: a GAP as gap_fit wrote it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import import_module, metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from aiida.orm import Data
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers, chemical_symbols
from ase.io import read

#: Basis of the soap_turbo descriptors that this process has loaded, see ``Potential.calculator``.
_soap_turbo_basis: set[str] = set()

#: First quippy-ase that brings this version of GAP. A potential is read by its own version and all later ones.
QUIPPY_RELEASES = {1686220958: "0.9.14", 1769700636: "0.10.3"}

#: gap_fit always writes an energy of so many elements, whatever it was given.
ALL_ELEMENTS = 50


class PotentialError(ValueError):
    """A potential that cannot be read or used."""


class Potential(Data):
    """The xml file of a GAP and its sparse-point files under the names the xml refers to.

    Attributes: ``elements``, ``cutoff`` (Å, the largest), ``descriptors`` (one line each), ``e0`` (eV per element), ``n_sparse``,
    ``gap_version``, ``sigma`` (what the fit was told of expected errors), ``content_hash``; of what the xml itself tells of the
    fit, ``command_line`` (gap_fit's input) and ``embedded`` (frames, atoms and elements of a training set inside the xml).
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
        folder = Path(folder)
        attributes, files = read_gap(folder, xml)
        _settle_elements(attributes, elements)
        digest = hashlib.sha256()
        for name in files:
            content = (folder / name).read_bytes()
            digest.update(name.encode() + content)
            with (folder / name).open("rb") as handle:
                self.base.repository.put_object_from_filelike(handle, name)
        self.base.attributes.set("xml", xml)
        self.base.attributes.set("files", files)
        self.base.attributes.set("sigma", sigma or {})
        self.base.attributes.set("content_hash", digest.hexdigest())
        for key, value in attributes.items():
            self.base.attributes.set(key, value)

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

    def to_folder(self, folder: str | Path, types: Sequence[str] | None = None) -> Path:
        """Write the files and ``lammps.txt`` (the lines of :meth:`lammps`) to ``folder``; return the xml's path."""
        folder = Path(folder)
        lines = self.lammps(types)  # refuses before anything is written
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.files:
            (folder / name).write_bytes(self.base.repository.get_object_content(name, mode="rb"))
        (folder / "lammps.txt").write_text(lines, encoding="utf-8")
        return folder / self.xml

    @property
    def init_args(self) -> str:
        """QUIP's initialisation string of this potential."""
        return str(self.base.attributes.get("init_args", f"Potential xml_label={self.base.attributes.get('label')}"))

    def lammps(self, types: Sequence[str] | None = None) -> str:
        """Return the lines that use the potential in LAMMPS with the QUIP package.

        :param types: elements of LAMMPS' atom types 1, 2, …; default: the potential's, by name.
        :raises PotentialError: if the potential does not know one of them.
        """
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
                calculator = potential(args, param_filename=str(path))
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


def read_gap(folder: Path, xml: str) -> tuple[dict[str, Any], list[str]]:
    """Return what the xml of a GAP tells of itself, and the names of its files.

    :raises PotentialError: if a file is missing or is no GAP.
    """
    path = folder / xml
    if not path.is_file():
        raise PotentialError(f"{path}: no such file")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as exception:
        raise PotentialError(f"{path}: not an xml file: {exception}") from exception
    gap = root if root.tag == "GAP_params" else next(root.iter("GAP_params"), None)
    if gap is None:
        raise PotentialError(f"{path}: holds no GAP (no <GAP_params>)")
    files = [xml]
    descriptors, n_sparse, cutoffs = [], [], []
    for coordinate in gap.iter("gpCoordinates"):
        descriptor = (coordinate.findtext("descriptor") or "").strip()
        descriptors.append(descriptor)
        n_sparse.append(int(coordinate.get("n_sparseX", 0)))
        cutoffs += [float(value) for value in re.findall(r"\b(?:cutoff|rcut_hard)=([0-9.]+)", descriptor)]
        name = coordinate.get("sparseX_filename")
        if name:
            if not (folder / name).is_file():
                raise PotentialError(f"{path}: its sparse-point file {name} is not beside it")
            files.append(name)
    e0 = {chemical_symbols[int(e.get("Z", 0))]: float(e.get("value", 0.0)) for e in gap.iter("e0")}
    embedded = _embedded(gap.findtext("XYZ_data") or "")
    elements = sorted(set(e0) if len(e0) < ALL_ELEMENTS else _species(descriptors))
    if not elements and embedded:
        elements = list(embedded["elements"])
    label = gap.get("label", "")
    wrapper = next((e.get("label") for e in root.iter("Potential") if e.get("label")), None)
    return {
        "label": label,
        "init_args": f"Potential xml_label={wrapper}" if wrapper else f"IP GAP label={label}",
        "gap_version": int(gap.get("gap_version", 0)),
        "descriptors": descriptors,
        "n_sparse": n_sparse,
        "cutoff": max(cutoffs, default=0.0),
        "e0": e0,
        "elements": elements,
        "command_line": " ".join((gap.findtext("command_line") or "").split()),
        "embedded": embedded,
    }, files


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


def _embedded(text: str) -> dict[str, Any] | None:
    """Describe a training set that gap_fit has copied into the xml; None if there is none that can be read."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    try:
        frames = read(io.StringIO("\n".join(lines) + "\n"), index=":", format="extxyz")
    except (ValueError, KeyError, IndexError, OSError):  # then the file tells less of itself
        return None
    return {
        "frames": len(frames),
        "atoms": sum(map(len, frames)),
        "elements": sorted({s for atoms in frames for s in atoms.get_chemical_symbols()}),
    }


def _species(descriptors: list[str]) -> set[str]:
    numbers: set[int] = set()
    for line in descriptors:
        for match in re.findall(r"\b(?:Z\d?|species_Z)=\{?\{?([0-9 ]+)", line):
            numbers.update(int(z) for z in match.split())
    return {chemical_symbols[z] for z in numbers if z > 0}
