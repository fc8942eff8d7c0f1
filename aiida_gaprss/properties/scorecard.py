"""The scorecard: what each potential does well, where one should look, and what is bad."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aiida_gaprss.properties.base import Limits, Property
from aiida_gaprss.properties.planning import ERROR, Results
from aiida_gaprss.properties.suite import Suite

#: From the best to the worst; what has no limits has no light.
LIGHTS = ("good", "look", "bad")

#: Scores with a reason instead of a number: the property of the potential, or of the reference, could not be had.
REFERENCE_ERROR = "reference_error"

#: Of numbers of a file, percent.
STORED = Limits(5.0, 10.0, "%", "5 % and 10 % of the stored value")


def scorecard(
    suite: Suite, results: Mapping[str, Results], reference: Results, beside: Mapping[str, Results], stored: bool = False
) -> dict[str, Any]:
    """Return rows of scores with their lights, and the worst light of each property, for all potentials.

    :param results: by potential, then crystal and property.
    :param reference: of the reference, empty if there is none; ``beside``: of the reference on the frames of each potential.
    :param stored: the reference is numbers of a file, which may be some only.
    """
    out: dict[str, Any] = {}
    for potential, found in results.items():
        rows = []
        for crystal, properties in found.items():
            for name, result in properties.items():
                other = _of_reference(suite, crystal, name, reference, beside[potential])
                rows += _rows(suite, crystal, name, result, other, stored)
        lights = {name: worst([row for row in rows if row["property"] == name]) for name in suite.properties}
        out[potential] = {"rows": rows, "lights": lights}
    return {"potentials": out, "properties": list(suite.properties), "description": suite.description}


def worst(rows: list[dict[str, Any]]) -> str | None:
    """Return the worst light among rows; None if none has one."""
    lights = [row["light"] for row in rows if row["light"]]
    return max(lights, key=LIGHTS.index) if lights else None


def _of_reference(suite: Suite, crystal: str, name: str, reference: Results, beside: Results) -> Mapping[str, Any] | None:
    found = reference if suite.properties[name].run == "evaluate" or name in reference.get(crystal, {}) else beside
    return found.get(crystal, {}).get(name)


def _rows(
    suite: Suite, crystal: str, name: str, result: Mapping[str, Any], reference: Mapping[str, Any] | None, stored: bool
) -> list[dict[str, Any]]:
    start = {"crystal": crystal, "property": name}
    if ERROR in result:
        return [{**start, "score": ERROR, "value": None, "light": "bad", "why": result[ERROR]}]
    wanted, limits = suite.properties[name], suite.limits_of(name)
    rows = []
    if reference is not None and ERROR in reference:  # what the potential gives cannot be held to it
        rows.append({**start, "score": REFERENCE_ERROR, "value": None, "light": "look", "why": reference[ERROR]})
        reference = None
    try:
        scores = wanted.scores(result, None if stored else reference)
        if reference is not None and not stored:
            told = wanted.incomparable(result, reference).items()
            rows += [
                {**start, "score": f"{REFERENCE_ERROR} {part}", "value": None, "light": "look", "why": why} for part, why in told
            ]
    except Exception as error:  # of another package
        return [{**start, "score": ERROR, "value": None, "light": "bad", "why": f"{type(error).__name__}: {error}"}]
    rows += [_row(start, score, value, limits.get(score)) for score, value in scores.items()]
    if stored and reference is not None:
        rows += [_row(start, score, value, limits.get(score, STORED)) for score, value in percents(result, reference).items()]
        absent = [key for key in reference if f"{key}_percent" not in percents(result, reference)]
        why = "the result has no such number other than zero"
        rows += [{**start, "score": f"{REFERENCE_ERROR} {key}", "value": None, "light": "look", "why": why} for key in absent]
    return rows


def _row(start: dict[str, Any], score: str, value: float | None, limits: Limits | None) -> dict[str, Any]:
    number = None if value is None or not math.isfinite(value) else float(value)
    row = {**start, "score": score, "value": number, "light": limits.light(number) if limits else None}
    return {**row, **asdict(limits)} if limits else row


def percents(result: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    """Return by how many percent the numbers of a result are off those of a file that have the same names."""
    out = {}
    for key, value in reference.items():
        mine = result.get(key)
        if isinstance(mine, int | float) and isinstance(value, int | float) and not isinstance(value, bool) and value:
            out[f"{key}_percent"] = 100 * (mine - value) / abs(value)
    return out


def curves(wanted: Property, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is drawn of a result as plain data, nothing of one that failed."""
    return {} if ERROR in result else {name: curve.as_dict() for name, curve in wanted.curves(result).items()}
