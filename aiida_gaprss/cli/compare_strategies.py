"""``aiida-gaprss compare`` of strategies: which gives most for its cost?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from aiida_gaprss.cli.fit import data_and_settings, inputs_of_fit, named_datasets, run_or_submit
from aiida_gaprss.cli.nodes import _load, any_node
from aiida_gaprss.cli.told import tell_comparison

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_gaprss.data.dataset import Dataset

#: So many costs, if none are given, and fits at one time.
COSTS, FITS_AT_ONCE = 3, 2


def compare_strategies(options: dict[str, Any]) -> None:
    """Compare the strategies of a database, or datasets of strategies."""
    from aiida_gaprss.workflows.compare import CompareWorkChain

    if not (options["test_fraction"] or options["tests"]):
        options["test_fraction"] = 0.1
    nodes, settings = data_and_settings(options, strategies_of)
    build = build_of(options["datasets"][0])
    inputs = inputs_of_fit({**nodes, **named_datasets(options["common"], "common")}, settings, options)
    inputs |= of_comparison(nodes, options, build)
    if options["suite"] != "none":
        inputs["validate"] = of_properties(nodes, options, build)
    most = options["concurrent"] or FITS_AT_ONCE
    done = run_or_submit(CompareWorkChain, {**inputs, "max_concurrent": most}, "compare", options, True)
    if done is not None:
        tell_comparison(*done)


def build_of(identifier: str) -> WorkChainNode | None:
    """Return the build of this pk or uuid; None if it is something else."""
    node = any_node(identifier)
    return node if getattr(node, "process_label", None) == "BuildWorkChain" else None


def strategies_of(identifiers: tuple[str, ...]) -> dict[str, Dataset]:
    """Return datasets by the names of strategies: those of a build, or those that are named.

    :raises click.ClickException: if a build is not named alone.
    """
    from aiida_gaprss.campaign.nodes import is_labelled

    if (build := build_of(identifiers[0])) is not None:
        if len(identifiers) > 1:
            raise click.ClickException(f"<{build.pk}> is a database: give it alone, and other frames with --common")
        found = dict(build.outputs.datasets) if "datasets" in build.outputs else {}
        return {name: one for name, one in found.items() if is_labelled(one)}
    out: dict[str, Dataset] = {}
    for number, identifier in enumerate(identifiers):
        one = _load(identifier, "gaprss.dataset")
        of_strategy = re.match(r"labelled frames of (\w+)", one.label)  # what follows is the name of the database
        name = of_strategy[1] if of_strategy else re.sub(r"\W+", "_", one.label.rpartition(" ")[2], flags=re.ASCII).strip("_")
        out[name if name[:1].isalpha() and "__" not in name and name not in out else f"d{number:02d}"] = one
    return out


def of_comparison(nodes: dict[str, Dataset], options: dict[str, Any], build: WorkChainNode | None) -> dict[str, Any]:
    """Return strategies, costs and what frames are priced by."""
    from aiida.orm import Float, Int, List

    from aiida_gaprss.calculations.compare_functions import priced
    from aiida_gaprss.campaign.build import cost_of, spacing_of

    given = options["spacing"] or (spacing_of(label_of(build)) if build is not None else None)
    frames = {name: some for name, some in priced(nodes).items() if some}
    prices = {name: [cost_of([atoms], given).plane_waves for atoms in some] for name, some in frames.items()}
    if len(prices) < 2:
        raise click.ClickException(f"expected two strategies with labelled frames, got {', '.join(prices) or 'none'}")
    costs = options["costs"] or reached(list(prices.values()))
    _check_costs(costs, prices)
    called = {name: name if build is not None else f"{name} <{nodes[name].pk}>" for name in prices}
    click.echo("cost of all frames, Σ N³ n_k: " + ", ".join(f"{called[name]} {sum(some):.3g}" for name, some in prices.items()))
    told = {"strategies": List(list(prices)), "costs": List(costs), "repeats": Int(options["repeats"])}
    return {**told, **({"spacing": Float(given)} if given else {})}


def _check_costs(costs: Sequence[float], prices: Mapping[str, Sequence[float]]) -> None:
    """Refuse costs that buy no frame of a strategy; tell those that are more than all of its frames.

    :raises click.ClickException: with the strategy, and what its cheapest frame costs.
    """
    for name, some in prices.items():
        if (least := min(costs)) < min(some):
            raise click.ClickException(f"--costs: {least:g} buys no frame of {name}, whose cheapest costs {min(some):g}")
        if more := [f"{cost:g}" for cost in costs if cost > sum(some)]:
            click.echo(f"{name}: all frames at {', '.join(more)}; only sparse points differ from one repeat to the next")


def reached(prices: Sequence[Sequence[float]]) -> list[float]:
    """Return costs, each so many times the one before, that buy a frame of every strategy, and no more than the cheapest has.

    :param prices: of the frames of each strategy.
    """
    least, most = max(min(some) for some in prices), min(sum(some) for some in prices)
    costs = np.geomspace(least, most, COSTS) if most > least else np.array([least])
    return sorted({float(np.ceil(cost)) for cost in costs})


def label_of(build: WorkChainNode) -> dict[str, Any]:
    """Return the inputs of the reference of a build, with what AiiDA keeps beside them, options of jobs; {} without one."""
    found: Any = build.get_builder_restart()._inputs(prune=True)
    return dict(found.get("label", {}))


def of_properties(nodes: dict[str, Dataset], options: dict[str, Any], build: WorkChainNode | None) -> dict[str, Any]:
    """Return the inputs that validate the potentials."""
    from aiida_gaprss.campaign.crystals import crystals_of
    from aiida_gaprss.campaign.validation import reference_from, suite_from, validation_inputs

    if not options["crystals"] and (build is None or "crystals" not in build.inputs):
        raise click.UsageError("properties are of crystals: give files (--crystals), or --suite none")
    crystals = crystals_of(options["crystals"]) if options["crystals"] else build.inputs.crystals  # type: ignore[union-attr]
    path = Path(options["suite"]) if Path(options["suite"]).is_file() else None
    suite = suite_from(options["suite"], path)
    names = [atoms.info["frame_id"] for atoms in crystals.get_frames()]
    if options["reference"] is not None:
        reference = reference_from(options["reference"], crystals.elements, names, suite)
    else:
        reference = {"label": label_of(build)} if build is not None else {}
    inputs = validation_inputs({}, crystals, suite, reference, options["python"])
    return {key: value for key, value in inputs.items() if key != "potentials"}
