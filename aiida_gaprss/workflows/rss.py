"""GAP-RSS: explore and fit at the same time (Deringer, Pickard and Csányi, PRL 120, 156001)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode, ProcessBuilder, if_, while_
from aiida.orm import AbstractCode, Dict, Int, Str

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import frames_of
from aiida_gaprss.calculations.fit import FitCalculation
from aiida_gaprss.calculations.rss_functions import (
    distorted_crystals,
    initial_cells,
)
from aiida_gaprss.campaign import stages
from aiida_gaprss.campaign.file import DEFAULT_PROTOCOL, check_given
from aiida_gaprss.campaign.forecast import label_budget
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.training import fault_of_absurd
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.workflows.hold import HeldWorkChain
from aiida_gaprss.workflows.jobs.lock import alone
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.search import expose_relaxations, validate_search


class RssWorkChain(HeldWorkChain):
    """Make a potential from random cells and single-point labels alone.

    The outline is the method: random cells are labelled and fitted; then, generation by generation, new random cells are
    relaxed with the last potential under random pressure, some of the frames so found are labelled, and the potential is
    fitted anew to everything; until nothing new turns up, or as often as asked for. In the end known crystals may be added; then
    comes a tight fit to the same data, and searches with it, until what they find agrees with the reference, if that is asked
    for.

    A campaign may begin with the labelled frames of another one (``database``), or with frames whose labels are made anew
    (``relabel``). The extra ``STOP`` on its node ends it after the generation, or the search, that is running.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("settings", valid_type=Dict, validator=model_validator_for(RssSettings), help="The campaign (RssSettings).")
        spec.input("seed", valid_type=Int, help="The one seed from which all others are derived.")
        spec.input("name", valid_type=Str, help="Short name of the campaign; the ids of all frames begin with it.")
        spec.input_namespace(
            "database",
            valid_type=Dataset,
            dynamic=True,
            help="Labelled frames to begin with, at the reference's level of theory.",
        )
        spec.input_namespace(
            "relabel", valid_type=Dataset, dynamic=True, help="Frames that the reference labels first, whatever labels they have."
        )
        spec.input("crystals", valid_type=Dataset, required=False, help="Known crystals, for settings.crystals.")
        spec.input("targets", valid_type=Dataset, required=False, help="Structures that the final search is to find.")
        spec.input(
            "buildcell", valid_type=AbstractCode, required=False, help="Of AIRSS, where relax.code is: makes the AIRSS seeds."
        )
        spec.expose_inputs(
            LabelWorkChain,
            namespace="label",
            exclude=("frames", "scratch"),
            namespace_options={"help": "The reference that labels frames, and how many at one time."},
        )
        spec.expose_inputs(
            FitCalculation,
            namespace="fit",
            exclude=("datasets", "settings", "seed", "leave_out", "sparse_frames"),
            namespace_options={"help": "Jobs of fits: code of the program, python that evaluates, options."},
        )
        spec.input(
            "final_code", valid_type=AbstractCode, required=False, help="Program of the final fit, if it is of another family."
        )
        spec.input(
            "adapt",
            valid_type=bool,
            non_db=True,
            default=False,
            help="Let fits be changed that lack memory or time, or whose equations are ill-conditioned.",
        )
        expose_relaxations(spec)
        spec.inputs.validator = validate_start
        again = [while_(cls.jobs_are_left)(cls.restart_jobs)]
        validation = if_(cls.validates)(cls.validate_generation, cls.collect_validation)
        spec.outline(
            cls.start,
            if_(cls.has_start)(
                cls.build_cells,
                *again,
                cls.make_initial_cells,
                cls.label,
                cls.collect_labels,
            ),
            cls.fit,
            cls.collect_fit,
            validation,
            while_(cls.next_generation)(
                cls.build_cells,
                *again,
                cls.make_cells,
                cls.relax,
                *again,
                cls.collect_relaxed,
                cls.examine,
                *again,
                cls.select,
                if_(cls.has_chosen)(
                    cls.label,
                    cls.collect_labels,
                    cls.fit,
                    cls.collect_fit,
                    validation,
                    cls.look_back,
                    *again,
                    cls.judge,
                ),
            ),
            if_(cls.has_crystals_left)(
                cls.make_crystals,
                cls.label,
                cls.collect_labels,
            ),
            if_(cls.has_final_fit)(
                cls.fit_tightly,
                cls.collect_fit,
                validation,
            ),
            cls.begin_searches,
            while_(cls.goes_on)(
                if_(cls.searches)(
                    cls.run_search,
                    cls.choose_lowest,
                    if_(cls.has_chosen)(cls.label),
                    cls.collect_minima,
                    if_(cls.fits_again)(
                        cls.fit_again,
                        cls.collect_refit,
                        validation,
                    ),
                ).else_(
                    cls.build_database,
                    cls.collect_database,
                    if_(cls.is_refined)(
                        cls.fit_refined,
                        cls.collect_refit,
                        validation,
                        if_(cls.validates_refined)(cls.validate_refined, cls.collect_validation),
                    ),
                    cls.look_at_properties,
                ),
            ),
            cls.finish_searches,
            if_(cls.validates_minima)(cls.validate_minima, cls.collect_validation),
            cls.finish,
        )
        spec.output("potential", valid_type=Potential, help="The final potential.")
        spec.output("results", valid_type=Dict, help="What the program said of the final fit, and its training errors.")
        spec.output(
            "predictions", valid_type=Dataset, required=False, help="All labelled frames with the final potential's predictions."
        )
        spec.output("minima", valid_type=Dict, required=False, help="Distinct minima of the last search, lowest first.")
        spec.output("hold", valid_type=Dict, required=False, help="Whether the lowest of them hold, and if not, what does not.")
        spec.output("minima_frames", valid_type=Dataset, required=False, help="Their frames, the lowest with labels.")
        spec.output("search.summary", valid_type=Dict, required=False, help="Attempts by what became of them, times.")
        spec.output("search.found", valid_type=Dict, required=False, help="For every target: hits, first hit, energies.")
        for name, kind, text in (
            ("labels", Dataset, "labelled frames"),
            ("potentials", Potential, "potential fitted after it"),
            ("fits", Dict, "results of that fit"),
            ("tests", Dict, "errors of that fit on frames that were held out"),
            ("relaxed", Dataset, "relaxed cells and their snapshots"),
            ("selections", Dict, "numbers chosen and rejected, with reasons"),
            ("progress", Dict, "what it changed, in numbers by which the search is ended"),
            ("validations", Dict, "scorecard"),
            ("holds", Dict, "minima beside the reference, of searches until they hold (h01, h02, …)"),
        ):
            spec.output_namespace(name, valid_type=kind, dynamic=True, help=f"Of every generation (g00, g01, …): {text}.")
        spec.exit_code(400, "ERROR_CELLS", message="{stage}: the cells cannot be made: {message}")
        spec.exit_code(410, "ERROR_LABELS", message="{stage}: labelling failed: {message}")
        spec.exit_code(420, "ERROR_FIT", message="{stage}: the fit failed: {message}")
        spec.exit_code(430, "ERROR_RELAX", message="{stage}: the relaxations failed: {message}")
        spec.exit_code(435, "ERROR_EXAMINE", message="{stage}: the candidates could not be described: {message}")
        spec.exit_code(440, "ERROR_NOTHING_SELECTED", message="{stage}: no frame is fit to be labelled: {message}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        formula: Mapping[str, Any],
        reference: Mapping[str, Any],
        protocol: str = DEFAULT_PROTOCOL,
        overrides: Mapping[str, Any] | None = None,
        **campaign: Any,
    ) -> ProcessBuilder:
        """Return a builder with all inputs of a campaign: what a campaign file says, said in Python.

        :param formula: atoms per formula unit, ``{"Si": 1}``, or the range of atoms per cell of each element.
        :param reference: what labels frames, as under ``reference`` in a campaign file: ``{"ase": {"calculator": …}}``.
        :param protocol: the recipe that gives all settings.
        :param overrides: changes of its settings, as under ``settings``: ``{"max_generations": 3}``.
        :param campaign: other keys of a campaign file: ``seed``, ``name``, ``codes``, ``options``, ``start``, ``crystals``, …;
            files are looked for in the present folder.
        :raises ConfigError: with everything that is wrong, each with its place.
        """
        data = {"protocol": protocol, "settings": {**(overrides or {}), "formula": formula}, "reference": reference, **campaign}
        builder = cls.get_builder()
        builder._update(builder_inputs(check_given(data)))
        return builder

    def start(self) -> None:
        """Read the settings."""
        self.ctx.generation = 0
        self.ctx.tag = stages.INITIAL
        self.ctx.datasets = {stages.named(stages.DATABASE, name): node for name, node in self.inputs.get("database", {}).items()}
        self.ctx.minima = {}
        self.ctx.vectors, self.ctx.vector_settings = {}, None
        self.ctx.ended = None
        settings = self.settings
        most = label_budget(self.inputs)
        text = f"campaign {self.inputs.name.value}, seed {self.inputs.seed.value}: {settings.n_generations} generations, "
        self.report(text + f"at most {most} labels")
        if self.ctx.datasets:
            frames = sum(node.n_frames for node in self.ctx.datasets.values())
            self.report(f"begins with {frames} labelled frames of {len(self.ctx.datasets)} datasets")

    def has_start(self) -> bool:
        """Tell whether there is anything to label before the first fit; isolated atoms may be lacking."""
        database = [atoms for node in self.ctx.datasets.values() for atoms in node.get_frames() if fr.is_isolated_atom(atoms)]
        atoms_lack = set(self.settings.formula) - {atoms.symbols[0] for atoms in database}
        asked = self.settings.initial or self.settings.dimers or self.inputs.get("relabel", {})
        return bool(asked or atoms_lack or self.wants_crystals("start"))

    def make_initial_cells(self) -> ExitCode | None:
        """Make isolated atoms and random cells, which are not relaxed."""
        again = {stages.named(stages.RELABEL, name): node for name, node in self.inputs.get("relabel", {}).items()}
        nodes = {**self.ctx.datasets, **again}
        if self.wants_crystals("start"):
            nodes["crystals"] = self.inputs.crystals
        try:
            nodes |= self.built_cells()
            self.ctx.to_label = initial_cells(
                self.inputs.settings, self.inputs.name, self.seed("initial"), metadata=self.called(stages.INITIAL_CELLS), **nodes
            )
        except RandomCellError as error:
            return self.exit_codes.ERROR_CELLS.format(stage=self.stage, message=error)
        self.report(f"generation 0: {self.ctx.to_label.n_frames} frames to label, isolated atoms among them")
        return None

    def next_generation(self) -> bool:
        """Count up; tell whether there is another generation."""
        reason = self.reason_to_end()
        if reason is not None:
            if reason:
                self.report(f"no more generations: {reason}")
                with alone():
                    self.node.base.extras.set(self.ENDED, reason)
            return False
        self.ctx.generation += 1
        self.ctx.tag = stages.tag_of(self.ctx.generation)
        return True

    def reason_to_end(self) -> str | None:
        """Return why there is no other generation, empty if all have been made; None if there is one."""
        settings = self.settings
        if self.ctx.generation >= settings.n_generations:
            return ""
        if self.ctx.ended:
            return str(self.ctx.ended)
        if settings.max_labels is not None and self.n_labels >= settings.max_labels:
            return f"all {settings.max_labels} labels are spent"
        return "a user ended them" if self.is_stopped() else None

    def has_crystals_left(self) -> bool:
        """Tell whether known crystals are to be added now."""
        return self.wants_crystals("end")

    def make_crystals(self) -> None:
        """Make distorted cells of the known crystals."""
        self.ctx.tag = stages.CRYSTALS
        self.ctx.to_label = distorted_crystals(
            self.inputs.settings,
            self.inputs.name,
            self.seed("crystals"),
            self.inputs.crystals,
            metadata=self.called(stages.CELLS),
        )
        self.report(f"known crystals: {self.ctx.to_label.n_frames} distorted cells to label")

    def has_final_fit(self) -> bool:
        """Tell whether there is a last fit: with settings of its own, to more frames, or as none was known to be the last."""
        return self.asks_for_final_fit or not self.ctx.keep

    def fit_tightly(self) -> Any:
        """Fit the final potential to the same database."""
        return self.submit_fit(self.settings.final_fit or self.settings.fit, stages.FINAL_FIT)

    def finish(self) -> None:
        """Return the final potential."""
        potential = self.ctx.fit.outputs.potential
        potential.label = ""  # where the last generation's is the final one
        self.keep("potential", potential, "final potential", "final potential")
        self.out("results", self.ctx.fit.outputs.results)
        if "predictions" in self.ctx.fit.outputs:
            predictions = self.ctx.fit.outputs.predictions
            self.keep(
                "predictions", predictions, "final predictions", "all labelled frames with predictions of the final potential"
            )
        self.report(f"finished: final potential <{self.ctx.potential.pk}>; for the report: aiida-gaprss report {self.node.pk}")


