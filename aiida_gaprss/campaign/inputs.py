"""From a checked campaign to the inputs of the work chain."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from aiida.common.exceptions import EntryPointError, MultipleObjectsError, NotExistent, ValidationError
from aiida.engine import CalcJob, PortNamespace
from aiida.orm import (
    AbstractCode,
    Computer,
    Dict,
    Float,
    InstalledCode,
    Int,
    List,
    Str,
    WorkChainNode,
    load_code,
    load_group,
    load_node,
)
from aiida.plugins import CalculationFactory
from ase import Atoms
from ase.io import read

from aiida_gaprss.campaign.file import (
    Campaign,
    CampaignConfig,
    CastepReference,
    FrameReference,
    QuantumEspressoReference,
    VaspReference,
)
from aiida_gaprss.campaign.forecast import Made, Need, cells_of, needs_of
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import FrameError, plain_name
from aiida_gaprss.levels import Level, difference
from aiida_gaprss.models.families import family_of
from aiida_gaprss.outside import lack_of_file, size
from aiida_gaprss.reference import PER_FRAME, level_of
from aiida_gaprss.reference.plugins import needed
from aiida_gaprss.settings.calculators import find
from aiida_gaprss.settings.computer import JobOptions, fit_options, is_here, job_options
from aiida_gaprss.settings.yamlfile import ConfigError, Fault, Lines, dotted
from aiida_gaprss.structures.checks import MOST_ATOMS

HOW_TO_GET = {
    "gap_fit": "it comes with quippy-ase (pip install quippy-ase); `aiida-gaprss setup` registers it",
    "python": "a python with quippy-ase; `aiida-gaprss setup` registers it",
    "label_python": "a python with ase and the calculator; `aiida-gaprss setup` registers one",
    "fit": "register the program with verdi code create core.code.installed, plugin gaprss.fit",
    "buildcell": "register it with verdi code create core.code.installed, plugin gaprss.buildcell",
    "quantumespresso": "Debian: apt-get install quantum-espresso; then `aiida-gaprss setup`",
    "castep": "register it with verdi code create core.code.installed, plugin castep.castep",
    "vasp": "register it with verdi code create core.code.installed, plugin vasp.vasp",
}

#: The plugins that the codes are for, and how to name them.
PLUGINS = {
    "gap_fit": (r"gaprss\.(gap_)?fit", "gaprss.fit"),
    "fit": (r".*", "gaprss.fit"),
    "python": (r"gaprss\.(?!gap_fit|fit|buildcell)\w+", "gaprss.label, a python"),
    "label_python": (r"gaprss\.(?!gap_fit|fit|buildcell)\w+", "gaprss.label, a python"),
    "buildcell": (r"gaprss\.buildcell", "gaprss.buildcell"),
    "quantumespresso": (r"quantumespresso\.pw", "quantumespresso.pw"),
    "castep": (r"castep\.\w+", "castep.castep"),
    "vasp": (r"vasp\.\w+", "vasp.vasp"),
}


def campaign_name(campaign: Campaign) -> str:
    """Return the name given, or one made of formula, seed and a hash of all settings: the same campaign, the same name."""
    if campaign.config.name:
        return campaign.config.name
    config = campaign.config
    parts = [campaign.settings.model_dump(), config.reference.model_dump(), config.start.model_dump(), config.crystals]
    content = json.dumps(parts, sort_keys=True, default=str)
    return f"{campaign.settings.formula_text}-s{campaign.config.seed}-{hashlib.sha256(content.encode()).hexdigest()[:4]}"


@dataclass
class Findings:
    """What is wrong with a campaign in this profile, and what is to be said of it besides."""

    lines: Lines
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    cells: list[Made] = field(default_factory=list)  #: some of every kind
    needs: list[Need] = field(default_factory=list)  #: of the first and the last fit

    def fault(self, place: tuple[str | int, ...], message: str) -> None:
        """Keep a fault."""
        self.faults.append(Fault(self.lines.of(place), dotted(place), message, place))


def builder_inputs(campaign: Campaign) -> dict[str, Any]:
    """Return the inputs of ``RssWorkChain``.

    :raises ConfigError: with everything that is wrong in this profile: codes, computers, options of jobs, calculators,
        pseudopotentials, datasets, crystals.
    """
    inputs, findings = judge(campaign)
    if findings.faults:
        raise ConfigError(str(campaign.path), findings.faults)
    return inputs


def judge(campaign: Campaign) -> tuple[dict[str, Any], Findings]:
    """Return the inputs of ``RssWorkChain``, which are good if there are no faults, and what was found."""
    config, findings = campaign.config, Findings(campaign.lines)
    programs = _programs(campaign, findings)
    codes = load_codes(config, findings, tuple(dict.fromkeys((*programs, "python", "label_python", "buildcell"))))
    label = _label_inputs(campaign, codes, findings)
    start = {key: _datasets(campaign, key, findings) for key in ("database", "relabel")}
    crystals = {key: node for key in ("crystals", "targets") if (node := _crystals(campaign, key, findings)) is not None}
    if not findings.faults:
        _check_levels(campaign, start["database"], level_of(label), findings)
    fit = _options(("options", "fit"), _calculation("fit"), codes[programs[0]], findings, config.options.fit)
    python = codes["python"]
    relax = _options(("options", "relax"), _calculation("relax"), python, findings, config.options.relax)
    inputs = {
        "settings": Dict(campaign.settings.model_dump()),
        "seed": Int(config.seed),
        "name": Str(campaign_name(campaign)),
        **start,
        **crystals,
        **({"buildcell": codes["buildcell"]} if codes["buildcell"] is not None else {}),
        "label": label,
        "fit": {"code": codes[programs[0]], "python": python, "metadata": {"options": fit}},
        **({"final_code": codes[programs[-1]]} if programs[-1] != programs[0] else {}),
        "adapt": config.adapt,
        "relax": {"code": python, "metadata": {"options": relax}},
        "scratch": config.scratch,
        "metadata": {"label": campaign_name(campaign), "description": f"GAP-RSS, protocol {config.protocol}"},
    }
    _look_ahead(campaign, inputs, findings)
    return inputs, findings


def _programs(campaign: Campaign, findings: Findings) -> list[str]:
    """Return under which names ``codes`` has the programs of the fits of generations, and of the last one."""
    programs = [family_of(model.family).PROGRAM for model in campaign.settings.fits]
    if "fit" in programs and campaign.config.codes.fit is None:
        family = campaign.settings.fits[programs.index("fit")].family
        findings.fault(("codes", "fit"), f"missing: the program that fits potentials of the family {family}")
    return programs


def _look_ahead(campaign: Campaign, inputs: dict[str, Any], findings: Findings) -> None:
    """Make some cells, and compare what the first and the last fit will need with what their jobs have."""
    settings = campaign.settings
    findings.cells = list(cells_of(settings, campaign.config.seed))
    for made in findings.cells:
        if made.hard:
            findings.remarks.append(f"settings.seeds.{made.name}: cells are hard to make: {made.fault}")
        elif made.fault:
            findings.fault(("settings", "seeds", made.name), made.fault)
    if findings.faults:
        return
    findings.needs = list(needs_of(settings, inputs, [atoms for made in findings.cells for atoms in made.cells]))
    for need in findings.needs:
        where = ("settings", "final_fit" if need.what == "last" and settings.final_fit else "fit")
        if lack := need.lack_of_memory():
            if campaign.config.adapt:
                findings.remarks.append(f"{lack}: it will be adapted")
            else:
                findings.fault(where, f"{lack}: take fewer sparse points, or say adapt: true")
                break
        if lack := need.lack_of_time():
            findings.remarks.append(lack)


def label_inputs(campaign: Campaign) -> dict[str, Any]:
    """Return the inputs of ``LabelWorkChain`` but for the frames.

    :raises ConfigError: as :func:`builder_inputs`, for what labels need.
    """
    findings = Findings(campaign.lines)
    codes = load_codes(campaign.config, findings, ("python", "label_python"))
    inputs = _label_inputs(campaign, codes, findings)
    if findings.faults:
        raise ConfigError(str(campaign.path), findings.faults)
    return inputs


def _label_inputs(campaign: Campaign, codes: Mapping[str, AbstractCode | None], findings: Findings) -> dict[str, Any]:
    config, label_python = campaign.config, codes["label_python"] or codes["python"]
    label: dict[str, Any] = {"max_concurrent": config.max_concurrent, "max_failed_fraction": config.max_failed_fraction}
    if config.reference.ase:
        fault, remark = find(config.reference.ase.calculator, label_python, bool(config.options.label.prepend_text))
        if fault:
            findings.fault(("reference", "ase", "calculator"), fault)
        findings.remarks += [remark] if remark else []
        options = _options(("options", "label"), _calculation("label"), label_python, findings, config.options.label)
        label["ase"] = {
            "code": label_python,
            "settings": Dict(config.reference.ase.model_dump()),
            "metadata": {"options": options},
        }
    elif config.reference.per_frame:
        name, reference = config.reference.per_frame
        dft, before, lack = codes[name], len(findings.faults), needed(name)
        if lack:
            findings.fault(("reference", name), lack)
        pseudos = _pseudopotentials(campaign, name, reference, findings) if not lack else {}
        sound = len(findings.faults) == before
        process = _process_of(dft) if not lack else CalcJob
        options = _options(("reference", name, "options"), process, dft, findings, reference.options)
        label[name] = {"code": dft, **_frame_by_frame(reference, options), **pseudos}
        if config.bundle is not None:
            options = _options(("bundle", "options"), _calculation("bundle"), label_python, findings, config.bundle.options)
            label["bundle"] = {
                "code": label_python,
                "frames_per_job": config.bundle.frames_per_job,
                "metadata": {"options": options},
            }
        findings.faults += _faults_of_inputs(campaign, name, label[name], sound)
    return label


def load_codes(
    config: CampaignConfig, findings: Findings, ours: Sequence[str] = ("gap_fit", "python", "label_python", "buildcell")
) -> dict[str, AbstractCode | None]:
    """Return the codes of a campaign by what they are for; None for those that are not needed, or not there."""
    asked: dict[str, tuple[str | None, tuple[str, ...]]] = {what: (getattr(config.codes, what), ("codes", what)) for what in ours}
    if config.reference.per_frame:
        name, reference = config.reference.per_frame
        asked[name] = (reference.code, ("reference", name, "code"))
    codes = {what: _code(what, label, place, findings) if label else None for what, (label, place) in asked.items()}
    told = set()
    for what, code in codes.items():
        computer = code.computer if code is not None else None
        if computer is not None and not computer.is_configured and computer.label not in told:
            told.add(computer.label)
            how = f"verdi computer configure {computer.transport_type} {computer.label}"
            findings.fault(asked[what][1], f"the computer {computer.label} is not configured for you: {how}")
    return codes


def _code(what: str, label: str, place: tuple[str, ...], findings: Findings) -> AbstractCode | None:
    """Return a code, if it is there and of the right kind."""
    try:
        code = load_code(label)
    except NotExistent:
        findings.fault(place, f"no code {label!r} in this profile; {HOW_TO_GET[what]}")
        return None
    except (MultipleObjectsError, ValueError, TypeError) as exception:
        findings.fault(place, str(exception))
        return None
    plugin, (pattern, expected) = code.default_calc_job_plugin, PLUGINS[what]
    if plugin is not None and not re.fullmatch(pattern, plugin):
        findings.fault(place, f"{label} is a code for {plugin}, expected one for {expected}")
    program = getattr(code, "filepath_executable", None)
    if is_here(code) and isinstance(code, InstalledCode) and not os.access(str(program), os.X_OK):
        findings.fault(place, f"{label}: {program} is not an executable file")
    return code


def _calculation(name: str) -> type[CalcJob]:
    """Return one of our own calculations."""
    return cast("type[CalcJob]", CalculationFactory(f"gaprss.{name}"))


def _process_of(code: AbstractCode | None) -> type[CalcJob]:
    """Return the calculation of the plugin that a code is for; the one of AiiDA if that cannot be known."""
    plugin = code.default_calc_job_plugin if code is not None else None
    try:
        found: Any = CalculationFactory(plugin) if plugin else CalcJob
    except (EntryPointError, ValueError):
        return CalcJob
    return found if isinstance(found, type) and issubclass(found, CalcJob) else CalcJob


def _options(
    place: tuple[str, ...], process: type[CalcJob], code: AbstractCode | None, findings: Findings, given: JobOptions
) -> dict[str, Any]:
    """Return the options of a job, those of its computer included; all are shown to AiiDA and to the scheduler."""
    computer = code.computer if code is not None else None
    of_fit = process is _calculation("fit") and code is not None
    options = fit_options(code, given.given()) if of_fit else job_options(computer, given.given())
    ports: Any = process.spec().inputs["metadata"]["options"]  # type: ignore[index]
    for name, value in options.items():
        where = (*place, name)
        if name not in ports:
            findings.fault(where, f"{process.__name__} has no such option; known: {', '.join(sorted(ports))}")
        elif error := ports[name].validate(value):
            findings.fault(where, error.message)
    if computer is not None and isinstance(options.get("resources"), dict) and (lack := _lack_of_resources(computer, options)):
        findings.fault((*place, "resources"), lack)
    return options


def _lack_of_resources(computer: Computer, options: dict[str, Any]) -> str | None:
    """Return what the scheduler of a computer finds wrong with the resources of a job."""
    resources = dict(options["resources"])
    try:
        scheduler = computer.get_scheduler()
        scheduler.preprocess_resources(resources, computer.get_default_mpiprocs_per_machine())
        scheduler.validate_resources(**resources)
    except Exception as exception:  # each scheduler raises its own
        return f"{computer.scheduler_type} on {computer.label} refuses {resources}: {exception}"
    return None


def _datasets(campaign: Campaign, key: str, findings: Findings) -> dict[str, Dataset]:
    """Return the datasets that ``start`` names, and all labels of the campaigns."""
    found: dict[str, Dataset] = {}
    for index, identifier in enumerate(getattr(campaign.config.start, key)):
        where = ("start", key, index)
        try:
            node = load_node(identifier)
        except (NotExistent, MultipleObjectsError, ValueError, TypeError) as exception:
            findings.fault(where, f"no dataset or campaign {identifier!r} in this profile: {exception}")
            continue
        if isinstance(node, Dataset):
            labels = {"": node}
        elif isinstance(node, WorkChainNode) and node.process_label == "RssWorkChain":
            spaces = (("database", node.inputs), ("labels", node.outputs))
            labels = {f"_{key}": space[name][key] for name, space in spaces if name in space for key in space[name]}
            if not labels:
                findings.fault(where, f"campaign <{node.pk}> has no labels yet")
        else:
            kind = getattr(node, "process_label", None) or type(node).__name__
            findings.fault(where, f"<{node.pk}> is a {kind}, expected a dataset or a campaign")
            continue
        for name, dataset in labels.items():
            found[f"d{index:02d}{name}"] = dataset
            strange = sorted(set(dataset.elements) - set(campaign.settings.formula))
            if strange:
                findings.fault(where, f"<{dataset.pk}> contains {', '.join(strange)}, which the formula does not")
            if key == "database" and not dataset.base.attributes.get("energies"):
                findings.fault(where, f"<{dataset.pk}> has no labels; frames to be labelled go into relabel")
    return found


def _check_levels(campaign: Campaign, database: dict[str, Dataset], level: Level | str, findings: Findings) -> None:
    """Find the datasets that were labelled at another level of theory than the campaign labels at."""
    if campaign.settings.fit.mixed_levels:
        return
    for name, dataset in database.items():
        other = difference({f"<{dataset.pk}>": dataset.level, "the campaign": level})
        if other:
            what = f"<{dataset.pk}> was labelled at another level of theory: {other}"
            where = ("start", "database", int(name[1:3]))
            findings.fault(where, f"{what}; label it anew (relabel), or say mixed_levels: true in settings.fit")


#: Bytes of a file of crystals, and how many crystals it may hold.
MOST_BYTES, MOST_CRYSTALS = 20_000_000, 1000


def _crystals(campaign: Campaign, key: str, findings: Findings) -> Dataset | None:
    """Return the crystals of the files in ``crystals`` or ``targets``, called by their ``name`` in the file, or after it."""
    frames = []
    for index, name in enumerate(getattr(campaign.config, key)):
        path = campaign.path.parent / name
        try:
            crystals: Any = _structures(path, campaign.settings)
        except ValueError as exception:
            findings.fault((key, index), str(exception))
            continue
        for number, atoms in enumerate(crystals):
            crystal = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
            label = str(atoms.info.get("name", path.stem + (f"-{number}" if len(crystals) > 1 else "")))
            label = plain_name(re.sub(r"[^\w.+-]+", "-", label), "crystal")
            crystal.info.update(frame_id=label, config_type="crystal" if key == "crystals" else label)
            frames.append(crystal)
    try:
        return Dataset(frames, level_of_theory="unlabelled") if frames else None
    except FrameError as exception:
        findings.fault((key,), str(exception))
        return None


def _structures(path: Path, settings: RssSettings) -> list[Atoms]:
    """Return the structures of a file.

    :raises ValueError: if they cannot be read, or are no crystals of the elements of the campaign.
    """
    lack = lack_of_file(path)
    if lack or path.stat().st_size > MOST_BYTES:
        raise ValueError(lack or f"{path} has {size(path.stat().st_size)}, expected at most {size(MOST_BYTES)}")
    try:
        found: Any = read(path, index=":")
    except Exception as exception:  # ASE's readers raise anything
        raise ValueError(f"{path} cannot be read: {exception or type(exception).__name__}") from exception
    if not 0 < len(found) <= MOST_CRYSTALS:
        raise ValueError(f"{path} holds {len(found)} structures, expected 1 to {MOST_CRYSTALS}")
    for atoms in found:
        strange = sorted(set(atoms.get_chemical_symbols()) - set(settings.formula))
        if strange:
            raise ValueError(f"{path} contains {', '.join(strange)}, which the formula does not ({', '.join(settings.formula)})")
        if not 0 < len(atoms) <= MOST_ATOMS:
            raise ValueError(f"{path} holds a structure of {len(atoms)} atoms, expected 1 to {MOST_ATOMS}")
    return list(found)


def _frame_by_frame(reference: FrameReference, options: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that all references that label frame by frame have."""
    inputs: dict[str, Any] = {
        "parameters": Dict(reference.parameters),
        "kpoint_spacing": Float(reference.kpoint_spacing),
        "options": Dict(options),
    }
    if reference.isolated_parameters:
        inputs["isolated_parameters"] = Dict(reference.isolated_parameters)
    if reference.retries:
        inputs["retries"] = List(reference.retries)
    if reference.max_iterations:
        inputs["max_iterations"] = Int(reference.max_iterations)
    return inputs


