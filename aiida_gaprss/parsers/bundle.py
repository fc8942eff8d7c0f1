"""Parser of gaprss.bundle: labels from the packed outputs."""

from __future__ import annotations

import io
import zipfile

from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.bundle import bundled_reference
from aiida_gaprss.levels import Level
from aiida_gaprss.parsers.frames import NOT_REACHED, FramesParser
from aiida_gaprss.reference import PER_FRAME, set_labels_of_step
from aiida_gaprss.reference.common import level_of_content


class BundleParser(FramesParser):
    """Put the labels that the program printed for every frame on it; a frame without keeps the reason."""

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the frame with its labels, or with the reason why there are none."""
        fr.drop_labels(source)
        source.info["label_uuid"] = self.node.uuid
        if status == NOT_REACHED:
            source.info["label_status"] = status
            return [source]
        module = PER_FRAME[bundled_reference(self.node.inputs)]
        try:
            set_labels_of_step(module.read_bundle(self.output(source.info["frame_id"], module.BUNDLE_OUTPUT)), source)
            source.info["label_status"] = "ok"
        except (ValueError, KeyError, FileNotFoundError, zipfile.BadZipFile) as exception:
            why = f"{exception}" if status == "ok" else f"{exception} ({status})"
            source.info["label_status"] = f"failed: {why}"
        if "attempt" in self.node.inputs and self.node.inputs.attempt.value:
            source.info["label_attempt"] = self.node.inputs.attempt.value + 1
        return [source]

    def output(self, frame_id: str, name: str) -> str:
        """Return what the program printed for a frame."""
        content = self.retrieved.base.repository.get_object_content(f"raw/{frame_id}.zip", "rb")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if name not in archive.namelist():
                raise ValueError(f"the program wrote no {name}")
            return archive.read(name).decode("utf-8", errors="replace")

    def level_of_theory(self) -> Level | str:
        """Return the level of theory, the same as of labels that were not bundled."""
        name = bundled_reference(self.node.inputs)
        return level_of_content(PER_FRAME[name].level_of_theory(self.node.inputs[name]))
