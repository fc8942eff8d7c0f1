"""From a checked campaign to the inputs of the work chain."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.engine import CalcJob, PortNamespace
from aiida.orm import AbstractCode, Computer, Dict, InstalledCode, Int, Str, load_code
from aiida.plugins import CalculationFactory
from pydantic import ValidationError

from aiida_gaprss.campaign.crystals import named_crystals
from aiida_gaprss.campaign.file import Campaign, CampaignConfig
from aiida_gaprss.campaign.forecast import Made, Need, cells_of, needs_of
from aiida_gaprss.campaign.nodes import datasets_of, is_labelled, minima_of
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import FrameError
from aiida_gaprss.levels import Level, difference
from aiida_gaprss.models.families import family_of
from aiida_gaprss.reference import level_of, reference_named
from aiida_gaprss.reference.base import Program, Reference
from aiida_gaprss.reference.settings import ReferenceSettings
from aiida_gaprss.settings.calculators import find
from aiida_gaprss.settings.computer import JobOptions, fit_options, is_here, job_options
from aiida_gaprss.settings.faults import Fault, Place, news
from aiida_gaprss.settings.yamlfile import ConfigError, Lines

HOW_TO_GET = {
    "gap_fit": "it comes with quippy-ase (pip install quippy-ase); `aiida-gaprss setup` registers it",
    "python": "a python with quippy-ase; `aiida-gaprss setup` registers it",
    "label_python": "a python with ase and the calculator; `aiida-gaprss setup` registers one",
    "fit": "register the program with verdi code create core.code.installed, plugin gaprss.fit",
    "buildcell": "register it with verdi code create core.code.installed, plugin gaprss.buildcell",
}

#: The plugins that the codes are for, and how to name them.
PLUGINS = {
    "gap_fit": (r"gaprss\.(gap_)?fit", "gaprss.fit"),
    "fit": (r".*", "gaprss.fit"),
    "python": (r"gaprss\.(?!gap_fit|fit|buildcell)\w+", "gaprss.label, a python"),
    "label_python": (r"gaprss\.(?!gap_fit|fit|buildcell)\w+", "gaprss.label, a python"),
    "buildcell": (r"gaprss\.buildcell", "gaprss.buildcell"),
}


def campaign_name(campaign: Campaign) -> str:
    """Return the name given, or one made of formula, seed and a hash of all settings: the same campaign, the same name."""
    if campaign.config.name:
        return campaign.config.name
    config = campaign.config
    reference = {config.reference.name: config.reference.settings.model_dump()}
    parts = [
        campaign.settings.model_dump(exclude={"validation", "refine"}),
        reference,
        config.start.model_dump(),
        config.crystals,
    ]
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

    def fault(self, place: Place, message: str) -> None:
        """Keep a fault."""
        self.faults += self.lines.located([Fault(place, message)])


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
    config, findings, name = campaign.config, Findings(campaign.lines), campaign_name(campaign)
    inputs = _of_profile(campaign, findings, _programs(campaign, findings))
    if not any(fault.place[:1] == ("reference",) for fault in findings.faults):
        _check_levels(campaign, inputs["database"], level_of(inputs["label"]), findings)
    inputs |= {
        "settings": Dict(campaign.settings.model_dump()),
        "seed": Int(config.seed),
        "name": Str(name),
        "adapt": config.adapt,
        "scratch": config.scratch,
        "metadata": {"label": name, "description": f"GAP-RSS, protocol {config.protocol}"},
    }
    _look_ahead(campaign, inputs, findings)
    return inputs, findings


#: The codes of ours that a campaign may need, and those of a labelling.
OURS, OF_LABELS = ("gap_fit", "python", "label_python", "buildcell"), ("python", "label_python")


def faults_besides(
    path: Path, data: dict[str, Any], lines: Lines, known: Sequence[Fault], ours: Sequence[str] = OURS
) -> list[Fault]:
    """Return what is wrong in this profile with those parts of a campaign file that are right in themselves.

    :param known: what is wrong with the others; ``ours``: the codes that are looked for where there is no formula.
    """
    wrong = {fault.place[:2] for fault in known}
    rest, formula = _without(wrong, data), None
    if isinstance(data.get("settings"), dict) and ("settings", "formula") not in wrong:
        formula = data["settings"].get("formula")
    try:
        config = CampaignConfig(**rest)
    except ValidationError:  # it is the reference that is wrong
        config, formula = CampaignConfig(**{**rest, "reference": {"ase": {"calculator": "emt"}}, "bundle": None}), None
    findings = Findings(lines)
    if formula is None:
        load_codes(config, findings, ours)
    else:
        settings = cast("Any", RssSettings).model_construct(formula=formula)
        _of_profile(Campaign(path, config, settings, lines), findings)
    return news(known, findings.faults)


def _without(wrong: Collection[Place], data: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a campaign file at whose places nothing is wrong, and within mappings theirs; no settings."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        if key == "reference":
            out[key] = value
        elif isinstance(value, dict) and (key,) not in wrong:
            out[key] = {name: inner for name, inner in value.items() if (key, name) not in wrong}
        elif key not in {place[0] for place in wrong if place}:
            out[key] = value
    return {key: value for key, value in out.items() if key not in ("settings", "protocol")}


def _of_profile(campaign: Campaign, findings: Findings, programs: Sequence[str] = ("gap_fit",)) -> dict[str, Any]:
    """Return the inputs that are looked for in this profile; of the settings of the campaign, only the formula is asked.

    :param programs: names of the codes of the first and the last fit.
    """
    config = campaign.config
    codes = load_codes(config, findings, tuple(dict.fromkeys((*programs, "python", "label_python", "buildcell"))))
    database, again, minima = (_datasets(campaign, key, findings) for key in ("database", "relabel", "search"))
    start = {"database": database, "relabel": {**again, **minima}}
    crystals = {key: node for key in ("crystals", "targets") if (node := _crystals(campaign, key, findings)) is not None}
    fit = _options(("options", "fit"), _calculation("fit"), codes[programs[0]], findings, config.options.fit)
    python = codes["python"]
    relax = _options(("options", "relax"), _calculation("relax"), python, findings, config.options.relax)
    return {
        **start,
        **crystals,
        **({"buildcell": codes["buildcell"]} if codes["buildcell"] is not None else {}),
        "label": _label_inputs(campaign, codes, findings),
        "fit": {"code": codes[programs[0]], "python": python, "metadata": {"options": fit}},
        **({"final_code": codes[programs[-1]]} if programs[-1] != programs[0] else {}),
        "relax": {"code": python, "metadata": {"options": relax}},
    }


def _programs(campaign: Campaign, findings: Findings) -> list[str]:
    """Return under which names ``codes`` has the programs of the fits of generations, and of the last one."""
    programs = [family_of(model.family).PROGRAM for model in campaign.settings.fits]
    if "fit" in programs and campaign.config.codes.fit is None:
        family = campaign.settings.fits[programs.index("fit")].family
        findings.fault(("codes", "fit"), f"missing: the program that fits potentials of the family {family}")
    if "fit" not in programs and campaign.config.codes.fit is not None:
        findings.fault(("codes", "fit"), f"no fit here is done by it, but by {' and '.join(dict.fromkeys(programs))}")
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
    for fault in _lacks_of_validation(settings, inputs):
        findings.fault(("settings", "validate"), fault)
    if findings.faults:
        return
    findings.needs = list(needs_of(settings, inputs, [atoms for made in findings.cells for atoms in made.cells]))
    lacks: dict[str, list[str]] = {}
    for need in findings.needs:
        if lack := need.lack_of_memory():
            lacks.setdefault("final_fit" if need.what == "last" and settings.final_fit else "fit", []).append(lack)
        if lack := need.lack_of_time():
            findings.remarks.append(lack)
    for key, texts in lacks.items():
        if campaign.config.adapt:
            findings.remarks.append(f"{'; '.join(texts)}: it will be adapted")
        else:
            findings.fault(("settings", key), f"{'; '.join(texts)}: take fewer sparse points, or say adapt: true")


def _lacks_of_validation(settings: RssSettings, inputs: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with known crystals for the validations of a campaign."""
    if settings.validation is None:
        return
    reach = max(model.reach for model in settings.fits)
    for key in ("crystals", "targets"):
        for atoms in inputs[key].get_frames() if key in inputs else ():
            for name, wanted in settings.validation.properties.items():
                if not wanted.per_crystal:
                    yield f"{name} is of labelled frames, which a campaign does not hand to its validations (test_fraction tests)"
                else:
                    yield from (f"{name} of {atoms.info['frame_id']}: {fault}" for fault in wanted.faults(atoms, reach))


