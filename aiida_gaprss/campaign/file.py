"""The campaign file, checked against the models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from aiida_gaprss.campaign.settings import FITS, PROTOCOLS, RssSettings, complete, consistency
from aiida_gaprss.models.families import family_named, fault_of_protocol
from aiida_gaprss.outside import lack_of_file
from aiida_gaprss.settings.computer import BatchOptions, FitOptions, JobOptions
from aiida_gaprss.settings.jobs import LabelSettings, ScratchPolicy
from aiida_gaprss.settings.model import Count, Fraction, Label, Length, Line, Model, Name, PrimaryKey, SeedNumber
from aiida_gaprss.settings.yamlfile import ConfigError, Fault, Given, Lines, dotted, faults_of, parse, read
from aiida_gaprss.strategies.seeds import with_texts

DEFAULT_PROTOCOL = "quick"

#: Names that ``aiida-gaprss setup`` gives to the codes of the local machine.
DEFAULT_CODES = {"gap_fit": "gap_fit@localhost", "python": "gaprss-python@localhost"}


class FrameReference(Model):
    """Labels frame by frame through the plugin of a DFT code."""

    code: Label
    kpoint_spacing: Length = Field(lt=1.0, description="1/Å, without 2π; the meshes contain Γ")
    parameters: dict[str, Any]
    isolated_parameters: dict[str, Any] | None = Field(None, description="merged into the parameters for isolated atoms")
    retries: list[dict[str, Any]] = Field(
        default_factory=list, description="merged into the parameters, one after another, when a frame has failed"
    )
    max_iterations: Count | None = Field(None, description="how often the plugin by itself runs the code for one attempt")
    options: JobOptions = Field(default_factory=JobOptions, description="of the scheduler job")


class PseudosReference(FrameReference):
    """The same with pseudopotentials."""

    #: How the names of pseudopotential files end; what ends otherwise is no file.
    FILES: ClassVar[tuple[str, ...]]

    pseudos: dict[str, Line] | Line


class QuantumEspressoReference(PseudosReference):
    """Labels from pw.x through aiida-quantumespresso."""

    FILES = ("",)

    code: Label = Field(description="label of the pw.x code, e.g. pw@localhost")
    pseudos: dict[str, Line] | Line = Field(description="UPF file per element, or the label of a pseudopotential family")
    parameters: dict[str, dict[str, Any]] = Field(description="namelists of pw.x")
    isolated_parameters: dict[str, dict[str, Any]] | None = Field(None, description="merged into them for isolated atoms")
    retries: list[dict[str, dict[str, Any]]] = Field(
        default_factory=list, description="merged into them, one after another, when a frame has failed"
    )


class CastepReference(PseudosReference):
    """Labels from CASTEP through aiida-castep."""

    FILES = (".usp", ".uspcc", ".recpot")

    code: Label = Field(description="label of the CASTEP code, e.g. castep@cluster")
    pseudos: dict[str, Line] | Line = Field(
        description="per element an on-the-fly string, a library (C19) or a usp or recpot file; or the label of a family"
    )
    parameters: dict[str, Any] = Field(description="keywords of the param and cell files, flat")


class VaspReference(FrameReference):
    """Labels from VASP through aiida-vasp."""

    code: Label = Field(description="label of the VASP code, e.g. vasp@cluster")
    potential_family: Line = Field(description="label of the family of potentials in aiida-vasp")
    potential_mapping: dict[str, Line] = Field(
        default_factory=dict, description="name of the potential per element; default: that of the element"
    )
    parameters: dict[str, Any] = Field(description="INCAR tags, flat")


#: References with pseudopotentials, by name.
PSEUDOS: dict[str, type[PseudosReference]] = {"quantumespresso": QuantumEspressoReference, "castep": CastepReference}


class Reference(Model):
    """The one reference that labels all frames."""

    ase: LabelSettings | None = None
    quantumespresso: QuantumEspressoReference | None = None
    castep: CastepReference | None = None
    vasp: VaspReference | None = None

    @model_validator(mode="after")
    def _one(self) -> Reference:
        if len(self.given) != 1:
            raise ValueError(self.one_of_them())
        return self

    @classmethod
    def one_of_them(cls) -> str:
        """Return what to do about several references, or none."""
        return f"give exactly one of: {', '.join(cls.model_fields)}"

    @property
    def given(self) -> dict[str, Any]:
        """The references that are given, by name: one, in a file without faults."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name) is not None}

    @property
    def per_frame(self) -> tuple[str, FrameReference] | None:
        """Name and settings of the reference, if it labels frame by frame."""
        ((name, reference),) = self.given.items()
        return (name, reference) if isinstance(reference, FrameReference) else None


