"""What ``aiida-gaprss dataset audit`` finds: published data as they are, parts of them, and copies with known mistakes.

    python benchmarks/audit.py [--parts] [--only=WORDS OF A MISTAKE] [DATA SET ...]

The published data lie in the folder $GAPRSS_DATA; without it only the data that are made here are used. Everything is
deterministic. Frames that are wrong as published (see FLAWS) are left out before labels are corrupted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from ase import Atoms, units
from ase.calculators.emt import EMT
from common import label
from rich.console import Console
from rich.table import Table

from aiida_gaprss.audit import Audit, audit
from aiida_gaprss.frames import is_isolated_atom
from aiida_gaprss.io.extxyz import Keys, import_frames
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

MLEARN = Keys(energy="dft_energy", forces="dft_force", virial="dft_virial")
WORKFLOW = Keys(energy="REF_energy", forces="REF_forces", stress="REF_stress")
PUBLISHED = {
    "Mg": ("magnesium_strain/Mg_hcp_500.extxyz.gz", Keys(energy="energy", forces="forces", virial="virial")),
    "Si": ("mlearn/Si_training.xyz.gz", MLEARN),
    "Si test": ("mlearn/Si_test.xyz.gz", MLEARN),
    "Mo": ("mlearn/Mo_training.xyz.gz", MLEARN),
    "Mo test": ("mlearn/Mo_test.xyz.gz", MLEARN),
    "B": ("boron/random_search_39.xyz", WORKFLOW),
    "LiCu": ("licu/LiCu_iter0_fitting.xyz", WORKFLOW),
    "LiCu test": ("licu/LiCu_iter0_testing.xyz", WORKFLOW),
}
#: The virials of Li-Cu hold a Pulay stress of 200 GPa, and three of its dimers are not converged.
FLAWS = {"LiCu": (("LiCu_iter0_fitting-00106", "LiCu_iter0_fitting-00111", "LiCu_iter0_fitting-00112"), True)}
FLAWS["LiCu test"] = ((), True)
#: Energies of atoms (eV) of other codes: what somebody may have subtracted.
ATOMS = {"Mg": 1690.0, "Si": 102.0, "Mo": 1900.0, "B": 75.0, "Cu": 1300.0, "Au": 3000.0, "Li": 203.0}


def made_here() -> list[Atoms]:
    """Return random cells of copper and gold, and their atoms, with labels of ASE's effective medium theory."""
    frames = []
    for symbol in ("Cu", "Au"):
        frames.append(Atoms(symbol, cell=[14.0] * 3, pbc=True))
        frames[-1].info.update(frame_id=f"atom-{symbol}", config_type="isolated_atom")
    for seed, formula in enumerate(({"Cu": 1, "Au": 1}, {"Cu": 3, "Au": 1}, {"Cu": 1, "Au": 3})):
        for n, atoms in enumerate(random_cells(CellSpec(formula, (4, 8), (11, 18), 2.2), 20, seed=seed)):
            atoms.info.update(frame_id=f"cell-{seed}-{n:02d}", config_type="random")
            frames.append(atoms)
    return label(frames, EMT())


def data_sets() -> dict[str, list[Atoms]]:
    """Return the frames of all data sets that are there."""
    folder = os.environ.get("GAPRSS_DATA")
    found = {name: import_frames(Path(folder) / path, keys) for name, (path, keys) in PUBLISHED.items()} if folder else {}
    return found | {"CuAu": made_here()}


def without_flaws(name: str, frames: list[Atoms]) -> list[Atoms]:
    """Return the frames but those that are known to be wrong."""
    names, virials = FLAWS.get(name, ((), False))
    frames = [atoms.copy() for atoms in frames if atoms.info["frame_id"] not in names]
    for atoms in frames if virials else ():
        atoms.info.pop("REF_virial", None)
    return frames


# --- mistakes ---

Change = Callable[[Atoms], None]


def energy(factor: float | Callable[[Atoms], float] = 1.0, per_atom: float = 0.0, atoms_times: float = 0.0) -> Change:
    def change(a: Atoms) -> None:
        value = a.info["REF_energy"] * (factor(a) if callable(factor) else factor)
        a.info["REF_energy"] = value + per_atom * len(a) + atoms_times * sum(ATOMS[s] for s in a.get_chemical_symbols())

    return change


def forces(factor: float) -> Change:
    def change(a: Atoms) -> None:
        a.arrays["REF_forces"] = a.arrays["REF_forces"] * factor

    return change


