"""From a checked campaign to the inputs of the work chain."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from aiida.common.exceptions import MultipleObjectsError, NotExistent, ValidationError
from aiida.engine import PortNamespace
from aiida.orm import AbstractCode, Dict, Float, Int, List, Str, WorkChainNode, load_code, load_group, load_node
from ase import Atoms
from ase.io import read

from aiida_gaprss.computers import fit_options, job_options
from aiida_gaprss.config import (
    Campaign,
    CastepReference,
    FrameReference,
    QuantumEspressoReference,
    VaspReference,
)
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import FrameError
from aiida_gaprss.reference import PER_FRAME, castep
from aiida_gaprss.yamlfile import ConfigError, Fault

HOW_TO_GET = {
    "gap_fit": "it comes with quippy-ase (pip install quippy-ase); `aiida-gaprss setup` registers it",
    "python": "a python with quippy-ase; `aiida-gaprss setup` registers it",
    "label_python": "a python with ase and the calculator; `aiida-gaprss setup` registers one",
    "buildcell": "register it with verdi code create core.code.installed, plugin gaprss.buildcell",
    "quantumespresso": "Debian: apt-get install quantum-espresso; then `aiida-gaprss setup`",
    "castep": "register it with verdi code create core.code.installed, plugin castep.castep",
    "vasp": "register it with verdi code create core.code.installed, plugin vasp.vasp",
}


def campaign_name(campaign: Campaign) -> str:
    """Return the name given, or one made of formula, seed and a hash of all settings: the same campaign, the same name."""
    if campaign.config.name:
        return campaign.config.name
    config = campaign.config
    parts = [campaign.settings.model_dump(), config.reference.model_dump(), config.start.model_dump(), config.crystals]
    content = json.dumps(parts, sort_keys=True, default=str)
    return f"{campaign.settings.formula_text}-s{campaign.config.seed}-{hashlib.sha256(content.encode()).hexdigest()[:4]}"


def builder_inputs(campaign: Campaign) -> dict[str, Any]:
    """Return the inputs of ``RssWorkChain``.

    :raises ConfigError: if a code, pseudopotential or group does not exist.
    """
    config = campaign.config
    faults: list[Fault] = []

    def code(label: str, where: tuple[str, ...], what: str) -> AbstractCode | None:
        try:
            return load_code(label)
        except (NotExistent, MultipleObjectsError) as exception:
            message = (
                f"no code {label!r} in this profile; {HOW_TO_GET[what]}" if isinstance(exception, NotExistent) else str(exception)
            )
            faults.append(Fault(campaign.lines.of(where), ".".join(where), message))
            return None

    def options_at(where: AbstractCode | None, given: dict[str, Any]) -> dict[str, Any]:
        return job_options(where.computer if where is not None else None, given)

    buildcell = code(config.codes.buildcell, ("codes", "buildcell"), "buildcell") if config.codes.buildcell else None
    start = {key: _datasets(campaign, key, faults) for key in ("database", "relabel")}
    crystals = {key: node for key in ("crystals", "targets") if (node := _crystals(campaign, key, faults)) is not None}
    gap_fit = code(config.codes.gap_fit, ("codes", "gap_fit"), "gap_fit")
    python = code(config.codes.python, ("codes", "python"), "python")
    label: dict[str, Any] = {"max_concurrent": config.max_concurrent, "max_failed_fraction": config.max_failed_fraction}
    label_python = python
    if config.codes.label_python:
        label_python = code(config.codes.label_python, ("codes", "label_python"), "label_python")
    if config.reference.ase:
        label["ase"] = {
            "code": label_python,
            "settings": Dict(config.reference.ase.model_dump()),
            "metadata": {"options": options_at(label_python, config.options.label.given())},
        }
    elif config.reference.per_frame:
        name, reference = config.reference.per_frame
        dft = code(reference.code, ("reference", name, "code"), name)
        label[name] = {
            "code": dft,
            **_frame_by_frame(reference, options_at(dft, reference.options.given())),
            **_potentials(campaign, name, reference, faults),
        }
        if config.bundle is not None:
            label["bundle"] = {
                "code": label_python,
                "frames_per_job": config.bundle.frames_per_job,
                "metadata": {"options": options_at(label_python, config.bundle.options.given())},
            }
        sound = not any(fault.where.startswith(f"reference.{name}.pseudos") for fault in faults)
        faults += _faults_of_inputs(campaign, name, label[name], sound)
    if faults:
        raise ConfigError(str(campaign.path), faults)
    assert gap_fit is not None
    return {
        "settings": Dict(campaign.settings.model_dump()),
        "seed": Int(config.seed),
        "name": Str(campaign_name(campaign)),
        **start,
        **crystals,
        **({"buildcell": buildcell} if buildcell is not None else {}),
        "label": label,
        "fit": {"code": gap_fit, "python": python, "metadata": {"options": fit_options(gap_fit, config.options.fit.given())}},
        "relax": {"code": python, "metadata": {"options": options_at(python, config.options.relax.given())}},
        "scratch": config.scratch,
        "metadata": {"label": campaign_name(campaign), "description": f"GAP-RSS, protocol {config.protocol}"},
    }


def _datasets(campaign: Campaign, key: str, faults: list[Fault]) -> dict[str, Dataset]:
    """Return the datasets that ``start`` names, and all labels of the campaigns."""
    found: dict[str, Dataset] = {}
    for index, identifier in enumerate(getattr(campaign.config.start, key)):
        where = ("start", key, index)

        def fault(message: str, where: tuple[str | int, ...] = where) -> None:
            faults.append(Fault(campaign.lines.of(where), ".".join(map(str, where)), message))

        try:
            node = load_node(identifier)
        except (NotExistent, MultipleObjectsError, ValueError) as exception:
            fault(f"no dataset or campaign {identifier!r} in this profile: {exception}")
            continue
        if isinstance(node, Dataset):
            found[f"d{index:02d}"] = node
        elif isinstance(node, WorkChainNode) and node.process_label == "RssWorkChain":
            spaces = (("database", node.inputs), ("labels", node.outputs))
            labels = {key: space[name][key] for name, space in spaces if name in space for key in space[name]}
            found |= {f"d{index:02d}_{key}": dataset for key, dataset in labels.items()}
            if not labels:
                fault(f"campaign <{node.pk}> has no labels yet")
        else:
            fault(f"<{node.pk}> is a {node.process_label or type(node).__name__}, expected a dataset or a campaign")
    return found


def _crystals(campaign: Campaign, key: str, faults: list[Fault]) -> Dataset | None:
    """Return the crystals of the files in ``crystals`` or ``targets``, called by their ``name`` in the file, or after it."""
    frames = []
    for index, name in enumerate(getattr(campaign.config, key)):
        path = campaign.path.parent / name
        try:
            crystals: Any = read(path, index=":")
        except Exception as exception:  # ASE's readers raise anything
            where = (key, index)
            faults.append(Fault(campaign.lines.of(where), f"{key}.{index}", f"{path} cannot be read: {exception}"))
            continue
        for number, atoms in enumerate(crystals):
            crystal = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
            label = str(atoms.info.get("name", path.stem + (f"-{number}" if len(crystals) > 1 else "")))
            label = re.sub(r"[^\w.+-]+", "-", label)
            crystal.info.update(frame_id=label, config_type="crystal" if key == "crystals" else label)
            frames.append(crystal)
    try:
        return Dataset(frames, level_of_theory="unlabelled") if frames else None
    except FrameError as exception:
        faults.append(Fault(campaign.lines.of((key,)), key, str(exception)))
        return None


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


def _potentials(campaign: Campaign, name: str, reference: FrameReference, faults: list[Fault]) -> dict[str, Any]:
    """Return the inputs with the pseudopotentials."""
    if isinstance(reference, VaspReference):
        mapping = reference.potential_mapping or {symbol: symbol for symbol in campaign.settings.formula}
        return {"potential_family": Str(reference.potential_family), "potential_mapping": Dict(mapping)}
    where = ("reference", name, "pseudos")

    def fault(message: str, *place: str) -> None:
        faults.append(Fault(campaign.lines.of((*where, *place)), ".".join((*where, *place)), message))

    if isinstance(reference, QuantumEspressoReference):
        family, one = _upf_family, _upf
        lack = None if _can_import("aiida_pseudo") else "Quantum ESPRESSO needs two more packages: pip install 'aiida-gaprss[qe]'"
    else:
        assert isinstance(reference, CastepReference)
        family, one = _castep_family, _castep_pseudo
        lack = None if _can_import("aiida_castep") else castep.NOT_INSTALLED
    if lack:
        fault(lack)
        return {"pseudos": {}}
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
    return {"pseudos": pseudos}


def _can_import(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


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
