"""Write the report of a campaign: one page, its figures, and the numbers as CSV and JSON."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from aiida_gaprss import frames as frames_
from aiida_gaprss.analysis import numbers
from aiida_gaprss.analysis.convergence import CRITERIA
from aiida_gaprss.analysis.errors import QUANTITIES, UNITS, errors, errors_by
from aiida_gaprss.analysis.numbers import significant
from aiida_gaprss.analysis.targets import in_words
from aiida_gaprss.outside import harmless
from aiida_gaprss.outside.tables import csv_text
from aiida_gaprss.report import figures, fit_figures, tables
from aiida_gaprss.report.folder import REPORT, claim
from aiida_gaprss.report.hold import held_rows, minima_by_round, round_rows, scores_by_part
from aiida_gaprss.report.record import CampaignRecord
from aiida_gaprss.report.structures import structure
from aiida_gaprss.report.style import png
from aiida_gaprss.report.validation import SIGNS, figures_of, file_name, in_a_row, shown_in_campaign

#: Rows of the table of minima on the page, and structures drawn; the CSV has all.
MINIMA_ON_PAGE = 20
STRUCTURES_DRAWN = 4

#: Names of lost frames written out per reason on the page; the JSON has all.
NAMES_PER_REASON = 5


@dataclass(frozen=True)
class Section:
    """A group of figures with one explanation; ``missing`` is said when there is nothing to draw, without it nothing at all.

    :param key: name by which the page finds the tables that belong to it.
    """

    key: str
    title: str
    caption: str
    missing: str
    drawings: dict[str, Callable[[], Figure | None]]


#: Files of a report besides its figures.
FILES = ("index.html", "validation_*.png", "generations.csv", "minima.csv", "errors.csv", "minima.xyz", REPORT, "structure_*.png")


def write_report(record: CampaignRecord, folder: str | Path, force: bool = False) -> Path:
    """Write ``index.html`` and its companions into ``folder`` and return the path of the page.

    Companions: every figure as PNG, ``minima.csv``, ``errors.csv``, ``generations.csv``, ``minima.xyz`` and
    ``report.json``. The same record gives the same bytes. What the record lacks is said on the page.

    :param force: replace files that are there and not of an earlier state of the campaign.
    :raises FolderError: if there are such.
    """
    groups = _sections(record)
    patterns = [*FILES, *(f"{name}.png" for section in groups for name in section.drawings)]
    target = claim(folder, patterns, (record.uuid, record.label), force)
    for old in target.glob("structure_*.png"):  # of an earlier state of a running campaign
        old.unlink()
    drawn = [_draw(section, target) for section in groups]
    sections = [section for section in drawn if section["images"] or section["missing"]]
    structures = []
    for minimum in record.minima[:STRUCTURES_DRAWN]:
        name = f"structure_{minimum.rank:02d}.png"
        structures.append({"image": save_figure(structure(minimum), target / name), "minimum": minimum})

    summary = summarise(record)
    write_csv(target / "generations.csv", [_flatten(row) for row in summary["generations"]])
    write_csv(target / "minima.csv", summary["minima"])
    write_csv(target / "errors.csv", summary["errors"])
    (target / "minima.xyz").write_text(frames_.dumps(m.atoms for m in record.minima), encoding="utf-8")
    write_json(target / REPORT, summary)

    rows = tables.generation_rows(record)
    zero = record.zero
    return write_page(
        target,
        "page.html.j2",
        record=record,
        headline=_headline(record),
        sections=sections,
        structures=structures,
        generations=rows,
        chosen_as=tables.counted(rows, "chosen_as"),
        rejected=tables.counted(rows, "rejected_reasons"),
        relax_status=tables.counted(rows, "relax_status"),
        progress=_progress(record),
        above=zero.words,
        heights=tables.above_hull(record),
        found=[in_words(row) for row in record.found],
        formulas=len({minimum.formula for minimum in record.minima}) > 1,
        stages=tables.stages(record),
        final_errors=_final_errors(record),
        units=UNITS,
        minima=record.minima[:MINIMA_ON_PAGE],
        failures=_failures(record),
        names_per_reason=NAMES_PER_REASON,
        validation=_validation(record),
        rounds=round_rows(record),
        held=held_rows(record),
        signs=SIGNS,
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data.

    :raises ValueError: if a number is not finite.
    """
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_page(folder: Path, template: str, **told: Any) -> Path:
    """Write ``index.html`` of a template, and return its path."""
    path = folder / "index.html"
    path.write_text(page_environment().get_template(template).render(**told) + "\n", encoding="utf-8")
    return path