def label_inputs(campaign: Campaign) -> dict[str, Any]:
    """Return the inputs of ``LabelWorkChain`` but for the frames.

    :raises ConfigError: as :func:`builder_inputs`, for what labels need.
    """
    findings = Findings(campaign.lines)
    codes = load_codes(campaign.config, findings, OF_LABELS)
    inputs = _label_inputs(campaign, codes, findings)
    if findings.faults:
        raise ConfigError(str(campaign.path), findings.faults)
    return inputs


def _label_inputs(campaign: Campaign, codes: Mapping[str, AbstractCode | None], findings: Findings) -> dict[str, Any]:
    config, label_python = campaign.config, codes["label_python"] or codes["python"]
    label: dict[str, Any] = {"max_concurrent": config.max_concurrent, "max_failed_fraction": config.max_failed_fraction}
    label["reuse"] = config.reuse_labels
    if settings := config.reference.ase:
        fault, remark = find(settings.calculator, label_python, bool(config.options.label.prepend_text))
        if fault:
            findings.fault(("reference", "ase", "calculator"), fault)
        findings.remarks += [remark] if remark else []
        options = _options(("options", "label"), _calculation("label"), label_python, findings, config.options.label)
        label["ase"] = {"code": label_python, "settings": Dict(settings.model_dump()), "metadata": {"options": options}}
        return label
    name = config.reference.name
    label[name] = _frame_by_frame(campaign, codes[name], findings)
    if config.bundle is not None:
        options = _options(("bundle", "options"), _calculation("bundle"), label_python, findings, config.bundle.options)
        per_job = config.bundle.frames_per_job
        label["bundle"] = {"code": label_python, "frames_per_job": per_job, "metadata": {"options": options}}
    return label


