"""``aiida-gaprss potential evaluate``: the errors of a potential on a dataset, by config type."""

from __future__ import annotations

from typing import Any

import click

from aiida_gaprss.cli.nodes import _load, _profile
from aiida_gaprss.cli.potentials import potential
from aiida_gaprss.cli.told import refuse_failed
from aiida_gaprss.outside import shown


@potential.command("evaluate")
@click.argument("potential_node", metavar="POTENTIAL")
@click.argument("dataset_node", metavar="DATASET")
@click.option("--mixed-levels", is_flag=True, help="Also if the potential was fitted to another level of theory.")
@click.option(
    "--leaks",
    type=click.Choice(("keep", "drop")),
    default="keep",
    show_default=True,
    help="What becomes of frames that the potential was fitted to.",
)
@click.option("--processes", type=click.IntRange(min=1), help="Default: all cores.")
@click.option("--python", default=None, help="Label of the python that evaluates.")
def potential_evaluate(potential_node: str, dataset_node: str, mixed_levels: bool, leaks: str, **options: Any) -> None:
    """Compare POTENTIAL with the labels of DATASET: errors of all frames, by config type and by height above the convex hull."""
    _profile()
    node, frames = _load(potential_node, "gaprss.potential"), _load(dataset_node, "gaprss.dataset")
    if not frames.base.attributes.get("energies"):
        raise click.ClickException(f"dataset <{frames.pk}> has no labels to compare with")
    training = _training(node)
    _check_level(node, frames, mixed_levels)
    frames = _without_fitted(node, training, frames, drop=leaks == "drop")
    _tell(*_evaluate(node, frames, options))


def _training(node: Any) -> dict[str, Any]:
    """Return the datasets that a potential was fitted to, and the ids that the fit left out; empty if nobody knows."""
    if node.creator is None:
        return {}
    from aiida_gaprss.calculations.level_functions import fitted_datasets

    inputs = node.creator.inputs
    return {
        "datasets": fitted_datasets(node),
        **({"leave_out": inputs.leave_out} if "leave_out" in inputs else {}),
    }


def _check_level(node: Any, frames: Any, mixed: bool) -> None:
    """Refuse labels of another level of theory than that of the training set, unless they may be mixed."""
    from aiida_gaprss.calculations.level_functions import level_of_potential
    from aiida_gaprss.levels import difference

    level = level_of_potential(node)
    if level is None:
        click.echo(
            f"note: nothing tells at which level of theory potential <{node.pk}> was fitted; the errors may be those of levels"
        )
        return
    other = difference({f"potential <{node.pk}>": level, f"dataset <{frames.pk}>": frames.level})
    if other and not mixed:
        raise click.ClickException(f"different levels of theory: {shown(other, 2000)}; --mixed-levels compares them nevertheless")


def _without_fitted(node: Any, training: dict[str, Any], frames: Any, drop: bool) -> Any:
    """Tell which frames the potential was fitted to, and leave them out if that is wanted."""
    from aiida_gaprss.calculations.fit_functions import without_leaks
    from aiida_gaprss.frames import is_labelled
    from aiida_gaprss.models.training import leaks

    known = [atoms for name in sorted(training.get("datasets", {})) for atoms in training["datasets"][name].get_frames()]
    absent = set(training["leave_out"].get_list()) if "leave_out" in training else set()
    fitted = [atoms for atoms in known if is_labelled(atoms) and atoms.info["frame_id"] not in absent]
    seen = leaks(fitted, frames.get_frames())
    if not seen:
        return frames
    pairs = ", ".join(f"{here} is {there}" for here, there in list(seen.items())[:10]) + (" …" if len(seen) > 10 else "")
    verb = "left out" if drop else "note"
    click.echo(f"{verb}: potential <{node.pk}> was fitted to {len(seen)} of {frames.n_frames} frames: {shown(pairs, 2000)}")
    if not drop:
        return frames
    if len(seen) == frames.n_frames:
        raise click.ClickException("nothing is left to compare with")
    return without_leaks(frames, **({"leave_out": training["leave_out"]} if absent else {}), **training["datasets"])


def _evaluate(node: Any, frames: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """Run the job; return its node and the errors."""
    from aiida.engine import run_get_node

    from aiida_gaprss.calculations.evaluate import EvaluateCalculation
    from aiida_gaprss.calculations.fit_functions import errors_of_predictions
    from aiida_gaprss.campaign.codes import CodeError, code_of
    from aiida_gaprss.settings.computer import job_options

    try:
        code = code_of("python", options["python"])
    except CodeError as exception:
        raise click.ClickException(str(exception)) from exception
    given = {"processes": options["processes"]} if options["processes"] else {}
    metadata = {"label": f"potential <{node.pk}> on dataset <{frames.pk}>", "options": job_options(code.computer, given)}
    outputs, job = run_get_node(EvaluateCalculation, code=code, potential=node, frames=frames, metadata=metadata)
    refuse_failed(job, f"job <{job.pk}> failed")
    predictions = outputs["frames"]
    predictions.label = f"{frames.label} with predictions of <{node.pk}>".strip()
    summary = {"summary": outputs["summary"]} if "summary" in outputs else {}
    return predictions, errors_of_predictions(training_0=frames, frames_0=predictions, **summary)


def _tell(predictions: Any, errors: Any) -> None:
    """Print the errors."""
    from aiida_gaprss.cli.told import errors_table
    from aiida_gaprss.outside.terminal import wide_console

    console = wide_console()
    console.print(errors_table("Errors", errors.get_dict()))
    console.print(f"Errors <{errors.pk}>; dataset <{predictions.pk}> has the predictions beside the labels")