def page_environment() -> Environment:
    """Return what makes pages of templates; texts are escaped, and what would act in them is written out."""
    environment = Environment(
        loader=PackageLoader("aiida_gaprss.report", "."),
        autoescape=True,
        finalize=lambda value: harmless(value) if type(value) is str else value,  # not what a macro has written
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "significant", "duration", "space_group", "subscripts"):
        environment.filters[name] = getattr(numbers, name)
    return environment


def summarise(record: CampaignRecord) -> dict[str, Any]:
    """Return all numbers of the report as plain data that JSON can hold."""
    return finite(
        {
            "title": record.title,
            "label": record.label,
            "uuid": record.uuid,
            "state": record.state,
            "formula": record.formula,
            "seed": record.seed,
            "reference": record.reference,
            "protocol": record.protocol,
            "versions": dict(sorted(record.versions.items())),
            "final_potential": record.final_potential,
            "labelled_frames": len(record.training_set()),
            "labels": frames_.describe(record.training_set()),
            "ended": record.ended,
            "thresholds": tables.in_units(record.stop.thresholds() if record.stop else {}),
            "energies": record.zero.words,
            "generations": tables.generation_rows(record),
            "errors": tables.error_rows(record),
            "minima": tables.minima_rows(record.minima, tables.above_hull(record)),
            "found": record.found,
            "hold": record.hold["words"] if record.hold else None,
            "holds": round_rows(record),
            "held_minima": held_rows(record),
            "validations": record.validations,
            "failures": [{"frame_id": f.frame_id, "reason": f.reason} for f in record.failures],
        }
    )


def _sections(record: CampaignRecord) -> list[Section]:
    final = record.final_frames
    zero = record.zero
    note = ""
    if zero.words == "above the convex hull":
        note = " Energies are above the convex hull of all labelled frames."
    elif zero.hull is None and zero.lowest:
        note = (
            " No frame is of one element alone, so that there is no convex hull: energies are above the lowest of the same "
            "composition, and are not to be compared between compositions."
        )
    return [
        Section(
            "energy_volume",
            "Energy and volume of the database",
            "Every labelled frame but the isolated atoms, by the generation that made it. Look for later generations that gather "
            "at low energy, at the volumes of the stable structures, while the early ones cover what lies above." + note,
            "No frame has been labelled yet.",
            {"energy_volume": lambda: figures.energy_volume(record)},
        ),
        Section(
            "hull",
            "Convex hull",
            "Energies relative to the lowest frames of the two elements, by composition. Phases on the line are stable against "
            "falling apart into others. Look for compositions where later generations have pushed the line down, and for "
            "those that have few points.",
            "",
            {"hull": lambda: figures.hull(record)},
        ),
        Section(
            "energy_boxes",
            "Energies by generation",
            "Box: 16th to 84th percentile (one standard deviation); heavy line: median; whiskers: the entire range. The search "
            "has settled when the distributions of two generations look alike." + note,
            "No frame has been labelled yet.",
            {"energy_boxes": lambda: figures.energy_boxes(record)},
        ),
        Section(
            "progress",
            "Has the search come to its end?",
            _progress_caption(record),
            "No generation has been labelled that could be compared with one before it.",
            {f"progress_{name}": lambda name=name: figures.progress(record, name) for name in CRITERIA},  # type: ignore[misc]
        ),
        Section(
            "errors",
            "Errors by generation",
            "Circles: the previous potential on the new frames, before it had seen them; an honest test that should fall "
            "towards the squares. Squares: the new potential on its own training set. A gap that stays open means that the "
            "search still finds what the potential does not know.",
            "Neither predictions for new frames nor training errors are known yet.",
            {f"error_{q}": lambda q=q: figures.error_by_generation(record, q) for q in QUANTITIES},  # type: ignore[misc]
        ),
        Section(
            "parity",
            "Final potential against the reference",
            "All labelled frames but the isolated atoms, which are also its training set; below each plot the difference. Look "
            "for points far from the line at low energy: those matter most. The scatter may grow with energy, where fits are "
            "looser on purpose.",
            "The final potential has not been fitted, or has not been evaluated on the labelled frames.",
            {f"parity_{q}": lambda q=q: fit_figures.parity(final, q) for q in QUANTITIES},  # type: ignore[misc]
        ),
        Section(
            "hold",
            "Do the lowest minima hold?",
            "Each point is one of the lowest minima of a search: predicted minus reference energy, absolute. It holds if the "
            "two agree in energy, forces and stress, there or in a labelled frame beside it. Look for crosses that go away "
            "from one search to the next, and for a last search without any.",
            "",
            {"hold": lambda: minima_by_round(record)},
        ),
        *_validation_sections(record),
    ]


