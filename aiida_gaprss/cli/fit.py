"""``aiida-gaprss fit``: datasets to a potential, with its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.nodes import _profile
from aiida_gaprss.cli.told import ended, tell_fit

if TYPE_CHECKING:
    from aiida.engine import WorkChain


def _zeros(_: Any, option: click.Parameter, text: str | None) -> str | dict[str, float] | None:
    """Return what stands for the energies of the free atoms in the settings of a fit."""
    if text is None or text in ("isolated", "average"):
        return text
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {symbol.strip(): float(energy) for symbol, energy in pairs}
    except ValueError as error:
        raise click.BadParameter(f"{text!r}; expected isolated, average, or energies in eV such as Si=-0.8,O=-1.9") from error


#: What every command that fits can be told.
OPTIONS = (
    click.argument("datasets", nargs=-1, metavar="DATASET..."),
    click.option("--family", help="Kind of model: gap (default), pair, or one that another package has added."),
    click.option("--protocol", help="Named settings; without it and --settings: default. --protocol list names them."),
    click.option(
        "--settings",
        "path",
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        help="YAML file: settings of a fit, or changes of the protocol.",
    ),
    click.option("--test", "tests", multiple=True, metavar="DATASET", help="Labelled frames to test with. Repeatable."),
    click.option(
        "--test-fraction", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Part of the frames held out."
    ),
    click.option("--sparse", "sparse_frames", multiple=True, metavar="DATASET", help="Frames that only give sparse points."),
    click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of everything that is random."),
    click.option(
        "--e0",
        callback=_zeros,
        metavar="WHAT",
        help="Energies of the free atoms: isolated (those in the data; default), average (least squares over the data, where it "
        "has no isolated atoms), or numbers in eV (Si=-0.8,O=-1.9).",
    ),
    click.option("--mixed-levels", is_flag=True, help="Fit datasets together that were labelled at different levels of theory."),
    click.option("--stages", is_flag=True, help="Find the δ of each term by a fit of those before it."),
    click.option("--adapt", is_flag=True, help="Let the fit be changed where it would otherwise fail."),
    click.option("--memory", "memory_mb", type=click.FloatRange(min=1), metavar="MB", help="Memory it may take."),
    click.option("--submit", is_flag=True, help="Hand it to the daemon and return."),
    click.option("--code", default=None, help="Label of the program that fits; default: the one here that goes with the family."),
    click.option("--python", default=None, help="Label of the python that evaluates the potential."),
    click.option("--threads", type=click.IntRange(min=1), help="OpenMP threads of the fit; default: all cores here."),
    click.option(
        "--report",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of figures; default: gaprss-COMMAND-PK.",
    ),
)


def fit_options(function: Any) -> Any:
    """Add the options that every command that fits can be told."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.command()
@fit_options
@click.option("--forecast", "only_forecast", is_flag=True, help="Say what the fit will cost, and stop.")
@click.option(
    "--absurd",
    type=click.Choice(("refuse", "drop", "keep")),
    default="refuse",
    show_default=True,
    help="What becomes of frames with energies, forces or virials that can hardly be right.",
)
@click.option(
    "--leaks",
    type=click.Choice(("refuse", "drop")),
    default="refuse",
    show_default=True,
    help="What becomes of frames of --test that are fitted, too.",
)
def fit(**options: Any) -> None:
    """Fit a potential to the labelled frames of each DATASET (pk or uuid), and test it.

    Of a campaign, a database or a fit these are all that it has labelled.
    """
    nodes, settings = data_and_settings(options)
    left_out = _without_absurd(nodes, settings, options["absurd"])
    if options["only_forecast"]:
        tell_forecast(nodes, settings)
        return
    from aiida_gaprss.workflows.fit import FitWorkChain

    inputs = {**inputs_of_fit(nodes, settings, options), **left_out, "leaks": options["leaks"]}
    done = run_or_submit(FitWorkChain, inputs, "fit", options)
    if done is not None:
        tell_fit(*done)


def tell_forecast(nodes: dict[str, Any], settings: dict[str, Any]) -> None:
    """Print what a fit will cost."""
    from aiida_gaprss.calculations.fit import training_set
    from aiida_gaprss.workflows.fit_checks import complete_of, forecast_of

    model = complete_of(settings, nodes)
    known = forecast_of(training_set({"datasets": nodes}, model), model)
    click.echo(f"the fit needs {known.describe()}" if known else f"a fit of the family {model.family} needs little")


def _without_absurd(nodes: dict[str, Any], settings: dict[str, Any], what: str) -> dict[str, Any]:
    """Let absurd labels in, if they are to be kept; or return the input that leaves them out, and say which they are."""
    if what == "keep":
        settings["keep_absurd"] = True
    if what != "drop":
        return {}
    from aiida.orm import List

    from aiida_gaprss.frames import is_labelled
    from aiida_gaprss.models.training import absurd

    found = absurd([atoms for name in sorted(nodes) for atoms in nodes[name].get_frames() if is_labelled(atoms)])
    for name, why in found.items():
        click.echo(f"left out: {name}: {why}")
    return {"leave_out": List(sorted(found))} if found else {}