def _pseudopotentials(campaign: Campaign, name: str, reference: FrameReference, findings: Findings) -> dict[str, Any]:
    """Return the inputs with the pseudopotentials."""
    if isinstance(reference, VaspReference):
        mapping = reference.potential_mapping or {symbol: symbol for symbol in campaign.settings.formula}
        return {"potential_family": Str(reference.potential_family), "potential_mapping": Dict(mapping)}
    where = ("reference", name, "pseudos")

    def fault(message: str, *place: str) -> None:
        findings.fault((*where, *place), message)

    if isinstance(reference, QuantumEspressoReference):
        family, one = _upf_family, _upf
    else:
        assert isinstance(reference, CastepReference)
        family, one = _castep_family, _castep_pseudo
    if isinstance(reference.pseudos, str):
        try:
            return {"pseudos": family(reference.pseudos, tuple(campaign.settings.formula))}
        except (NotExistent, MultipleObjectsError, ValueError, AttributeError) as exception:
            fault(f"no pseudopotential family {reference.pseudos!r} for these elements: {exception}")
            return {"pseudos": {}}
    pseudos = {}
    for symbol, text in reference.pseudos.items():
        try:
            pseudos[symbol] = one(symbol, text, campaign.path.parent)
        except (ValueError, ValidationError) as exception:
            fault(str(exception), symbol)
        except (OSError, AttributeError, KeyError) as exception:  # the plugins read the files
            fault(f"{text} cannot be read as a pseudopotential: {exception}", symbol)
    return {"pseudos": pseudos}


