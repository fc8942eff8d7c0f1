"""The GAP code that reads a potential: which version it takes, and quippy's calculator in this process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers

from aiida_gaprss.models.base import PotentialError

#: First quippy-ase that brings this version of GAP. A potential is read by its own version and all later ones.
QUIPPY_RELEASES = {1686220958: "0.9.14", 1769700636: "0.10.3"}

#: Basis of the soap_turbo descriptors that this process has loaded, see :func:`load`.
_soap_turbo_basis: set[str] = set()


def init_args(facts: Mapping[str, Any]) -> str:
    """Return QUIP's initialisation string of a potential."""
    return str(facts.get("init_args") or f"Potential xml_label={facts.get('label')}")


def gap_version_here() -> int | None:
    """Return the version of the GAP in the quippy of this environment, or None if it is not one of :data:`QUIPPY_RELEASES`."""
    release = quippy_here()
    return next((known for known, name in QUIPPY_RELEASES.items() if name == release), None)


def quippy_here() -> str | None:
    """Return the release of quippy-ase in this environment, or None."""
    try:
        return metadata.version("quippy-ase")
    except metadata.PackageNotFoundError:
        return None


def load(facts: Mapping[str, Any], path: Path, args: str = "") -> Calculator:
    """Return quippy's calculator of a potential.

    quippy keeps the basis of the first soap_turbo potential of a process and evaluates later ones with it, wrong by eV per atom
    and without a word (versions 0.9.14 and 0.10.3). A second basis is therefore refused; ``gaprss.evaluate`` gives every
    potential processes of its own.

    :param path: of the xml.
    :raises PotentialError: if quippy is missing, or is older than the GAP that wrote the potential; or if this process has loaded
        a soap_turbo potential with another basis.
    """
    basis = {_basis(line) for line in facts["descriptors"] if line.startswith("soap_turbo")}
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
    try:
        calculator: Calculator = potential(args or init_args(facts), param_filename=str(path))
    except (RuntimeError, UnicodeDecodeError) as exception:
        raise PotentialError(_why(exception, int(facts["gap_version"]))) from exception
    finally:
        os.chdir(here)  # where quippy does not return to when it fails
    _soap_turbo_basis.update(basis)
    return calculator


def _why(exception: RuntimeError | UnicodeDecodeError, version: int) -> str:
    """Return why quippy did not read a potential.

    The buffer that its message comes from may hold anything by then: where it can be known, the version decides.
    """
    message, here = _quip_message(exception), gap_version_here()
    if "later version" in message or (here is not None and version > here):
        return too_new(version, here)
    return f"quippy cannot read this potential: {message}"


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


def lammps(facts: Mapping[str, Any], main: str, types: Sequence[str]) -> str:
    """Return the lines that use the potential in LAMMPS with the QUIP package.

    :param main: name of the xml; ``types``: elements of LAMMPS' atom types 1, 2, …
    """
    order = ", ".join(f"{number} = {symbol}" for number, symbol in enumerate(types, start=1))
    numbers = " ".join(str(atomic_numbers[symbol]) for symbol in types)
    return (
        f"# {' '.join(facts['elements'])}: for a LAMMPS with the QUIP package, which needs {needs(int(facts['gap_version']))}\n"
        "# before the box is defined:\n"
        "units metal\n"
        "atom_style atomic\n"
        f"# after it; the numbers at the end are the elements of the atom types in their order: {order}\n"
        "# (put them as your data file has its types; the path of the xml may be any, its other files lie beside it)\n"
        "pair_style quip\n"
        f'pair_coeff * * {main} "{init_args(facts)}" {numbers}\n'
    )
