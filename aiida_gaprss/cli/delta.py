"""``aiida-gaprss delta``: a fit to differences between two levels of theory, added to a potential of the cheap one."""

from __future__ import annotations

from typing import Any

import click

from aiida_gaprss.cli.fit import data_and_settings, fit_options, inputs_of_fit, run_or_submit, tell_forecast
from aiida_gaprss.cli.told import tell_delta

#: Options of a fit that mean nothing here.
NOT_HERE = {
    "test_fraction": "--test-fraction: the errors would be those of the differences; give --test, labels of the dear level",
    "mixed_levels": "--mixed-levels: differences between other levels have no meaning together",
}


@click.command()
@click.argument("potential")
@fit_options
@click.option("--forecast", "only_forecast", is_flag=True, help="Say what the fit will cost, and stop.")
def delta(potential: str, **options: Any) -> None:
    """Fit each DATASET of differences (dataset difference), and add the fit to POTENTIAL (pk, uuid, fit or campaign).

    The sum is a potential of the dear level, to be used like any other. --test is of that level, too. Without --protocol and
    --settings the fit is the protocol difference, with numbers that go with the differences.
    """
    for name in (name for name in NOT_HERE if options[name]):
        raise click.UsageError(NOT_HERE[name])
    nodes, settings = data_and_settings(options, without_default=True)
    from aiida_gaprss.cli.validate import potentials_of
    from aiida_gaprss.workflows.delta import DeltaWorkChain, completed_settings, fault_of_differences

    (cheap,) = potentials_of((potential,)).values()
    if fault := fault_of_differences(nodes):
        raise click.ClickException(fault)
    if options["only_forecast"]:
        tell_forecast(nodes, completed_settings(settings, nodes))
        return
    given = {**inputs_of_fit(nodes, settings, options), "potential": cheap, "metadata": {"label": "differences"}}
    if (done := run_or_submit(DeltaWorkChain, given, "fit", options)) is not None:
        tell_delta(*done)
