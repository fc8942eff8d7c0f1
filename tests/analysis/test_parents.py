"""Which structures children are made of."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_gaprss.analysis.parents import lowest_parents
from aiida_gaprss.strategies.base import strategy_of


def kind(**changes):
    settings = {"n_atoms": [4, 8], "volume_per_atom": [8, 40], "min_separation": 1.5}
    return strategy_of({"kind": "evolutionary", **settings, **changes})


def frame(name, energy, atoms, status="converged", prefix="REF"):
    """An end point, energy in eV/atom."""
    atoms = atoms.copy()
    atoms.info = {"frame_id": name, "config_type": "minimum", f"{prefix}_energy": energy * len(atoms)}
    if status:
        atoms.info["relax_status"] = status
    return atoms


def cube(factor):
    return bulk("Al", "fcc", 4.05 * factor, cubic=True)


def names(frames, *kinds, formula=None, **more):
    more.setdefault("prefix", "REF")
    return [atoms.info["frame_id"] for atoms in lowest_parents(frames, kinds or [kind()], formula or {"Al": 1}, **more)]


def test_lowest_first_each_structure_once():
    rng = np.random.default_rng(1)
    turned = cube(1.0)
    turned.rotate(40, (1, 1, 0), rotate_cell=True)
    turned.positions += rng.normal(0, 0.005, (4, 3))
    frames = [
        frame("high", -3.0, cube(1.1)),
        frame("low", -3.5, cube(1.0)),
        frame("again", -3.499, turned),
        frame("on the way", -9.0, cube(0.9), "on_the_way"),
        frame("collapsed", -9.0, cube(0.7), "collapsed"),
        frame("not relaxed", -9.0, cube(0.95), None),
        frame("no label", -9.0, cube(0.85), prefix="PRED"),
        frame("other size", -9.0, bulk("Al")),
        frame("unconverged", -3.2, cube(1.2), "max_steps"),
    ]
    assert names(frames) == ["low", "unconverged", "high"]
    assert names(frames, kind(population=2)) == ["low", "unconverged"]
    assert names(frames, kind(n_atoms=[1])) == ["other size"]
    assert names(frames, kind(n_atoms=[1], population=1), kind(population=1)) == ["other size", "low"]
    assert names(frames, prefix="PRED") == ["no label"]
    assert names([]) == []
    random = strategy_of({"kind": "random", "n_atoms": [4], "volume_per_atom": [8, 40]})
    assert names(frames, random) == []


def test_enthalpies_at_a_pressure():
    """At 30 GPa, 0.187 eV/Å³, the denser one is lower."""
    frames = [frame("wide", -3.5, cube(1.05)), frame("dense", -3.3, cube(1.0))]
    assert names(frames) == ["wide", "dense"]
    assert names(frames, pressure_GPa=30.0) == ["dense", "wide"]


@pytest.mark.parametrize("reverse", [False, True])
def test_compositions_by_their_height_above_the_hull(reverse):
    places = cube(1.0).get_scaled_positions()

    def alloy(symbols):
        return Atoms(symbols, scaled_positions=places, cell=[4.0] * 3, pbc=True)

    frames = [
        frame("Al", -3.0, alloy("Al4")),
        frame("Cu", -4.0, alloy("Cu4")),
        frame("half", -3.9, alloy("Al2Cu2")),  # 0.4 below the line between the elements
        frame("above", -3.4, alloy("Al3Cu")),  # 0.05 above the hull, which is at -3.45
    ]
    both = kind(formula={"Al": [0, 4], "Cu": [0, 4]}, n_atoms=[4])
    found = names(frames[::-1] if reverse else frames, both, formula={"Al": 1, "Cu": 1})
    assert found[-1] == "above"
    assert set(found[:3]) == {"Al", "Cu", "half"}
