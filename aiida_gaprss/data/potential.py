"""The Potential node: a GAP as gap_fit wrote it."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from aiida.orm import Data
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols

#: Basis of the soap_turbo descriptors that this process has loaded, see ``Potential.calculator``.
_soap_turbo_basis: set[str] = set()


class PotentialError(ValueError):
    """A potential that cannot be read or used."""


class Potential(Data):
    """The xml file of a GAP and its sparse-point files under the names the xml refers to.

    Attributes: ``elements``, ``cutoff`` (Å, the largest), ``descriptors`` (one line each), ``e0`` (eV per element), ``n_sparse``,
    ``gap_version``, ``sigma`` (what the fit was told of expected errors), ``content_hash``.
    """

    XML = "gap.xml"

    def __init__(self, folder: str | Path | None = None, xml: str = XML, sigma: dict[str, Any] | None = None, **kwargs: Any):
        """Read the potential ``folder/xml`` with the sparse files beside it.

        :raises PotentialError: if a file is missing or is no GAP.
        """
        super().__init__(**kwargs)
        if folder is None:
            raise PotentialError("a potential needs the folder with its xml file")
        folder = Path(folder)
        attributes, files = read_gap(folder, xml)
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

    def to_folder(self, folder: str | Path) -> Path:
        """Write the files and ``lammps.txt`` (the lines that use it in LAMMPS) to ``folder``; return the xml's path."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.files:
            (folder / name).write_bytes(self.base.repository.get_object_content(name, mode="rb"))
        numbers = " ".join(str(chemical_symbols.index(s)) for s in self.elements)
        label = self.base.attributes.get("label")
        (folder / "lammps.txt").write_text(
            "units metal\natom_style atomic\npair_style quip\n"
            f'pair_coeff * * {self.xml} "Potential xml_label={label}" {numbers}\n'
        )
        return folder / self.xml

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
            except RuntimeError as exception:
                if "later version" in str(exception):
                    raise PotentialError(too_new(self.gap_version)) from exception
                raise PotentialError(f"quippy cannot read this potential: {exception}") from exception
            finally:
                os.chdir(here)  # where quippy does not return to when it fails
        _soap_turbo_basis.update(basis)
        return calculator


def _basis(descriptor: str) -> str:
    """Return what a soap_turbo descriptor's basis depends on."""
    return " ".join(re.sub(r"\b(?:delta|zeta|n_sparse|sparse_method|central_index|Z)=\S+", "", descriptor).split())


def too_new(version: int) -> str:
    """Say that the potential was written by a newer GAP than the one that should read it."""
    return (
        f"the potential was written by a newer GAP (version {version}) than the quippy here; install a newer quippy-ase to use it"
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
    elements = sorted({s for s, value in e0.items()} if len(e0) < 50 else _species(descriptors))
    return {
        "label": gap.get("label", ""),
        "gap_version": int(gap.get("gap_version", 0)),
        "descriptors": descriptors,
        "n_sparse": n_sparse,
        "cutoff": max(cutoffs, default=0.0),
        "e0": {s: value for s, value in e0.items() if s in elements},
        "elements": elements,
    }, files


def _species(descriptors: list[str]) -> set[str]:
    numbers: set[int] = set()
    for line in descriptors:
        for match in re.findall(r"\b(?:Z\d?|species_Z)=\{?\{?([0-9 ]+)", line):
            numbers.update(int(z) for z in match.split())
    return {chemical_symbols[z] for z in numbers if z > 0}
