"""The sections of the page of a campaign, in their order: what came out, how it came about, where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_gaprss.analysis.convergence import CRITERIA
from aiida_gaprss.analysis.errors import QUANTITIES, UNITS, errors, errors_by
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.analysis.numbers import number, significant, space_group
from aiida_gaprss.analysis.targets import in_words
from aiida_gaprss.report import figures, fit_figures, tables
from aiida_gaprss.report.hold import held_rows, minima_by_round, round_rows, scores_by_part
from aiida_gaprss.report.page import COURSE, ORIGIN, Drawing, Section, lost
from aiida_gaprss.report.provenance import commands
from aiida_gaprss.report.record import CampaignRecord
from aiida_gaprss.report.structures import structure
from aiida_gaprss.report.validation import SIGNS, figures_of, file_name, in_a_row, shown_in_campaign
from aiida_gaprss.report.viewer import Shown, told, with_local_energies

#: Rows of the table of minima on the page, and structures drawn; the CSV has all.
MINIMA_ON_PAGE = 20
STRUCTURES_DRAWN = 4


LOST = "Frames that were lost on the way; the campaign went on without them. All names are in report.json."


def sections_of(record: CampaignRecord) -> list[Section]:
    """Return all sections that the page of a campaign may have, in their order.

    What a reader wants comes first: the minima, whether they hold, what the validation says, the errors on what was not
    fitted. How the potential does on its own training set says least, and comes last of the fits.
    """
    results = [minima(record), hull(record), hold(record), validation(record), unseen(record)]
    course = [generations(record), energy_volume(record), energy_boxes(record), progress(record), errors_by_part(record)]
    return [
        *results,
        *course,
        scores(record),
        fits(record),
        lost(record.failures, "Lost frames", LOST),
        costs(record),
        provenance(record),
    ]


# --- what came out ---


def minima(record: CampaignRecord) -> Section:
    """The lowest minima: pictures, structures to be turned, a table."""
    shown = record.minima[:MINIMA_ON_PAGE]
    several = len({minimum.formula for minimum in record.minima}) > 1
    drawn = {f"structure_{minimum.rank:02d}": minimum for minimum in shown[:STRUCTURES_DRAWN]}
    rows = {
        "rows": shown,
        "number": len(record.minima),
        "heights": tables.above_hull(record),
        "found": [in_words(row) for row in record.found],
        "formulas": several,
        "viewer": told(Shown(_name(minimum, several), minimum.atoms) for minimum in shown),
    }
    return Section(
        "minima",
        "Lowest minima",
        missing="No minima have been collected yet.",
        drawings={file: lambda minimum=minimum: structure(minimum) for file, minimum in drawn.items()},  # type: ignore[misc]
        names={file: f"{_name(minimum, several)}\n{_height(minimum)}" for file, minimum in drawn.items()},
        template="campaign/minima.html.j2",
        told=rows if shown else None,
        layout="structures",
    )


def _name(minimum: Minimum, formula: bool) -> str:
    return " ".join([f"{minimum.rank} ·", *([minimum.formula] if formula else []), space_group(minimum.symbol)])


def _height(minimum: Minimum) -> str:
    return f"{number(1000 * minimum.above_lowest, 1)} meV/atom"


def hull(record: CampaignRecord) -> Section:
    """The convex hull of two elements."""
    return Section(
        "hull",
        "Convex hull",
        "Energies relative to the lowest frames of the two elements, by composition. Phases on the line are stable against "
        "falling apart into others. Look for compositions where later generations have pushed the line down, and for "
        "those that have few points.",
        drawings={"hull": lambda: figures.hull(record)},
    )


def hold(record: CampaignRecord) -> Section:
    """What the reference says of the lowest minima, search by search."""
    rows = {"words": record.hold["words"] if record.hold else "", "rounds": round_rows(record), "held": held_rows(record)}
    return Section(
        "hold",
        "Do the lowest minima hold?",
        "Each point is one of the lowest minima of a search: predicted minus reference energy, absolute. It holds if the "
        "two agree in energy, forces and stress, there or in a labelled frame beside it. Look for crosses that go away "
        "from one search to the next, and for a last search without any.",
        drawings={"hold": lambda: minima_by_round(record)},
        template="campaign/hold.html.j2",
        told=rows | {"signs": SIGNS} if record.holds else None,
        first=True,
    )


def validation(record: CampaignRecord) -> Section:
    """The scores of the last potential, and the curves of the last validation: reference, first and last potential in it."""
    drawings, names, local = _curves(shown_in_campaign(record.validation)) if record.validation is not None else ({}, {}, [])
    potentials, rows = in_a_row(record.validations)
    return Section(
        "validation",
        "May the potential be used?",
        "Properties of the known crystals, or of the lowest minima where none were given, by potentials and by the reference. "
        "The limits and their sources stand in report.json and, of every number, in the validation itself.",
        drawings=drawings,
        names=names,
        template="campaign/validation.html.j2",
        told={"potentials": potentials[-1:], "rows": rows, "signs": SIGNS, "viewer": told(local)} if rows else None,
        first=True,
    )


def _curves(last: Mapping[str, Any]) -> tuple[dict[str, Drawing], dict[str, str], list[Shown]]:
    """Return figures of a validation, what stands below them, by the names of their files, and structures with local energies."""
    drawings: dict[str, Drawing] = {}
    names: dict[str, str] = {}
    local: list[Shown] = []
    for name in last["scorecard"]["properties"]:
        local += with_local_energies(last, name)
        for title, figure in figures_of(last, name).items():
            file = file_name(f"validation_{name}_{title}", drawings)
            drawings[file] = lambda figure=figure: figure  # type: ignore[misc]
            names[file] = f"{name}: {title}".replace("_", " ")
    return drawings, names, local


def unseen(record: CampaignRecord) -> Section:
    """Errors on frames that a potential had not seen."""
    rows = tables.unseen_rows(record)
    return Section(
        "unseen",
        "Errors on what was not fitted",
        missing="No potential has been asked about frames that it had not seen.",
        template="campaign/unseen.html.j2",
        told={"rows": rows, "above": record.zero.words, "units": UNITS} if rows else None,
    )


# --- how it came about ---


def generations(record: CampaignRecord) -> Section:
    """Numbers by part of the campaign."""
    rows = tables.generation_rows(record)
    counted = {name: tables.counted(rows, name) for name in ("relax_status", "chosen_as", "rejected_reasons")}
    return Section(
        "generations",
        "Generations",
        missing="No generation has begun yet.",
        template="campaign/generations.html.j2",
        told={"rows": rows, "above": record.zero.words, **counted} if rows else None,
        group=COURSE,
    )


def energy_volume(record: CampaignRecord) -> Section:
    """All frames by volume and energy."""
    return _of_frames(
        "energy_volume",
        "Energy and volume of the database",
        "Every labelled frame but the isolated atoms, by the generation that made it. Look for later generations that gather "
        "at low energy, at the volumes of the stable structures, while the early ones cover what lies above." + _of_zero(record),
        lambda: figures.energy_volume(record),
    )


def energy_boxes(record: CampaignRecord) -> Section:
    """Distributions of energies."""
    return _of_frames(
        "energy_boxes",
        "Energies by generation",
        "Box: 16th to 84th percentile (one standard deviation); heavy line: median; whiskers: the entire range. The search "
        "has settled when the distributions of two generations look alike." + _of_zero(record),
        lambda: figures.energy_boxes(record),
    )


def _of_frames(key: str, title: str, caption: str, draw: Drawing) -> Section:
    """Return a figure of all labelled frames."""
    return Section(key, title, caption, "No frame has been labelled yet.", {key: draw}, group=COURSE)


def _of_zero(record: CampaignRecord) -> str:
    """Return what is to be said of the zero of energies if there are several elements."""
    if record.zero.words == "above the convex hull":
        return " Energies are above the convex hull of all labelled frames."
    if record.zero.hull is None and record.zero.lowest:
        return (
            " No frame is of one element alone, so that there is no convex hull: energies are above the lowest of the same "
            "composition, and are not to be compared between compositions."
        )
    return ""


def progress(record: CampaignRecord) -> Section:
    """What the generations changed."""
    columns, rows = _progress(record)
    return Section(
        "progress",
        "Has the search come to its end?",
        _progress_caption(record),
        "No generation has been labelled that could be compared with one before it.",
        {f"progress_{name}": lambda name=name: figures.progress(record, name) for name in CRITERIA},  # type: ignore[misc]
        template="campaign/progress.html.j2",
        told={"columns": columns, "rows": rows, "ended": record.ended} if rows or record.ended else None,
        group=COURSE,
    )


def _progress_caption(record: CampaignRecord) -> str:
    stop = record.stop
    what = {
        "energy_change": "Change of predicted energies: root mean square difference between what two successive potentials say "
        "of the new low minima, some of which the later one has learned from.",
        "distribution": "Shift of the labels' energies: Wasserstein distance between the reference energies of the end points of "
        "two successive generations, the mean distance that they would have to be moved.",
        "discovery": "New among the low minima: the part that no generation before has come to.",
        "new_error": "Error on new end points: root mean square, of the potential that found them, before they were fitted.",
    }
    if stop is None:
        rule = "The campaign has no thresholds; this is what its labelled frames tell by themselves."
        return " ".join([rule, what["distribution"], what["new_error"]])
    rule = (
        f"The generations end as soon as {stop.patience} in a row have kept every threshold, but not before number "
        f"{stop.at_least}; or with the last one asked for. Low: up to {stop.window:g} eV/atom above the lowest."
    )
    return " ".join([rule, *what.values()])


def _progress(record: CampaignRecord) -> tuple[list[tuple[str, str]], list[tuple[str, list[tuple[str, bool]], list[Any]]]]:
    """Return the table of what the generations changed: its columns with their thresholds, and one row per generation.

    A cell is the number in words, and whether it exceeds its threshold.
    """
    thresholds = record.stop.thresholds() if record.stop else {}
    measured = [(g.name, m) for g, m in zip(record.generations, tables.progress_of(record), strict=True) if g.index]
    names = [name for name in CRITERIA if any(measures.get(name) is not None for _, measures in measured)]
    columns = []
    for name in names:
        _, unit, factor = CRITERIA[name]
        limit = f", at most {factor * thresholds[name]:g}" if name in thresholds else ""
        columns.append((figures.PROGRESS[name], unit + limit))
    rows = []
    for generation, measures in measured:
        cells = []
        for name in names:
            value = measures.get(name)
            text = significant(None if value is None else CRITERIA[name][2] * value)
            cells.append((text, value is not None and name in thresholds and value > thresholds[name]))
        counts = [measures.get(key) for key in ("low_minima", "new_minima", "labelled_end_points")]
        rows.append((generation, cells, counts))
    return columns, rows


def errors_by_part(record: CampaignRecord) -> Section:
    """Errors before and after each fit."""
    return Section(
        "errors",
        "Errors by generation",
        "Circles: the previous potential on the new frames, before it had seen them; an honest test that should fall "
        "towards the squares. Squares: the new potential on its own training set. A gap that stays open means that the "
        "search still finds what the potential does not know.",
        "Neither predictions for new frames nor training errors are known yet.",
        {f"error_{q}": lambda q=q: figures.error_by_generation(record, q) for q in QUANTITIES},  # type: ignore[misc]
        group=COURSE,
    )


def scores(record: CampaignRecord) -> Section:
    """Scores of validations, potential by potential."""
    potentials, rows = in_a_row(record.validations)
    return Section(
        "scores",
        "How properties came about",
        "Every score that has a limit, potential by potential, as a multiple of what is good. Look for lines that come down into "
        "the shaded part, and for those that leave it again.",
        drawings={"validation_scores": lambda: scores_by_part(potentials, rows)} if rows else {},
        template="campaign/scores.html.j2",
        told={"potentials": potentials, "rows": rows, "signs": SIGNS} if len(potentials) > 1 else None,
        group=COURSE,
    )


def fits(record: CampaignRecord) -> Section:
    """The last fit beside its own training set."""
    final = record.final_frames
    rows = _final_errors(record)
    return Section(
        "fits",
        "The last fit and its training set",
        "All labelled frames but the isolated atoms, which are also its training set; below each plot the difference. Look "
        "for points far from the line at low energy: those matter most. The scatter may grow with energy, where fits are "
        "looser on purpose.",
        "The final potential has not been fitted, or has not been evaluated on the labelled frames.",
        {f"parity_{q}": lambda q=q: fit_figures.parity(final, q) for q in QUANTITIES},  # type: ignore[misc]
        template="campaign/fits.html.j2",
        told={"rows": rows, "units": UNITS} if rows else None,
        group=COURSE,
    )


def _final_errors(record: CampaignRecord) -> list[tuple[str, Any]]:
    if not record.final_frames:
        return []
    groups = [(str(group), value) for group, value in errors_by(record.final_frames, "config_type").items()]
    overall = ("all", errors(record.final_frames))
    return [overall, *groups] if len(groups) > 1 else [overall]


def costs(record: CampaignRecord) -> Section:
    """Labels and times."""
    stages = tables.stages(record)
    rows = [(g.name, g.labelled, g.counts.found, g.seconds) for g in record.generations if g.seconds]
    return Section(
        "costs",
        "Costs",
        template="campaign/costs.html.j2",
        told={"stages": stages, "rows": rows, "any_found": any(row[2] for row in rows)} if stages else None,
        group=COURSE,
    )


# --- where it is from ---


def provenance(record: CampaignRecord) -> Section:
    """The parts with their nodes, commands, versions."""
    return Section(
        "provenance",
        "Provenance",
        template="campaign/provenance.html.j2",
        told={"record": record, "parts": record.provenance, "commands": commands(record)},
        group=ORIGIN,
    )