def virial(factor: float | Callable[[Atoms], float]) -> Change:
    def change(a: Atoms) -> None:
        if "REF_virial" in a.info:
            a.info["REF_virial"] = a.info["REF_virial"] * (factor(a) if callable(factor) else factor)

    return change


def other_order(a: Atoms) -> None:
    order = np.random.default_rng(len(a) + round(1e6 * abs(a.cell.volume))).permutation(len(a))
    a.arrays["REF_forces"] = a.arrays["REF_forces"][order]


def other_axes(a: Atoms) -> None:
    a.arrays["REF_forces"] = a.arrays["REF_forces"][:, [1, 2, 0]]


def drift(a: Atoms) -> None:
    f = a.arrays["REF_forces"]
    a.arrays["REF_forces"] = f + 0.7 * max(float(np.sqrt((f**2).sum(axis=1).mean())), 0.1)


def pulay(a: Atoms) -> None:
    if "REF_virial" in a.info:
        a.info["REF_virial"] = a.info["REF_virial"] - 3.0 * len(a) * np.eye(3).ravel()


def shear_of_vasp(a: Atoms) -> None:
    if "REF_virial" in a.info:
        v = np.array(a.info["REF_virial"]).reshape(3, 3)
        xx, yy, zz, yz, xz, xy = v[0, 0], v[1, 1], v[2, 2], v[1, 2], v[0, 2], v[0, 1]
        a.info["REF_virial"] = np.array([[xx, yz, xz], [yz, yy, xy], [xz, xy, zz]]).ravel()


HA, RY, HA_BOHR, GPA = units.Hartree, units.Rydberg, units.Hartree / units.Bohr, units.GPa
THIRD = 1 / 3
#: What is done: fraction of the frames, change, checks of which one must find it, words that name it.
MISTAKES: dict[str, tuple[float, Change, tuple[str, ...], str]] = {
    "virial: sign": (1, virial(-1), ("virials",), "sign reversed"),
    "virial: sign, in a third": (THIRD, virial(-1), ("virials",), "sign reversed"),
    "virial: GPa·Å³": (1, virial(1 / GPA), ("virials",), "stress in GPa"),
    "virial: kbar·Å³": (1, virial(10 / GPA), ("virials",), "stress in kbar"),
    "virial: kbar·Å³, in a third": (THIRD, virial(10 / GPA), ("virials",), "stress in kbar"),
    "virial: −kbar·Å³ (VASP's sign)": (1, virial(-10 / GPA), ("virials",), "stress in kbar"),
    "virial: is the stress": (1, virial(lambda a: -1 / a.get_volume()), ("virials",), "not a virial"),
    "virial: is the stress, in a third": (THIRD, virial(lambda a: -1 / a.get_volume()), ("virials",), "not a virial"),
    "virial: is the stress in GPa": (1, virial(lambda a: -1 / GPA / a.get_volume()), ("virials",), "not a virial"),
    "virial: xy yz xz for yz xz xy": (1, shear_of_vasp, ("virials",), "shear components"),
    "virial: Pulay stress, −3 eV/atom": (1, pulay, ("virials",), "Pulay"),
    "forces: sign": (1, forces(-1), ("forces",), "sign reversed"),
    "forces: sign, in a third": (THIRD, forces(-1), ("forces",), "sign reversed"),
    "forces: Ry/bohr": (1, forces(2 / HA_BOHR), ("forces",), "Ry/bohr"),
    "forces: Ry/bohr, in a third": (THIRD, forces(2 / HA_BOHR), ("forces",), "Ry/bohr"),
    "forces: Ha/bohr": (1, forces(1 / HA_BOHR), ("forces",), "Ha/bohr"),
    "forces: eV/bohr": (1, forces(units.Bohr), ("forces",), "eV/bohr"),
    "forces: gradient in Ha/bohr": (1, forces(-1 / HA_BOHR), ("forces",), "Ha/bohr, sign reversed"),
    "forces: order of atoms": (1, other_order, ("forces",), "of other atoms"),
    "forces: order of atoms, in a third": (THIRD, other_order, ("forces",), "of other atoms"),
    "forces: order of x, y, z": (1, other_axes, ("forces",), "of other atoms"),
    "forces: drift, in a third": (THIRD, drift, ("net force",), "do not sum to zero"),
    "energy: Ry": (1, energy(1 / RY), ("energy unit",), "in Ry"),
    "energy: Ha": (1, energy(1 / HA), ("energy unit",), "in Ha"),
    "energy: Ha, in a third": (THIRD, energy(1 / HA), ("energy unit", "energy zero"), "shifted"),
    "energy: per atom": (1, energy(lambda a: 1 / len(a)), ("energy unit",), "per atom"),
    "energy: +1 eV/atom, in a third": (THIRD, energy(per_atom=1.0), ("energy zero",), "shifted by +"),
    "energy: +1 eV/atom, in a tenth": (0.1, energy(per_atom=1.0), ("energy zero",), "shifted by +"),
    "energy: −0.5 eV/atom, in a third": (THIRD, energy(per_atom=-0.5), ("energy zero",), "shifted by -"),
    "energy: +1 eV/atom, in a half": (0.5, energy(per_atom=1.0), ("energy zero",), "shifted by"),
    "energy: atoms subtracted, in a third": (THIRD, energy(atoms_times=1.0), ("energy zero",), "shifted by +"),
    "energy: atoms subtracted, in a half": (0.5, energy(atoms_times=1.0), ("energy zero",), "shifted by"),
}


