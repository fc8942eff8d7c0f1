"""The campaign file, checked against the models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field, SerializeAsAny, ValidationError, ValidationInfo, field_validator, model_validator

from aiida_gaprss.campaign.settings import FITS, PROTOCOLS, RssSettings, complete, consistency
from aiida_gaprss.models.families import family_named, fault_of_protocol
from aiida_gaprss.outside import lack_of_file
from aiida_gaprss.reference import ASE, bundled, names, reference_named
from aiida_gaprss.reference.settings import ReferenceSettings
from aiida_gaprss.settings.computer import BatchOptions, FitOptions
from aiida_gaprss.settings.faults import Fault, FaultError, news
from aiida_gaprss.settings.jobs import LabelSettings, ScratchPolicy
from aiida_gaprss.settings.model import Count, Fraction, Label, Line, Model, Name, PrimaryKey, SeedNumber, complaints
from aiida_gaprss.settings.plugins import KindError
from aiida_gaprss.settings.protocols import part_at, with_part
from aiida_gaprss.settings.yamlfile import ConfigError, Given, Lines, parse, read
from aiida_gaprss.strategies.seeds import with_texts

DEFAULT_PROTOCOL = "quick"

#: Names that ``aiida-gaprss setup`` gives to the codes of the local machine.
DEFAULT_CODES = {"gap_fit": "gap_fit@localhost", "python": "gaprss-python@localhost"}


class Reference(Model):
    """The one reference that labels all frames. In the file its settings stand under its name."""

    name: str
    settings: SerializeAsAny[Model]

    @model_validator(mode="before")
    @classmethod
    def _chosen(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        found = {name: value for name, value in given.items() if value is not None}
        faults = [Fault((), f"give exactly one of: {', '.join(names())}")] if len(found) != 1 else []
        for name, value in found.items():
            try:
                found[name] = settings_of(name).model_validate(value)
            except ValidationError as error:
                faults += [fault.under(name) for fault in complaints(error)]
            except KindError as error:
                faults.append(Fault((name,), str(error)))
        if faults:
            raise FaultError(faults)
        ((name, settings),) = found.items()
        return {"name": name, "settings": settings}

    @property
    def ase(self) -> LabelSettings | None:
        """Its settings, if it is an ASE calculator."""
        return self.settings if isinstance(self.settings, LabelSettings) else None

    @property
    def per_frame(self) -> tuple[str, ReferenceSettings] | None:
        """Its name and settings, if it labels frame by frame."""
        return (self.name, self.settings) if isinstance(self.settings, ReferenceSettings) else None


def settings_of(name: str) -> type[Model]:
    """Return what stands under the name of a reference.

    :raises KindError: if no such reference can be used.
    """
    return LabelSettings if name == ASE else reference_named(name).SETTINGS


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
    """What the campaign begins with besides random cells: datasets, campaigns, databases, fits, searches; by pk or uuid."""

    database: list[Identifier] = Field(
        default_factory=list, description="labelled frames at the level of theory of the reference; of a process, all its labels"
    )
    relabel: list[Identifier] = Field(
        default_factory=list, description="frames whose structures are labelled anew, as those of another level of theory"
    )
    search: list[Identifier] = Field(
        default_factory=list, description="searches, or campaigns with one, whose minima are labelled, and fitted from the start"
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
    reuse_labels: bool = Field(
        True, description="take labels of the same frames at the same level of theory from wherever they are in the profile"
    )
    scratch: ScratchPolicy = Field(
        "finished",
        description="scratch folders on the computers that are removed when their jobs have been evaluated: "
        "keep (none), finished (of those that ended well), all",
    )

    @field_validator("bundle")
    @classmethod
    def _offered(cls, bundle: BundleSettings | None, info: ValidationInfo) -> BundleSettings | None:
        reference = info.data.get("reference")
        if bundle is not None and reference is not None:
            if reference.ase:
                raise ValueError("frames of an ASE calculator go into one job anyway; bundles are for DFT codes")
            bundled(reference.name)
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


#: Keys of a campaign file that say how frames are labelled.
OF_REFERENCE = ("reference", "codes", "options", "max_concurrent", "bundle", "max_failed_fraction", "reuse_labels")


def check_reference(data: dict[str, Any], lines: Lines, path: Path, elements: Collection[str]) -> Campaign:
    """Check what says how frames of some elements are labelled: those keys of a campaign file that are about it.

    :raises ConfigError: as :func:`check_campaign`.
    """
    known = f"unknown key, expected one of {', '.join(OF_REFERENCE)}"
    if faults := [Fault((key,), known) for key in data if key not in OF_REFERENCE]:
        raise ConfigError(str(path), lines.located(faults))
    cells = {"random": {"n_atoms": [len(elements)]}}  # none is made; those of the protocol may not go with the elements
    return _checked({**data, "settings": {"formula": dict.fromkeys(elements, 1), "seeds": cells}}, lines, path)


def _checked(data: dict[str, Any], lines: Lines, path: Path) -> Campaign:
    faults: list[Fault] = []
    config: CampaignConfig | None = None
    settings: RssSettings | None = None
    try:
        config = CampaignConfig(**data)
    except ValidationError as error:
        faults += complaints(error)
    whole, in_part = _whole(data, path.parent, faults)
    try:
        settings = RssSettings(**whole)
    except ValidationError as error:
        found = complaints(error)
        found = [fault.under("settings") for fault in [*found, *news(found, consistency(whole))]]
        # Of a protocol that nobody knows, what the file does not say is not known either.
        faults += news(faults, [fault for fault in found if not in_part or lines.has(fault.place)])
    faults += news(faults, _lacks_of_reference(data, whole, path.parent))
    faults += news(faults, _lacks_of_start(data, whole, path.parent, in_part))
    if faults or config is None or settings is None:
        raise ConfigError(str(path), lines.located(faults))
    return Campaign(path, config, settings, lines)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(data: dict[str, Any], folder: Path, faults: list[Fault]) -> tuple[dict[str, Any], bool]:
    """Return the settings with their protocol, and whether only what the file says of them counts: there is no such protocol.

    Faults of protocols and of files of seeds are added to ``faults``.
    """
    changes = dict(_mapping(data.get("settings")))
    found: list[Fault] = []
    protocol = data.get("protocol", DEFAULT_PROTOCOL)
    unknown = protocol not in PROTOCOLS.names()
    if unknown:
        found.append(Fault(("protocol",), PROTOCOLS.unknown(protocol)))
    for place in FITS:
        given = _mapping(part_at(changes, place))
        fault = None if given.get("protocol") is None else fault_of_protocol(family_named(given), given["protocol"])
        if fault is not None:
            found.append(Fault(("settings", *place, "protocol"), fault))
            changes = with_part(changes, place, {key: value for key, value in given.items() if key != "protocol"})
    whole = complete(DEFAULT_PROTOCOL if unknown else protocol, changes)
    if isinstance(whole.get("seeds"), dict):
        whole["seeds"], unread = with_texts(whole["seeds"], folder)
        found += [Fault(("settings", "seeds", name, "file"), message) for name, message in unread.items()]
    of_refinement = ("refine", "strategies")
    if isinstance(strategies := part_at(whole, of_refinement), dict):
        texts, unread = with_texts(strategies, folder)
        whole = with_part(whole, of_refinement, texts)
        found += [Fault(("settings", "refine", "strategies", name, "file"), message) for name, message in unread.items()]
    faults += news(faults, found)
    return whole, unknown or not isinstance(data.get("settings", {}), dict)


def _lacks_of_start(data: dict[str, Any], whole: dict[str, Any], folder: Path, in_part: bool) -> list[Fault]:
    """Return what is wrong with what the campaign begins with, and with the known crystals."""
    found: list[Fault] = []
    for key in ("crystals", "targets"):
        names = data.get(key)
        for index, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and (lack := lack_of_file(folder / name)):
                found.append(Fault((key, index), lack))
    if data.get("crystals") and whole.get("crystals") is None:
        found.append(Fault(("crystals",), "given without settings.crystals, which say how they are distorted"))
    if whole.get("crystals") is not None and not data.get("crystals"):
        found.append(
            Fault(("settings", "crystals"), "needs files of crystals (crystals: [a.cif, …]); or say crystals: null here")
        )
    if data.get("targets") and whole.get("search") is None and not in_part:
        found.append(Fault(("targets",), "given without settings.search, which is to find them"))
    start = _mapping(data.get("start"))
    if not (whole.get("initial") or any(start.get(key) for key in StartSettings.model_fields)):
        found.append(Fault(("settings", "initial"), "empty, and start names no dataset: nothing to begin with"))
    return found


def _lacks_of_reference(data: dict[str, Any], whole: dict[str, Any], folder: Path) -> list[Fault]:
    """Return what references lack beside the other settings, such as elements without a pseudopotential."""
    elements, found = list(_mapping(whole.get("formula"))), []
    for name, given in _mapping(data.get("reference")).items():
        try:
            model = settings_of(name)
        except KindError:
            continue
        if isinstance(given, dict) and issubclass(model, ReferenceSettings):
            found += [fault.under("reference", name) for fault in model.lacks(given, elements, folder)]
    return found