def _upf_family(label: str, elements: tuple[str, ...]) -> dict[str, Any]:
    return dict(load_group(label).get_pseudos(elements=elements))


def _upf(symbol: str, text: str, folder: Path) -> Any:
    from aiida_pseudo.data.pseudo.upf import UpfData

    path = folder / text
    with path.open("rb") as handle:
        pseudo = UpfData.get_or_create(handle, filename=path.name)
    return _of_element(pseudo, symbol, path.name)


def _castep_family(label: str, elements: tuple[str, ...]) -> dict[str, Any]:
    """Return the pseudopotentials of a family as the plugin chooses them: a library serves elements without one of their own."""
    from aiida.orm import StructureData
    from aiida_castep.data import get_pseudos_from_structure

    structure = StructureData()
    for number, symbol in enumerate(elements):
        structure.append_atom(position=(0.0, 0.0, float(number)), symbols=symbol)
    return dict(get_pseudos_from_structure(structure, label))


def _castep_pseudo(symbol: str, text: str, folder: Path) -> Any:
    """Return the node of a pseudopotential file, of a library (C19), or of a string that generates one."""
    from aiida_castep.data.otfg import OTFGData
    from aiida_castep.data.usp import UspData
    from aiida_castep.data.utils import split_otfg_entry

    if text.lower().endswith(CastepReference.FILES):
        path = (folder / text).resolve()
        return _of_element(UspData.get_or_create(path, element=symbol, use_first=True)[0], symbol, path.name)
    element, string = split_otfg_entry(text)
    if element == "LIBRARY":
        return OTFGData.get_or_create(string, use_first=True)[0]
    if element not in (None, symbol):
        raise ValueError(f"{text!r} is a pseudopotential of {element}, not of {symbol}")
    return OTFGData.get_or_create(f"{symbol} {string}", use_first=True)[0]


