"""Labels until a potential knows diamond: python benchmarks/silicon_labels.py [FOLDER] [--seeds 1,2,3] [--generations 10].

Campaigns on Stillinger-Weber silicon from nothing, with the selection of ``self_guided`` and with end points drawn at random.
After every generation diamond is relaxed with its potential; the error is its energy less that of the reference. FOLDER gets the
rows (labels.csv) and a figure.
"""

from __future__ import annotations

import argparse
import csv
import logging
import time
from pathlib import Path
from typing import Any

from common import load_temporary_profile

#: Numbers of the recipe for one element that needs little: cells a generation and labels of it.
CELLS = {"random": 20, "symmetric": 40}
INITIAL = {"random": 15, "symmetric": 25}

#: Energy of relaxed diamond, eV/atom: exactly -2 eps, with eps = 2.1675 eV, as Stillinger and Weber made their potential.
DIAMOND = -4.3350


def selection(strategy: str, kt: float, snapshots: bool) -> dict[str, Any]:
    """Return the rules of a generation of 20 labels."""
    if strategy == "end points":
        return {"rules": [{"by": "random", "n": 20}]}
    late = 5 if snapshots else 0
    rules: list[dict[str, Any]] = [
        {"by": "boltzmann", "kT": kt, "n": 30, "then": {"by": "cur", "n": 15 - late}},
        {"by": "lowest", "n": 5},
        {"by": "cur", "n": 5, **({"of": "snapshots"} if snapshots else {})},
    ]
    return {"vectors": {"cutoff": 5.0, "n_max": 8, "l_max": 4}, "rules": rules}


def settings(strategy: str, generations: int) -> dict[str, Any]:
    """Return what is changed of ``self_guided``."""

    def generation(kt: float, width: float) -> dict[str, Any]:
        snapshots = width > 0 and strategy != "end points"
        return {
            "cells": CELLS,
            "pressure": {"width_GPa": width},
            "relax": {"max_steps": 80, "snapshot_steps": [5] if snapshots else []},
            "select": selection(strategy, kt, snapshots),
        }

    hot, warm, cold = generation(0.3, 25.0), generation(0.2, 25.0), generation(0.1, 0.0)
    small = {"volume_per_atom": [14.0, 30.0], "min_separation": 2.0}
    return {
        "formula": {"Si": 1},
        "seeds": {"random": {**small, "n_atoms": [2, 3, 4, 6, 8]}, "symmetric": {**small, "n_atoms": [2, 3, 4, 6, 8]}},
        "initial": INITIAL,
        "generations": [hot, hot, warm, warm, cold],
        "max_generations": generations,
        "stop": None,
        "search": None,
        "fit": {
            "descriptors": [
                {"kind": "distance_2b", "cutoff": 5.0, "n_sparse": 20, "delta": 1.0},
                {"kind": "soap_turbo", "cutoff": 4.0, "n_max": 8, "l_max": 4, "atom_sigma": 0.5, "n_sparse": 400, "delta": 0.5},
            ]
        },
    }


def campaign(strategy: str, seed: int, generations: int) -> Any:
    """Run one campaign and return its node."""
    import io

    from aiida.engine import run_get_node
    from common import stillinger_weber
    from ruamel.yaml import YAML

    from aiida_gaprss.campaign.file import check_campaign
    from aiida_gaprss.campaign.inputs import builder_inputs
    from aiida_gaprss.workflows.rss import RssWorkChain

    content = {
        "name": f"{strategy.replace(' ', '-')}-{seed}",
        "seed": seed,
        "protocol": "self_guided",
        "reference": {"ase": stillinger_weber()},
        "settings": settings(strategy, generations),
    }
    text = io.StringIO()
    YAML(typ="safe").dump(content, text)
    return run_get_node(RssWorkChain, **builder_inputs(check_campaign(text.getvalue(), Path("campaign.yaml"))))[1]


