"""The card of a potential as a text: Markdown, or JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import TypeAdapter

from aiida_gaprss.analysis.errors import QUANTITIES, UNITS
from aiida_gaprss.analysis.numbers import significant
from aiida_gaprss.models.regularisation import SIGMA_ORDER, Rule
from aiida_gaprss.outside import shown

#: Units of gap_fit's four sigmas, by name.
SIGMA_UNITS = dict(zip(SIGMA_ORDER, ("eV/atom", "eV/Å", "eV/atom", "eV/Å²"), strict=True))

#: Reads a rule of regularisation from plain data.
RULE: TypeAdapter[Rule] = TypeAdapter(Rule)

#: Longest text that is shown.
_LONGEST = 100_000

#: What Markdown and HTML act upon.
_ACTS = re.compile(r"[\\`*\[\]<>&|]")


def plain(value: Any) -> str:
    """Return a text from anywhere as words of a page in Markdown: neither markup nor control characters act."""
    return _ACTS.sub(r"\\\g<0>", shown(" ".join(str(value).split()), _LONGEST))


def fenced(text: str) -> list[str]:
    """Return a text as it is, between marks that it does not contain."""
    mark = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return ["", mark, *(shown(line, _LONGEST) for line in text.split("\n")), mark]


def text(content: dict[str, Any]) -> str:
    """Return a card as Markdown that also reads well as it is."""
    head = content["potential"]
    label = f": {plain(head['label'])}" if head["label"] else ""
    lines = [f"# {plain(head.get('title', 'GAP'))} for {plain(' '.join(head['elements']))}{label}", ""]
    if terms := head.get("terms"):
        lines.append(f"- a sum of {len(terms)}: {'; '.join(map(plain, terms))}")
    lines += [
        f"- elements: {plain(', '.join(head['elements']))}; largest cutoff {head['cutoff_A']:g} Å",
        f"- energies of isolated atoms (e0): {', '.join(f'{plain(s)} {e:.6f} eV' for s, e in head['e0_eV'].items())}",
        f"- needs {plain(head['needs'])}",
        f"- files: {plain(', '.join(head['files']))}; content hash (SHA-256) {plain(head['content_hash'])}",
        f"- node: {_node(head)}",
    ]
    lines += ["", "## Terms", ""]
    lines += [f"- {plain(d['kind'])}: {plain(d['words'])}" for d in content["descriptors"]]
    lines += ["", "## Expected errors (sigma), which weigh the data", "", *_sigma_lines(content["sigma"])]
    lines += ["", "## Data", "", *_data_lines(content)]
    lines += ["", "## Errors on the training set", ""]
    lines += _error_lines(content["training_errors"], "not known")
    lines += ["", "## Errors on frames that were held back (test)", ""]
    lines += _error_lines(
        content["test_errors"], "none: the process that made it tested no such frames" if content["made_by"] else "not known"
    )
    lines += ["", "## How it was made", "", *_making_lines(content)]
    return "\n".join(lines) + "\n"


def _sigma_lines(sigma: dict[str, Any] | None) -> list[str]:
    if sigma is None:
        return ["not known"]

    def numbers(values: dict[str, float]) -> str:
        return ", ".join(f"{name} {values[name]:g} {SIGMA_UNITS[name]}" for name in SIGMA_ORDER if name in values)

    lines = [f"- default: {numbers(sigma['default'])}"]
    lines += [f"- {plain(name)}: {numbers(values)}" for name, values in sigma["by_config_type"].items()]
    for given in sigma["regularisation"]:
        rule = RULE.validate_python(given)
        frames = f"of {plain(', '.join(rule.config_types))}" if rule.config_types else "of the other single frames"
        lines.append(f"- {frames}, before those of their kind: {rule.words()}")
    return lines


def _data_lines(content: dict[str, Any]) -> list[str]:
    data, embedded = content["training_data"], content["embedded_training_data"]
    lines = []
    if data is None:
        lines.append("not known to this profile: the potential was imported")
    else:
        lines += [f"- level of theory: {plain(level)}" for level in data["levels_of_theory"]]
        if data["frames"] is not None:
            types = plain(", ".join(f"{name} {n}" for name, n in data["config_types"].items()))
            lines += [
                f"- fitted: {plain(data['frames'])} frames, {plain(data['atoms'])} atoms ({types})",
                f"- used: {plain(data['energies'])} energies, {plain(data['force_components'])} force components, "
                f"{plain(data['virial_components'])} virial components",
            ]
        lines += [
            "",
            "| dataset | node | label | frames | atoms | config types | level of theory |",
            "|---|---|---|---|---|---|---|",
        ]
        for d in data["datasets"]:
            types = ", ".join(f"{name} {n}" for name, n in d["config_types"].items())
            origin = d["label"] or d["made_by"] or "–"
            cells = (d["name"], origin, d["frames"], d["atoms"], types, d["level_of_theory"])
            name, *others = map(plain, cells)
            lines.append("| " + " | ".join((name, _node(d), *others)) + " |")
    if embedded:
        if lines:
            lines.append("")
        size = f"{plain(embedded['frames'])} frames, {plain(embedded['atoms'])} atoms"
        lines.append(f"the xml holds its training set: {size} ({plain(' '.join(embedded['elements']))})")
    return lines


def _error_lines(found: dict[str, Any] | None, missing: str) -> list[str]:
    if found is None:
        return [missing]
    lines = [
        "| frames | number | " + " | ".join(f"{q} RMSE, {UNITS[q]} | {q} MAE, {UNITS[q]}" for q in QUANTITIES) + " |",
        "|---|---|" + "---|---|" * len(QUANTITIES),
    ]
    for name, errors in {"all": found["all"], **found["by_config_type"]}.items():
        values = [significant(errors[q][measure]) for q in QUANTITIES for measure in ("rmse", "mae")]
        lines.append(f"| {plain(name)} | {plain(errors['frames'])} | " + " | ".join(values) + " |")
    return lines


def _making_lines(content: dict[str, Any]) -> list[str]:
    made = content["made_by"]
    if made is None:
        lines = ["- imported: nothing in this profile made it; what is said above of data and fit is what the xml says"]
    else:
        lines = (
            ["- imported with its card: nodes and times are those of the profile where it was made"]
            if content["imported"]
            else []
        )
        lines += [f"- {_named(made)}"]
        lines += [f"- gap_fit {plain(made['gap_fit'])}"] if made["gap_fit"] else []
        lines += (
            [f"- aiida-gaprss {plain(made['aiida_gaprss'])}, aiida-core {plain(made['aiida_core'])}"]
            if made["aiida_gaprss"]
            else []
        )
        lines += [f"- called by {_named(caller)}" for caller in made["called_by"]]
        campaign = made["campaign"]
        if campaign:
            about = f": {plain(campaign['description'])}" if campaign["description"] else ""
            lines.append(f"- campaign {plain(campaign['name'])}, seed {plain(campaign['seed'])}{about}")
    if content["seed"] is not None:
        lines.append(f"- seed: {plain(content['seed'])}")
    if content["gap_fit_command"]:
        lines += ["- input of gap_fit:", *fenced(content["gap_fit_command"])]
    return lines


def _named(process: dict[str, Any]) -> str:
    label = f" {plain(process['label'])}" if process["label"] else ""
    return f"{plain(process['process'])} {_node(process)}{label}, {plain(process['started'])}"


def _node(told: dict[str, Any]) -> str:
    """Return how a node is named: its pk in brackets, as commands take and print it, and its uuid."""
    return f"<{plain(told['pk'])}> {plain(told['uuid'])}"


def to_json(content: dict[str, Any]) -> str:
    """Return a card as JSON, which a terminal can show, too."""
    written = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    return "\n".join(map(_readable, written.split("\n"))) + "\n"


def _readable(line: str) -> str:
    """Return a line of JSON with the characters escaped that act in a terminal."""
    return "".join(json.dumps(c)[1:-1] if shown(c) != c else c for c in line)