def _validation_sections(record: CampaignRecord) -> list[Section]:
    """Return the scores of all potentials, and the curves of the last validation: reference, first and last potential in it."""
    if record.validation is None:
        return []
    told = shown_in_campaign(record.validation)
    drawings: dict[str, Callable[[], Figure | None]] = {}
    for name in told["scorecard"]["properties"]:
        for title, figure in figures_of(told, name).items():
            file = file_name(f"validation_{name}_{title}", drawings)
            drawings[file] = lambda figure=figure: figure  # type: ignore[misc]
    caption = (
        "Properties of the known crystals, or of the lowest minima where none were given, by potentials and by the reference. "
        "The limits and their sources stand in report.json and, of every number, in the validation itself."
    )
    scores = Section(
        "scores",
        "How properties came about",
        "Every score that has a limit, potential by potential, as a multiple of what is good. Look for lines that come down into "
        "the shaded part, and for those that leave it again.",
        "",
        {"validation_scores": lambda: scores_by_part(*in_a_row(record.validations))},
    )
    return [scores, Section("validation", "May the potential be used?", caption, "", drawings)]


def _validation(record: CampaignRecord) -> dict[str, Any]:
    """Return the scores of the potentials in a row."""
    names, rows = in_a_row(record.validations)
    return {"potentials": names, "rows": rows}


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


def _progress(record: CampaignRecord) -> dict[str, Any]:
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
    return {"columns": columns if rows else [], "rows": rows}


def _draw(section: Section, target: Path) -> dict[str, Any]:
    images = {}
    for name, draw in section.drawings.items():
        path = target / f"{name}.png"
        figure = draw()
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            images[name] = save_figure(figure, path)
    return {"key": section.key, "title": section.title, "caption": section.caption, "missing": section.missing, "images": images}


def save_figure(figure: Figure, path: Path) -> str:
    """Write a figure, and return it as a page can hold it."""
    data = png(figure)
    path.write_bytes(data)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _headline(record: CampaignRecord) -> list[tuple[str, str, str]]:
    final = errors(record.final_frames)
    items = [
        ("generations", str(sum(bool(g.index and g.frames) for g in record.generations)), ""),
        ("labels in the training set", f"{len(record.training_set()):,}".replace(",", " "), ""),
        ("distinct minima", str(len(record.minima)) if record.minima else "–", ""),
    ]
    for quantity in ("energy", "forces"):
        rmse = getattr(final, quantity).rmse
        items.append((f"final RMSE, {quantity}", significant(rmse), "" if rmse is None else UNITS[quantity]))
    return items


def _final_errors(record: CampaignRecord) -> list[tuple[str, Any]]:
    if not record.final_frames:
        return []
    groups = [(str(group), value) for group, value in errors_by(record.final_frames, "config_type").items()]
    overall = ("all", errors(record.final_frames))
    return [overall, *groups] if len(groups) > 1 else [overall]


def _failures(record: CampaignRecord) -> list[tuple[str, list[str]]]:
    """Return the lost frames by reason, the most frequent first."""
    counts = Counter(failure.reason for failure in record.failures)
    reasons = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return [(reason, [f.frame_id for f in record.failures if f.reason == reason]) for reason in reasons]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as :func:`~aiida_gaprss.outside.tables.csv_text` has them."""
    path.write_text(csv_text(rows), encoding="utf-8", newline="")


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the entries of its dictionaries as columns: ``seconds: {fit: 3}`` becomes ``seconds_fit: 3``."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            out.update({f"{key}_{name}": item for name, item in value.items()})
        else:
            out[key] = value
    return out


def finite(value: Any) -> Any:
    """Return plain data with floats of ten digits, and None for those that are not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    return value