def errors_of(node: Any) -> list[tuple[int, float | None]]:
    """Return (labels, error in meV/atom) after every fit; None where diamond does not stay diamond."""
    import spglib
    from aiida.engine import run
    from aiida.orm import Dict
    from ase.build import bulk

    from aiida_gaprss.calculations.relax import RelaxCalculation
    from aiida_gaprss.data.dataset import Dataset

    diamond = bulk("Si", a=5.431)
    diamond.info["frame_id"] = "diamond"
    frames = Dataset([diamond], level_of_theory="unlabelled")
    rows, labels = [], 0
    for tag in sorted(node.outputs.potentials):
        labels += node.outputs.labels[tag].n_frames
        relax = Dict({"max_steps": 200, "snapshot_steps": [], "fmax": 0.001})
        inputs = {"frames": frames, "potential": node.outputs.potentials[tag], "settings": relax, "code": node.inputs.relax.code}
        (end,) = run(RelaxCalculation, **inputs)["frames"].get_frames()
        cell = (end.cell.array, end.get_scaled_positions(), end.numbers)
        kept = spglib.get_symmetry_dataset(cell, symprec=1e-2).number == 227 and end.info["relax_status"] == "converged"
        rows.append((labels, 1000 * (end.info["PRED_energy"] / len(end) - DIAMOND) if kept else None))
    return rows


def needed(rows: list[tuple[int, float | None]], limit: float) -> str:
    """Return from how many labels on the error stays within the limit (meV/atom), and when it first was."""
    good = [error is not None and abs(error) <= limit for _, error in rows]
    if not any(good):
        return "not reached"
    first = rows[good.index(True)][0]
    last_bad = max((i for i, ok in enumerate(good) if not ok), default=-1)
    return (
        f"{first}"
        if last_bad < good.index(True)
        else f"{first} (stays from {rows[last_bad + 1][0]})"
        if good[-1]
        else f"{first} (not kept)"
    )


def draw(results: dict[tuple[str, int], list[tuple[int, float | None]]], path: Path) -> None:
    """Draw the errors against the labels."""
    from matplotlib.figure import Figure

    from aiida_gaprss.report.style import BLUE, GREY, VERMILION, house_style, png

    with house_style():
        figure = Figure(figsize=(5.6, 4.1))
        axes = figure.add_subplot()
        for (strategy, seed), rows in results.items():
            points = [(labels, abs(error)) for labels, error in rows if error is not None]
            colour = BLUE if strategy == "self_guided" else VERMILION
            label = {"self_guided": "self_guided", "end points": "end points at random"}[strategy] if seed == 1 else None
            axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, linewidth=1.3, alpha=0.85, label=label)
        for limit in (1, 10):
            axes.axhline(limit, color=GREY, linewidth=1.0, linestyle="--")
        axes.set(yscale="log", xlabel="Labels", ylabel="|error| of relaxed diamond (meV/atom)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        path.write_bytes(png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("silicon-labels"))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--generations", type=int, default=10)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    load_temporary_profile()
    logging.getLogger("aiida").setLevel(logging.ERROR)
    results: dict[tuple[str, int], list[tuple[int, float | None]]] = {}
    with (options.folder / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["strategy", "seed", "labels", "error_meV/atom"])
        for seed in map(int, options.seeds.split(",")):
            for strategy in ("self_guided", "end points"):
                started = time.perf_counter()
                node = campaign(strategy, seed, options.generations)
                minutes = (time.perf_counter() - started) / 60
                if not node.is_finished_ok:
                    print(f"{strategy}, seed {seed}: {node.exit_message}")
                    continue
                rows = results[strategy, seed] = errors_of(node)
                writer.writerows([strategy, seed, *row] for row in rows)
                handle.flush()
                limits = "; ".join(f"{limit} meV/atom: {needed(rows, limit)}" for limit in (10, 1))
                course = " ".join(f"{n}:{'lost' if error is None else f'{error:+.1f}'}" for n, error in rows)
                print(f"{strategy:12s} seed {seed}: {limits}  [{course}]  {minutes:.1f} min", flush=True)
    draw(results, options.folder / "labels.png")


if __name__ == "__main__":
    main()
