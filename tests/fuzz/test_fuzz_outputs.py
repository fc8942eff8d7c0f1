"""Damaged outputs of CASTEP, VASP and pw.x: refused, told of, or with exactly the labels they had."""

from __future__ import annotations

import gzip
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import recorded
from fuzzing import Tally

from aiida_gaprss.frames import FrameError
from aiida_gaprss.io.outputs import Immigrated, read_outputs

#: What a code prints once, with nothing that could contradict it. One such number may be changed unseen, and no more.
PRINTED_ONCE = {
    "castep": {"positions", "forces"},
    "outcar": set(),
    "vasprun": {"forces"},
    "pwx": set(),
}
#: Rows that have no name may change places unseen, if what else is printed is the same for both.
UNNAMED_ROWS = {"castep": {"cell"}, "outcar": {"cell"}, "vasprun": {"forces"}, "pwx": set()}
NAMES = {"castep": "a.castep", "outcar": "OUTCAR", "vasprun": "vasprun.xml", "pwx": "a.out"}

NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:[EeDd][-+]?\d+)?(?![\w.])")


def castep_relaxation() -> str:
    """Return a relaxation of two iterations, in the form of CASTEP 17 and 19."""
    head = recorded.SIC_HEAD.replace("single point energy", "geometry optimization")
    positions = head[head.index("                                     Cell Contents") : head.index("+---------------- MEMORY")]
    scf = head[head.index("Calculating total energy") :]
    table = """
 +------------+-------------+-------------+-----------------+ <-- min BFGS
 |    Step    |   lambda    |   F.delta'  |    enthalpy     | <-- min BFGS
 +------------+-------------+-------------+-----------------+ <-- min BFGS
 |  previous  |    0.000000 |    0.306114 |     -531.163457 | <-- min BFGS
{} +------------+-------------+-------------+-----------------+ <-- min BFGS

"""
    trial = " | trial step |    1.000000 |   -0.064103 |     -532.163457 | <-- min BFGS\n"
    lower = [text.replace("-531.", "-532.").replace("-5.31163457", "-5.32163457") for text in (scf, recorded.SIC_ENERGIES)]
    moved = positions.replace("0.010000", "0.012000")
    return "".join(
        [
            head,
            recorded.SIC_ENERGIES,
            recorded.SIC_FORCES,
            recorded.SIC_STRESS,
            " BFGS: finished iteration     0 with enthalpy= -5.31163457E+002 eV\n",
            "\n Starting BFGS iteration          1 ...\n",
            table.format(""),
            " BFGS: starting iteration         1 with trial guess (lambda=  1.000000)\n",
            moved,
            *lower,
            recorded.SIC_FORCES.replace("0.23000", "0.24000"),
            recorded.SIC_STRESS,
            recorded.SIC_STRESS.replace("** Stress Tensor **", " Constrained Stress Tensor ").replace("1.500000", "0.000000"),
            table.format(trial),
            " BFGS: finished iteration     1 with enthalpy= -5.32163457E+002 eV\n",
            recorded.CASTEP_TAIL,
        ]
    )


def originals(data: Path | None) -> dict[str, list[str]]:
    """Return whole outputs by code, those of the tests and, if they are there, the smaller recorded ones."""
    out = {
        "castep": [recorded.SIC_CASTEP, castep_relaxation()],
        "outcar": [recorded.SIC_OUTCAR],
        "vasprun": [recorded.SIC_VASPRUN],
        "pwx": [(Path(recorded.__file__).parent / "boron_relax.out").read_text()],
    }
    for code, name in (
        ("castep", "castep/H2-geom.castep.gz"),
        ("castep", "castep/B8-singlepoint.castep.gz"),
        ("outcar", "vasp/converged/OUTCAR.gz"),
        ("vasprun", "vasp/converged/vasprun.xml.gz"),
    ):
        if data is not None and (data / name).is_file():
            text = gzip.decompress((data / name).read_bytes()).decode()
            out[code].append(re.sub(r"<(eigenvalues|dos)>.*?</\1>", "", text, flags=re.DOTALL))
    return out


