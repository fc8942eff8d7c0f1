"""What strategies are given from Python, where nothing has looked at it before."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_gaprss.settings.plugins import STRATEGIES, kind_of, kinds_of
from aiida_gaprss.strategies.bain import bain_cell
from aiida_gaprss.strategies.base import Strategy, StrategyError, strategy_of
from aiida_gaprss.strategies.strained import stretch
from aiida_gaprss.structures.nondiagonal import supercells
from aiida_gaprss.structures.supercells import scaled
from aiida_gaprss.structures.symmetry import CrystalError

#: What a kind cannot be made without.
GIVEN = {
    "melt_quench": {"hot_K": 3000},
    "dimers": {"points": 2},
}


def wrong_crystals():
    """Yield crystals no library should be handed, and what is said of them."""
    for what, change in {
        "position": lambda atoms: atoms.positions.__setitem__((1, 0), np.nan),
        "cell": lambda atoms: atoms.cell.__setitem__((0, 0), np.inf),
        "flat": lambda atoms: atoms.set_cell([[1, 0, 0], [2, 0, 0], [0, 0, 1]]),
        "periodic": lambda atoms: atoms.set_pbc([True, True, False]),
        "element": lambda atoms: atoms.numbers.__setitem__(0, 0),
        "empty": lambda atoms: atoms.__delitem__([0, 1]),
    }.items():
        atoms = bulk("Si")
        atoms.info["frame_id"] = "mine"
        change(atoms)
        yield pytest.param(atoms, id=what)


def of_crystals():
    return [kind for kind in kinds_of(STRATEGIES, Strategy) if "crystals" in kind_of(STRATEGIES, kind, Strategy).needs]


@pytest.mark.parametrize("atoms", wrong_crystals())
@pytest.mark.parametrize("kind", of_crystals())
def test_crystals_that_are_none(kind, atoms):
    strategy = strategy_of({"kind": kind, **GIVEN.get(kind, {})})
    with pytest.raises(StrategyError, match=f"{kind}: crystal mine: "):
        strategy.apply([atoms], {"Si": 1}, 1)


@pytest.mark.parametrize(("symbol", "volume"), [("X", 20), ("Foo", 20), ("Al", 0), ("Al", -1), ("Al", np.nan), ("Al", np.inf)])
def test_bain_cells_of_nothing(symbol, volume):
    with pytest.raises(StrategyError, match="expected an element and a volume above 0"):
        bain_cell(symbol, volume, 0.5)


@pytest.mark.parametrize("volume", [0, -1, np.nan, np.inf])
def test_volumes_that_are_none(volume):
    with pytest.raises(CrystalError, match="expected a number above 0"):
        scaled(bulk("Al"), volume)


@pytest.mark.parametrize(("mode", "measure"), [(0, "simple"), (7, "simple"), (1.5, "simple"), (1, "true")])
def test_strains_of_no_mode(mode, measure):
    with pytest.raises(StrategyError, match="expected 1 to 6 and one of"):
        stretch(mode, 0.01, measure)


def test_a_strain_that_leaves_nothing():
    with pytest.raises(StrategyError, match="nothing is left of the cell"):
        stretch(1, -0.6, "green-lagrange")


@pytest.mark.parametrize("grid", [(2, 2), (2, 2, 0), (2, 2, 1.5), (2, 2, -1)])
def test_grids_that_are_none(grid):
    with pytest.raises(CrystalError, match="expected three whole numbers above 0"):
        supercells(Atoms("Al", cell=[[0, 2, 2], [2, 0, 2], [2, 2, 0]], pbc=True), grid)
