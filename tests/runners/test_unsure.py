"""Relaxations that stop where the potential is not sure: where, what is kept, what is left as it was."""

import numpy as np
import pytest
from aiida.orm import Dict
from pydantic import ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.campaign.settings import GenerationSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.runners import task_of
from aiida_gaprss.settings.jobs import RelaxSettings


@pytest.fixture
def driven(potential_folder):
    """Relaxations with the small GAP; returns status and frames."""

    def run(atoms, **settings):
        task = task_of("relax")
        made = {"calculator": "quippy.potential.Potential", "arguments": {"param_filename": str(potential_folder / "gap.xml")}}
        given = {"snapshot_steps": "all", "max_steps": 20, "fmax": 1e-4, "min_distance": 1.0, **settings}
        task.setup({**RelaxSettings(**given).model_dump(), **made})
        return task.run(atoms, np.inf)

    return run


def deviation_of(calculator, atoms):
    """Return the largest σ of a local energy, asked as quippy's users ask it."""
    work = atoms.copy()
    work.calc = None
    calculator.reset()
    calculator.calculate(work, ["energy"], ["positions"], calc_args="local_gap_variance")
    return float(np.sqrt(calculator.extra_results["atoms"]["local_gap_variance"].max()))


def on_the_way_of(trail):
    return fr.dumps(trail).replace("unsure", "on_the_way").replace("max_steps", "on_the_way")


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire", "cg"])
def test_stops_at_the_first_look_beyond(driven, gap, silicon_cells, optimizer):
    """Against the whole course of the same relaxation, whose standard deviations are asked afterwards."""
    several = 0
    for atoms in silicon_cells[3:8]:
        _, whole = driven(atoms, optimizer=optimizer)
        looked = [frame for frame in whole if frame.info["step"] and frame.info["step"] % 2 == 0]
        sigma = [deviation_of(gap, frame) for frame in looked]
        limit = 0.5 * (min(sigma) + max(sigma))
        expected = next(frame.info["step"] for frame, value in zip(looked, sigma, strict=True) if value > limit)
        status, trail = driven(atoms, optimizer=optimizer, stop_where_unsure=limit, unsure_every=2)
        assert status == trail[-1].info["relax_status"] == "unsure"
        assert trail[-1].info["step"] == expected
        assert on_the_way_of(trail) == on_the_way_of(whole[: len(trail)]), "up to there nothing is changed"
        several += expected > 2
    assert several or optimizer == "cg", "some go on for more than one look"


def test_those_that_are_sure_are_not_touched(driven, silicon_cells):
    for atoms in silicon_cells[3:6]:
        asked, plain = driven(atoms, stop_where_unsure=100.0, unsure_every=1), driven(atoms)
        assert asked[0] == plain[0]
        assert fr.dumps(asked[1]) == fr.dumps(plain[1])


def test_the_cell_itself_is_not_looked_at(driven, silicon_cells):
    status, trail = driven(silicon_cells[3], stop_where_unsure=1e-9, unsure_every=3)
    assert (status, trail[-1].info["step"]) == ("unsure", 3)


def test_what_the_calculator_knew_is_left_to_it(gap, silicon_cells):
    task = task_of("evaluate")
    task.use(gap)
    counted = []
    calculate = gap.calculate
    gap.calculate = lambda *args, **kwargs: (counted.append(1), calculate(*args, **kwargs))
    work = silicon_cells[3].copy()
    work.calc = gap
    before = work.get_potential_energy(), work.get_forces(), work.get_stress()
    calls = len(counted)
    assert task.variances(work).shape == (len(work),)
    after = work.get_potential_energy(), work.get_forces(), work.get_stress()
    assert len(counted) == calls + 1, "nothing is calculated twice"
    for first, second in zip(before, after, strict=True):
        assert np.array_equal(first, second)


def test_a_stopped_one_is_no_minimum(driven, silicon_cells):
    _, trail = driven(silicon_cells[3], stop_where_unsure=1e-9, snapshot_steps=[])
    trail[-1].info["frame_id"] = "stopped"
    assert unique_minima(trail) == []


def test_the_job(run, python_code, potential, silicon_cells):
    """What became of the cells is counted in the summary, and stands on the frames."""
    frames = Dataset(silicon_cells[1:5], level_of_theory="unlabelled")
    settings = Dict({"stop_where_unsure": 1e-6, "unsure_every": 2, "max_steps": 6, "snapshot_steps": [0]})
    outputs, node = run(RelaxCalculation, code=python_code, frames=frames, potential=potential, settings=settings)
    assert node.is_finished_ok, node.exit_message
    assert outputs["summary"]["status"] == {"unsure": 4}
    relaxed = outputs["frames"].get_frames()
    assert [(a.info["step"], a.info["relax_status"]) for a in relaxed] == 4 * [(0, "on_the_way"), (2, "unsure")]
    assert {a.info["config_type"] for a in relaxed} == {"snapshot"}


def test_an_ase_calculator_is_refused(run, python_code, silicon_cells):
    frames = Dataset(silicon_cells[1:3], level_of_theory="unlabelled")
    inputs = {"code": python_code, "frames": frames, "calculator": Dict({"calculator": "emt"})}
    with pytest.raises(ValueError, match=r"settings\.stop_where_unsure: an ASE calculator has no variances to stop by"):
        run(RelaxCalculation, **inputs, settings=Dict({"stop_where_unsure": 0.02}))


def test_settings():
    assert RelaxSettings().stop_where_unsure is None
    with pytest.raises(ValidationError, match="stop_where_unsure"):
        RelaxSettings(stop_where_unsure=0.0)
    rules = {"cells": {"random": 4}, "select": {"rules": [{"by": "farthest", "of": "unsure", "n": 9}]}}
    with pytest.raises(ValidationError, match=r"of: unsure takes frames of stopped relaxations; expected relax: \{stop_where"):
        GenerationSettings(**rules)
    assert GenerationSettings(**rules, relax={"stop_where_unsure": 0.02}).most_labels() == 4


def test_a_calculator_without_variances_fails_by_frame(sw, silicon_cells):
    task = task_of("evaluate")
    task.use(sw)
    with pytest.raises((KeyError, RuntimeError)):
        task.variances(silicon_cells[3])
