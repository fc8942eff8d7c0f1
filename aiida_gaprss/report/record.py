"""A finished or running campaign in plain data: all that a report is made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from ase import Atoms

from aiida_gaprss import frames as frames_
from aiida_gaprss.analysis.convergence import StopSettings
from aiida_gaprss.analysis.errors import Errors, errors
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.analysis.zero import EnergyZero
from aiida_gaprss.campaign.stages import DATABASE, generation_of, in_words

#: States of what has not ended.
RUNNING, PAUSED = "running", "paused"


def is_open(state: str) -> bool:
    """Tell of a state whether more may come."""
    return state in (RUNNING, PAUSED)


@dataclass
class Counts:
    """What became of the cells of one generation; None where a number does not apply or is not known.

    :param made: cells, ``relaxed``: those that a potential has relaxed, ``relax_status``: how their relaxations ended.
    :param candidates: frames of the relaxations, from which some are chosen for a label.
    :param chosen_as: number chosen by rule, ``rejected``: number not chosen by reason.
    :param found: of the labelled frames, those whose labels were in the profile already.
    """

    made: int | None = None
    relaxed: int | None = None
    relax_status: dict[str, int] = field(default_factory=dict)
    candidates: int | None = None
    chosen_as: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    selected: int | None = None
    labelled: int | None = None
    failed: int | None = None
    found: int = 0


@dataclass
class GenerationRecord:
    """One part of a campaign, as a rule a turn of the loop: new labelled frames, and the potential fitted after they were added.

    :param tag: as in :mod:`aiida_gaprss.campaign.stages`: ``g00``, ``g01``, … for a generation; ``DATABASE``: the labelled frames
        that the campaign began with; ``CRYSTALS``: known crystals; ``SEARCH``: the last search, whose frames are in no training
        set and not kept here.
    :param frames: labelled with ``REF_*``; their ``PRED_*`` is what the *previous* potential said of them, before they
        were in the training set. The first generation has none.
    :param training_errors: of the potential fitted with these frames, on its training set: keys ``energy_rmse`` and
        ``energy_mae`` (meV/atom), ``forces_rmse``, ``forces_mae`` (eV/Å), ``virial_rmse``, ``virial_mae`` (meV/atom), as
        :meth:`aiida_gaprss.analysis.errors.Errors.flat` gives them.
    :param potential: uuid of that potential.
    :param seconds: wall time by stage, in the order in which the stages ran.
    :param progress: what the generation changed (:func:`aiida_gaprss.analysis.convergence.progress`), if that was measured.
    """

    tag: str
    frames: list[Atoms] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    training_errors: dict[str, float] = field(default_factory=dict)
    potential: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def index(self) -> int | None:
        """Number of the generation, 0 for the initial frames; None for what is no generation."""
        return generation_of(self.tag)

    @property
    def name(self) -> str:
        """The part in words."""
        return in_words(self.tag)

    @property
    def new_errors(self) -> Errors:
        """Errors of the previous potential on the frames; what another campaign's said of those begun with is none of ours."""
        return errors([] if self.tag == DATABASE else self.frames)

    @property
    def labelled(self) -> int:
        """Number of labelled frames: as counted, else as present."""
        if self.counts.labelled is not None:
            return self.counts.labelled
        return sum(frames_.is_labelled(a) for a in self.frames)


@dataclass
class Failure:
    """A frame that was lost on the way, and why."""

    frame_id: str
    reason: str


def failures_by_reason(failures: Sequence[Failure]) -> list[tuple[str, list[str]]]:
    """Return lost frames by reason, the most frequent first."""
    counts = Counter(failure.reason for failure in failures)
    reasons = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return [(reason, [f.frame_id for f in failures if f.reason == reason]) for reason in reasons]


