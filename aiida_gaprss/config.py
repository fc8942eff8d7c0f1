"""The campaign file, checked against the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, ValidationInfo, field_validator, model_validator

from aiida_gaprss.campaign import FITS, RssSettings, complete, consistency
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.seeds import with_texts
from aiida_gaprss.tasks import LabelSettings, ScratchPolicy
from aiida_gaprss.validation import Model
from aiida_gaprss.yamlfile import ConfigError, Fault, Lines, dotted, faults_of, parse, read

#: Names that ``aiida-gaprss setup`` gives to the codes of the local machine.
DEFAULT_CODES = {"gap_fit": "gap_fit@localhost", "python": "gaprss-python@localhost"}


class FrameReference(Model):
    """Labels frame by frame through the plugin of a DFT code."""

    code: str
    kpoint_spacing: PositiveFloat = Field(lt=1.0, description="1/Å, without 2π; the meshes contain Γ")
    parameters: dict[str, Any]
    isolated_parameters: dict[str, Any] | None = Field(None, description="merged into the parameters for isolated atoms")
    retries: list[dict[str, Any]] = Field(
        default_factory=list, description="merged into the parameters, one after another, when a frame has failed"
    )
    max_iterations: PositiveInt | None = Field(None, description="how often the plugin by itself runs the code for one attempt")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the scheduler job")


class PseudosReference(FrameReference):
    """The same with pseudopotentials."""

    #: How the names of pseudopotential files end; what ends otherwise is no file.
    FILES: ClassVar[tuple[str, ...]]

    pseudos: dict[str, str] | str


class QuantumEspressoReference(PseudosReference):
    """Labels from pw.x through aiida-quantumespresso."""

    FILES = ("",)

    code: str = Field(description="label of the pw.x code, e.g. pw@localhost")
    pseudos: dict[str, str] | str = Field(description="UPF file per element, or the label of a pseudopotential family")
    parameters: dict[str, dict[str, Any]] = Field(description="namelists of pw.x")
    isolated_parameters: dict[str, dict[str, Any]] | None = Field(None, description="merged into them for isolated atoms")
    retries: list[dict[str, dict[str, Any]]] = Field(
        default_factory=list, description="merged into them, one after another, when a frame has failed"
    )


class CastepReference(PseudosReference):
    """Labels from CASTEP through aiida-castep."""

    FILES = (".usp", ".uspcc", ".recpot")

    code: str = Field(description="label of the CASTEP code, e.g. castep@cluster")
    pseudos: dict[str, str] | str = Field(
        description="per element an on-the-fly string, a library (C19) or a usp or recpot file; or the label of a family"
    )
    parameters: dict[str, Any] = Field(description="keywords of the param and cell files, flat")


class VaspReference(FrameReference):
    """Labels from VASP through aiida-vasp."""

    code: str = Field(description="label of the VASP code, e.g. vasp@cluster")
    potential_family: str = Field(description="label of the family of potentials in aiida-vasp")
    potential_mapping: dict[str, str] = Field(
        default_factory=dict, description="name of the potential per element; default: that of the element"
    )
    parameters: dict[str, Any] = Field(description="INCAR tags, flat")


class Reference(Model):
    """The one reference that labels all frames."""

    ase: LabelSettings | None = None
    quantumespresso: QuantumEspressoReference | None = None
    castep: CastepReference | None = None
    vasp: VaspReference | None = None

    @model_validator(mode="after")
    def _one(self) -> Reference:
        if len(self.given) != 1:
            raise ValueError(f"give exactly one of: {', '.join(type(self).model_fields)}")
        return self

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

    gap_fit: str = DEFAULT_CODES["gap_fit"]
    python: str = DEFAULT_CODES["python"]
    buildcell: str | None = Field(None, description="buildcell of AIRSS, which then makes the cells of AIRSS seeds")
    label_python: str | None = Field(None, description="python of an ASE reference or of bundles; default: python")


class Options(Model):
    """Options of the scheduler jobs (AiiDA's metadata.options), and a few of ours."""

    fit: dict[str, Any] = Field(default_factory=dict, description="threads: OpenMP threads of gap_fit; default: all cores here")
    relax: dict[str, Any] = Field(default_factory=dict, description="processes: worker processes; default: all cores of the job")
    label: dict[str, Any] = Field(default_factory=dict, description="of an ASE reference")


class BundleSettings(Model):
    """Many frames of a frame-by-frame reference in one scheduler job, for small cells and clusters that limit jobs."""

    frames_per_job: PositiveInt = 50
    options: dict[str, Any] = Field(
        default_factory=dict, description="of the job; processes: frames side by side, default: all cores of the job"
    )


class StartSettings(Model):
    """What the campaign begins with besides random cells: datasets or earlier campaigns, by pk, uuid or label."""

    database: list[int | str] = Field(
        default_factory=list, description="labelled frames at the level of theory of the reference; of a campaign, all its labels"
    )
    relabel: list[int | str] = Field(
        default_factory=list, description="frames whose structures are labelled anew, as those of another level of theory"
    )


class CampaignConfig(Model):
    """A campaign file."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$", description="default: formula, seed and a hash of the settings")
    seed: PositiveInt = 1
    protocol: str = "quick"
    settings: dict[str, Any] = Field(default_factory=dict, description="changes of the protocol (RssSettings)")
    start: StartSettings = Field(default_factory=StartSettings)
    crystals: list[str] = Field(
        default_factory=list, description="files of known crystals (cif, POSCAR, extended XYZ, …), for settings.crystals"
    )
    targets: list[str] = Field(
        default_factory=list, description="files of crystals that the final search should find; no fit learns of them"
    )
    reference: Reference
    codes: Codes = Field(default_factory=Codes)
    options: Options = Field(default_factory=Options)
    max_concurrent: PositiveInt = Field(2, description="frame-by-frame calculations, or bundles, at one time")
    bundle: BundleSettings | None = Field(None, description="calculate many frames in one job (DFT codes)")
    max_failed_fraction: float = Field(0.3, ge=0, le=1, description="of the labels of a generation")
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

    :raises ConfigError: with every fault and its line.
    """
    data, lines = parse(text, path, "protocol: quick")
    faults: list[Fault] = []
    config: CampaignConfig | None = None
    try:
        config = CampaignConfig(**data)
    except ValidationError as error:
        faults += faults_of(error, lines, ())
    except TypeError as exception:
        raise ConfigError(str(path), [Fault(1, "", f"keys must be words: {exception}")]) from exception

    settings: RssSettings | None = None
    changes = data.get("settings") or {}
    whole: dict[str, Any] = {}
    try:
        whole = complete(str(data.get("protocol", "quick")), changes if isinstance(changes, dict) else {})
    except ValueError as exception:
        fit = str(exception).partition(": ")[0]
        place: tuple[str, ...] = ("settings", fit, "protocol") if fit in FITS else ("protocol",)
        message = str(exception).removeprefix(f"{fit}: ") if fit in FITS else str(exception)
        faults.append(Fault(lines.of(place), ".".join(place), message))
    if isinstance(whole.get("seeds"), dict):
        try:
            whole["seeds"] = with_texts(whole["seeds"], path.parent)
        except RandomCellError as exception:
            name, _, message = str(exception).partition(".file: ")
            place = ("settings", "seeds", name, "file")
            faults.append(Fault(lines.of(place), ".".join(place), message))
            whole = {}
    if isinstance(changes, dict) and whole:
        try:
            settings = RssSettings(**whole)
        except ValidationError as error:
            faults += faults_of(error, lines, ("settings",))
            known = {fault.where for fault in faults}
            for location, message in consistency(whole):
                where = dotted(("settings", *location))
                if where not in known:
                    faults.append(Fault(lines.of(("settings", *location)), where, message))
    if config and settings and config.reference.per_frame:
        faults += _check_pseudos(*config.reference.per_frame, settings, lines, path.parent)
    if config and settings:
        faults += _check_start(config, settings, lines, path.parent)
    if faults or config is None or settings is None:
        raise ConfigError(str(path), faults)
    return Campaign(path, config, settings, lines)


def _check_start(config: CampaignConfig, settings: RssSettings, lines: Lines, folder: Path) -> list[Fault]:
    """Return what is wrong with what the campaign begins with, and with the known crystals."""
    found: list[tuple[tuple[str | int, ...], str]] = [
        ((key, index), f"no such file: {folder / name}")
        for key in ("crystals", "targets")
        for index, name in enumerate(getattr(config, key))
        if not (folder / name).is_file()
    ]
    if config.crystals and settings.crystals is None:
        found.append((("crystals",), "given without settings.crystals, which say how they are distorted"))
    if settings.crystals is not None and not config.crystals:
        found.append((("settings", "crystals"), "needs files of crystals (crystals: [a.cif, …]); or say crystals: null here"))
    if config.targets and settings.search is None:
        found.append((("targets",), "given without settings.search, which is to find them"))
    if not (settings.initial or config.start.database or config.start.relabel):
        found.append((("settings", "initial"), "empty, and start names no dataset: nothing to begin with"))
    return [Fault(lines.of(where), dotted(where), message) for where, message in found]


def _check_pseudos(name: str, reference: FrameReference, settings: RssSettings, lines: Lines, folder: Path) -> list[Fault]:
    """Return the elements for which no pseudopotential is given, and the files that do not exist."""
    if not isinstance(reference, PseudosReference) or isinstance(reference.pseudos, str):
        return []
    faults = []
    place: tuple[str, ...] = ("reference", name, "pseudos")
    for symbol in settings.formula:
        if symbol not in reference.pseudos:
            faults.append(Fault(lines.of(place), dotted(place), f"no pseudopotential for {symbol}"))
    for symbol, text in reference.pseudos.items():
        if text.lower().endswith(reference.FILES) and not (folder / text).is_file():
            faults.append(Fault(lines.of((*place, symbol)), dotted((*place, symbol)), f"no such file: {folder / text}"))
    return faults
