"""Jobs of all kinds that have ended, made in a second: real tasks on real frames, for the parsers to read again and again."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from aiida.common.links import LinkType
from aiida.orm import CalcJobNode, Dict, FolderData, Int, Str
from aiida.plugins import CalculationFactory, ParserFactory
from ase import Atoms
from ase.build import bulk

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.runners import FOLDER
from aiida_gaprss.settings.jobs import MdSettings, NebSettings, RelaxSettings, SpeedSettings

#: The kinds of jobs that give one line for each frame.
KINDS = ("label", "evaluate", "relax", "md", "neb", "speed", "describe", "buildcell", "bundle")

EMT = {"calculator": "emt", "arguments": {}}
MD = {"program": [{"start_K": 300.0, "ps": 0.004}], "snapshot_every": 2}
SOAP = {"cutoff": 3.5, "cutoff_transition_width": 1.0, "n_max": 2, "l_max": 2, "atom_sigma": 0.5, "elements": ["Cu"]}


def copper(n=6):
    """Return cells of copper, two of them the same, after the isolated atom."""
    atom = bulk("Cu", "sc", a=12.0)
    atom.info.update(frame_id="atom-Cu", config_type="isolated_atom")
    frames = [atom]
    for number in range(n):
        atoms = bulk("Cu", a=3.6, cubic=number % 2 == 0)
        atoms.rattle(0.05, seed=number)
        atoms.info.update(frame_id=f"cu-{number}", config_type="fcc", generation=1, seed=number, pressure_GPa=1.0)
        frames.append(atoms)
    return frames


def _number(source):
    return 0 if source.info["frame_id"] == "atom-Cu" else 1 + int(source.info["frame_id"].partition("-")[2])


def _set_labels(parser, source):
    with zipfile.ZipFile(io.BytesIO(parser.packed(source))) as archive:
        found = json.loads(archive.read("labels.json"))
    fr.set_labels(source, found["energy"], [[0.0] * 3] * found["atoms"])


#: In the place of a DFT program and its outputs: labels in a file of their own in each archive.
NO_PROGRAM = {"set_labels": _set_labels, "attempt": 0, "path": lambda _, source: f"raw/{_number(source):05d}.zip"}


@dataclass
class Job:
    """A job that has ended: its node, its results, and what else came back (by name)."""

    kind: str
    node: CalcJobNode
    sources: list[Atoms]
    results: bytes
    files: dict[str, bytes]

    def parse(self, folder: Path, results: bytes | None = None, files: dict[str, bytes] | None = None):
        """Return exit code and outputs of the parser, of other results or files than those of the job."""
        (folder / "results.jsonl").write_bytes(self.results if results is None else results)
        retrieved = FolderData()
        for name, content in (self.files if files is None else files).items():
            retrieved.base.repository.put_object_from_bytes(content, name)
        parser_class = ParserFactory(f"gaprss.{self.kind}")
        # What does not change is not asked of the database again.
        given = {"sources": lambda _: [atoms.copy() for atoms in self.sources], "level_of_theory": lambda _: "none"}
        other = {"retrieved": retrieved, "potential": "uuid", **given, **(NO_PROGRAM if self.kind == "bundle" else {})}
        parser = type(parser_class.__name__, (parser_class,), other)(self.node)
        code = parser.parse(retrieved_temporary_folder=str(folder))
        return code, dict(parser.outputs)

    def lines(self):
        """Return the lines of the results."""
        return [json.loads(text) for text in self.results.splitlines()]


def job(kind: str) -> Job:
    """Return a job of a kind that did what it should."""
    frames = copper()
    inputs = {"frames": Dataset(frames, level_of_theory="unlabelled").store()}
    settings = {
        "label": EMT,
        "evaluate": {**EMT, "local_energies": True, "variances": False},
        "relax": {**RelaxSettings(max_steps=4, snapshot_steps=[0, 2]).model_dump(), **EMT},
        "md": {**MdSettings(**MD).model_dump(), **EMT},
        "neb": {**NebSettings(atom=0, to=(0.0, 0.0, 1.0), images=1, max_steps=2).model_dump(), **EMT},
        "describe": SOAP,
        "speed": {**SpeedSettings(calls=2).model_dump(), **EMT},
        "buildcell": {"command": "", "text": "#", "timeout_s": 5.0},
        "bundle": {},
    }[kind]
    given = {
        "label": {"settings": EMT},
        "evaluate": {"settings": {"local_energies": True}},
        "relax": {"settings": {"max_steps": 4}},
        "md": {"settings": MD},
        "describe": {"settings": SOAP},
        "speed": {"settings": {"calls": 2}},
    }.get(kind, {})
    if kind in ("evaluate", "relax", "md", "neb", "speed"):
        inputs["potential"] = Int(1).store()  # parsers want its uuid only
    if kind == "buildcell":
        inputs = {"n": Int(4).store(), "seed": Int(1).store(), "name": Str("cell").store()}
    node = CalcJobNode(process_type=CalculationFactory(f"gaprss.{kind}").build_process_type())
    for name, value in {**inputs, **{key: Dict(value).store() for key, value in given.items()}}.items():
        node.base.links.add_incoming(value, LinkType.INPUT_CALC, name)
    node.store()
    sources = ParserFactory(f"gaprss.{kind}")(node).sources()
    files = {}
    if kind in ("buildcell", "bundle"):
        lines = [_without_program(kind, index, atoms, files) for index, atoms in enumerate(sources)]
    else:
        lines = _worked(kind, settings, sources)
    summary = {"frames": len(sources), "done": len(lines), "processes": 1, "wall_s": 1.5, "python": "3.11.0", "complete": True}
    files["summary.json"] = json.dumps(summary).encode()
    return Job(kind, node, sources, "".join(f"{line}\n" for line in lines).encode(), files)


def _worked(kind, settings, sources):
    """Return the lines that the worker of a batch writes."""
    sys.path.insert(0, str(FOLDER))
    try:
        batch, task = import_module("batch"), import_module(kind).TASK
    finally:
        sys.path.remove(str(FOLDER))
    task.setup(settings)
    batch._task, batch._begun = task, [0] * len(sources)
    # As they are read from the input: by another reader than ours.
    batch._frames = [atoms.copy() for atoms in sources]
    return [batch._work(index, 1e12) for index in range(len(sources))]


def _without_program(kind, index, atoms, files):
    """Return the line of a task whose program is none of ours."""
    from aiida_gaprss.runners.identity import identity, sealed

    out = atoms.copy()
    out.info = {}
    if kind == "buildcell":
        out = bulk("Cu", a=3.6 + 0.1 * index, cubic=True)
        out.info = {"n_operations": 4}
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.json", json.dumps({"energy": -1.5 * index, "atoms": len(atoms)}))
        files[f"raw/{index:05d}.zip"] = buffer.getvalue()
        out.info = {"packed": f"sha256:{hashlib.sha256(buffer.getvalue()).hexdigest()}"}
    line = {**identity(index, atoms), "status": "ok", "seconds": 0.1, "cpu": 0.1, "frames": extended(out)}
    return sealed(line)


def extended(*frames):
    """Return frames as a runner writes them."""
    from ase.io.extxyz import write_extxyz

    buffer = io.StringIO()
    for atoms in frames:
        write_extxyz(buffer, atoms, write_results=False)
    return buffer.getvalue()


def content(outputs):
    """Return what the outputs of a parser say of each frame: everything but times."""
    if "vectors" in outputs:
        return {index: row.tobytes() for index, row in enumerate(outputs["vectors"].get_array("vectors"))}
    return {atoms.info["frame_id"]: fr.dumps([atoms]) for atoms in outputs["frames"].get_frames()} if "frames" in outputs else {}