def corrupted(frames: list[Atoms], fraction: float, change: Change) -> tuple[list[Atoms], set[str]]:
    """Return copies of which a fraction is changed, isolated atoms apart, and the names of the changed."""
    out = [atoms.copy() for atoms in frames]
    cells = [i for i, atoms in enumerate(out) if not is_isolated_atom(atoms)]
    chosen = np.random.default_rng(1).permutation(cells)[: round(fraction * len(cells))]
    for i in chosen:
        change(out[i])
    return out, {str(out[i].info["frame_id"]) for i in chosen}


def foreign_atom(frames: list[Atoms]) -> tuple[list[Atoms], set[str]]:
    out = [atoms.copy() for atoms in frames]
    mine = [atoms for atoms in out if is_isolated_atom(atoms)]
    for atoms in mine:
        atoms.info["REF_energy"] -= ATOMS[atoms.get_chemical_symbols()[0]]
    return out, {str(atoms.info["frame_id"]) for atoms in mine}


def second_label(frames: list[Atoms]) -> tuple[list[Atoms], set[str]]:
    """Add every tenth frame again, turned, with an energy that is 20 meV/atom off."""
    out = list(frames)
    for atoms in [a for a in frames if not is_isolated_atom(a)][::10]:
        out.append(atoms.copy())
        out[-1].rotate(50, (1, 2, 3), rotate_cell=True)
        for key in ("REF_virial", "REF_forces"):
            out[-1].info.pop(key, None)
            out[-1].arrays.pop(key, None)
        out[-1].info.update(frame_id=f"again-{atoms.info['frame_id']}", REF_energy=atoms.info["REF_energy"] + 0.02 * len(atoms))
    twice = {str(a.info["frame_id"]) for a in out[len(frames) :]}
    return out, twice | {name.removeprefix("again-") for name in twice}


def outcome(
    result: Audit, finders: tuple[str, ...], words: str, changed: set[str], whole: bool, mirror: set[str] | None = None
) -> str:
    """Say in a word what an audit makes of a mistake.

    ``named``: a fault that says what was done; ``fault``: one that does not, or warning; with the fraction of the changed frames
    that are listed and the number of others that are, and in brackets other checks that find a fault.
    """
    checks = [result.check(name) for name in finders]
    others = [c.name for c in result.checks if c.verdict == "fault" and c.name not in finders]
    verdicts = [check.verdict for check in checks]
    if "fault" in verdicts:
        said = " ".join(s for check in checks for s in check.found)
        text = "named" if words in said else "fault"
    elif "warning" in verdicts:
        text = "warning"
    else:
        text = "elsewhere" if others else "not judged" if set(verdicts) == {"not judged"} else "missed"
    if not whole and text in ("named", "fault", "warning"):
        frames = {name for check in checks for name in check.frames}
        if mirror and len(frames & mirror) > len(frames & changed):  # of two halves either may be the wrong one
            changed = mirror
        text += f" {len(frames & changed) / len(changed):.0%}"
        wrong = len(frames - changed)
        text += f" +{wrong}" if wrong else ""
    blamed = [name for name in others if text.split()[0] != "elsewhere"]
    return text + (f" (and {', '.join(blamed)})" if blamed else "")