def data_and_settings(
    options: dict[str, Any],
    datasets: Callable[[tuple[str, ...]], dict[str, Any]] | None = None,
    without_default: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the datasets and the settings that the options name.

    :param datasets: what finds the datasets; default: each is named.
    :param without_default: leave out what a protocol would say for those who name none.
    """
    if options["protocol"] == "list":
        from aiida_gaprss.models.families import families, family_of

        known = [family_of(options["family"])] if options["family"] else list(families())
        click.echo("\n".join(name for family in known if family.PROTOCOLS for name in family.PROTOCOLS.names()))
        raise click.exceptions.Exit
    if not options["datasets"]:
        raise click.UsageError("give at least one dataset; aiida-gaprss dataset list shows what there is")
    _profile()
    return (datasets or _each)(options["datasets"]), _settings(options, without_default)


def _each(identifiers: tuple[str, ...]) -> dict[str, Any]:
    return named_datasets(identifiers, "d")


def named_datasets(identifiers: Sequence[str], letter: str) -> dict[str, Any]:
    """Return datasets by names that links can have; of campaigns, databases and fits all that they have labelled.

    :raises ValueError: if one is none of these, or has no labels.
    """
    from aiida_gaprss.campaign.nodes import datasets_of

    found: dict[str, Any] = {}
    for number, identifier in enumerate(identifiers):
        found |= datasets_of(identifier, f"{letter}{number:02d}")
    return found


def run_or_submit(
    process: type[WorkChain], inputs: dict[str, Any], what: str, options: dict[str, Any], also_failed: bool = False
) -> Any:
    """Run a work chain and return its node and the folder of its figures; or submit it and return None.

    :param also_failed: one that failed is returned, too.
    """
    if options["submit"]:
        from aiida_gaprss.cli.daemon import submit_and_tell

        submit_and_tell(process, inputs, what)
        return None
    from aiida_gaprss.cli.progress import run_with_progress
    from aiida_gaprss.report.folder import RESULTS, refuse_used

    refuse_used(options["folder"], RESULTS)
    return ended(run_with_progress(process, inputs), what, options["folder"], also_failed)


def read_yaml(path: Path | None, example: str) -> dict[str, Any]:
    """Return the keys and values of a file, or of none."""
    from aiida_gaprss.settings.yamlfile import parse, read

    return parse(read(path), path, example)[0] if path else {}


def _settings(options: dict[str, Any], without_default: bool) -> dict[str, Any]:
    """Return the settings of file, protocol and options."""
    given = read_yaml(options["path"], "protocol: fast")
    if options["family"] is not None:
        given["family"] = options["family"]
    if options["protocol"] is not None:
        given["protocol"] = options["protocol"]
    elif not without_default:
        given = _with_default(given)
    if options["e0"] is not None:
        given["e0"] = options["e0"]
    if options["mixed_levels"]:
        given["mixed_levels"] = True
    return given


def _with_default(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the protocol of those who say too little, if the family has one.

    :raises click.ClickException: if there is no such family.
    """
    from aiida_gaprss.models.families import family_named, family_of
    from aiida_gaprss.settings.plugins import KindError

    try:
        family = family_of(family_named(given))
    except KindError as exception:
        raise click.ClickException(str(exception)) from exception
    lacking = any(field.is_required() and name not in given for name, field in family.SETTINGS.model_fields.items())
    return {"protocol": family.DEFAULT_PROTOCOL, **given} if lacking and family.DEFAULT_PROTOCOL else given


def inputs_of_fit(nodes: dict[str, Any], settings: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of the work chain."""
    from aiida.orm import Bool, Float

    from aiida_gaprss.campaign.codes import CodeError
    from aiida_gaprss.workflows.inputs import fit_inputs

    job = {"threads": options["threads"]} if options["threads"] else {}
    try:
        inputs = fit_inputs(nodes, settings, options["code"], options["python"], job, options["seed"])
    except CodeError as exception:
        raise click.ClickException(str(exception)) from exception
    inputs["adapt"] = options["adapt"]
    for key in ("tests", "sparse_frames"):
        if options[key]:
            inputs["test" if key == "tests" else key] = named_datasets(options[key], "t")
    if options["test_fraction"]:
        inputs["test_fraction"] = Float(options["test_fraction"])
    if options["stages"]:
        inputs["delta_by_stages"] = Bool(True)
    if options["memory_mb"]:
        inputs["memory_MB"] = options["memory_mb"]
    return inputs
