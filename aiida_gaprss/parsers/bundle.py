"""Parser of gaprss.bundle: labels from the packed outputs."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cached_property

from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.bundle import PACKED, bundled_reference
from aiida_gaprss.levels import Level
from aiida_gaprss.outside import shown
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import DamageError, same_geometry
from aiida_gaprss.reference import bundled, set_labels_of_step
from aiida_gaprss.reference.common import level_of_content
from aiida_gaprss.runners.status import NOT_REACHED_WORD


class BundleParser(FramesParser):
    """Put the labels that the program printed for every frame on it; a frame without keeps the reason."""

    WHAT = "labels of a bundle"

    @cached_property
    def attempt(self) -> int:
        """Return 0 for the first time, 1 for the first of the retries."""
        return int(self.node.inputs.attempt.value) if "attempt" in self.node.inputs else 0

    @cached_property
    def reference(self) -> str:
        """Return the name of the reference."""
        return bundled_reference(self.node.inputs)

    def sources(self) -> list[Atoms]:
        """Return the input frames, and remember their numbers, by which their files are named."""
        frames = super().sources()
        self.numbers = {atoms.info["frame_id"]: number for number, atoms in enumerate(frames)}
        return frames

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse a frame whose packed files are missing, or are not those that the job packed for it."""
        ran = not status.startswith((NOT_REACHED_WORD, "failed"))
        if len(results) != ran:
            raise DamageError(f"status is {shown(status)!r} and frames are {len(results)}, expected {int(ran)}")
        if not ran:
            return
        same_geometry(source, results[0])
        digest = f"sha256:{hashlib.sha256(self.packed(source)).hexdigest()}"
        if results[0].info.get("packed") != digest:
            raise DamageError(f"{self.path(source)} has {digest}, expected {shown(results[0].info.get('packed'))}")

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the frame with its labels, or with the reason why there are none."""
        fr.drop_labels(source)
        source.info["label_uuid"] = self.node.uuid
        source.info["label_status"] = status
        if status.startswith(NOT_REACHED_WORD):
            return [source]
        if results:
            try:
                self.set_labels(source)
                source.info["label_status"] = "ok"
            except (ValueError, KeyError) as exception:
                why = f"{exception}" if status == "ok" else f"{exception} ({status})"
                source.info["label_status"] = f"failed: {why}"
        if self.attempt:
            source.info["label_attempt"] = self.attempt + 1
        return [source]

    def set_labels(self, source: Atoms) -> None:
        """Put the labels on a frame that the program printed for it.

        :raises ValueError: if it printed none that may be used.
        """
        module = bundled(self.reference)
        with zipfile.ZipFile(io.BytesIO(self.packed(source))) as archive:
            if module.BUNDLE_OUTPUT not in archive.namelist():
                raise ValueError(f"the program wrote no {module.BUNDLE_OUTPUT}")
            printed = archive.read(module.BUNDLE_OUTPUT).decode("utf-8", errors="replace")
        set_labels_of_step(module.read_bundle(printed), source)

    def path(self, source: Atoms) -> str:
        """Return the name of the packed files of a frame."""
        return PACKED.format(index=self.numbers[source.info["frame_id"]])

    def packed(self, source: Atoms) -> bytes:
        """Return the packed files of a frame.

        :raises DamageError: if they did not come back.
        """
        try:
            return self.retrieved.base.repository.get_object_content(self.path(source), "rb")
        except FileNotFoundError as exception:
            raise DamageError(f"{self.path(source)} did not come back") from exception

    def level_of_theory(self) -> Level | str:
        """Return the level of theory, the same as of labels that were not bundled."""
        return level_of_content(bundled(self.reference).level_of_theory(self.node.inputs[self.reference]))