def _of_element(pseudo: Any, symbol: str, name: str) -> Any:
    if pseudo.element != symbol:
        raise ValueError(f"{name} is a pseudopotential of {pseudo.element}, not of {symbol}")
    return pseudo


def _faults_of_inputs(campaign: Campaign, name: str, inputs: dict[str, Any], sound: bool) -> list[Fault]:
    """Return what the ports of a reference refuse, and, if all is ``sound`` so far, what the reference lacks as a whole."""
    namespace = PortNamespace(name)
    PER_FRAME[name].define(namespace)
    found: list[tuple[tuple[str | int, ...], str]] = []
    for key, value in inputs.items():
        error = namespace[key].validate(value) if key in namespace and key not in ("code", "pseudos") else None
        if error:
            found.append(((key,), error.message))
    if sound and not found:
        lack = PER_FRAME[name].missing(inputs, sorted(campaign.settings.formula))
        match = re.match(r"(\w+)(?:\[(\d+)\])?: (.*)", lack or "", re.DOTALL)  # "retries[1]: ..." tells the place
        if match:
            found.append(((match[1],) if match[2] is None else (match[1], int(match[2])), match[3]))
        elif lack:
            found.append(((), lack))
    return [
        Fault(campaign.lines.of(("reference", name, *place)), ".".join(map(str, ("reference", name, *place))), message)
        for place, message in found
    ]