class Codes(Model):
    """Labels of the codes; the defaults are what ``aiida-gaprss setup`` registers."""

    gap_fit: Label = DEFAULT_CODES["gap_fit"]
    python: Label = DEFAULT_CODES["python"]
    fit: Label | None = Field(None, description="the program of a family for which neither gap_fit nor python fits")
    buildcell: Label | None = Field(None, description="buildcell of AIRSS, which then makes the cells of AIRSS seeds")
    label_python: Label | None = Field(None, description="python of an ASE reference or of bundles; default: python")


class Options(Model):
    """Options of the scheduler jobs (AiiDA's metadata.options), and a few of ours."""

    fit: FitOptions = Field(default_factory=FitOptions)
    relax: BatchOptions = Field(default_factory=BatchOptions)
    label: BatchOptions = Field(default_factory=BatchOptions, description="of an ASE reference")


class BundleSettings(Model):
    """Many frames of a frame-by-frame reference in one scheduler job, for small cells and clusters that limit jobs."""

    frames_per_job: Count = 50
    options: BatchOptions = Field(default_factory=BatchOptions, description="of the job; processes: frames side by side")


#: How a node is named: by pk, uuid or label.
Identifier: TypeAlias = PrimaryKey | Label


class StartSettings(Model):
    """What the campaign begins with besides random cells: datasets or earlier campaigns, by pk, uuid or label."""

    database: list[Identifier] = Field(
        default_factory=list, description="labelled frames at the level of theory of the reference; of a campaign, all its labels"
    )
    relabel: list[Identifier] = Field(
        default_factory=list, description="frames whose structures are labelled anew, as those of another level of theory"
    )


class CampaignConfig(Model):
    """A campaign file."""

    name: Name | None = Field(None, description="default: formula, seed and a hash of the settings")
    seed: SeedNumber = 1
    protocol: Line = DEFAULT_PROTOCOL
    settings: dict[str, Any] = Field(default_factory=dict, description="changes of the protocol (RssSettings)")
    start: StartSettings = Field(default_factory=StartSettings)
    crystals: list[Line] = Field(
        default_factory=list, description="files of known crystals (cif, POSCAR, extended XYZ, …), for settings.crystals"
    )
    targets: list[Line] = Field(
        default_factory=list, description="files of crystals that the final search should find; no fit learns of them"
    )
    reference: Reference
    codes: Codes = Field(default_factory=Codes)
    options: Options = Field(default_factory=Options)
    max_concurrent: Count = Field(2, description="frame-by-frame calculations, or bundles, at one time")
    bundle: BundleSettings | None = Field(None, description="calculate many frames in one job (DFT codes)")
    adapt: bool = Field(False, description="let fits be changed that lack memory or time, or whose equations are ill-conditioned")
    max_failed_fraction: Fraction = Field(0.3, description="of the labels of a generation")
    scratch: ScratchPolicy = Field(
        "finished",
        description="scratch folders on the computers that are removed when their jobs have been evaluated: "
        "keep (none), finished (of those that ended well), all",
    )

    @field_validator("bundle")
    @classmethod
    def _not_of_a_batch(cls, bundle: BundleSettings | None, info: ValidationInfo) -> BundleSettings | None:
        reference = info.data.get("reference")
        if bundle is not None and reference is not None and reference.per_frame is None:
            raise ValueError("frames of an ASE calculator go into one job anyway; bundles are for DFT codes")
        return bundle


@dataclass(frozen=True)
class Campaign:
    """A checked campaign file."""

    path: Path
    config: CampaignConfig
    settings: RssSettings
    lines: Lines


def load_campaign(path: str | Path) -> Campaign:
    """Read and check a campaign file.

    :raises ConfigError: with every fault and its line.
    """
    return check_campaign(read(path), Path(path))


def check_campaign(text: str, path: Path) -> Campaign:
    """Check the text of a campaign file; relative paths in it are relative to ``path``'s folder.

    :raises ConfigError: with every fault and its line; a part that is wrong does not hide what is wrong with another.
    """
    data, lines = parse(text, path, "protocol: quick")
    return _checked(data, lines, path)


def check_given(data: dict[str, Any]) -> Campaign:
    """Check what a campaign file would say, said in Python; relative paths in it are relative to the present folder.

    :raises ConfigError: as :func:`check_campaign`, with places but no lines.
    """
    return _checked(data, Given(data), Path.cwd() / "campaign")


