"""The cheap steps of comparing strategies as calcfunctions: draw frames as a cost allows, put scores beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiida.engine import calcfunction
from aiida.orm import Dict, Float, List
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import named
from aiida_gaprss.calculations.scan_functions import MEASURES
from aiida_gaprss.campaign.build import cost_of
from aiida_gaprss.data.dataset import Dataset

#: Names of what comes out: ids of the frames that are not fitted, and what those of the strategy are that are.
LEFT_OUT, DRAWN = "left_out", "drawn"


def drawn(frames: Sequence[Atoms], cost: float, spacing: float | None, seed: int) -> list[Atoms]:
    """Return random frames that together cost no more than is said: in a random order, each that there is room for.

    :param cost: Σ N³ n_k.
    :param spacing: of k-points, 1/Å without 2π; None: one for each frame.
    :raises ValueError: if there is no room for any.
    """
    prices = [cost_of([atoms], spacing).plane_waves for atoms in frames]
    out, left = [], cost
    for number in np.random.default_rng(seed).permutation(len(frames)):
        if prices[number] <= left:
            out.append(frames[number])
            left -= prices[number]
    if not out:
        raise ValueError(f"no frame for {cost:.3g}: the cheapest of {len(frames)} costs {min(prices, default=0):.3g}")
    return out


def priced(datasets: Mapping[str, Dataset]) -> dict[str, list[Atoms]]:
    """Return the frames of each dataset that have a price here: labelled, and not in vacuum, which every fit has."""
    frames = {name: node.get_frames() for name, node in datasets.items()}
    return {name: [a for a in some if fr.is_labelled(a) and not fr.is_in_vacuum(a)] for name, some in frames.items()}


@calcfunction
def frames_at_cost(
    point: Dict, strategies: List, without: List, spacing: Float | None = None, **datasets: Dataset
) -> dict[str, Any]:
    """Draw frames of one strategy: what is left out are all others of the strategies, and ``without``.

    :param point: ``strategy``, ``cost`` and ``seed``.
    """
    given, absent = point.get_dict(), set(without.get_list())
    frames = priced({name: datasets[name] for name in strategies.get_list()})
    own = [atoms for atoms in frames[given["strategy"]] if atoms.info["frame_id"] not in absent]
    points = spacing.value if spacing is not None else None
    chosen = drawn(own, given["cost"], points, given["seed"])
    names = {str(atoms.info["frame_id"]) for atoms in chosen}
    others = {str(atoms.info["frame_id"]) for some in frames.values() for atoms in some} - names
    told = cost_of(chosen, points)
    facts = {"drawn": told.frames, "drawn_atoms": told.atoms, "largest": told.largest, "spent": told.plane_waves}
    return {LEFT_OUT: List(sorted(absent | others)), DRAWN: named(Dict(facts), f"frames of {given['strategy']}")}


@calcfunction
def comparison(table: Dict, **scorecards: Dict) -> Dict:
    """Return a row for each fit with its scores, and what they are on the average for each strategy at each cost."""
    cards: dict[str, Any] = {}
    for node in scorecards.values():
        cards |= node["potentials"]
    rows = [{**row, "scores": scores_of(cards.get(row["name"], {"rows": []})["rows"])} for row in table["rows"]]
    keys = {(row["strategy"], row["cost"]): None for row in rows}
    points = [
        {"strategy": strategy, "cost": cost, **averaged([r for r in rows if (r["strategy"], r["cost"]) == (strategy, cost)])}
        for strategy, cost in keys
    ]
    limits = {_key(row): row for card in cards.values() for row in card["rows"] if row["light"]}
    kept = {key: {name: row.get(name) for name in ("good", "look", "unit")} for key, row in limits.items()}
    return named(Dict({"rows": rows, "points": points, "limits": kept}), "comparison of strategies")


def scores_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the scores of a potential by crystal, property and name; None for one that could not be had."""
    return {_key(row): row["value"] for row in rows}


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['crystal']}: {row['property']} {row['score']}"


def averaged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return numbers of fits and frames, and mean and standard deviation of the magnitude of each error and score."""
    done = [row for row in rows if row["reason"] is None]
    out: dict[str, Any] = {"fits": len(done), "failed": len(rows) - len(done)}
    out |= {key: _mean([row[key] for row in done])[0] for key in ("drawn", "drawn_atoms", "spent")}
    errors = {key: _mean([row.get(key) for row in done]) for key in MEASURES}
    names = list(dict.fromkeys(name for row in done for name in row["scores"]))
    scores = {name: _mean([row["scores"].get(name) for row in done]) for name in names}
    return {**out, "errors": errors, "scores": scores}


def _mean(values: Sequence[float | None]) -> list[float | None]:
    """Return mean and standard deviation of magnitudes; nothing, if one of them is not there."""
    if not values or any(value is None for value in values):
        return [None, None]
    sizes = np.abs(np.array(values, dtype=float))
    return [float(sizes.mean()), float(sizes.std(ddof=1)) if len(sizes) > 1 else None]
