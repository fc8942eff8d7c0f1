"""What a family of models is: how a potential is fitted, read, evaluated, forecast and repaired.

A family knows nothing of AiiDA; jobs and work chains know no family. Another package adds one as an entry point of the group
``aiida_gaprss.families``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers
from pydantic import Field, field_validator

from aiida_gaprss.analysis.differences import Spread
from aiida_gaprss.outside import shown
from aiida_gaprss.runners.common import load_class
from aiida_gaprss.settings.model import Model, Real
from aiida_gaprss.settings.protocols import Protocols

#: What may be wrong with a fit, as a family reads it from what a program has left behind.
Kind = Literal["no log", "abort", "memory", "ill-conditioned", "counts", "no potential"]


#: Names of the files that an export adds to those of a potential.
LAMMPS, CARD, CARD_JSON = EXPORTED = ("lammps.txt", "card.md", "card.json")


class PotentialError(ValueError):
    """A potential that cannot be read or used."""


class BaseFit(Model):
    """What the settings of a fit say in every family."""

    family: str
    e0: Literal["isolated", "average"] | dict[str, Real] = Field(
        "isolated",
        description="energies of the free atoms, eV: those of the isolated atoms in the data; average: the least-squares energy "
        "of each element in the data, for data without isolated atoms; or numbers",
    )
    targets: list[Literal["energy", "forces", "virial"]] = Field(
        ["energy", "forces", "virial"], description="labels that are fitted; energy must be among them"
    )
    mixed_levels: bool = Field(False, description="allow datasets that were labelled at different levels of theory")
    keep_absurd: bool = Field(
        False, description="allow labels that can hardly be right: forces, energies, virials out of all bounds"
    )

    @field_validator("targets")
    @classmethod
    def _energies(cls, value: list[str]) -> list[str]:
        if "energy" not in value:
            raise ValueError("energy must be among them")
        return value

    @field_validator("e0")
    @classmethod
    def _elements(cls, value: str | dict[str, float]) -> str | dict[str, float]:
        unknown = [name for name in value if not atomic_numbers.get(name)] if isinstance(value, dict) else []
        if unknown or not value:
            raise ValueError(f"{shown(unknown[0], 40)!r} is no element" if unknown else "no element is given")
        return value

    @property
    @abstractmethod
    def reach(self) -> float:
        """Largest distance at which two atoms feel each other directly, Å."""

    def check_elements(self, elements: Sequence[str]) -> None:
        """Check the settings for the elements of a training set.

        :raises ValueError: if they speak of others.
        """


@dataclass(frozen=True)
class FitJob:
    """What a program is given, and what is kept of what it leaves."""

    files: Mapping[str, str]  #: input files by name, besides the training set
    argv: Sequence[str]  #: words of the command line; the last one tells the process from others of the job
    keep: Sequence[str]  #: files of the potential, patterns of the shell allowed
    prepend: str = ""  #: lines of the shell before the program


@dataclass(frozen=True)
class FitFault:
    """Why a fit has no potential, or none that may be used."""

    kind: Kind
    message: str


@dataclass(frozen=True)
class FitOutcome:
    """What a program has left behind: what it said, as plain data, and what went wrong."""

    results: dict[str, Any] = field(default_factory=dict)
    fault: FitFault | None = None


@dataclass(frozen=True)
class Repair:
    """Other settings of a fit that failed, and what is other about them."""

    settings: BaseFit
    words: str


class Forecast(Protocol):
    """What a fit will need."""

    @property
    def memory_MB(self) -> float:
        """Peak resident memory, MB (10⁶ bytes)."""

    @property
    def cpu_seconds(self) -> float:
        """CPU time, s."""

    def describe(self) -> str:
        """Return one sentence for a person; what comes before the first semicolon is the sum of it."""

    def grown(self, factor: float) -> Forecast:
        """Return the forecast for so many times as many frames of the same kinds."""


class Source(ABC):
    """Where the files of a potential come from."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""

    @abstractmethod
    def content(self, name: str, most: int) -> bytes:
        """Return the content of a file.

        :param most: largest size that it can have, bytes.
        :raises PotentialError: if it cannot be had.
        """


