"""GAP-RSS: explore and fit at the same time (Deringer, Pickard and Csányi, PRL 120, 156001)."""

from __future__ import annotations

from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, if_, while_
from aiida.orm import AbstractCode, Dict, Group, Int, List, Node, ProcessNode, QueryBuilder, Str

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.convergence import converged, describe
from aiida_gaprss.analysis.energies import energy_summary
from aiida_gaprss.analysis.hull import HullError
from aiida_gaprss.calculations.buildcell import BuildcellCalculation
from aiida_gaprss.calculations.common import frames_of
from aiida_gaprss.calculations.describe import DescribeCalculation
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.gap_fit import GapFitCalculation
from aiida_gaprss.calculations.label_functions import pick_frames
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.calculations.rss_functions import (
    distorted_crystals,
    initial_cells,
    low_minima,
    lowest_frames,
    measure_progress,
    minima_beside_reference,
    random_cells_under_pressure,
    search_settings,
    select_frames,
)
from aiida_gaprss.campaign.search import SearchSettings
from aiida_gaprss.campaign.settings import GenerationSettings, RssSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.training import fault_of_absurd
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.strategies.seeds import AirssSeed
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.workflows.jobs.lock import alone
from aiida_gaprss.workflows.jobs.restart import RestartingWorkChain
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.search import SearchWorkChain, validate_search


