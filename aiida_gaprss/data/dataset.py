"""The Dataset node: frames with their labels and origins in one extended XYZ file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiida.orm import Data, load_node
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.data.attributes import attribute
from aiida_gaprss.io.extxyz import Keys, export_frames, import_frames
from aiida_gaprss.io.formats import OURS, About, exported, format_of
from aiida_gaprss.levels import Difference, Level, line_of
from aiida_gaprss.outside import refuse_existing, write_file

#: Letters of the fingerprint of a frame.
FINGERPRINT = 16

#: What AiiDA's methods of export return: the content of the file, and of those beside it by name.
Exported = tuple[bytes, dict[str, bytes]]


class Dataset(Data):
    """Frames as one repository file of canonical extended XYZ; the same frames give the same bytes and the same hash.

    What a query needs stands in the attributes: ``frames``, ``atoms``, ``elements``, ``config_types``, ``energies``, ``forces``,
    ``virials``, ``level_of_theory``, ``level``, ``energy_zero``, ``units_version``.
    """

    FILENAME = "frames.extxyz"
    #: Extra with the fingerprints of the labelled frames, one after another (:func:`fingerprints`). No attribute, as it says
    #: nothing that the file does not: it is no part of the hash, and older nodes get it when they are first searched.
    INDEX = "gaprss_labelled"
    UNITS_VERSION = 1  # energies eV, lengths Å, forces eV/Å, virials eV

    class AttributesModel(Data.AttributesModel):
        """The attributes, as ``Dataset.fields`` has them."""

        frames: int | None = attribute("frames", "Number of frames")
        atoms: int | None = attribute("atoms", "Number of atoms of all frames")
        elements: list[str] | None = attribute("elements", "Chemical symbols that occur, sorted")
        config_types: dict[str, int] | None = attribute("config_types", "Number of frames by configuration type")
        energies: int | None = attribute("energies", "Number of reference energies")
        forces: int | None = attribute("forces", "Number of components of reference forces")
        virials: int | None = attribute("virials", "Number of reference virials")
        level_of_theory: str | None = attribute("level_of_theory", "What decides the labels, in one line")
        level: dict[str, Any] | None = attribute("level", "What decides the labels, part by part; none if it has no parts")
        energy_zero: str | None = attribute("energy_zero", "What energies are relative to")
        units_version: int | None = attribute("units_version", "1: energies eV, lengths Å, forces eV/Å, virials eV")

    def __init__(
        self,
        frames: Iterable[Atoms] = (),
        level_of_theory: Level | str = "unknown",
        energy_zero: str = "as computed",
        **kwargs: Any,
    ) -> None:
        """Make a dataset from frames, each with a unique ``frame_id``.

        :param level_of_theory: what decides the labels, or one line that names code, functional and settings.
        :raises FrameError: if a frame is not fit for a dataset or ids are missing or doubled.
        """
        super().__init__(**kwargs)
        frames = list(frames)
        for number, atoms in enumerate(frames, start=1):
            name = atoms.info.get("frame_id")
            if not name:
                raise fr.FrameError(f"frame {number} of {len(frames)} has no frame_id")
            fr.check(atoms, f"frame {name}")
        doubled = [name for name, n in Counter(str(a.info["frame_id"]) for a in frames).items() if n > 1]
        if doubled:
            raise fr.FrameError(f"frame_id not unique: {', '.join(doubled[:5])}")
        text = fr.dumps(frames)
        self.base.repository.put_object_from_bytes(text.encode(), self.FILENAME)
        for key, value in fr.describe(frames).items():
            self.base.attributes.set(key, value)
        self.base.attributes.set("level_of_theory", line_of(level_of_theory))
        if isinstance(level_of_theory, Level):
            self.base.attributes.set("level", level_of_theory.as_dict())
        self.base.attributes.set("energy_zero", energy_zero)
        self.base.attributes.set("units_version", self.UNITS_VERSION)
        self.index(frames)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        keys: Keys,
        config_type: str | None = None,
        level_of_theory: Level | str = "unknown",
        **how: Any,
    ) -> Dataset:
        """Import an extended XYZ file whose labels have the names and units of ``keys``.

        :param how: further options of :func:`~aiida_gaprss.io.extxyz.import_frames`.
        """
        node = cls(import_frames(path, keys, config_type, **how), level_of_theory=level_of_theory)
        node.label = Path(path).name
        return node

    def to_file(self, path: str | Path, keys: Keys) -> None:
        """Write an extended XYZ file with the names and units of ``keys``."""
        export_frames(self.get_frames(), path, keys)

    def export(self, path: str | Path, fileformat: str | None = None, overwrite: bool = False, **options: Any) -> list[str]:
        """Write a file, the whole of it or nothing, and return its path in a list, as nodes of AiiDA do.

        :param fileformat: of :data:`~aiida_gaprss.io.formats.FORMATS`; default: as the ending of the path says.
        :param overwrite: replace a file that is there.
        :param options: ``keys`` of extended XYZ.
        :raises ValueError: for a format that there is not, frames that it cannot hold, a file that is there or cannot be written.
        """
        refuse_existing(path, overwrite)
        content, _ = self._exportcontent(fileformat or format_of(path), main_file_name=str(path), **options)
        write_file(path, content, overwrite)
        return [str(path)]

    def _prepare_extxyz(self, main_file_name: str = "", keys: Keys = OURS) -> Exported:
        return exported(self.get_frames(), "extxyz", self.about(), keys=keys), {}

    def _prepare_colabfit(self, main_file_name: str = "") -> Exported:
        return exported(self.get_frames(), "colabfit", self.about()), {}

    def _prepare_db(self, main_file_name: str = "") -> Exported:
        return exported(self.get_frames(), "db", self.about()), {}

    def _prepare_csv(self, main_file_name: str = "") -> Exported:
        frames = self.get_frames()
        return exported(frames, "csv", replace(self.about(), heights=self._heights(frames))), {}

    def _prepare_json(self, main_file_name: str = "") -> Exported:
        return exported(self.get_frames(), "json", self.about()), {}

    def about(self) -> About:
        """Return what files in other formats tell of the frames besides themselves."""
        return About(self.level, str(self.base.attributes.get("energy_zero", "as computed")), str(self.uuid))

    def _heights(self, frames: list[Atoms]) -> list[float]:
        """Return the heights of frames above their convex hull, eV/atom; none if they have no hull, as differences of labels."""
        from aiida_gaprss.analysis.hull import HullError, above_hull  # takes a second to import

        with suppress(HullError):
            return [] if isinstance(self.level, Difference) else above_hull(frames).tolist()
        return []

    def text(self) -> str:
        """Return the extended XYZ file."""
        return self.base.repository.get_object_content(self.FILENAME, "r")

    def get_frames(self) -> list[Atoms]:
        """Return the frames."""
        return fr.loads(self.text())

    def frame(self, index: int) -> Atoms:
        """Return one frame by its number; the file of a stored dataset is not read again for every frame."""
        if not self.is_stored:
            return self.get_frames()[index]
        return _stored_frames(self.uuid)[index].copy()

    def get_frame(self, frame_id: str) -> Atoms:
        """Return one frame by its id.

        :raises KeyError: if there is none.
        """
        for atoms in self.get_frames():
            if atoms.info["frame_id"] == frame_id:
                return atoms
        raise KeyError(f"no frame {frame_id} in dataset {self.pk}")

    def index(self, frames: Iterable[Atoms] | None = None) -> str:
        """Write the fingerprints of the labelled frames into the extra :attr:`INDEX`, where a query finds them, and return it.

        :param frames: those of the dataset, if they are at hand.
        """
        text = "".join(fingerprint(a) for a in (self.get_frames() if frames is None else frames) if fr.is_labelled(a))
        self.base.extras.set(self.INDEX, text)
        return text

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return int(self.base.attributes.get("frames"))

    @property
    def elements(self) -> list[str]:
        """Chemical symbols that occur, sorted."""
        return list(self.base.attributes.get("elements"))

    @property
    def level_of_theory(self) -> str:
        """One line that names code, functional and settings of the labels."""
        return str(self.base.attributes.get("level_of_theory"))

    @property
    def level(self) -> Level | str:
        """What decides the labels, to be compared by :func:`aiida_gaprss.levels.difference`; or the line that says it."""
        content = self.base.attributes.get("level", None)
        return Level.from_dict(content) if content else self.level_of_theory


def fingerprint(atoms: Atoms) -> str:
    """Return a short hash of what decides a label (:func:`~aiida_gaprss.frames.label_key`); what it finds is to be compared."""
    return hashlib.blake2b(fr.label_key(atoms), digest_size=FINGERPRINT // 2).hexdigest()


def fingerprints(index: Any) -> list[str] | None:
    """Return the fingerprints that an index (:attr:`Dataset.INDEX`) is made of; None if it is missing or something else."""
    if not isinstance(index, str) or len(index) % FINGERPRINT:
        return None
    return [index[i : i + FINGERPRINT] for i in range(0, len(index), FINGERPRINT)]


@lru_cache(maxsize=2)
def _stored_frames(uuid: str) -> tuple[Atoms, ...]:
    """Return the frames of a stored, hence immutable, dataset; they must not be changed."""
    return tuple(load_node(uuid).get_frames())
