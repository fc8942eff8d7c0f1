"""What a reference is: a program that labels one frame per process, through its AiiDA plugin.

A reference is a module with these names, or an object with these attributes. It is an entry point of the group
``aiida_gaprss.references``, whose name is that of the reference: the key in a campaign file, and the namespace of its ports.
What ours share, and others may use, is in ``settings``, ``common`` and ``plugins``, and in ``flat`` for those whose parameters
are one flat mapping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from aiida.engine import PortNamespace
from aiida.orm import FolderData, StructureData
from ase import Atoms

from aiida_gaprss.io.common import Step
from aiida_gaprss.reference.settings import ReferenceSettings
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.settings.jobs import ReferenceMdSettings


@dataclass(frozen=True)
class Program:
    """What the code of a reference is: the plugin that it is for, how to get one, and a pattern, if other plugins will do."""

    plugin: str
    how_to_get: str
    pattern: str = ""

    def may_be(self, plugin: str) -> bool:
        """Tell whether a code for a plugin is one."""
        return re.fullmatch(self.pattern or re.escape(self.plugin), plugin) is not None


@runtime_checkable
class Reference(Protocol):
    """Labels one frame per process."""

    @property
    def NAME(self) -> str:
        """The name of the program, for people."""

    @property
    def SETTINGS(self) -> type[ReferenceSettings]:
        """What stands under the name of the reference in a campaign file."""

    @property
    def PROGRAM(self) -> Program:
        """What its code is."""

    @property
    def OUTPUTS(self) -> tuple[str, ...]:
        """The outputs of its process that hold the labels."""

    def define(self, namespace: PortNamespace) -> None:
        """Define the input ports: ``code`` and ``options`` (:func:`common.define_job`) and what else is needed.

        A ``retries`` port (``List``) makes frames be tried again, ``attempts`` times in all.
        """

    def inputs(self, settings: Any, elements: Sequence[str], folder: Path) -> tuple[dict[str, Any], list[Fault]]:
        """Return the inputs that settings become, without ``code`` and ``options``, and what is wrong with them in this profile.

        :param settings: a ``SETTINGS``; :param folder: what files are relative to.
        :return: the inputs without those that have a fault; faults with their places in the settings.
        """

    def missing(self, inputs: Any, elements: Sequence[str]) -> list[Fault]:
        """Return what the inputs, each as its port wants it, lack as a whole to label frames of ``elements``.

        A campaign file asks also for inputs of which some were refused, so that all faults are told at once.
        """

    def level_of_theory(self, inputs: Any) -> dict[str, Any]:
        """Return everything that decides the value of a label, ``code`` first."""

    def submission(self, inputs: Any, structure: StructureData, isolated: bool, attempt: int = 0) -> tuple[Any, dict[str, Any]]:
        """Return process class and inputs that label one structure.

        :param structure: its atoms are sorted by atomic number.
        :param isolated: said of atoms and dimers in vacuum.
        :param attempt: 1 is the first retry.
        """

    def labels(self, outputs: dict[str, Any], symbols: list[str]) -> tuple[float, np.ndarray, np.ndarray]:
        """Return energy (eV, force-consistent), forces (eV/Å) and ASE stress (3×3, eV/Å³) in the order of the sorted structure.

        :param outputs: the nodes of ``OUTPUTS``; :param symbols: of the sorted structure, to be compared.
        :raises ValueError: with the reason, if there are none that may be used.
        """


@runtime_checkable
class Bundled(Protocol):
    """What a reference has besides if it offers bundles: many frames in one job, each in a folder of its own.

    The folder of a frame is two levels beneath that of the job.
    """

    @property
    def BUNDLE_STDOUT(self) -> str:
        """Where the standard output of the program goes."""

    @property
    def BUNDLE_OUTPUT(self) -> str:
        """The file that holds the labels."""

    @property
    def BUNDLE_KEEP(self) -> tuple[str, ...]:
        """All files that come back."""

    def bundle_files(self, inputs: Any, atoms: Atoms, parameters: dict[str, Any], isolated: bool) -> dict[str, str]:
        """Return the input files of one sorted frame by name, as the plugin itself writes them."""

    def bundle_pseudos(self, inputs: Any) -> dict[str, bytes]:
        """Return files that all frames share, put into the folder ``pseudo`` of the job and not kept."""

    def bundle_command(self, inputs: Any) -> str:
        """Return the shell lines that run the program in the folder of a frame."""

    def read_bundle(self, text: str) -> Step:
        """Return the labelled step in the text of ``BUNDLE_OUTPUT``.

        :raises ValueError: with the reason, if it has no complete one.
        """


@runtime_checkable
class BundledReference(Reference, Bundled, Protocol):
    """A reference that offers bundles."""


@runtime_checkable
class Relaxing(Protocol):
    """What a reference has besides if its program relaxes crystals: cell and atoms at zero pressure, with their symmetry."""

    @property
    def RELAXED_OUTPUTS(self) -> tuple[str, ...]:
        """The outputs of the process that hold the relaxed crystal."""

    def relaxation(self, inputs: Any, structure: StructureData, attempt: int = 0) -> tuple[Any, dict[str, Any]]:
        """Return process class and inputs that relax one crystal.

        :param structure: its atoms are sorted by atomic number.
        :param attempt: 1 is the first retry.
        """

    def relaxed(self, outputs: dict[str, Any], symbols: list[str]) -> Step:
        """Return the relaxed crystal in the order of the sorted structure, with what the program says of it at the end.

        :param outputs: the nodes of ``RELAXED_OUTPUTS``; :param symbols: of the sorted structure, to be compared.
        :raises ValueError: with the reason, if there is none that may be used.
        """


@runtime_checkable
class RelaxingReference(Reference, Relaxing, Protocol):
    """A reference that relaxes crystals."""


@runtime_checkable
class Timed(Protocol):
    """What a reference has besides if its outputs say how long its program ran."""

    def seconds(self, outputs: dict[str, Any]) -> float | None:
        """Return the seconds of the wall; None if the outputs do not say.

        :param outputs: some of the nodes of ``OUTPUTS``, the first of them at least.
        """


@dataclass(frozen=True)
class Moved:
    """What one process has made of a trajectory: its whole steps with their temperatures (K), and where it would go on.

    :param end: atoms where the next step would be; None if the process did not come so far.
    """

    steps: list[Step]
    kelvins: list[float]
    end: Atoms | None


@runtime_checkable
class Moving(Protocol):
    """What a reference has besides if its program runs molecular dynamics in a fixed cell."""

    def motion(
        self,
        inputs: Any,
        structure: StructureData,
        settings: ReferenceMdSettings,
        left: int,
        before: Any = None,
        attempt: int = 0,
    ) -> tuple[Any, dict[str, Any]]:
        """Return process class and inputs that run a trajectory, or the rest of one.

        :param structure: where it begins or goes on; its atoms are sorted by atomic number.
        :param left: so many frames are still to be calculated, the first among them.
        :param before: the process that came so far, if there is one: velocities may be had from it.
        :param attempt: 1 is the first retry.
        """

    def moved(self, folder: FolderData, symbols: list[str]) -> Moved:
        """Return what a process has made, also one that was cut off.

        :param folder: the files that came back; :param symbols: of the sorted structure, to be compared.
        :raises ValueError: with the reason, if nothing of it may be used.
        """


@runtime_checkable
class MovingReference(Reference, Moving, Protocol):
    """A reference that runs molecular dynamics."""


def lacks(found: object, protocol: type) -> list[str]:
    """Return the names of a protocol that an object does not have."""
    return sorted(name for name in vars(protocol) if not (name.startswith("_") or hasattr(found, name)))
