"""AIRSS seeds with damage: refused with a reason, or understood; cells are made or given up after bounded work."""

import numpy as np
from fuzzing import Tally, damaged

from aiida_gaprss.strategies.airss import AirssSpec
from aiida_gaprss.strategies.airss_file import parse_seed
from aiida_gaprss.structures.building import random_cell
from aiida_gaprss.structures.checks import MOST_ATOMS, RandomCellError

SEEDS = (
    "#VARVOL=12\n#SPECIES=Si%NUM=1,O%NUM=2\n#NFORM={2,4}\n#MINSEP=1.3 Si-O=1.5-1.6 O-O=2.1\n#SYMMOPS=~2-4\n#SLACK=0.25\n",
    "#TARGVOL=20-24\n#SPECIES=Si,Ge,C\n#NATOM=2-8\n#MINSEP=2\n#COMPACT\n#OVERLAP=0.2\n#CONS=0.6\n#ACONS=0.4\n",
    "#FORMULA=Si2O4\n#VARVOL=60\n#MINSEP=1.5\n#SYMMNO=2,14\n",
    """%BLOCK LATTICE_CART
4 0 0
0 4.5 0
0.5 0 5
#CELLAMP=0.2
%ENDBLOCK LATTICE_CART
%BLOCK POSITIONS_FRAC
Si 0 0 0 % FIX
Si 0.5 0.5 0.5 % POSAMP=0.5
O 0.25 0.25 0.25 # unit % ANGAMP=30
O 0.25 0.25 0.5 # unit
%ENDBLOCK POSITIONS_FRAC
#POSAMP=1.5
#MINSEP=1.0
#NFORM=1
""",
    """%BLOCK LATTICE_ABC
4 4 5
90 90 120
%ENDBLOCK LATTICE_ABC
%BLOCK POSITIONS_ABS
bohr
C  0.00  0.00  0.00 # CH4 % NUM=1-2
H  1.19  1.19  1.19 # CH4
H -1.19 -1.19  1.19 # CH4
H  1.19 -1.19 -1.19 # CH4
H -1.19  1.19 -1.19 # CH4
%ENDBLOCK POSITIONS_ABS
#NFORM=2
#MINSEP=1.2
#TARGVOL=30
#SUPERCELL=1 1 2
""",
)

#: What stands in the place of a value.
WORDS = """
0 -1 999999999 1-999999999 nan inf 1e400 1e-400 -0.0 {} {1,2 1,,2 ~ 2~3 AUTO Si Si-Si=1 Xx Si%NUM=99999 Si%FIX
(Si999)999 100 0.01 100000 ² １ 1_0 0x10 1d0 50-2 [red]
"""
VALUES = (*WORDS.split(), "", "9" * 5000, "(" * 99, "Si" * 50, "1 1 1 1 1 1 1 1 1", "a b", "\x1b[31m")


def changed(text, rng):
    """Return a seed with the value of a tag, or a number of a block, replaced."""
    lines = text.splitlines()
    at = rng.integers(len(lines))
    value = VALUES[rng.integers(len(VALUES))]
    if "=" in lines[at] and rng.random() < 0.7:
        lines[at] = f"{lines[at].split('=')[0]}={value}"
    else:
        words = lines[at].split(" ")
        words[rng.integers(len(words))] = value
        lines[at] = " ".join(words)
    return f"line {at + 1}: {lines[at]:.60}", "\n".join(lines) + "\n"


def try_seed(tally, name, text):
    spec = tally.attempt(name, lambda: parse_seed(text))
    if spec is None:
        return
    assert isinstance(spec, AirssSpec)
    low, high = spec.volume_range
    if not (0 < low <= high < 1e7 and np.isfinite(spec.smallest_separation)):
        tally.fault("changed", name, f"volumes {low}, {high} Å³, smallest separation {spec.smallest_separation} Å")
    cell = tally.attempt(f"a cell of {name}", lambda: random_cell(spec, 1, draws=4, trials=3, most_work=3e6))
    if cell is not None and not (len(cell) <= MOST_ATOMS and np.isfinite(cell.positions).all() and cell.get_volume() > 0):
        tally.fault("changed", name, f"a cell of {len(cell)} atoms, {cell.get_volume()} Å³")


def test_airss_seeds(times):
    rng = np.random.default_rng(1)
    tally = Tally("AIRSS seeds", allowed=(RandomCellError,))
    for text in SEEDS:
        parse_seed(text)
    for number in range(times(220)):
        text = SEEDS[rng.integers(len(SEEDS))]
        if rng.random() < 0.6:
            name, text = changed(text, rng)
        else:
            name, damage = damaged(text.encode(), rng)
            text = damage.decode("utf-8", errors="replace")
        try_seed(tally, f"{number}: {name}", text)
    tally.check()
