"""Label many small frames in one scheduler job: the DFT program runs for each in a folder of its own, side by side."""

from __future__ import annotations

from typing import Any

from aiida.common import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida.orm import Int

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.outside import base_name
from aiida_gaprss.reference import bundled, define, per_frame
from aiida_gaprss.reference.common import parameters_of, sorted_by_number

#: Of a frame by its number: the folder in which its program runs, and where its files are packed. Nothing that a name says leads
#: anywhere.
FOLDER, PACKED = "frames/{index:05d}", "raw/{index:05d}.zip"


class BundleCalculation(FramesCalculation):
    """Run the program of a frame-by-frame reference on every frame of a dataset in one job.

    ``code`` is a python with ase on the same computer; the program and its settings stand in the namespace of the reference.
    Input and output of every frame come back as ``raw/<number of the frame, from 0>.zip`` in the retrieved folder, and the labels
    are read from them with the checks of ``aiida_gaprss.io.outputs``.
    """

    TASK = "program"
    PARSER = "gaprss.bundle"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the namespaces of the references that can be bundled."""
        super().define(spec)
        define(spec.inputs, with_bundles=True)
        spec.input("attempt", valid_type=Int, required=False, help="0 (default) for the first; 1 for the first of the retries.")
        spec.inputs.validator = _validate

    def task_settings(self) -> dict[str, Any]:
        """Return command, folders and what is kept."""
        name = bundled_reference(self.inputs)
        module, inputs = bundled(name), self.inputs[name]
        prepend = inputs["code"].prepend_text.strip()
        command = module.bundle_command(inputs)
        return {
            "command": f"{prepend}\n{command}" if prepend else command,
            "output": module.BUNDLE_STDOUT,
            "keep": list(module.BUNDLE_KEEP),
            "folder": FOLDER,
            "packed": PACKED,
        }

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the input of every frame, and the pseudopotentials once."""
        info = super().prepare_for_submission(folder)
        name = bundled_reference(self.inputs)
        module, inputs = bundled(name), self.inputs[name]
        attempt = self.inputs.attempt.value if "attempt" in self.inputs else 0
        for index, atoms in enumerate(self.inputs.frames.get_frames()):
            in_vacuum = fr.is_in_vacuum(atoms)
            files = module.bundle_files(inputs, sorted_by_number(atoms)[0], parameters_of(inputs, in_vacuum, attempt), in_vacuum)
            where = folder.get_subfolder(FOLDER.format(index=index), create=True)
            for file_name, text in files.items():
                with where.open(base_name(file_name, "a file of the program"), "w", encoding="utf-8") as handle:
                    handle.write(text)
        shared = folder.get_subfolder("pseudo", create=True)
        pseudos = module.bundle_pseudos(inputs)
        for file_name, content in pseudos.items():
            with shared.open(base_name(file_name, "the name of a pseudopotential"), "wb") as handle:
                handle.write(content)
        # They are nodes already; POTCAR files, moreover, may not be passed on with the calculation.
        info.provenance_exclude_list = [*(info.provenance_exclude_list or []), *(f"pseudo/{name}" for name in pseudos)]
        info.retrieve_list = [*(info.retrieve_list or []), ("raw", ".", 1)]
        return info


def bundled_reference(inputs: Any) -> str:
    """Return the name of the reference whose namespace is given."""
    return next(name for name in per_frame() if getattr(inputs, name, None))


def _validate(inputs: dict[str, Any], ports: Any) -> str | None:
    known = [name for name in per_frame() if name in ports]
    if not known:  # exposed by a work chain that gives them later
        return None
    given = [name for name in known if inputs.get(name)]
    if len(given) != 1:
        return f"give exactly one reference of {', '.join(known)}; got {', '.join(given) or 'none'}"
    return None
