"""The card of an archive as a text in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiida_gaprss.analysis.numbers import number, significant
from aiida_gaprss.outside import size
from aiida_gaprss.sharing.card_text import fenced, plain
from aiida_gaprss.sharing.card_text import text as text_of_potential

#: What is said where nothing was chosen.
NO_LICENCE = "none was chosen: ask whoever made it before you pass it on or publish with it"

#: Units of the rows of minima.
MINIMA = "Energies in eV/atom, volumes in Å³/atom."


def text(content: Mapping[str, Any]) -> str:
    """Return the card of an archive as Markdown that also reads well as it is."""
    lines = [f"# {plain(content['name'])}", "", plain(content["description"]), ""]
    lines += [
        f"- elements: {plain(', '.join(content['elements'])) or 'none'}",
        *(f"- level of theory: {plain(level)}" for level in content["levels_of_theory"]),
        f"- licence: {plain(content['licence'] or NO_LICENCE)}",
        *(f"- by {plain(author)}" for author in content["authors"]),
        f"- made {plain(content['made'])} with "
        + ", ".join(f"{plain(name)} {plain(number)}" for name, number in content["by"].items()),
        f"- contents: {_contents(content['contents'])}",
    ]
    lines += ["", "## How to cite", "", *_citation(content)]
    lines += ["", "## What is in it", "", *_what(content["what"])]
    lines += ["", "## Data", "", *_data(content["data"])]
    if content["minima"]:
        lines += ["", "## Lowest minima", "", MINIMA, "", *_minima(content["minima"])]
    if content["scorecards"]:
        lines += ["", "## Scorecard", "", *_scores(content["scorecards"])]
    for one in content["potentials"]:
        lines += ["", *(f"#{line}" if line.startswith("#") else line for line in text_of_potential(one).rstrip().split("\n"))]
    if content["pseudopotentials"]:
        lines += ["", "## Pseudopotentials", "", *_pseudopotentials(content["pseudopotentials"])]
    for uuid, settings in content["settings"].items():
        written = json.dumps(settings, indent=1, ensure_ascii=False)
        lines += ["", f"## Settings of {plain(uuid)}", *fenced(written)]
    lines += ["", "## What was left out", "", *_left_out(content["left_out"])]
    return "\n".join(lines) + "\n"


def _contents(told: Mapping[str, Any]) -> str:
    return (
        f"{plain(told['nodes'])} nodes, {plain(told['links'])} links, {plain(told['files'])} files of {size(int(told['bytes']))}"
    )


def _citation(content: Mapping[str, Any]) -> list[str]:
    if content["cite"]:
        return [f"- {plain(line)}" for line in content["cite"]]
    who = ", ".join(map(plain, content["authors"])) or "whoever gave it to you"
    roots = ", ".join(plain(one["uuid"]) for one in content["what"])
    return [f"{who}: {plain(content['name'])} ({plain(str(content['made'])[:10])}), AiiDA nodes {roots}"]


def _what(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for one in rows:
        label = f" {plain(one['label'])}" if one["label"] else ""
        state = f", {plain(one['state'])}" if "state" in one else ""
        seed = f", seed {plain(one['seed'])}" if one.get("seed") is not None else ""
        lines.append(f"- {plain(one['kind'])}{label}: {plain(one['uuid'])}{state}{seed}")
    return lines


def _data(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["no labelled frames"]
    lines = ["| dataset | frames | with energies | atoms | config types | level of theory |", "|---|---|---|---|---|---|"]
    for row in rows:
        types = ", ".join(f"{name} {number}" for name, number in row["config_types"].items())
        cells = (row["name"], row["frames"], row["energies"], row["atoms"], types, row["level_of_theory"])
        lines.append("| " + " | ".join(map(plain, cells)) + " |")
    return lines


def _minima(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| rank | formula | space group | atoms | found | potential | reference | volume |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        predicted = row.get("predicted_energy", row.get("gap_energy"))
        numbers = (number(predicted, 4), number(row.get("ref_energy"), 4), number(row.get("volume"), 2))
        group = f"{row['symbol']} ({row['space_group']})"
        cells = (row["rank"], row["formula"], group, row["primitive_atoms"], row["count"], *numbers)
        lines.append("| " + " | ".join(map(plain, cells)) + " |")
    return lines


def _scores(scorecards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| part | potential | crystal | property | score | value | light |", "|---|---|---|---|---|---|---|"]
    for part, content in scorecards.items():
        for name, judged in content.get("potentials", {}).items():
            for row in judged["rows"]:
                value = f"{significant(row['value'])} {row.get('unit', '')}".strip()
                cells = (part, name, row["crystal"], row["property"], row["score"], value, row["light"] or "–")
                lines.append("| " + " | ".join(map(plain, cells)) + " |")
    return lines


def _pseudopotentials(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        words = ", ".join(plain(value) for key, value in row.items() if key not in ("kind", "shared", "element"))
        where = "in the archive" if row["shared"] else "only named: have it yourself"
        lines.append(f"- {plain(row.get('element', ''))} {plain(row['kind'])} ({words}): {where}")
    return lines


def _left_out(told: Mapping[str, Any]) -> list[str]:
    lines = [
        "- always: names and addresses of users, hosts and folders of computers, where programs lie, comments, messages of "
        "processes, lines of shells; not-shared stands for what was replaced",
        f"- files of jobs: {plain(told['files_of_jobs'])} (submission scripts, what shells and schedulers said)",
        f"- files in which paths or names were replaced: {plain(told['files_changed'])}",
    ]
    lines += [f"- not licensed to be passed on: {plain(name)}" for name in told["licensed"]]
    lines += [f"- could not be looked into: {plain(name)}" for name in told["unreadable"]]
    return lines
