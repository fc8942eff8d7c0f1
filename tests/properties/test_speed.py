"""Milliseconds per atom: which cells are measured, and that the numbers are the times that calls take."""

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_gaprss.properties.base import PropertyError, property_of
from aiida_gaprss.properties.speed import Speed
from aiida_gaprss.report.fit_figures import error_cost
from aiida_gaprss.report.style import png


def test_milliseconds_per_atom(clocks):
    class PerAtom(EMT):
        """Takes two milliseconds per atom, half of which it waits."""

        def calculate(self, atoms=None, *args, **kwargs):
            super().calculate(atoms, *args, **kwargs)
            clocks.pass_by(0.002 * len(atoms), 0.001 * len(atoms))

    task = property_of({"kind": "speed", "atoms": [32, 8], "calls": 3})
    result = task.compute(PerAtom(), bulk("Cu", cubic=True))
    assert result["atoms"] == [8, 32]
    assert result["ms_per_atom"] == pytest.approx([2, 2])
    assert result["processor_ms_per_atom"] == pytest.approx([1, 1])
    assert task.scores(result, None) == {"ms_per_atom": result["ms_per_atom"][1]}
    assert task.LIMITS["ms_per_atom"].light(result["ms_per_atom"][1]) == "good"
    curve = task.curves(result)["speed"]
    assert (curve.x, list(curve.lines)) == ([8, 32], [result["ms_per_atom"]])


@pytest.mark.parametrize(
    ("crystal", "sizes", "parts"),
    [
        (bulk("Cu"), [2, 8, 64, 216], ["2x1x1", "2x2x2", "4x4x4", "6x6x6"]),
        (bulk("Si", cubic=True), [8, 64, 216], ["1x1x1", "2x2x2", "3x3x3"]),
        (bulk("Cu", "hcp", 2.55, covera=1.63), [2, 8, 64, 200], ["1x1x1", "2x2x1", "4x4x2", "5x5x4"]),
    ],
)
def test_compact_cells_of_about_the_sizes(crystal, sizes, parts):
    plan = Speed().plan(crystal)
    assert [len(atoms) for atoms in plan] == sizes
    assert [atoms.info["part"] for atoms in plan] == parts
    assert plan[0].info["task"] == {"calls": 5, "displacement": 0.01, "seed": 1}


def test_what_was_not_measured():
    plan = Speed(atoms=[1, 2]).plan(bulk("Cu"))
    with pytest.raises(PropertyError, match="no time was measured of 1x1x1, 2x1x1"):
        Speed().result(bulk("Cu"), plan, "PRED")
    with pytest.raises(PropertyError, match="no time was measured of any frame"):
        Speed().result(bulk("Cu"), [], "PRED")
    with pytest.raises(PropertyError, match=r"speed\.atoms: "):
        property_of({"kind": "speed", "atoms": []})


def test_error_against_cost():
    points = {
        "cheap $": (0.1, 80.0),
        "good": (5.0, 4.0),
        "outdone": (6.0, 9.0),
        "broken": (float("nan"), 1.0),
        "exact": (9.0, 0.0),
    }
    figure = error_cost(points, "Energy RMSE (meV/atom)")
    (axes,) = figure.axes
    shown, best = (line.get_xydata().tolist() for line in axes.lines)
    assert shown == [[0.1, 80.0], [5.0, 4.0], [6.0, 9.0]]
    assert best == [[0.1, 80.0], [5.0, 4.0]]
    assert [text.get_text() for text in axes.texts] == ["cheap $", "good", "outdone"]
    assert axes.get_ylabel() == "Energy RMSE (meV/atom)"
    assert png(figure)
    assert error_cost({"broken": (float("inf"), 1.0)}, "x") is None
