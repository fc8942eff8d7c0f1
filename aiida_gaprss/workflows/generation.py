"""A generation of a campaign, step by step."""

from __future__ import annotations

from typing import Any, ClassVar

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext
from aiida.orm import Dict, Float, Group, Int, List, Node, ProcessNode, QueryBuilder, Str

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.convergence import converged, describe
from aiida_gaprss.analysis.energies import energy_summary
from aiida_gaprss.analysis.hull import HullError
from aiida_gaprss.calculations.buildcell import BuildcellCalculation
from aiida_gaprss.calculations.common import frames_of
from aiida_gaprss.calculations.describe import DescribeCalculation
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.fit import FitCalculation
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.calculations.rss_functions import (
    low_minima,
    measure_progress,
    parents_of_cells,
    random_cells_under_pressure,
    select_frames,
)
from aiida_gaprss.campaign import stages
from aiida_gaprss.campaign.settings import GenerationSettings, RssSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.models.splits import stratified
from aiida_gaprss.models.training import absurd
from aiida_gaprss.strategies.evolution import operators_of
from aiida_gaprss.strategies.seeds import AirssSeed
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.workflows.fit import FitWorkChain
from aiida_gaprss.workflows.jobs.restart import RestartingWorkChain
from aiida_gaprss.workflows.jobs.scratch import clean_scratch
from aiida_gaprss.workflows.label import LabelWorkChain