class Family(ABC):
    """A kind of model. One object of the class is made, without arguments."""

    #: As settings name it, and what a person calls a potential of it.
    NAME: ClassVar[str]
    TITLE: ClassVar[str] = "Potential"
    SETTINGS: ClassVar[type[BaseFit]]
    #: Named settings, if it has any; and the one of them for those who say nothing.
    PROTOCOLS: ClassVar[Protocols | None] = None
    DEFAULT_PROTOCOL: ClassVar[str | None] = None
    #: The code that fits: ``gap_fit``, ``python``, or ``fit`` for a program that a user has to name.
    PROGRAM: ClassVar[str] = "fit"
    #: Name of the file that a potential of this family is read from; others may lie beside it.
    MAIN: ClassVar[str]
    #: Python files that jobs need to make the calculator, or to fit.
    SCRIPTS: ClassVar[tuple[Path, ...]] = ()
    #: Whether local variances can be had of its calculator.
    VARIANCES: ClassVar[bool] = False
    #: Whether frames without labels may give it sparse points; whether a fit may be done in stages; whether a seed changes a fit.
    SPARSE: ClassVar[bool] = False
    STAGES: ClassVar[bool] = False
    RANDOM: ClassVar[bool] = False

    # --- to fit ---

    def prepare(self, frames: Sequence[Atoms], settings: Any) -> None:  # noqa: B027  most have nothing to tell
        """Put on the frames of a training set what the fit is to know of each, as expected errors.

        :raises ValueError: if the settings do not go with the frames.
        """

    @abstractmethod
    def job(self, frames: Sequence[Atoms], settings: Any, seed: int, training: str) -> FitJob:
        """Return what the program is given.

        :param training: name of the file with the training set, extended XYZ with ``REF_energy`` (eV), ``REF_forces`` (eV/Å) and
            ``REF_virial`` (eV).
        :raises ValueError: if the program would not take it.
        """

    @abstractmethod
    def read(self, folder: Path, log: str, errors: str, frames: Sequence[Atoms], settings: Any) -> FitOutcome:
        """Return what the program has left behind.

        :param folder: with the files that were kept; ``log`` and ``errors``: what the program printed.
        """

    def forecast(self, frames: Sequence[Atoms], settings: Any) -> Forecast | None:
        """Return what a fit to labelled frames will need, or None where it is little, or not known."""
        return None

    def repaired(self, settings: Any, kind: str) -> Repair | None:
        """Return other settings for a fit that failed for lack of ``memory``, or ``ill-conditioned``; or None."""
        return None

    def stages(self, settings: Any) -> int:
        """Return by how many fits the settings are found, one after another; 1 if there is nothing to be found."""
        return 1

    def first_stages(self, settings: Any, number: int) -> Any:
        """Return the settings of the fit that comes before stage ``number``."""
        return settings

    def with_stage(self, settings: Any, number: int, results: Mapping[str, Any]) -> Repair:
        """Return the settings with what the fit before stage ``number`` has found."""
        return Repair(settings, "")

    # --- differences of two levels of theory ---

    def for_differences(self, spread: Spread, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings, lengths in bonds allowed, of a fit to differences of labels that are so large; with changes.

        :raises ValueError: if the changes do not say all that this family has no defaults for.
        """
        return {"family": self.NAME, **changes}

    def fault_of_sum(self, facts: Mapping[str, Any], settings: Any, elements: Sequence[str]) -> str | None:
        """Return why a potential, and one that is yet to be fitted with these settings, cannot be added; or None."""
        return f"potentials of the family {self.NAME} cannot be added; expected gap"

    def summed(self, parts: Sequence[tuple[Mapping[str, Any], Mapping[str, bytes]]]) -> dict[str, bytes]:
        """Return the files, the main one first, of the sum of potentials, of which there are facts and files.

        :raises PotentialError: if they cannot be added.
        """
        raise PotentialError(f"potentials of the family {self.NAME} cannot be added")

    # --- to use ---

    @abstractmethod
    def open(self, source: Source, main: str, where: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what the files of a potential tell, and all of them by name, the main one first.

        What they tell are plain data, ``elements`` (symbols), ``cutoff`` (Å) and ``e0`` (eV by symbol) among them. The files may
        be those of a stranger.

        :raises PotentialError: if a file is missing, does not belong to the others, or must not be used.
        """

    def owns(self, name: str, content: Callable[[], bytes]) -> bool:
        """Tell whether a file in a folder belongs to a potential of this family.

        :param content: reads it, empty if it cannot be read.
        """
        return name == self.MAIN

    def differs(self, facts: Mapping[str, Any], frames: Sequence[Atoms], settings: Any) -> str | None:
        """Return in what a potential is another one than was asked for, or None."""
        return None

    @abstractmethod
    def calculator(self, facts: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Return ``calculator``, a dotted name, and ``arguments`` of it, by which a job makes an ASE calculator.

        :param facts: empty for a potential that is yet to be fitted; ``path``: of the main file.
        """

    def load(self, facts: Mapping[str, Any], path: Path, args: str = "") -> Calculator:
        """Return an ASE calculator in this process.

        :raises PotentialError: if it cannot be had here.
        """
        given = self.calculator(facts, str(path))
        found: Calculator = load_class(given["calculator"])(**given["arguments"])
        return found

    def how_to_use(self, facts: Mapping[str, Any], path: str) -> str:
        """Return the python that makes the ASE calculator on a machine with this package.

        :param path: of the main file.
        """
        given = self.calculator(facts, path)
        words = [f"{key}={value!r}" for key, value in given["arguments"].items()]
        return f"{given['calculator']}({', '.join(words)})"

    def fault_of_code(self, facts: Mapping[str, Any], extras: Mapping[str, Any], name: str) -> str | None:
        """Return why a code cannot use a potential, or None.

        :param extras: of the code.
        """
        return None

    def needs(self, facts: Mapping[str, Any]) -> str:
        """Say what is needed to use a potential."""
        return "python with ase"

    def reader_here(self) -> str:
        """Say what would read a potential in this environment."""
        return "python"

    def lammps(self, facts: Mapping[str, Any], main: str, types: Sequence[str]) -> str | None:
        """Return the lines that use a potential in LAMMPS; None if none are known.

        :param types: elements of LAMMPS' atom types 1, 2, …
        """
        return None

    def sigma(self, settings: Any) -> dict[str, Any]:
        """Return what a fit was told of expected errors.

        ``sigma`` has ``energy`` (eV/atom), ``forces`` (eV/Å) and ``virial`` (eV/atom); ``config_type_sigma``, the same by kind of
        frame, and rules of ``regularisation`` may stand beside it.
        """
        return {}

    def terms(self, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the terms of a potential: ``kind``, ``words``, ``species``, ``cutoff_A``, and more."""
        return []

    def told(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a card tells of a potential besides."""
        return {}