class RssWorkChain(RestartingWorkChain):
    """Make a GAP from random cells and single-point labels alone.

    The outline is the method: random cells are labelled and fitted; then, generation by generation, new random cells are
    relaxed with the last potential under random pressure, some of the frames so found are labelled, and the potential is
    fitted anew to everything; until nothing new turns up, or as often as asked for. In the end known crystals may be added; then
    comes a tight fit to the same data, and a search with it.

    A campaign may begin with the labelled frames of another one (``database``), or with frames whose labels are made anew
    (``relabel``). The extra ``STOP`` on its node ends it after the generation that is running.
    """

    #: Extra of the node: a user wants the generations to end. Extra that says why they ended.
    STOP, ENDED = "gaprss_stop", "gaprss_ended"

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
        spec.expose_inputs(LabelWorkChain, namespace="label", exclude=("frames", "scratch"))
        spec.expose_inputs(GapFitCalculation, namespace="fit", exclude=("datasets", "settings", "seed"))
        spec.expose_inputs(RelaxCalculation, namespace="relax", exclude=("frames", "potential", "settings"))
        spec.inputs.validator = validate_start
        again = [while_(cls.jobs_are_left)(cls.restart_jobs)]
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
            *again,
            cls.collect_fit,
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
                    *again,
                    cls.collect_fit,
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
                *again,
                cls.collect_fit,
            ),
            if_(cls.has_search)(
                cls.run_search,
                cls.choose_lowest,
                cls.label,
                cls.collect_minima,
            ),
            cls.finish,
        )
        spec.output("potential", valid_type=Potential, help="The final potential.")
        spec.output("results", valid_type=Dict, help="What gap_fit said of the final fit, and its training errors.")
        spec.output(
            "predictions", valid_type=Dataset, required=False, help="All labelled frames with the final potential's predictions."
        )
        spec.output("minima", valid_type=Dict, required=False, help="Distinct minima of the final search, lowest first.")
        spec.output("minima_frames", valid_type=Dataset, required=False, help="Their frames, the lowest with labels.")
        spec.output("search.summary", valid_type=Dict, required=False, help="Attempts by what became of them, times.")
        spec.output("search.found", valid_type=Dict, required=False, help="For every target: hits, first hit, energies.")
        for name, kind, text in (
            ("labels", Dataset, "labelled frames"),
            ("potentials", Potential, "potential fitted after it"),
            ("fits", Dict, "results of that fit"),
            ("relaxed", Dataset, "relaxed cells and their snapshots"),
            ("selections", Dict, "numbers chosen and rejected, with reasons"),
            ("progress", Dict, "what it changed, in numbers by which the search is ended"),
        ):
            spec.output_namespace(name, valid_type=kind, dynamic=True, help=f"Of every generation (g00, g01, …): {text}.")
        spec.exit_code(400, "ERROR_CELLS", message="{stage}: the cells cannot be made: {message}")
        spec.exit_code(410, "ERROR_LABELS", message="{stage}: labelling failed: {message}")
        spec.exit_code(420, "ERROR_FIT", message="{stage}: the fit failed: {message}")
        spec.exit_code(430, "ERROR_RELAX", message="{stage}: the relaxations failed: {message}")
        spec.exit_code(435, "ERROR_EXAMINE", message="{stage}: the candidates could not be described: {message}")
        spec.exit_code(440, "ERROR_NOTHING_SELECTED", message="{stage}: no frame is fit to be labelled: {message}")

    # --- the campaign ---

    def start(self) -> None:
        """Read the settings."""
        self.ctx.generation = 0
        self.ctx.tag = "g00"
        self.ctx.datasets = {f"database_{name}": node for name, node in self.inputs.get("database", {}).items()}
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

    def build_cells(self) -> None:
        """Let buildcell make the cells of AIRSS seeds, if there is one."""
        counts = self.recipe.cells if self.ctx.generation else self.settings.initial
        self.ctx.building = []
        for kind, count in counts.items() if "buildcell" in self.inputs else ():
            seed = self.settings.seeds[kind]
            if isinstance(seed, AirssSeed):
                self.ctx.building.append(kind)
                inputs = {**self.python_job(f"buildcell_{kind}"), "buildcell": self.inputs.buildcell}
                inputs |= {"settings": Dict({"text": seed.text}), "n": Int(count), "seed": self.seed(f"buildcell_{kind}")}
                inputs |= {"name": Str(f"{self.inputs.name.value}-{self.tag}-{kind}"), "generation": Int(self.ctx.generation)}
                self.submit_job(f"built_{kind}", BuildcellCalculation, **inputs)

    def built_cells(self) -> dict[str, Dataset]:
        """Return what buildcell has made.

        :raises RandomCellError: if that is nothing.
        """
        out: dict[str, Any] = {}
        for key in (f"built_{kind}" for kind in self.ctx.building):
            built = self.outcome(key)
            if "frames" not in built.outputs or not built.outputs["frames"].n_frames:
                raise RandomCellError(f"buildcell <{built.job.pk}>: {built.failure or 'no cells'}")
            out[key] = built.outputs["frames"]
        return out

    def make_initial_cells(self) -> ExitCode | None:
        """Make isolated atoms and random cells, which are not relaxed."""
        nodes = {**self.ctx.datasets, **{f"relabel_{name}": node for name, node in self.inputs.get("relabel", {}).items()}}
        if self.wants_crystals("start"):
            nodes["crystals"] = self.inputs.crystals
        try:
            nodes |= self.built_cells()
            self.ctx.to_label = initial_cells(
                self.inputs.settings, self.inputs.name, self.seed("initial"), metadata=self.called("initial_cells"), **nodes
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
        self.ctx.tag = f"g{self.ctx.generation:02d}"
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
        # Asked of the database: what this process has read of its node may be old.
        query = QueryBuilder().append(ProcessNode, filters={"uuid": self.node.uuid}, project=[f"extras.{self.STOP}"])
        return "a user ended them" if query.first(flat=True) else None

    def make_cells(self) -> ExitCode | None:
        """Make new random cells, each with a random pressure."""
        known = self.ctx.datasets if self.recipe.hull_bias is not None else {}
        try:
            self.ctx.cells = random_cells_under_pressure(
                self.inputs.settings,
                self.inputs.name,
                Int(self.ctx.generation),
                self.seed("cells"),
                metadata=self.called("cells"),
                **known,
                **self.built_cells(),
            )
        except (RandomCellError, HullError) as error:
            return self.exit_codes.ERROR_CELLS.format(stage=self.stage, message=error)
        self.ctx.relax_settings = self.recipe.relax
        self.report(f"generation {self.ctx.generation}: {self.ctx.cells.n_frames} new random cells")
        return None

    def relax(self) -> None:
        """Relax the cells with the last potential."""
        inputs = AttributeDict(self.exposed_inputs(RelaxCalculation, namespace="relax"))
        inputs.frames = self.ctx.cells
        inputs.potential = self.ctx.potential
        settings = self.ctx.relax_settings.model_dump()
        settings["min_distance"] = settings["min_distance"] or self.settings.hard_core
        inputs.settings = Dict(settings)
        inputs.metadata = {**inputs.get("metadata", {}), **self.called("relax")}
        self.submit_job("relax", RelaxCalculation, **inputs)

    def collect_relaxed(self) -> ExitCode | None:
        """Take over the relaxed cells and their snapshots, the candidates for labels."""
        relaxed = self.outcome("relax")
        if "frames" not in relaxed.outputs or not relaxed.outputs["frames"].n_frames:
            return self.exit_codes.ERROR_RELAX.format(stage=self.stage, message=relaxed.failure or "no frames")
        if relaxed.failure:
            self.report(f"{self.stage}: relaxation job <{relaxed.job.pk}>: {relaxed.failure}; going on with the rest")
        self.ctx.candidates = self.ctx.relaxed = relaxed.outputs["frames"]
        self.keep(
            f"relaxed.{self.tag}", self.ctx.candidates, f"{self.tag} relaxed", f"cells of {self.stage}, relaxed, and snapshots"
        )
        return None

    def examine(self) -> None:
        """Find out what the rules of selection go by: SOAP vectors of what has none yet, uncertainties of the predictions."""
        select = self.recipe.select
        if select.vectors and self.ctx.vector_settings != select.vectors.model_dump():
            self.ctx.vector_settings, self.ctx.vectors = select.vectors.model_dump(), {}  # others are not to be compared
        self.ctx.examined = [tag for tag in self.ctx.datasets if tag not in self.ctx.vectors] if select.vectors else []
        if select.vectors:
            settings = Dict({**select.vectors.model_dump(), "elements": sorted(self.settings.formula)})
            for tag, frames in [("candidates", self.ctx.candidates), *((t, self.ctx.datasets[t]) for t in self.ctx.examined)]:
                inputs = {**self.python_job(f"describe_{tag}"), "frames": frames, "settings": settings}
                self.submit_job(f"describe_{tag}", DescribeCalculation, **inputs)
        if select.uses("variance"):
            inputs = {**self.python_job("variances"), "frames": self.ctx.candidates, "settings": Dict({"variances": True})}
            self.submit_job("variances", EvaluateCalculation, potential=self.ctx.potential, **inputs)

    def select(self) -> ExitCode | None:
        """Choose the frames worth a label."""
        select, settings = self.recipe.select, self.settings
        more: dict[str, Any] = {}
        candidates = self.ctx.candidates
        if select.uses("variance"):
            variances = self.outcome("variances")
            if "frames" not in variances.outputs:
                return self.exit_codes.ERROR_EXAMINE.format(stage=self.stage, message=variances.failure)
            candidates = variances.outputs["frames"]
        if select.vectors:
            for tag in ("candidates", *self.ctx.examined):
                described = self.outcome(f"describe_{tag}")
                if "vectors" not in described.outputs:
                    return self.exit_codes.ERROR_EXAMINE.format(stage=self.stage, message=described.failure)
                self.ctx.vectors[tag] = described.outputs["vectors"]
            more = {f"{tag}_vectors": node for tag, node in self.ctx.vectors.items() if tag != "candidates"}
            more["vectors"] = self.ctx.vectors.pop("candidates")
        if settings.max_labels is not None:
            more["most"] = Int(settings.max_labels - self.n_labels)
        chosen = select_frames(
            candidates,
            self.inputs.settings,
            Int(self.ctx.generation),
            self.seed("selection"),
            metadata=self.called("select"),
            **self.ctx.datasets,
            **more,
        )
        self.out(f"selections.{self.tag}", chosen["report"])
        report = chosen["report"].get_dict()
        rejected = ", ".join(f"{n} {reason}" for reason, n in report["rejected"].items()) or "none"
        numbers = f"{report['chosen']} of {report['candidates']} frames chosen"
        self.report(f"generation {self.ctx.generation}: {numbers}; not chosen: {rejected}")
        self.ctx.to_label = chosen["frames"]
        if report["chosen"] == 0:
            if set(report["rejected"]) <= {"absurd"}:
                return self.exit_codes.ERROR_NOTHING_SELECTED.format(stage=self.stage, message=rejected)
            self.ctx.ended = f"generation {self.ctx.generation} has brought nothing new"
        return None

    def has_chosen(self) -> bool:
        """Tell whether the generation has brought anything to label."""
        return self.ctx.to_label.n_frames > 0

    def label(self) -> Any:
        """Label the chosen frames with the reference."""
        inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, namespace="label"))
        inputs |= {"frames": self.ctx.to_label, "scratch": self.inputs.scratch}
        inputs.metadata = {**inputs.get("metadata", {}), **self.called("label")}
        return ToContext(labelling=self.submit(LabelWorkChain, **inputs))

    def collect_labels(self) -> ExitCode | None:
        """Add the new labels to the database."""
        process = self.ctx.labelling
        if "frames" in process.outputs:
            labels = process.outputs.frames
            self.keep(f"labels.{self.tag}", labels, f"{self.tag} labels", f"frames of {self.stage}, labelled")
            self.ctx.datasets = {**self.ctx.datasets, self.tag: labels}
            self.report(f"{self.stage}: {energy_summary(labels.get_frames())}")
        if not process.is_finished_ok:
            return self.exit_codes.ERROR_LABELS.format(stage=self.stage, message=process.exit_message or process.process_state)
        atoms = {a.info["frame_id"]: a for a in process.outputs.frames.get_frames()}
        for name in (a.info["frame_id"] for a in self.ctx.to_label.get_frames() if fr.is_isolated_atom(a)):
            if name not in atoms or not fr.is_labelled(atoms[name]):  # without it there is no fit
                reason = atoms[name].info.get("label_status") if name in atoms else "lost"
                return self.exit_codes.ERROR_LABELS.format(stage=self.stage, message=f"isolated atom {name}: {reason}")
        return None

    def fit(self) -> None:
        """Fit a potential to everything labelled so far, with smooth settings."""
        self.submit_fit(self.settings.fit.model_dump(), "fit")

    def collect_fit(self) -> ExitCode | None:
        """Take over the new potential."""
        fit = self.outcome("gap_fit")
        if fit.failure:
            return self.exit_codes.ERROR_FIT.format(stage=self.stage, message=fit.failure)
        process = fit.job
        self.ctx.potential = process.outputs.potential
        tag = "final" if self.ctx.final else self.tag
        what = "final potential" if self.ctx.final else f"potential after {self.stage}"
        self.keep(f"potentials.{tag}", process.outputs.potential, f"{tag} potential", what)
        self.out(f"fits.{tag}", process.outputs.results)
        results = process.outputs.results.get_dict()
        text = f"{tag}: potential fitted to {results['frames']} frames, {results['atoms']} atoms"
        if "errors" in results:
            energy, forces = results["errors"]["energy"]["rmse"], results["errors"]["forces"]["rmse"]
            text += f"; training RMSE {energy:.1f} meV/atom, {forces:.3f} eV/Å"
        self.report(text)
        return None

    def look_back(self) -> None:
        """Evaluate the new potential on the low minima that the one before has found."""
        if self.settings.stop is None:
            return
        self.ctx.minima[self.tag] = low_minima(self.ctx.relaxed, self.inputs.settings, metadata=self.called("low_minima"))
        inputs = {**self.python_job("evaluate"), "frames": self.ctx.minima[self.tag], "potential": self.ctx.potential}
        self.submit_job("evaluate", EvaluateCalculation, **inputs)

    def judge(self) -> None:
        """Measure what this generation has changed; end the search if that is little enough."""
        stop = self.settings.stop
        if stop is None:
            return
        nodes = {f"seen_{tag}": node for tag, node in self.ctx.minima.items() if tag != self.tag}
        if "frames" in (evaluated := self.outcome("evaluate").outputs):
            nodes["evaluated"] = evaluated["frames"]
        before = f"g{self.ctx.generation - 1:02d}"
        if before in self.ctx.datasets:
            nodes["labelled_before"] = self.ctx.datasets[before]
        row = measure_progress(
            self.inputs.settings,
            self.ctx.relaxed,
            self.ctx.datasets[self.tag],
            metadata=self.called("progress"),
            **nodes,
        )
        self.out(f"progress.{self.tag}", row)
        self.ctx.history = [*self.ctx.get("history", []), row.get_dict()]
        self.report(f"{self.stage}: {describe(stop, row.get_dict())}")
        if converged(stop, self.ctx.history):
            self.ctx.ended = f"all thresholds kept for {stop.patience} generations"

    def has_crystals_left(self) -> bool:
        """Tell whether known crystals are to be added now."""
        return self.wants_crystals("end")

    def make_crystals(self) -> None:
        """Make distorted cells of the known crystals."""
        self.ctx.tag = "crystals"
        self.ctx.to_label = distorted_crystals(
            self.inputs.settings, self.inputs.name, self.seed("crystals"), self.inputs.crystals, metadata=self.called("cells")
        )
        self.report(f"known crystals: {self.ctx.to_label.n_frames} distorted cells to label")

    def has_final_fit(self) -> bool:
        """Tell whether there is a last fit: with settings of its own, to more frames, or as none was known to be the last."""
        return self.asks_for_final_fit or not self.ctx.keep

    def fit_tightly(self) -> None:
        """Fit the final potential to the same database."""
        self.submit_fit((self.settings.final_fit or self.settings.fit).model_dump(), "final_fit")

    def has_search(self) -> bool:
        """Tell whether the final potential is used for a search."""
        return self.settings.search is not None

    def run_search(self) -> Any:
        """Relax random cells that no potential has seen, and the lowest frames of the database once more."""
        self.ctx.tag = "search"
        settings = self.inputs.settings
        inputs: dict[str, Any] = {
            "potential": self.ctx.potential,
            "settings": search_settings(settings, metadata=self.called("settings")),
            "seed": self.seed("search"),
            "name": Str(f"{self.inputs.name.value}-search"),
            "again": lowest_frames(settings, metadata=self.called("lowest"), **self.ctx.datasets),
            "relax": self.exposed_inputs(RelaxCalculation, namespace="relax"),
            "scratch": self.inputs.scratch,
            "metadata": self.called("relax"),
        }
        if "targets" in self.inputs:
            inputs["targets"] = self.inputs.targets
        new, again = sum(self.search.cells.values()), inputs["again"].n_frames
        self.report(f"search with the final potential: {new} new random cells, the {again} lowest frames once more")
        return ToContext(search=self.submit(SearchWorkChain, **inputs))

    def choose_lowest(self) -> ExitCode | None:
        """Take the lowest distinct minima, to be checked against the reference."""
        process = self.ctx.search
        if "summary" in process.outputs:
            self.out("search.summary", process.outputs.summary)
        if "minima" not in process.outputs:
            return self.exit_codes.ERROR_RELAX.format(stage=self.stage, message=process.exit_message or process.process_state)
        if "found" in process.outputs:
            self.out("search.found", process.outputs.found)
        number = min(self.search.label, process.outputs.minima_frames.n_frames)
        self.ctx.to_label = pick_frames(
            process.outputs.minima_frames, List(list(range(number))), metadata=self.called("lowest_minima")
        )
        return None

    def collect_minima(self) -> ExitCode | None:
        """Set the minima found beside the reference."""
        process = self.ctx.labelling
        if "frames" not in process.outputs:
            return self.exit_codes.ERROR_LABELS.format(stage=self.stage, message=process.exit_message or process.process_state)
        found = self.ctx.search.outputs
        beside = minima_beside_reference(
            found.minima, found.minima_frames, process.outputs.frames, metadata=self.called("minima"), **self.ctx.datasets
        )
        self.out("minima", beside["minima"])
        self.keep("minima_frames", beside["frames"], "minima", "minima of the final search, lowest first")
        for minimum in beside["minima"]["minima"][:5]:
            text = f"minimum {minimum['rank']}: {minimum['symbol']} ({minimum['space_group']}), found {minimum['count']} times"
            if minimum["ref_energy"] is not None:
                error = 1000 * (minimum["gap_energy"] - minimum["ref_energy"])
                text += f", reference {minimum['ref_energy']:.4f} eV/atom, GAP {error:+.1f} meV/atom"
            self.report(text)
        return None

    def finish(self) -> None:
        """Return the final potential."""
        potential = self.ctx.gap_fit.outputs.potential
        potential.label = ""  # where the last generation's is the final one
        self.keep("potential", potential, "final potential", "final potential")
        self.out("results", self.ctx.gap_fit.outputs.results)
        if "predictions" in self.ctx.gap_fit.outputs:
            predictions = self.ctx.gap_fit.outputs.predictions
            self.keep(
                "predictions", predictions, "final predictions", "all labelled frames with predictions of the final potential"
            )
        self.report(f"finished: final potential <{self.ctx.potential.pk}>; for the report: aiida-gaprss report {self.node.pk}")

    # --- helpers ---

    def keep(self, port: str, node: Node, label: str, what: str) -> None:
        """Give a node out, named so that a person knows it again, and put it into the group of the campaign."""
        self.out(port, node)
        name = self.inputs.name.value
        if not node.label:
            node.label = f"{name} {label}"
            node.description = f"{what[0].upper()}{what[1:]}; campaign {name}, uuid {self.node.uuid}"
        group, _ = Group.collection.get_or_create(label=f"gaprss/{name}-{self.node.uuid[:8]}")
        group.add_nodes([self.node, node])

    @property
    def asks_for_final_fit(self) -> bool:
        """Tell whether the settings ask for another fit after those of the generations."""
        return self.settings.final_fit is not None or self.wants_crystals("end")

    @property
    def settings(self) -> RssSettings:
        """The settings as a model."""
        return RssSettings(**self.inputs.settings.get_dict())

    @property
    def recipe(self) -> GenerationSettings:
        """The settings of this generation."""
        return self.settings.recipe(self.ctx.generation)

    @property
    def search(self) -> SearchSettings:
        """The settings of the final search."""
        search = self.settings.search
        assert search is not None
        return search

    @property
    def tag(self) -> str:
        """Name of this generation in the outputs."""
        return str(self.ctx.tag)

    @property
    def stage(self) -> str:
        """Name of this generation in words."""
        return STAGES.get(self.tag, f"generation {self.ctx.generation}")

    @property
    def n_labels(self) -> int:
        """Number of frames that have been sent to the reference."""
        return sum(node.n_frames for tag, node in self.ctx.datasets.items() if not tag.startswith("database_"))

    def wants_crystals(self, when: str) -> bool:
        """Tell whether known crystals are added at the ``start`` or the ``end``."""
        return self.settings.crystals is not None and self.settings.crystals.when == when

    def seed(self, stage: str) -> Int:
        """Return the seed of a stage of this generation.

        A campaign that goes on from another one of the same seed does not make the same cells again.
        """
        known = sum(node.n_frames for node in self.inputs.get("database", {}).values())
        return Int(stage_seed(self.inputs.seed.value, self.ctx.generation, f"{stage}+{known}" if known else stage))

    def called(self, stage: str) -> dict[str, Any]:
        """Return the metadata that name a stage in the provenance graph."""
        return {"call_link_label": f"{self.tag}_{stage}", "label": f"{self.inputs.name.value} {self.tag} {stage}"}

    def submit_fit(self, settings: dict[str, Any], stage: str) -> None:
        """Submit a fit to all datasets."""
        inputs = AttributeDict(self.exposed_inputs(GapFitCalculation, namespace="fit"))
        inputs.datasets = dict(self.ctx.datasets)
        inputs.settings = Dict(settings)
        inputs.seed = self.seed(stage)
        inputs.metadata = {**inputs.get("metadata", {}), **self.called(stage)}
        self.ctx.final = stage == "final_fit"
        may_end = self.settings.stop is not None or self.ctx.generation == self.settings.n_generations
        self.ctx.keep = self.ctx.final or (may_end and not self.asks_for_final_fit)  # predictions, those of the last fit
        inputs.metadata["options"] = {**inputs.metadata.get("options", {}), "keep_predictions": self.ctx.keep}
        self.submit_job("gap_fit", GapFitCalculation, **inputs)

    def python_job(self, stage: str) -> dict[str, Any]:
        """Return the code and the options of another job that runs where the relaxations do."""
        options = {key: value for key, value in self.inputs.relax.metadata.options.items() if key != "parser_name"}
        return {"code": self.inputs.relax.code, "metadata": {"options": options, **self.called(stage)}}


#: What the parts of a campaign that are no generations are called.
STAGES = {"crystals": "known crystals", "search": "search"}


def label_budget(inputs: Any) -> int:
    """Return the largest number of reference calculations that a campaign with these inputs can ask for."""
    crystals = inputs["crystals"].n_frames if "crystals" in inputs else 0
    relabel = sum(inputs["relabel"][key].n_frames for key in inputs["relabel"]) if "relabel" in inputs else 0
    return RssSettings(**inputs["settings"].get_dict()).label_budget(crystals, relabel)


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