class GenerationWorkChain(RestartingWorkChain):
    """One generation of a campaign: make cells, relax, select, label, fit, judge; what is common to the parts of a campaign."""

    #: Extra of the node: a user wants generations and searches to end. Extra that says why the generations ended.
    STOP, ENDED = "gaprss_stop", "gaprss_ended"

    #: What parts are called in messages, if not as in reports.
    IN_WORDS: ClassVar[dict[str, str]] = {
        stages.INITIAL: "generation 0",
        stages.SEARCH: "search",
        stages.REFINE: "refinement",
    }

    def build_cells(self) -> None:
        """Let buildcell make the cells of AIRSS seeds, if there is one."""
        counts = self.recipe.cells if self.ctx.generation else self.settings.initial
        self.ctx.building = []
        for kind, count in counts.items() if "buildcell" in self.inputs else ():
            seed = self.settings.seeds[kind]
            if isinstance(seed, AirssSeed):
                self.ctx.building.append(kind)
                inputs = {**self.python_job(stages.BUILDCELL, kind), "buildcell": self.inputs.buildcell}
                inputs |= {"settings": Dict({"text": seed.text}), "n": Int(count), "seed": self.seed(f"buildcell_{kind}")}
                inputs |= {"name": Str(f"{self.inputs.name.value}-{self.tag}-{kind}"), "generation": Int(self.ctx.generation)}
                self.submit_job(stages.named(stages.BUILT, kind), BuildcellCalculation, **inputs)

    def built_cells(self) -> dict[str, Dataset]:
        """Return what buildcell has made.

        :raises RandomCellError: if that is nothing.
        """
        out: dict[str, Any] = {}
        for key in (stages.named(stages.BUILT, kind) for kind in self.ctx.building):
            built = self.outcome(key)
            if "frames" not in built.outputs or not built.outputs["frames"].n_frames:
                raise RandomCellError(f"buildcell <{built.job.pk}>: {built.failure or 'no cells'}")
            out[key] = built.outputs["frames"]
        return out

    def make_cells(self) -> ExitCode | None:
        """Make new random cells, each with a random pressure; some kinds vary what has been found."""
        known = self.ctx.datasets if self.recipe.hull_bias is not None else {}
        try:
            self.ctx.cells = random_cells_under_pressure(
                self.inputs.settings,
                self.inputs.name,
                Int(self.ctx.generation),
                self.seed("cells"),
                metadata=self.called(stages.CELLS),
                **known,
                **self.parents(),
                **self.built_cells(),
            )
        except (RandomCellError, HullError) as error:
            return self.exit_codes.ERROR_CELLS.format(stage=self.stage, message=error)
        self.ctx.relax_settings = self.recipe.relax
        operators = operators_of(self.ctx.cells.get_frames())
        varied = f"; of the evolutionary ones: {operators}" if operators else ""
        self.report(f"generation {self.ctx.generation}: {self.ctx.cells.n_frames} new random cells{varied}")
        return None

    def parents(self) -> dict[str, Dataset]:
        """Return what kinds of cells that vary structures make children of; nothing, if there is no such kind."""
        if not any(self.settings.seeds[kind].most_parents for kind in self.recipe.cells):
            return {}
        settings, generation = self.inputs.settings, Int(self.ctx.generation)
        return {"parents": parents_of_cells(settings, generation, metadata=self.called(stages.PARENTS), **self.ctx.datasets)}

    def relax(self) -> None:
        """Relax the cells with the last potential."""
        inputs = AttributeDict(self.exposed_inputs(RelaxCalculation, namespace="relax"))
        inputs.frames = self.ctx.cells
        inputs.potential = self.ctx.potential
        settings = self.ctx.relax_settings.model_dump()
        settings["min_distance"] = settings["min_distance"] or self.settings.hard_core
        inputs.settings = Dict(settings)
        inputs.metadata = {**inputs.get("metadata", {}), **self.called(stages.RELAX)}
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
                inputs = {**self.python_job(stages.DESCRIBE, tag), "frames": frames, "settings": settings}
                self.submit_job(f"describe_{tag}", DescribeCalculation, **inputs)
        if select.uses("variance"):
            inputs = {**self.python_job(stages.VARIANCES), "frames": self.ctx.candidates, "settings": Dict({"variances": True})}
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
            more = {stages.vectors_of(tag): node for tag, node in self.ctx.vectors.items() if tag != "candidates"}
            more["vectors"] = self.ctx.vectors.pop("candidates")
        if settings.max_labels is not None:
            more["most"] = Int(settings.max_labels - self.n_labels)
        chosen = select_frames(
            candidates,
            self.inputs.settings,
            Int(self.ctx.generation),
            self.seed("selection"),
            metadata=self.called(stages.SELECT),
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
        inputs.metadata = {**inputs.get("metadata", {}), **self.called(stages.LABEL)}
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

    def fit(self) -> Any:
        """Fit a potential to everything labelled so far, with smooth settings."""
        return self.submit_fit(self.settings.fit, stages.FIT)

    def collect_fit(self) -> ExitCode | None:
        """Take over the new potential."""
        process = self.ctx.fit
        clean_scratch(self, [process])
        if not process.is_finished_ok:
            message = process.exit_message or process.process_state.value
            return self.exit_codes.ERROR_FIT.format(stage=self.stage, message=message)
        self.ctx.potential = process.outputs.potential
        tag = stages.FINAL if self.ctx.final else self.tag
        self.ctx.fitted = {**self.ctx.get("fitted", {}), tag: process.outputs.potential}
        what = "final potential" if self.ctx.final else f"potential after {self.stage}"
        self.keep(f"potentials.{tag}", process.outputs.potential, f"{tag} potential", what)
        self.out(f"fits.{tag}", process.outputs.results)
        results = process.outputs.results.get_dict()
        text = f"{tag}: potential fitted to {results['frames']} frames, {results['atoms']} atoms"
        if "errors" in results:
            text += f"; training RMSE {_in_words(results['errors'])}"
        if "test_results" in process.outputs:
            self.out(f"tests.{tag}", process.outputs.test_results)
            text += f"; test RMSE {_in_words(process.outputs.test_results['errors'])}"
        self.report(text)
        return None

    def look_back(self) -> None:
        """Evaluate the new potential on the low minima that the one before has found."""
        if self.settings.stop is None:
            return
        self.ctx.minima[self.tag] = low_minima(self.ctx.relaxed, self.inputs.settings, metadata=self.called(stages.LOW_MINIMA))
        inputs = {**self.python_job(stages.EVALUATE), "frames": self.ctx.minima[self.tag], "potential": self.ctx.potential}
        self.submit_job("evaluate", EvaluateCalculation, **inputs)

    def judge(self) -> None:
        """Measure what this generation has changed; end the search if that is little enough."""
        stop = self.settings.stop
        if stop is None:
            return
        nodes = {stages.named(stages.SEEN, tag): node for tag, node in self.ctx.minima.items() if tag != self.tag}
        if "frames" in (evaluated := self.outcome("evaluate").outputs):
            nodes["evaluated"] = evaluated["frames"]
        before = stages.tag_of(self.ctx.generation - 1)
        if before in self.ctx.datasets:
            nodes["labelled_before"] = self.ctx.datasets[before]
        row = measure_progress(
            self.inputs.settings,
            self.ctx.relaxed,
            self.ctx.datasets[self.tag],
            metadata=self.called(stages.PROGRESS),
            **nodes,
        )
        self.out(f"progress.{self.tag}", row)
        self.ctx.history = [*self.ctx.get("history", []), row.get_dict()]
        self.report(f"{self.stage}: {describe(stop, row.get_dict())}")
        if converged(stop, self.ctx.history):
            self.ctx.ended = f"all thresholds kept for {stop.patience} generations"

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
    def tag(self) -> str:
        """Name of this generation in the outputs."""
        return str(self.ctx.tag)

    @property
    def stage(self) -> str:
        """Name of this generation in words."""
        return self.IN_WORDS.get(self.tag) or stages.in_words(self.tag)

    @property
    def n_labels(self) -> int:
        """Number of frames that have been sent to the reference."""
        return sum(
            node.n_frames
            for tag, node in self.ctx.datasets.items()
            if tag not in stages.all_named(stages.DATABASE, self.ctx.datasets)
        )

    def is_stopped(self) -> bool:
        """Tell whether a user wants generations and searches to end; what this process has read of its node may be old."""
        query = QueryBuilder().append(ProcessNode, filters={"uuid": self.node.uuid}, project=[f"extras.{self.STOP}"])
        return bool(query.first(flat=True))

    def wants_crystals(self, when: str) -> bool:
        """Tell whether known crystals are added at the ``start`` or the ``end``."""
        return self.settings.crystals is not None and self.settings.crystals.when == when

    def seed(self, stage: str) -> Int:
        """Return the seed of a stage of this generation.

        A campaign that goes on from another one of the same seed does not make the same cells again.
        """
        known = sum(node.n_frames for node in self.inputs.get("database", {}).values())
        return Int(stage_seed(self.inputs.seed.value, self.ctx.generation, f"{stage}+{known}" if known else stage))

    def called(self, stage: str, kind: str = "") -> dict[str, Any]:
        """Return the metadata that name a stage in the provenance graph."""
        link = stages.link(self.tag, stage, kind)
        return {"call_link_label": link, "label": f"{self.inputs.name.value} {self.tag} {stages.stage_of(link)}"}

    def submit_fit(self, settings: BaseFit, stage: str) -> Any:
        """Submit a fit to all datasets.

        :return: the exit code, if it cannot be done.
        """
        self.ctx.final = stage == stages.FINAL_FIT
        may_end = self.settings.stop is not None or self.ctx.generation == self.settings.n_generations
        last = self.ctx.final or stages.is_search(self.tag) or stages.is_refinement(self.tag)
        self.ctx.keep = last or (may_end and not self.asks_for_final_fit)  # predictions, those of the last fit
        try:
            return ToContext(fit=self.submit(FitWorkChain, **self.fit_inputs(settings, stage)))
        except ValueError as error:  # what the ports refuse, as a fit that is too large
            return self.exit_codes.ERROR_FIT.format(stage=self.stage, message=error)

    def fit_inputs(self, settings: BaseFit, stage: str) -> dict[str, Any]:
        """Return the inputs of a fit to all datasets; labels that can hardly be right are left out."""
        job = AttributeDict(self.exposed_inputs(FitCalculation, namespace="fit"))
        if self.ctx.final and "final_code" in self.inputs:
            job.code = self.inputs.final_code
        job.metadata = {**job.get("metadata", {})}
        job.metadata["options"] = {**job.metadata.get("options", {}), "keep_predictions": self.ctx.keep}
        inputs: dict[str, Any] = {"fit": job, "datasets": dict(self.ctx.datasets), "settings": Dict(settings.model_dump())}
        inputs |= {"seed": self.seed(stage), "adapt": self.inputs.adapt, "metadata": self.called(stage)}
        frames = frames_of(self.ctx.datasets)
        left_out = {} if settings.keep_absurd else absurd(frames)
        if self.settings.test_fraction is not None:
            try:
                stratified(
                    [a for a in frames if a.info["frame_id"] not in left_out], self.settings.test_fraction, inputs["seed"].value
                )
                inputs["test_fraction"] = Float(self.settings.test_fraction)
            except ValueError as error:  # as of a first generation of few frames
                self.report(f"{self.stage}: no test: {error}")
        if left_out:
            self.report(f"{self.stage}: not fitted: {', '.join(f'{name} ({why})' for name, why in left_out.items())}")
            inputs["leave_out"] = List(sorted(left_out))
        return inputs

    def python_job(self, stage: str, kind: str = "") -> dict[str, Any]:
        """Return the code and the options of another job that runs where the relaxations do."""
        options = {key: value for key, value in self.inputs.relax.metadata.options.items() if key != "parser_name"}
        return {"code": self.inputs.relax.code, "metadata": {"options": options, **self.called(stage, kind)}}


def _in_words(errors: dict[str, Any]) -> str:
    """Return the errors of energies, and of forces if any were compared."""
    energy, forces = errors["energy"]["rmse"], errors["forces"]["rmse"]
    return f"{energy:.1f} meV/atom" + (f", {forces:.3f} eV/Å" if forces is not None else "")