def _frame_by_frame(campaign: Campaign, code: AbstractCode | None, findings: Findings) -> dict[str, Any]:
    """Return the inputs for the reference of a campaign."""
    name, settings = cast("tuple[str, ReferenceSettings]", campaign.config.reference.per_frame)
    module, elements = reference_named(name), list(campaign.settings.formula)
    given, faults = module.inputs(settings, elements, campaign.path.parent)
    options = _options(("reference", name, "options"), _process_of(code), code, findings, settings.options)
    inputs = {"code": code, **given, "options": Dict(options)}
    faults += news(faults, _refused(module, inputs))
    faults += news(faults, module.missing(inputs, sorted(elements)), of_whole=True)
    findings.faults += campaign.lines.located(faults, "reference", name)
    return inputs


def _refused(module: Reference, inputs: dict[str, Any]) -> list[Fault]:
    """Return what the ports of a reference refuse; the code has been looked at already."""
    namespace = PortNamespace(module.NAME)
    module.define(namespace)
    ports = {key: namespace[key] for key in inputs if key in namespace and key != "code"}
    errors = {key: port.validate(inputs[key]) for key, port in ports.items() if not isinstance(port, PortNamespace)}
    return [Fault((key,), error.message) for key, error in errors.items() if error]


def load_codes(config: CampaignConfig, findings: Findings, ours: Sequence[str] = OURS) -> dict[str, AbstractCode | None]:
    """Return the codes of a campaign by what they are for; None for those that are not needed, or not there."""
    asked: dict[str, tuple[str | None, Program, tuple[str, ...]]] = {}
    for what in ours:
        pattern, plugin = PLUGINS[what]
        asked[what] = (getattr(config.codes, what), Program(plugin, HOW_TO_GET[what], pattern), ("codes", what))
    if config.reference.per_frame:
        name, settings = config.reference.per_frame
        asked[name] = (settings.code, reference_named(name).PROGRAM, ("reference", name, "code"))
    codes = {what: _code(label, program, place, findings) if label else None for what, (label, program, place) in asked.items()}
    told = set()
    for what, code in codes.items():
        computer = code.computer if code is not None else None
        if computer is not None and not computer.is_configured and computer.label not in told:
            told.add(computer.label)
            how = f"verdi computer configure {computer.transport_type} {computer.label}"
            findings.fault(asked[what][2], f"the computer {computer.label} is not configured for you: {how}")
    return codes