def table_of_mistakes(sets: dict[str, list[Atoms]], only: str = "") -> Table:
    columns = {name: without_flaws(name, frames) for name, frames in sets.items()}
    table = Table("mistake", *columns, box=None)
    rows: dict[str, tuple[Callable[[list[Atoms]], tuple[list[Atoms], set[str]]], tuple[str, ...], str, bool]] = {
        name: (lambda f, m=m: corrupted(f, m[0], m[1]), m[2], m[3], m[0] == 1) for name, m in MISTAKES.items()
    }
    rows["isolated atom of another code"] = (foreign_atom, ("isolated atoms",), "bound", True)
    rows["twice, 20 meV/atom apart"] = (second_label, ("duplicates",), "different energies", False)
    right = {name: {c.name for c in audit({name: frames}).checks if c.verdict == "fault"} for name, frames in columns.items()}
    assert not any(right.values()), f"faults in right labels: {right}"
    for title, (make, finders, words, whole) in rows.items():
        if only not in title:
            continue
        cells = []
        for name, frames in columns.items():
            kind = {"virial": "REF_virial", "forces": "REF_forces"}.get(title.split(":")[0])
            if kind == "REF_virial" and not any(kind in atoms.info for atoms in frames):
                cells.append("-")
                continue
            made, changed = make(frames)
            if not changed:
                cells.append("-")
                continue
            # Labels that are duplicated in the data themselves are altered in one of the two.
            skip = ("labels", "geometry", "outliers") + (() if "duplicates" in finders else ("duplicates",))
            skip += () if "isolated atoms" in finders else ("isolated atoms",)
            rest = {str(a.info["frame_id"]) for a in made if not is_isolated_atom(a)} - changed
            mirror = rest if title.endswith("in a half") else None
            cells.append(outcome(audit({name: made}, skip=skip), finders, words, changed, whole, mirror))
        table.add_row(title, *cells)
        print(title, *cells, sep=" | ", file=sys.stderr, flush=True)
    return table


def table_of_right(sets: dict[str, list[Atoms]]) -> Table:
    table = Table("data set", "frames", "atoms", "frames/s", "faults and warnings", box=None)
    for name, frames in sets.items():
        start = time.perf_counter()
        result = audit({name: frames})
        seconds = time.perf_counter() - start
        said = [f"{c.verdict}, {c.name}: {s}" for c in result.checks if c.verdict in ("fault", "warning") for s in c.found]
        table.add_row(name, str(len(frames)), str(sum(map(len, frames))), f"{len(frames) / seconds:.0f}", "\n".join(said))
    return table


def table_of_parts(sets: dict[str, list[Atoms]], repeats: int = 5) -> Table:
    """Audit parts of right labels: drawn at random, consecutive, and single configuration types."""
    table = Table("data set", "frames", "parts", "with a fault", "with a warning of physics", "what", box=None)
    physics = ("energy zero", "energy unit", "forces", "net force", "virials")
    for name, frames in sets.items():
        frames = without_flaws(name, frames)
        rng = np.random.default_rng(0)
        kinds: dict[str, list[list[Atoms]]] = {}
        for size in (12, 20, 30, 40):
            if size < len(frames):
                kinds[str(size)] = [[frames[i] for i in rng.permutation(len(frames))[:size]] for _ in range(repeats)]
                starts = rng.integers(0, len(frames) - size, repeats)
                kinds[f"{size} in a row"] = [frames[s : s + size] for s in starts]
        types = sorted({str(a.info["config_type"]) for a in frames})
        if len(types) > 1:
            kinds["of one type"] = [[a for a in frames if str(a.info["config_type"]) == t] for t in types]
        for kind, parts in kinds.items():
            audits = [audit({name: part}) for part in parts]
            said = {
                f"{c.verdict}, {c.name}: {s}"
                for a in audits
                for c in a.checks
                for s in c.found[:1]
                if c.verdict == "fault" or (c.verdict == "warning" and c.name in physics)
            }
            faults = sum(a.verdict == "fault" for a in audits)
            warned = sum(any(c.verdict == "warning" and c.name in physics for c in a.checks) for a in audits)
            table.add_row(name, kind, str(len(parts)), str(faults), str(warned), "\n".join(sorted(said)[:3]))
    return table


if __name__ == "__main__":
    options = [a for a in sys.argv[1:] if a.startswith("--")]
    names = [a for a in sys.argv[1:] if a not in options]
    only = "".join(a.removeprefix("--only=") for a in options if a.startswith("--only="))
    chosen = {name: frames for name, frames in data_sets().items() if not names or name in names}
    console = Console(highlight=False, width=int(os.environ.get("COLUMNS", "200")))
    if "--parts" in options:
        for name, frames in chosen.items():  # it takes minutes: print as it comes
            console.print(table_of_parts({name: frames}))
    else:
        if not only:
            console.print(table_of_right(chosen))
        console.print(table_of_mistakes(chosen, only))