def _checked(data: dict[str, Any], lines: Lines, path: Path) -> Campaign:
    faults: list[Fault] = []
    config: CampaignConfig | None = None
    settings: RssSettings | None = None
    try:
        config = CampaignConfig(**data)
    except ValidationError as error:
        faults += faults_of(error, lines, ())
    whole, in_part = _whole(data, lines, path.parent, faults)
    try:
        settings = RssSettings(**whole)
    except ValidationError as error:
        found = faults_of(error, lines, ("settings",))
        found += _new(found, consistency(whole), lines, ("settings",))
        # Of a protocol that nobody knows, what the file does not say is not known either.
        faults += _new(faults, [(f.place, f.message) for f in found if not in_part or lines.has(f.place)], lines)
    known = [*_lacks_of_reference(data, whole, path.parent), *_lacks_of_start(data, whole, path.parent, in_part)]
    faults += _new(faults, known, lines)
    if faults or config is None or settings is None:
        raise ConfigError(str(path), faults)
    return Campaign(path, config, settings, lines)


#: A place in the file, and what is wrong there.
Lack: TypeAlias = tuple[tuple[str | int, ...], str]


def _new(known: list[Fault], lacks: Iterable[Lack], lines: Lines, prefix: tuple[str, ...] = ()) -> list[Fault]:
    """Return what is wrong at places of which it is not known yet."""
    places = {fault.where for fault in known}
    located = [((*prefix, *place), message) for place, message in lacks]
    return [Fault(lines.of(place), dotted(place), message, place) for place, message in located if dotted(place) not in places]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(data: dict[str, Any], lines: Lines, folder: Path, faults: list[Fault]) -> tuple[dict[str, Any], bool]:
    """Return the settings with their protocol, and whether only what the file says of them counts: there is no such protocol.

    Faults of protocols and of files of seeds are added to ``faults``.
    """
    changes = dict(_mapping(data.get("settings")))
    found: list[Lack] = []
    protocol = data.get("protocol", DEFAULT_PROTOCOL)
    unknown = protocol not in PROTOCOLS.names()
    if unknown:
        found.append((("protocol",), PROTOCOLS.unknown(protocol)))
    for name in FITS:
        given = _mapping(changes.get(name))
        fault = None if given.get("protocol") is None else fault_of_protocol(family_named(given), given["protocol"])
        if fault is not None:
            found.append((("settings", name, "protocol"), fault))
            changes[name] = {key: value for key, value in changes[name].items() if key != "protocol"}
    whole = complete(DEFAULT_PROTOCOL if unknown else protocol, changes)
    if isinstance(whole.get("seeds"), dict):
        whole["seeds"], unread = with_texts(whole["seeds"], folder)
        found += [(("settings", "seeds", name, "file"), message) for name, message in unread.items()]
    faults += _new(faults, found, lines)
    return whole, unknown or not isinstance(data.get("settings", {}), dict)


def _lacks_of_start(data: dict[str, Any], whole: dict[str, Any], folder: Path, in_part: bool) -> list[Lack]:
    """Return what is wrong with what the campaign begins with, and with the known crystals."""
    found: list[Lack] = []
    for key in ("crystals", "targets"):
        names = data.get(key)
        for index, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and (lack := lack_of_file(folder / name)):
                found.append(((key, index), lack))
    if data.get("crystals") and whole.get("crystals") is None:
        found.append((("crystals",), "given without settings.crystals, which say how they are distorted"))
    if whole.get("crystals") is not None and not data.get("crystals"):
        found.append((("settings", "crystals"), "needs files of crystals (crystals: [a.cif, …]); or say crystals: null here"))
    if data.get("targets") and whole.get("search") is None and not in_part:
        found.append((("targets",), "given without settings.search, which is to find them"))
    start = _mapping(data.get("start"))
    if not (whole.get("initial") or start.get("database") or start.get("relabel")):
        found.append((("settings", "initial"), "empty, and start names no dataset: nothing to begin with"))
    return found


def _lacks_of_reference(data: dict[str, Any], whole: dict[str, Any], folder: Path) -> list[Lack]:
    """Return references beside each other, elements without a pseudopotential, and files of these that do not exist."""
    given = {name: _mapping(value) for name, value in _mapping(data.get("reference")).items() if name in Reference.model_fields}
    found: list[Lack] = []
    if len([name for name in given if data["reference"][name] is not None]) > 1:
        found.append((("reference",), Reference.one_of_them()))
    for name, reference in given.items():
        model = PSEUDOS.get(name)
        pseudos = reference.get("pseudos")
        if model is None or not isinstance(pseudos, dict):
            continue
        place = ("reference", name, "pseudos")
        missing = [symbol for symbol in _mapping(whole.get("formula")) if symbol not in pseudos]
        found += [(place, f"no pseudopotential for {', '.join(missing)}")] if missing else []
        for symbol, text in pseudos.items():
            if isinstance(text, str) and text.lower().endswith(model.FILES) and (lack := lack_of_file(folder / text)):
                found.append(((*place, symbol), lack))
    return found