def validate_start(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that the campaign has something to begin with, and the crystals it speaks of."""
    if "settings" not in ports or "settings" not in inputs:
        return None
    settings = RssSettings(**inputs["settings"].get_dict())
    database, again = dict(inputs.get("database", {})), dict(inputs.get("relabel", {}))
    if not settings.initial and not database and not again:
        return "settings.initial is empty and there is no database: nothing to begin with"
    if (settings.crystals is None) != ("crystals" not in inputs):
        given, lacking = ("settings.crystals", "crystals") if settings.crystals else ("crystals", "settings.crystals")
        return f"{given} are given, but no {lacking}"
    known = set(settings.formula)
    others = {f"database.{name}": node for name, node in database.items()} | {f"relabel.{n}": node for n, node in again.items()}
    others |= {key: inputs[key] for key in ("crystals", "targets") if key in inputs}
    for name, node in others.items():
        if strange := set(node.elements) - known:
            return f"{name} contains {', '.join(sorted(strange))}, which the formula does not"
    if settings.search is not None:
        targets = {"targets": inputs["targets"]} if "targets" in inputs else {}
        if fault := validate_search({"settings": Dict(settings.final_search()), **targets}, {"settings"}):
            return f"the final search: {fault}"
    for name, node in database.items():
        if not node.base.attributes.get("energies"):
            return f"database.{name} has no labels; frames to be labelled go into relabel"
    found = None if settings.fit.keep_absurd else fault_of_absurd(frames_of(database))
    if found:
        return f"database: {found}; take them out (aiida-gaprss dataset drop), or say keep_absurd: true in settings.fit"
    return None