@dataclass
class CampaignRecord:
    """A campaign.

    :param label: short name, e.g. ``Si-s1-ab12``.
    :param reference: the method of the labels in words, e.g. ``CASTEP 22.1, PBE, 800 eV, 0.02 Å⁻¹``.
    :param pk: of the profile that it is in.
    :param state: ``finished``, ``running``, ``paused``, or ``failed: …``.
    :param generations: the parts of the campaign in the order in which they were made, those that are no generations among them.
    :param stop: when the generations end before their number; None: never.
    :param ended: why there were no more generations, empty while it is open.
    :param found: what became of the targets of the final search (``analysis.targets.Found``).
    :param final_frames: all labelled frames with ``PRED_*`` predicted by the final potential.
    :param isolated: the labelled isolated atoms, one of each element: in the training set, but in no figure and in no error.
    :param tests: errors of fits on frames that were held out, by part (``analysis.errors.errors_in_groups``).
    :param provenance: the nodes of every part, as ``report.provenance.provenance_of`` gives them.
    :param how_to_repeat: overrides the sentence of :meth:`repetition`.
    """

    title: str
    uuid: str
    pk: int | None = None
    label: str = ""
    seed: int | None = None
    formula: str = ""
    reference: str = ""
    protocol: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    state: str = "running"
    stop: StopSettings | None = None
    ended: str = ""
    generations: list[GenerationRecord] = field(default_factory=list)
    final_frames: list[Atoms] = field(default_factory=list)
    isolated: list[Atoms] = field(default_factory=list)
    final_potential: str | None = None
    minima: list[Minimum] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    #: Scorecards by part, each of one potential or more; what is told of the last validation.
    validations: dict[str, dict[str, Any]] = field(default_factory=dict)
    validation: dict[str, Any] | None = None
    #: Which minima hold, by search (rows of ``analysis.hold.Held``); and what it comes to after the last one.
    holds: dict[str, dict[str, Any]] = field(default_factory=dict)
    hold: dict[str, Any] | None = None
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: list[dict[str, Any]] = field(default_factory=list)
    how_to_repeat: str = ""

    def labelled_frames(self) -> list[Atoms]:
        """Return the labelled frames of all generations, or the final ones if the generations keep none; no isolated atoms."""
        kept = [a for generation in self.generations for a in generation.frames if frames_.is_labelled(a)]
        return kept or [a for a in self.final_frames if frames_.is_labelled(a)]

    def checked_minima(self) -> list[Atoms]:
        """Return the minima of the last search that the reference has labelled, with these labels."""
        return [m.atoms for m in self.minima if m.ref_energy is not None and frames_.is_labelled(m.atoms)]

    @cached_property
    def zero(self) -> EnergyZero:
        """The zero of the energies of all labelled frames, made once for all figures and tables."""
        return EnergyZero(self.labelled_frames())

    @cached_property
    def zero_with_minima(self) -> EnergyZero:
        """The same, of the minima too that the reference has checked."""
        return EnergyZero([*self.labelled_frames(), *self.checked_minima()])

    def training_set(self) -> list[Atoms]:
        """Return the labelled frames that the potential is fitted to, isolated atoms among them.

        Their number is *the* number of labels of a campaign, wherever one is told.
        """
        return [*self.isolated, *self.labelled_frames()]

    def repetition(self) -> str:
        """Return how to get this campaign again."""
        if self.how_to_repeat:
            return self.how_to_repeat
        return f"submit(load_node('{self.uuid}').get_builder_restart())"

    def to_json(self) -> str:
        """Return the record as JSON; frames are extended XYZ texts in it."""
        return json.dumps(_plain(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> CampaignRecord:
        """Return the record that :meth:`to_json` has written.

        :raises TypeError: for keys that a record does not have, or that it misses.
        """
        data: dict[str, Any] = json.loads(text)
        return cls(
            **{
                **data,
                "stop": None if data["stop"] is None else StopSettings(**data["stop"]),
                "generations": [_generation(item) for item in data["generations"]],
                "final_frames": frames_.loads(data["final_frames"]),
                "isolated": frames_.loads(data.get("isolated", "")),
                "minima": [_minimum(item) for item in data["minima"]],
                "failures": [Failure(**item) for item in data["failures"]],
            }
        )


def _generation(data: Mapping[str, Any]) -> GenerationRecord:
    return GenerationRecord(**{**data, "frames": frames_.loads(data["frames"]), "counts": Counts(**data["counts"])})


def _plain(record: CampaignRecord | GenerationRecord) -> dict[str, Any]:
    out = {item.name: getattr(record, item.name) for item in fields(record)}
    for key, value in out.items():
        if key in ("frames", "final_frames", "isolated"):
            out[key] = frames_.dumps(value)
        elif key == "generations":
            out[key] = [_plain(generation) for generation in value]
        elif key == "minima":
            out[key] = [{**minimum.as_dict(), "atoms": frames_.dumps([minimum.atoms])} for minimum in value]
        elif key == "failures":
            out[key] = [asdict(failure) for failure in value]
        elif key == "counts":
            out[key] = asdict(value)
        elif key == "stop" and value is not None:
            out[key] = value.model_dump()
    return out


def _minimum(item: dict[str, Any]) -> Minimum:
    return Minimum.from_row({key: value for key, value in item.items() if key != "atoms"}, frames_.loads(item["atoms"])[0])