def _code(label: str, program: Program, place: tuple[str, ...], findings: Findings) -> AbstractCode | None:
    """Return a code, if it is there and of the right kind."""
    try:
        code = load_code(label)
    except NotExistent:
        findings.fault(place, f"no code {label!r} in this profile; {program.how_to_get}")
        return None
    except (MultipleObjectsError, ValueError, TypeError) as exception:
        findings.fault(place, str(exception))
        return None
    plugin, path = code.default_calc_job_plugin, getattr(code, "filepath_executable", None)
    if plugin is not None and not program.may_be(plugin):
        findings.fault(place, f"{label} is a code for {plugin}, expected one for {program.plugin}")
    if is_here(code) and isinstance(code, InstalledCode) and not os.access(str(path), os.X_OK):
        findings.fault(place, f"{label}: {path} is not an executable file")
    return code


def _calculation(name: str) -> type[CalcJob]:
    """Return one of our own calculations."""
    return cast("type[CalcJob]", CalculationFactory(f"gaprss.{name}"))


def _process_of(code: AbstractCode | None) -> type[CalcJob]:
    """Return the calculation of the plugin that a code is for; the one of AiiDA if that cannot be known."""
    plugin = code.default_calc_job_plugin if code is not None else None
    try:
        found: Any = CalculationFactory(plugin) if plugin else CalcJob
    except Exception:  # it is not installed, or whatever its import comes across
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
    """Return the datasets that ``start`` names, all labels of campaigns, databases and fits, or the minima of searches."""
    found: dict[str, Dataset] = {}
    for index, identifier in enumerate(getattr(campaign.config.start, key)):
        where = ("start", key, index)
        try:
            labels = minima_of(identifier, f"s{index:02d}") if key == "search" else datasets_of(identifier, f"d{index:02d}")
        except ValueError as exception:
            findings.fault(where, str(exception))
            continue
        found |= labels
        for dataset in labels.values():
            strange = sorted(set(dataset.elements) - set(campaign.settings.formula))
            if strange:
                findings.fault(where, f"<{dataset.pk}> contains {', '.join(strange)}, which the formula does not")
            if key == "database" and not is_labelled(dataset):
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


def _crystals(campaign: Campaign, key: str, findings: Findings) -> Dataset | None:
    """Return the crystals of the files in ``crystals`` or ``targets``, called by their ``name`` in the file, or after it."""
    frames = []
    for index, name in enumerate(getattr(campaign.config, key)):
        try:
            found = named_crystals(campaign.path.parent / name, campaign.settings.formula)
        except ValueError as exception:
            findings.fault((key, index), str(exception))
            continue
        for label, crystal in found.items():
            if key == "targets":
                crystal.info["config_type"] = label
            frames.append(crystal)
    try:
        return Dataset(frames, level_of_theory="unlabelled") if frames else None
    except FrameError as exception:
        findings.fault((key,), str(exception))
        return None
