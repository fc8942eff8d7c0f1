"""From a file that asks for a database to the inputs of its work chain, and what it will cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from aiida.orm import AbstractCode, Dict, ProcessNode, load_node
from ase import Atoms
from pydantic import Field, ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.campaign.codes import code_of
from aiida_gaprss.campaign.crystals import called, named_crystals
from aiida_gaprss.campaign.file import OF_REFERENCE, Codes, Identifier, Options, check_reference
from aiida_gaprss.campaign.inputs import label_inputs
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.outside import words_of
from aiida_gaprss.reference.common import kpoint_mesh
from aiida_gaprss.settings.calculators import find
from aiida_gaprss.settings.computer import job_options
from aiida_gaprss.settings.faults import Fault, Place
from aiida_gaprss.settings.jobs import LabelSettings
from aiida_gaprss.settings.model import Count, Label, Line, Model, SeedNumber, complaints
from aiida_gaprss.settings.yamlfile import ConfigError, Lines, parse, read
from aiida_gaprss.strategies.lists import CHOOSE, MAX_LABELS, Choice, StrategyList
from aiida_gaprss.strategies.seeds import with_texts


class Found(Model):
    """Crystals that a search or a campaign has found."""

    of: Identifier = Field(description="campaign, search or dataset, by pk, uuid or label")
    lowest: Count = Field(3, description="so many of its lowest minima")


class BuildFile(Model):
    """A file that asks for a database; how frames are labelled is said as in a campaign file."""

    name: Label | None = Field(None, description="label of the process")
    seed: SeedNumber = 1
    formula: dict[str, Count] | None = Field(
        None, description="elements, for strategies without crystals; default: the crystals'"
    )
    crystals: list[Line] = Field(default_factory=list, description="files of crystals, relative to this one")
    minima: Found | None = Field(None, description="crystals that a search has found")
    materials_project: list[Label] = Field(
        default_factory=list, description="crystals of the Materials Project, as mp-149; needs a key (MP_API_KEY)"
    )
    potential: Identifier | None = Field(None, description="runs molecular dynamics; of a campaign or fit, its last one")
    calculator: LabelSettings | None = Field(
        None, description="an ASE calculator that runs it in the place of a potential, as ase under reference"
    )
    codes: Codes = Field(default_factory=Codes, description="python runs the potential; label_python, if given, the calculator")
    options: Options = Field(default_factory=Options, description="relax are those of the jobs of potential or calculator")
    max_labels: Count | None = Field(None, description=MAX_LABELS)
    choose: Choice = Field("random", description=CHOOSE)
    database: list[Identifier] = Field(
        default_factory=list, description="datasets of labelled frames, from which those that are chosen should differ"
    )
    strategies: dict[str, Any] = Field(min_length=1, description="each with its kind and its settings")
    reference: dict[str, Any] | None = Field(None, description="as in a campaign file; none: frames without labels")


@dataclass
class Cost:
    """What a strategy asks for.

    ``plane_waves``: Σ N³ n_k, N atoms and n_k k-points of a frame: what plane-wave DFT takes up to a factor.
    """

    frames: int
    atoms: int
    largest: int
    plane_waves: float


def build_from(path: Path) -> dict[str, Any]:
    """Return the inputs of ``BuildWorkChain`` that a file becomes.

    :raises ConfigError: with everything that is wrong, each with its line.
    """
    data, lines = parse(read(path), path, "strategies: {waves: {kind: nondiagonal}}")
    own = {key: value for key, value in data.items() if key in BuildFile.model_fields}
    try:
        file = BuildFile(**own)
        unknown = [key for key in data if key not in own and key not in OF_REFERENCE]
    except ValidationError as error:
        raise ConfigError(str(path), lines.located(complaints(error))) from error
    known = ", ".join(dict.fromkeys((*BuildFile.model_fields, *OF_REFERENCE)))
    if unknown:
        faults = [Fault((key,), f"unknown key, expected one of {known}") for key in unknown]
        raise ConfigError(str(path), lines.located(faults))
    strategies = _strategies(file, lines, path)
    crystals = _crystals(file, lines, path)
    elements = strategies.elements(crystals.get_frames() if crystals is not None else [])
    if not elements:
        raise ConfigError(str(path), lines.located([Fault(("formula",), "give crystals, or a formula: no elements are known")]))
    inputs: dict[str, Any] = {"settings": Dict(strategies.model_dump())}
    inputs |= {"crystals": crystals} if crystals is not None else {}
    inputs |= {"database": there} if (there := _database(file, lines, path)) else {}
    inputs |= _driver(file, strategies, lines, path)
    if file.reference is not None:
        of_reference = {key: value for key, value in data.items() if key in OF_REFERENCE}
        inputs["label"] = label_inputs(check_reference(of_reference, lines, path, elements))
    if file.name is not None:
        inputs["metadata"] = {"label": file.name}
    return inputs


def _strategies(file: BuildFile, lines: Lines, path: Path) -> StrategyList:
    """Return the strategies; files that they name are read into their texts."""
    given, unread = with_texts(file.strategies, path.parent)
    faults = [Fault(("strategies", name, "file"), message) for name, message in unread.items()]
    try:
        found = StrategyList(
            strategies=given, formula=file.formula, seed=file.seed, max_labels=file.max_labels, choose=file.choose
        )
    except ValidationError as error:
        faults += complaints(error)
    if faults:
        raise ConfigError(str(path), lines.located(faults))
    return found


def _crystals(file: BuildFile, lines: Lines, path: Path) -> Dataset | None:
    """Return the crystals of all sources; None without any."""
    found: dict[str, Atoms] = {}
    faults: list[Fault] = []
    of_file = partial(named_crystals, periodic=True)
    sources: list[tuple[Place, Any, Callable[[Any], dict[str, Atoms]]]] = []
    sources += [(("crystals", number), path.parent / name, of_file) for number, name in enumerate(file.crystals)]
    sources += [(("minima",), file.minima, lowest_of)] if file.minima is not None else []
    sources += [(("materials_project", n), name, of_materials_project) for n, name in enumerate(file.materials_project)]
    for place, wanted, get in sources:
        try:
            crystals = get(wanted)
        except ValueError as error:
            faults.append(Fault(place, str(error)))
            continue
        faults += [Fault(place, f"there are two crystals {name}; call one otherwise") for name in crystals if name in found]
        found |= crystals
    if faults:
        raise ConfigError(str(path), lines.located(faults))
    return Dataset(found.values(), level_of_theory="unlabelled") if found else None


def _database(file: BuildFile, lines: Lines, path: Path) -> dict[str, Dataset]:
    """Return the datasets that are named."""
    found, faults = {}, []
    for number, identifier in enumerate(file.database):
        try:
            node = _node(identifier, "labels")
        except ValueError as error:
            faults.append(Fault(("database", number), str(error)))
            continue
        if isinstance(node, Dataset):
            found[f"d{number:02d}"] = node
        else:
            faults.append(Fault(("database", number), f"<{identifier}> is no dataset"))
    if faults:
        raise ConfigError(str(path), lines.located(faults))
    return found


def lowest_of(wanted: Found) -> dict[str, Atoms]:
    """Return the lowest minima of a campaign, a search or a dataset, by their names.

    :raises ValueError: if there are none.
    """
    dataset = _node(wanted.of, "minima_frames")
    if not isinstance(dataset, Dataset):
        raise ValueError(f"<{wanted.of}> has no minima, and is no dataset")
    crystals: dict[str, Atoms] = {}
    found = [atoms for atoms in dataset.get_frames() if not fr.is_in_vacuum(atoms) and atoms.pbc.all()]
    for atoms in sorted(found, key=_per_atom)[: wanted.lowest]:
        crystals |= called(fr.plain_name(str(atoms.info["frame_id"]), "crystal"), atoms)
    if not crystals:
        raise ValueError(f"<{wanted.of}> has no minima")
    return crystals


def _per_atom(atoms: Atoms) -> float:
    """Return the energy per atom by the reference, by a potential if there is no other; without any, last."""
    energy = fr.energy(atoms)
    energy = fr.energy(atoms, fr.PREDICTION) if energy is None else energy
    return np.inf if energy is None else float(energy) / len(atoms)


def _node(identifier: Any, output: str) -> Any:
    """Return a node, or an output of it, if it is a process that has one of this name."""
    try:
        node = load_node(identifier if isinstance(identifier, int) else str(identifier))
    except Exception as error:  # of AiiDA, of several kinds
        raise ValueError(f"no node {identifier}: {error}") from error
    there = isinstance(node, ProcessNode) and output in node.outputs
    return node.outputs[output] if there else node


def of_materials_project(identifier: str) -> dict[str, Atoms]:
    """Return a crystal of the Materials Project, by its name.

    :raises ValueError: without a key, or if there is no such crystal.
    """
    from pymatgen.ext.matproj import MPRester
    from pymatgen.io.ase import AseAtomsAdaptor

    try:
        with MPRester() as project:
            structure = project.get_structure_by_material_id(identifier)
    except Exception as error:  # keys, connections, answers: whatever the client comes across
        raise ValueError(f"{identifier}: {words_of(error)}; a key of materialsproject.org belongs into MP_API_KEY") from error
    return called(fr.plain_name(identifier, "crystal"), AseAtomsAdaptor.get_atoms(structure))


def _driver(file: BuildFile, strategies: StrategyList, lines: Lines, path: Path) -> dict[str, Any]:
    """Return what runs trajectories, a potential or a calculator, and its jobs, if strategies need them."""
    if file.potential is not None and file.calculator is not None:
        fault = Fault(("calculator",), "give either potential or calculator: one of them runs the trajectories")
        raise ConfigError(str(path), lines.located([fault]))
    if not strategies.runs:
        return {}
    place = "potential" if file.calculator is None else "calculator"
    try:
        code = code_of("python", (file.calculator and file.codes.label_python) or file.codes.python)
        given = _calculator(file, code) if file.calculator is not None else _potential(file, strategies)
    except ValueError as error:
        raise ConfigError(str(path), lines.located([Fault((place,), str(error))])) from error
    options = job_options(code.computer, file.options.relax.model_dump(exclude_none=True))
    return {place: given, "jobs": {"code": code, "metadata": {"options": options}}}


def _potential(file: BuildFile, strategies: StrategyList) -> Potential:
    """Return the potential that is named.

    :raises ValueError: if there is none.
    """
    if file.potential is None:
        names = ", ".join(strategies.runs)
        raise ValueError(f"{names} need a potential, expected its pk, uuid or label; or an ASE calculator (calculator: …)")
    potential = _node(file.potential, "potential")
    if not isinstance(potential, Potential):
        raise ValueError(f"<{file.potential}> is no potential, and has none")
    return potential


def _calculator(file: BuildFile, code: AbstractCode) -> Dict:
    """Return the calculator that is named, if it is one where it will run.

    :raises ValueError: if it is none.
    """
    assert file.calculator is not None
    fault, _ = find(file.calculator.calculator, code, bool(file.options.relax.prepend_text))
    if fault:
        raise ValueError(fault)
    return Dict(file.calculator.model_dump())


def cost_of(frames: Sequence[Atoms], spacing: float | None, each: int = 1) -> Cost:
    """Return what the frames of a strategy ask for.

    :param spacing: of k-points, 1/Å without 2π; None: one for each frame.
    :param each: so many labels a frame, of strategies whose frames are where trajectories begin.
    """
    sizes = [len(atoms) for atoms in frames]
    work = sum(len(atoms) ** 3 * (each * kpoints_of(atoms, spacing) + steps_of(atoms, spacing)) for atoms in frames)
    return Cost(each * len(frames), each * sum(sizes), max(sizes, default=0), float(work))


def steps_of(atoms: Atoms, spacing: float | None) -> int:
    """Return the steps that the program of the reference makes of a frame, times their k-points; 0 if it runs none.

    :param spacing: of the k-points of labels.
    """
    task = atoms.info.get("task", {})
    if "steps" not in task:
        return 0
    own = task["kpoint_spacing"]
    return int(task["steps"] + 1) * (1 if own == "gamma" else kpoints_of(atoms, spacing if own is None else own))


def spacing_of(label: Mapping[str, Any] | None) -> float | None:
    """Return the spacing of k-points of a reference, 1/Å without 2π; None if it has none.

    :param label: inputs of ``LabelWorkChain``.
    """
    given = [part["kpoint_spacing"] for part in (label or {}).values() if isinstance(part, Mapping) and "kpoint_spacing" in part]
    return float(given[0].value) if given else None


def kpoints_of(atoms: Atoms, spacing: float | None) -> int:
    """Return how many k-points a frame has, those that the reversal of time makes equal counted once."""
    if spacing is None or fr.is_in_vacuum(atoms):
        return 1
    return int(np.prod(kpoint_mesh(atoms.cell.array, spacing))) // 2 + 1
