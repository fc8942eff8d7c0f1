"""From a file that asks for a database to the inputs of its work chain, and what it will cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from aiida.orm import AbstractCode, Dict
from ase import Atoms
from pydantic import Field, ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.campaign.codes import code_of
from aiida_gaprss.campaign.crystals import called, named_crystals
from aiida_gaprss.campaign.file import OF_REFERENCE, CampaignConfig, Codes, Identifier, Options, check_reference
from aiida_gaprss.campaign.inputs import OF_LABELS, Findings, faults_besides, label_inputs
from aiida_gaprss.campaign.nodes import datasets_of, is_labelled, output_of
from aiida_gaprss.campaign.strategies import lack_of_relaxation, lack_of_variances, made_by, small_enough
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.outside import words_of
from aiida_gaprss.reference.common import kpoint_mesh
from aiida_gaprss.settings.calculators import find
from aiida_gaprss.settings.computer import job_options
from aiida_gaprss.settings.faults import Fault, Place, news
from aiida_gaprss.settings.jobs import DRIVERS, LabelSettings
from aiida_gaprss.settings.model import Count, Label, Line, Model, SeedNumber, complaints
from aiida_gaprss.settings.yamlfile import ConfigError, parse, read
from aiida_gaprss.strategies.lists import CHOOSE, MAX_LABELS, RELAX, Choice, StrategyList, lacks_of_choice
from aiida_gaprss.strategies.relaxed import RelaxedCrystals
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
    potential: Identifier | None = Field(
        None, description="runs molecular dynamics, relaxes crystals, says how sure it is; of a campaign or fit, its last one"
    )
    calculator: LabelSettings | None = Field(
        None, description="an ASE calculator that runs it in the place of a potential, as ase under reference"
    )
    codes: Codes = Field(default_factory=Codes, description="python runs the potential; label_python, if given, the calculator")
    options: Options = Field(default_factory=Options, description="relax are those of the jobs of potential or calculator")
    max_labels: Count | None = Field(None, description=MAX_LABELS)
    choose: Choice = Field("random", description=CHOOSE)
    database: list[Identifier] = Field(
        default_factory=list,
        description="labelled frames from which those that are chosen should differ: datasets, or campaigns, databases and "
        "fits, with all theirs",
    )
    relax: RelaxedCrystals | None = Field(None, description=RELAX)
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


@dataclass
class Asked:
    """What a file asks for: inputs of ``BuildWorkChain``, and the frames that its strategies make of the crystals as given."""

    inputs: dict[str, Any]
    strategies: StrategyList
    made: dict[str, list[Atoms]]


def build_from(path: Path) -> dict[str, Any]:
    """Return the inputs of ``BuildWorkChain`` that a file becomes.

    :raises ConfigError: with everything that is wrong, each with its line.
    """
    return asked_by(path).inputs


def asked_by(path: Path) -> Asked:
    """Return what a file asks for.

    :raises ConfigError: with everything that is wrong, each with its line; a part that is wrong does not hide another.
    """
    data, lines = parse(read(path), path, "strategies: {waves: {kind: nondiagonal}}")
    findings = Findings(lines)
    file = _right_of(data, findings)
    strategies = _strategies(file, path, findings)
    crystals = _crystals(file, path, findings)
    inputs: dict[str, Any] = {"crystals": Dataset(crystals, level_of_theory="unlabelled")} if crystals else {}
    inputs |= {"database": there} if (there := _database(file, findings)) else {}
    inputs |= _driver(file, strategies, findings)
    elements = _elements(file, crystals, findings)
    inputs |= _of_reference(data, elements, path, findings)
    made: dict[str, list[Atoms]] = {}
    if strategies is not None:
        _check_relaxation(strategies, file, crystals, inputs.get("potential"), findings)
        made = _made(strategies, file, crystals, inputs, findings)
    if findings.faults or strategies is None:
        raise ConfigError(str(path), findings.faults)
    inputs["settings"] = Dict(strategies.model_dump())
    inputs |= {"metadata": {"label": file.name}} if file.name is not None else {}
    return Asked(inputs, strategies, made)


def _right_of(data: dict[str, Any], findings: Findings) -> BuildFile:
    """Return a file without the keys that are wrong; without strategies that can be read, it has none."""
    own = {key: value for key, value in data.items() if key in BuildFile.model_fields}
    known = ", ".join(dict.fromkeys((*BuildFile.model_fields, *OF_REFERENCE)))
    for key in (key for key in data if key not in own and key not in OF_REFERENCE):
        findings.fault((key,), f"unknown key, expected one of {known}")
    try:
        return BuildFile(**own)
    except ValidationError as error:
        found = complaints(error)
    findings.faults += findings.lines.located(found)
    wrong = {fault.place[0] for fault in found if fault.place}
    right = {key: value for key, value in own.items() if key not in wrong}
    return BuildFile.model_validate({**right, "strategies": right.get("strategies", {"": None})})


def _strategies(file: BuildFile, path: Path, findings: Findings) -> StrategyList | None:
    """Return the strategies; files that they name are read into their texts. Of some that are wrong, the others."""
    given, unread = with_texts(file.strategies, path.parent)
    others: dict[str, Any] = {"formula": file.formula, "seed": file.seed, "relax": file.relax, "max_labels": file.max_labels}
    faults = [Fault(("strategies", name, "file"), message) for name, message in unread.items()]
    lacks = lacks_of_choice(file.choose, file.max_labels)
    faults += [] if _has_faults(findings, "max_labels") else lacks
    choose = "random" if lacks else file.choose
    try:
        found = StrategyList(strategies=given, choose=choose, **others)
    except ValidationError as error:
        found = None
        faults += news(faults, [fault for fault in complaints(error) if fault.place != ("strategies", "")])
    findings.faults += findings.lines.located(faults)
    wrong = {fault.place[1] for fault in faults if fault.place[0] == "strategies" and len(fault.place) > 1}
    if found is not None and not wrong:
        return found
    right = {name: value for name, value in given.items() if name and name not in wrong}
    formula = None if _has_faults(findings, "formula") else file.formula
    return StrategyList(strategies=right, choose=choose, **{**others, "formula": formula}) if right else None


def _crystals(file: BuildFile, path: Path, findings: Findings) -> list[Atoms]:
    """Return the crystals of all sources."""
    found: dict[str, Atoms] = {}
    of_file = partial(named_crystals, periodic=True)
    sources: list[tuple[Place, Any, Callable[[Any], dict[str, Atoms]]]] = []
    sources += [(("crystals", number), path.parent / name, of_file) for number, name in enumerate(file.crystals)]
    sources += [(("minima",), file.minima, lowest_of)] if file.minima is not None else []
    sources += [(("materials_project", n), name, of_materials_project) for n, name in enumerate(file.materials_project)]
    for place, wanted, get in sources:
        try:
            crystals = get(wanted)
        except ValueError as error:
            findings.fault(place, str(error))
            continue
        for name in (name for name in crystals if name in found):
            findings.fault(place, f"there are two crystals {name}; call one otherwise")
        found |= crystals
    return list(found.values())


def _elements(file: BuildFile, crystals: Sequence[Atoms], findings: Findings) -> list[str]:
    """Return the elements, those of the formula or of the crystals."""
    formula = None if _has_faults(findings, "formula") else file.formula
    elements = sorted(formula or {symbol for atoms in crystals for symbol in atoms.symbols})
    if not elements and not _has_faults(findings, "formula", *_OF_CRYSTALS):
        findings.fault(("formula",), "give crystals, or a formula: no elements are known")
    return elements


def _database(file: BuildFile, findings: Findings) -> dict[str, Dataset]:
    """Return the labelled frames that are there already."""
    found: dict[str, Dataset] = {}
    for number, identifier in enumerate(file.database):
        try:
            datasets = datasets_of(identifier, f"d{number:02d}")
        except ValueError as error:
            findings.fault(("database", number), str(error))
            continue
        found |= datasets
        for node in (node for node in datasets.values() if not is_labelled(node)):
            findings.fault(("database", number), f"<{node.pk}> has no labels")
    return found


def _driver(file: BuildFile, strategies: StrategyList | None, findings: Findings) -> dict[str, Any]:
    """Return potential or calculator, and jobs, if anything needs them."""
    asking = strategies.asking_potential if strategies is not None else []
    if file.potential is not None and file.calculator is not None:
        findings.fault(("calculator",), "give either potential or calculator: one of them runs the trajectories")
        return {}
    if file.potential is None and "choose: variance" in asking:
        findings.fault(("choose",), "variance needs a potential, expected its pk, uuid or label (potential: …)")
    if file.calculator is not None:
        return _with_calculator(file.calculator, file, findings) if asking else {}
    if file.potential is None:
        return {}
    try:
        potential = output_of(file.potential, "potential")
        if not isinstance(potential, Potential):
            raise ValueError(f"<{file.potential}> is no potential, and has none")
    except ValueError as error:
        findings.fault(("potential",), str(error))
        return {}
    return _with_potential(potential, file, asking, findings) if asking else {}


def _with_potential(potential: Potential, file: BuildFile, asking: Sequence[str], findings: Findings) -> dict[str, Any]:
    """Return a potential, and the python that runs its jobs."""
    if "choose: variance" in asking and (lack := lack_of_variances(potential)):
        findings.fault(("choose",), lack)
    if (code := _python(file, "python", findings)) is None:
        return {"potential": potential}
    if fault := potential.family.fault_of_code(potential.facts, code.base.extras.all, code.full_label):
        findings.fault(("potential",), fault)
    return {"potential": potential, "jobs": _jobs(code, file)}


def _with_calculator(calculator: LabelSettings, file: BuildFile, findings: Findings) -> dict[str, Any]:
    """Return a calculator, if it is one where it will run, and the python that runs its jobs."""
    if (code := _python(file, "label_python" if file.codes.label_python else "python", findings)) is None:
        return {"calculator": Dict(calculator.model_dump())}
    fault, _ = find(calculator.calculator, code, bool(file.options.relax.prepend_text))
    if fault:
        findings.fault(("calculator",), fault)
    return {"calculator": Dict(calculator.model_dump()), "jobs": _jobs(code, file)}


def _python(file: BuildFile, name: str, findings: Findings) -> AbstractCode | None:
    """Return a python of the compute machine; None if there is none, which is told."""
    try:
        return code_of("python", getattr(file.codes, name))
    except ValueError as error:
        if not _has_faults(findings, "codes"):
            findings.fault(("codes", name), str(error))
    return None


def _jobs(code: AbstractCode, file: BuildFile) -> dict[str, Any]:
    options = job_options(code.computer, file.options.relax.model_dump(exclude_none=True))
    return {"code": code, "metadata": {"options": options}}


def _of_reference(data: dict[str, Any], elements: Sequence[str], path: Path, findings: Findings) -> dict[str, Any]:
    """Return the inputs of the labelling, if there is a reference; without elements, only its settings are checked."""
    given = {key: value for key, value in data.items() if key in OF_REFERENCE}
    if data.get("reference") is None:
        return {}
    try:
        if not elements:
            CampaignConfig(**given)
            return {}
        campaign = check_reference(given, findings.lines, path, elements)
    except ValidationError as error:
        findings.faults += news(findings.faults, findings.lines.located(complaints(error)))
        return {}
    except ConfigError as error:
        others = faults_besides(path, given, findings.lines, error.faults, OF_LABELS)
        findings.faults += news(findings.faults, [*error.faults, *others])
        return {}
    try:
        return {"label": label_inputs(campaign)}
    except ConfigError as error:
        findings.faults += news(findings.faults, error.faults)
        return {}


def _check_relaxation(
    strategies: StrategyList, file: BuildFile, crystals: Sequence[Atoms], potential: Potential | None, findings: Findings
) -> None:
    """Find out whether the crystals can be relaxed as is asked for."""
    if strategies.relax is None:
        return
    if not crystals and not _has_faults(findings, *_OF_CRYSTALS):
        findings.fault(("relax",), "there are no crystals to be relaxed (crystals, minima, materials_project)")
    if lack := lack_of_relaxation(strategies.relax, file.reference, file.potential or file.calculator):
        findings.fault(("relax", "by"), lack)
    if crystals and not small_enough(strategies, crystals):
        findings.fault(("relax", "most_atoms"), f"all crystals have more atoms than {strategies.relax.most_atoms}")
    if strategies.relax.by == "potential" and potential is not None:
        unknown = sorted({symbol for atoms in crystals for symbol in atoms.symbols} - set(potential.elements))
        if unknown:
            findings.fault(("potential",), f"it knows {', '.join(potential.elements)}, but crystals have {', '.join(unknown)}")


def _made(
    strategies: StrategyList, file: BuildFile, crystals: Sequence[Atoms], inputs: Mapping[str, Any], findings: Findings
) -> dict[str, list[Atoms]]:
    """Return the frames of the strategies; what follows from faults that are known already is not told."""
    small = [crystals[number] for number in small_enough(strategies, crystals)]
    lost: set[str] = {"crystals"} if not small and _has_faults(findings, "relax", *_OF_CRYSTALS) else set()
    named = file.potential is not None or file.calculator is not None or _has_faults(findings, *DRIVERS)
    lost |= {"potential"} if named and not any(driver in inputs for driver in DRIVERS) else set()
    if not strategies.elements(small):
        return {}
    unsure = file.reference is not None and "label" not in inputs
    possible = {n: one for n, one in strategies.strategies.items() if not (one.wants & lost or (one.by_reference and unsure))}
    made, faults = made_by(strategies.model_copy(update={"strategies": possible}), small, inputs)
    findings.faults += news(findings.faults, findings.lines.located(faults))
    return made


_OF_CRYSTALS = ("crystals", "minima", "materials_project")


def _has_faults(findings: Findings, *keys: str) -> bool:
    """Tell whether anything is wrong at one of these keys."""
    return any(fault.place[:1] == (key,) for fault in findings.faults for key in keys)


def lowest_of(wanted: Found) -> dict[str, Atoms]:
    """Return the lowest minima of a campaign, a search or a dataset, by their names.

    :raises ValueError: if there are none.
    """
    dataset = output_of(wanted.of, "minima_frames")
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
