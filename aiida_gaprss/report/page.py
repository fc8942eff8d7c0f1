"""What all pages have in common: their sections in one list, from which contents and order come, and how they are written."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from aiida_gaprss.analysis import numbers
from aiida_gaprss.outside import harmless, write_file
from aiida_gaprss.outside.tables import csv_text
from aiida_gaprss.report.record import Failure, failures_by_reason, is_open
from aiida_gaprss.report.style import png
from aiida_gaprss.report.viewer import SCRIPT

#: Names of lost frames written out per reason on a page; the JSON has all.
NAMES_PER_REASON = 5

#: Seconds after which the page of something that has not ended is loaded again.
RELOAD_S = 60

#: Columns from which on a table is printed on a page that is turned sideways, and from which on its words may be broken there.
WIDE_TABLE, WIDEST_TABLE = 14, 18

#: Groups of sections, as the contents name them.
RESULTS, COURSE, ORIGIN = "Results", "How it came about", "Where it is from"

#: What draws a figure, or says that there is nothing to draw.
Drawing = Callable[[], Figure | None]


@dataclass(frozen=True)
class Section:
    """A part of a page: figures with one explanation, and tables.

    It is left out if there is neither a figure nor ``told``, unless something is said of that.

    :param key: its address on the page; ``group``: under which the contents have it.
    :param missing: said where there is nothing to show; without it the section is left out.
    :param drawings: figures by the names of their files; ``names``: what stands below them, by the same.
    :param template: of its tables, which is given ``told``; ``first``: they stand above the figures.
    :param layout: of the figures: ``plots``, or ``structures``, which are small.
    """

    key: str
    title: str
    caption: str = ""
    missing: str = ""
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    told: Any = None
    first: bool = False
    layout: str = "plots"
    group: str = RESULTS


def write_page(folder: Path, kind: str, sections: Sequence[Section], state: str, **told: Any) -> Path:
    """Write ``index.html`` and the figures of its sections, and return its path.

    :param kind: folder of its templates; ``state``: a page of something that has not ended is loaded again by itself.
    :param told: what the head of the page needs; ``turns``: whether the script that shows structures lies beside the page.
    """
    shown = [drawn for section in sections if (drawn := _drawn(section, folder)) is not None]
    reload = RELOAD_S if is_open(state) else None
    page = _environment().get_template(f"{kind}/page.html.j2")
    text = page.render(sections=shown, state=state, reload=reload, **{**_STANDARD, **told})
    path = folder / "index.html"
    write_file(path, f"{text}\n".encode(), force=True)  # whoever looks at the page meanwhile sees a whole one
    return path


def _drawn(section: Section, folder: Path) -> dict[str, Any] | None:
    """Return what a template is given of a section, whose figures are written; None if it is left out."""
    images = {}
    for name, draw in section.drawings.items():
        path, figure = folder / f"{name}.png", draw()
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            images[name] = save_figure(figure, path)
    if not images and section.told is None and not section.missing:
        return None
    keys = ("key", "title", "caption", "missing", "names", "template", "told", "first", "layout", "group")
    return {key: getattr(section, key) for key in keys} | {"images": images}


def lost(failures: Sequence[Failure], title: str, caption: str) -> Section:
    """Return the section of frames without a label, by reason."""
    rows = failures_by_reason(failures)
    return Section(
        "lost",
        title,
        missing="None recorded.",
        template="lost.html.j2",
        told={"rows": rows, "caption": caption} if rows else None,
        group=COURSE,
    )


def figure_files(sections: Sequence[Section]) -> list[str]:
    """Return the names of the files of all figures that sections may have."""
    return [f"{name}.png" for section in sections for name in section.drawings]


def save_figure(figure: Figure, path: Path) -> str:
    """Write a figure, and return it as a page can hold it."""
    data = png(figure)
    path.write_bytes(data)
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


@cache
def script() -> tuple[str, str]:
    """Return the script of all pages, and its digest, without which the policy of a page lets no script run."""
    text = (Path(__file__).parent / "templates" / "page.js").read_text(encoding="utf-8")
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


#: What every template may use.
_STANDARD: Mapping[str, Any] = {
    "names_per_reason": NAMES_PER_REASON,
    "wide_table": WIDE_TABLE,
    "widest_table": WIDEST_TABLE,
    "viewer_script": SCRIPT,
    "turns": False,
}


@cache
def _environment() -> Environment:
    """Return what makes pages of templates; texts are escaped, and what would act in them is written out."""
    environment = Environment(
        loader=PackageLoader("aiida_gaprss.report", "templates"),
        autoescape=True,
        finalize=lambda value: harmless(value) if type(value) is str else value,  # not what a macro has written
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "significant", "duration", "space_group", "subscripts"):
        environment.filters[name] = getattr(numbers, name)
    environment.globals["script"] = script
    return environment


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data.

    :raises ValueError: if a number is not finite.
    """
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as :func:`~aiida_gaprss.outside.tables.csv_text` has them."""
    path.write_text(csv_text(rows), encoding="utf-8", newline="")


def flattened(row: dict[str, Any]) -> dict[str, Any]:
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
