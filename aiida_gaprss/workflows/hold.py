"""The searches of a campaign with its last potential: once, or until the lowest minima hold against the reference."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, ToContext
from aiida.orm import Bool, Dict, Int, List, Str

from aiida_gaprss.analysis.hold import told
from aiida_gaprss.calculations.hold_functions import hold_verdict, minima_that_hold, minima_to_label
from aiida_gaprss.calculations.label_functions import pick_frames
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.calculations.rss_functions import lowest_frames, minima_beside_reference, search_settings
from aiida_gaprss.campaign import stages
from aiida_gaprss.campaign.search import HoldSettings, SearchSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.workflows.refine import RefinedWorkChain
from aiida_gaprss.workflows.search import SearchWorkChain


class HeldWorkChain(RefinedWorkChain):
    """A campaign that searches with its last potential, and labels the lowest minima.

    With ``hold``, the potential is fitted to them too, and searches again, until they hold; then their properties may be
    refined, and the minima of the refined potential are held to the reference in turn.
    """

    @property
    def search(self) -> SearchSettings:
        """The settings of the searches."""
        search = self.settings.search
        assert search is not None
        return search

    @property
    def hold(self) -> HoldSettings:
        """What is asked of the minima."""
        hold = self.settings.hold
        assert hold is not None
        return hold

    @property
    def labels_left(self) -> int:
        """Number of labels that the searches still have."""
        return self.hold.max_labels - int(self.ctx.held_labels)

    @property
    def predictions(self) -> dict[str, Dataset]:
        """What the last potential says of the frames that it was fitted to, if its fit has told."""
        outputs = self.ctx.fit.outputs
        return {"predictions": outputs.predictions} if "predictions" in outputs else {}

    def begin_searches(self) -> None:
        """Begin with a search, if there is one."""
        self.ctx.next = stages.SEARCH if self.settings.search is not None else None
        self.ctx.rounds = self.ctx.quiet = self.ctx.held_labels = 0
        self.ctx.held = {}

    def goes_on(self) -> bool:
        """Tell whether there is another search or refinement."""
        return self.ctx.next is not None

    def searches(self) -> bool:
        """Tell whether it is a search."""
        return bool(self.ctx.next == stages.SEARCH)

    def run_search(self) -> Any:
        """Relax random cells that no potential has seen, and the lowest frames of the database once more."""
        self.ctx.rounds += 1
        repeated = self.settings.hold is not None
        self.ctx.tag = stages.round_tag(stages.HELD, self.ctx.rounds) if repeated else stages.SEARCH
        settings = self.inputs.settings
        inputs: dict[str, Any] = {
            "potential": self.ctx.potential,
            "settings": search_settings(settings, metadata=self.called(stages.SETTINGS)),
            "seed": self.seed(f"search_{self.tag}" if repeated else "search"),
            "name": Str(f"{self.inputs.name.value}-{self.tag}"),
            "again": lowest_frames(settings, metadata=self.called(stages.LOWEST), **self.ctx.datasets),
            "relax": self.exposed_inputs(RelaxCalculation, namespace="relax"),
            "scratch": self.inputs.scratch,
            "metadata": self.called(stages.RELAX),
        }
        if "targets" in self.inputs:
            inputs["targets"] = self.inputs.targets
        new, again = sum(inputs["settings"]["cells"].values()), inputs["again"].n_frames
        self.report(f"{self.stage} with the last potential: {new} new random cells, the {again} lowest frames once more")
        return ToContext(search=self.submit(SearchWorkChain, **inputs))

    def choose_lowest(self) -> ExitCode | None:
        """Take the lowest distinct minima that are to be checked against the reference."""
        process = self.ctx.search
        if "minima" not in process.outputs:
            return self.exit_codes.ERROR_RELAX.format(stage=self.stage, message=process.exit_message or process.process_state)
        self.ctx.labelling = None
        found: Dataset = process.outputs.minima_frames
        if self.settings.hold is None:
            number = min(self.search.label, found.n_frames)
            places = List(list(range(number)))
            self.ctx.to_label = pick_frames(found, places, metadata=self.called(stages.LOWEST_MINIMA))
            return None
        may_be_last = self.ctx.quiet + 1 >= self.hold.searches
        chosen = minima_to_label(
            self.inputs.settings,
            found,
            Int(self.labels_left),
            Bool(may_be_last),
            metadata=self.called(stages.LOWEST_MINIMA),
            **self.predictions,
            **self.ctx.datasets,
        )
        self.ctx.to_label, self.ctx.before = chosen["frames"], chosen["before"]
        return None

    def collect_minima(self) -> ExitCode | None:
        """Set the minima found beside the reference, and decide what comes next."""
        process = self.ctx.labelling
        if process is not None and "frames" not in process.outputs:
            return self.exit_codes.ERROR_LABELS.format(stage=self.stage, message=process.exit_message or process.process_state)
        labelled: Dataset | None = None if process is None else process.outputs.frames
        held = {} if self.settings.hold is None else {"held": self.judged(labelled)}
        found, new = self.ctx.search.outputs, labelled if labelled is not None else self.ctx.to_label
        beside = minima_beside_reference(
            found.minima, found.minima_frames, new, metadata=self.called(stages.MINIMA), **held, **self.ctx.datasets
        )
        self.ctx.lowest_found, self.ctx.table_of_minima = beside["frames"], beside["minima"]
        self.report_minima()
        if held:
            self.decide(held["held"].get_dict(), labelled)
        else:
            self.ctx.next = stages.REFINE if self.refines() else None
        return None

    def report_minima(self) -> None:
        """Tell the lowest."""
        for minimum in self.ctx.table_of_minima["minima"][:5]:
            text = f"minimum {minimum['rank']}: {minimum['symbol']} ({minimum['space_group']}), found {minimum['count']} times"
            if minimum["ref_energy"] is not None:
                error = 1000 * (minimum["predicted_energy"] - minimum["ref_energy"])
                text += f", reference {minimum['ref_energy']:.4f} eV/atom, the potential {error:+.1f} meV/atom"
            self.report(text)

    def judged(self, labelled: Dataset | None) -> Dict:
        """Return which minima hold.

        :param labelled: minima that were labelled now.
        """
        new = {**self.predictions, **({} if labelled is None else {"labelled": labelled})}
        found = self.ctx.search.outputs.minima_frames
        metadata = self.called(stages.HOLD)
        verdict = minima_that_hold(self.inputs.settings, found, self.ctx.before, metadata=metadata, **new, **self.ctx.datasets)
        self.out(f"holds.{self.tag}", verdict)
        return verdict

    def decide(self, row: dict[str, Any], labelled: Dataset | None) -> None:
        """Decide what comes next: another fit and search, a refinement, or nothing.

        :param row: which minima hold; ``labelled``: minima that were labelled now.
        """
        self.ctx.held_labels += 0 if labelled is None else labelled.n_frames
        self.ctx.quiet = self.ctx.quiet + 1 if row["settled"] and not row["new"] else 0
        text = f"{row['holding']} of the {row['lowest']} lowest minima hold, {row['new']} the database did not know"
        self.report(f"{self.stage}: {text}; {row['labelled']} labels")
        reason = self.reason_to_stop(row)
        self.ctx.refit = bool(row["labelled"]) and reason is None
        if self.ctx.refit:
            self.keep(f"labels.{self.tag}", labelled, f"{self.tag} labels", f"lowest minima of {self.stage}, labelled")
            self.ctx.datasets = {**self.ctx.datasets, self.tag: labelled}
        if reason is not None:
            self.ctx.held = {"holds": not reason, "reason": reason, "round": self.tag, "labels": self.ctx.held_labels, **row}
            self.report(f"{self.stage}: {told(self.ctx.held)}")
            self.ctx.next = stages.REFINE if self.refines() else None

    def reason_to_stop(self, row: dict[str, Any]) -> str | None:
        """Return why there is no other search, empty if the minima hold; None if there is one."""
        quiet = self.ctx.quiet >= self.hold.searches
        if quiet and row["holding"] == row["lowest"] and (row["own"] == row["lowest"] or self.labels_left < 1):
            return ""
        if quiet and row["stuck"]:
            return "labels tell nothing new where the fit does not follow them"
        if self.is_stopped():
            return "a user ended the searches"
        if self.ctx.rounds >= self.hold.max_rounds:
            most = self.hold.max_rounds
            return f"all {most} rounds have been made" if most > 1 else "the one round has been made"
        if self.labels_left < 1 and not row["labelled"]:
            return f"all {self.hold.max_labels} labels are spent"
        return None

    def fits_again(self) -> bool:
        """Tell whether labels have come that the potential is to be fitted to."""
        return self.settings.hold is not None and bool(self.ctx.refit)

    def fit_again(self) -> Any:
        """Fit to everything."""
        self.ctx.fit_before = self.ctx.fit
        return self.submit_fit(self.settings_of_last_fit, stages.FIT)

    def finish_searches(self) -> None:
        """Give out what the last search has found, and whether it holds."""
        if self.ctx.get("lowest_found") is None:
            return
        outputs = self.ctx.search.outputs
        self.out("search.summary", outputs.summary)
        if "found" in outputs:
            self.out("search.found", outputs.found)
        self.out("minima", self.ctx.table_of_minima)
        self.keep("minima_frames", self.ctx.lowest_found, "minima", "minima of the last search, lowest first")
        if self.ctx.held:
            self.out("hold", hold_verdict(Dict(self.ctx.held), metadata={"call_link_label": stages.HOLD}))