def damages(text: str) -> list[tuple[str, partial[str]]]:
    """Return all ways of damage: cuts at each two-hundredth, every number and every line."""
    cuts = [(f"cut {n}/200", partial(_cut, text, len(text) * n // 200)) for n in range(1, 200)]
    numbers = [
        (f"{how} {match[0]!r} at {match.start()}", partial(_number, text, match.start(), match.end(), how))
        for match in NUMBER.finditer(text)
        for how in ("stars", "zero", "dropped")
    ]
    n_lines = text.count("\n")
    lines = [
        (f"line {n} {how}", partial(_line, text, n, how)) for n in range(n_lines - 1) for how in ("lost", "twice", "swapped")
    ]
    return cuts + numbers + lines


def _cut(text: str, end: int) -> str:
    return text[:end]


def _number(text: str, start: int, end: int, how: str) -> str:
    old = text[start:end]
    new = {"stars": "*" * len(old), "zero": re.sub(r"[1-9]", "0", old), "dropped": " " * len(old)}[how]
    return text[:start] + new + text[end:]


def _line(text: str, n: int, how: str) -> str:
    lines = text.splitlines(keepends=True)
    if how == "lost":
        del lines[n]
    elif how == "twice":
        lines.insert(n, lines[n])
    else:
        lines[n : n + 2] = lines[n : n + 2][::-1]
    return "".join(lines)


def contents(result: Immigrated) -> dict[str, dict[str, np.ndarray]]:
    """Return the numbers of each frame by its name."""
    return {
        atoms.info["frame_id"]: {
            "positions": atoms.positions,
            "cell": atoms.cell.array,
            "symbols": atoms.numbers,
            "energy": np.array([atoms.info["REF_energy"]]),
            "forces": atoms.arrays.get("REF_forces", np.empty(0)),
            "virial": np.asarray(atoms.info.get("REF_virial", np.empty(0))),
        }
        for atoms in result.frames
    }


def changed(old: dict[str, np.ndarray], new: dict[str, np.ndarray], code: str) -> str:
    """Return what of a frame is another, empty if nothing; what the code prints once and can be told by nothing is left out."""
    out = []
    for name, values in old.items():
        if values.shape != new[name].shape:
            out.append(f"{name} has {new[name].shape}, had {values.shape}")
            continue
        differ = np.abs(values - new[name]) > 1e-9
        if code == "castep" and name == "positions":  # one fraction moves the atom along one lattice vector
            differ = differ.any(axis=1)
        once = name in PRINTED_ONCE[code] and differ.sum() == 1
        same_rows = name in UNNAMED_ROWS[code] and sorted(map(tuple, values)) == sorted(map(tuple, new[name]))
        if name == "positions" and sorted(map(tuple, old["cell"])) == sorted(map(tuple, new["cell"])):
            differ &= (old["cell"] == new["cell"]).all()  # they follow the cell
        if differ.any() and not once and not same_rows:
            out.append(f"{name}: {values.ravel()[differ.argmax()]} became {new[name].ravel()[differ.argmax()]}")
    return "; ".join(out)


@pytest.mark.parametrize("code", list(NAMES))
def test_outputs(code, times, tmp_path, request):
    data = request.getfixturevalue("data") if request.config.getoption("--fuzz") > 1 else None
    rng = np.random.default_rng(14)
    tally = Tally(f"outputs ({code})", allowed=(FrameError,))
    path = tmp_path / NAMES[code]
    for number, text in enumerate(originals(data)[code]):
        path.write_text(text)
        whole = read_outputs([path])
        expected, said = contents(whole), {*whole.notes, *map(str, whole.refused)}
        found = damages(text)
        for at in sorted(rng.permutation(len(found))[: times(110)]):
            name, damage = found[at]
            path.write_text(damage())
            result = tally.attempt(f"{number} {name}", partial(read_outputs, [path]))
            if result is None or {*result.notes, *map(str, result.refused)} - said:
                continue
            new = contents(result)
            if set(new) != set(expected):
                tally.fault("changed", f"{number} {name}", f"frames {sorted(new)} of {sorted(expected)}, without a word")
            for frame in set(new) & set(expected):
                what = changed(expected[frame], new[frame], code)
                if what:
                    tally.fault("changed", f"{number} {name}", what)
    tally.check()
