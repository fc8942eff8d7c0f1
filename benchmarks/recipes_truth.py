"""What recipes are put to: references, their ground states, and frames on which potentials are tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from common import label, stillinger_weber

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.analysis.targets import KEPT
from aiida_gaprss.runners import task_of
from aiida_gaprss.runners.common import load_class
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.strategies.base import strategy_of
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.strategies.distort import distorted

#: eV/atom above the ground state: up to which minima are as good as it, and up to which frames are of the test.
SAME, WINDOW = 0.001, 0.3

#: Distorted copies of each minimum of the test, and of how many minima.
COPIES, MINIMA = 2, 40


@dataclass(frozen=True)
class Reference:
    """A reference, the cells that are made for it, and its ground state.

    ``arguments`` of the ``calculator`` as in the settings of a job;``explorer``: name of the reference whose minima, scaled to
    the density of the ground state, test potentials, where relaxations by the reference itself would be dear.
    """

    name: str
    formula: dict[str, int]
    seed: dict[str, Any]
    crystal: Atoms
    calculator: str
    arguments: dict[str, Any] = field(default_factory=dict)
    explorer: str | None = None
    box: float = 15.0

    @cached_property
    def ase(self) -> Any:
        """The calculator in this process."""
        return load_class(self.calculator)(**self.arguments)

    def labelled(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Return copies with labels."""
        return label([atoms.copy() for atoms in frames], self.ase)

    def relaxed(self, frames: Sequence[Atoms], fmax: float, steps: int) -> list[Atoms]:
        """Return the end points of relaxations by the reference that were not given up."""
        return end_points(self.calculator, self.arguments, frames, fmax, steps)


def references() -> dict[str, Reference]:
    """Return the references by their names: an easy one, an alloy of many orders, and real DFT."""
    silicon = {"volume_per_atom": [14.0, 30.0], "min_separation": 2.0}
    alloy = {"volume_per_atom": [10.0, 20.0], "min_separation": 2.1, "n_atoms": [4], "n_operations": [1, 2, 4]}
    l1_0 = Atoms("CuPt", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.7, 2.7, 3.7], pbc=True)
    sw = stillinger_weber()
    pseudo = {"Si": "Si.pz-vbc.UPF"}
    return {
        "sw": Reference("sw", {"Si": 1}, silicon, bulk("Si", a=5.43), sw["calculator"], sw["arguments"]),
        "cupt": Reference("cupt", {"Cu": 1, "Pt": 1}, alloy, l1_0, "emt"),
        "pw": Reference(
            "pw", {"Si": 1}, silicon, bulk("Si", a=5.38), "recipes_pw.PwX", {"pseudopotentials": pseudo}, explorer="sw", box=10.0
        ),
    }


def end_points(
    calculator: str, arguments: dict[str, Any], cells: Sequence[Atoms], fmax: float = 0.02, steps: int = 120
) -> list[Atoms]:
    """Return the last frames of relaxations at zero pressure that ended."""
    task = task_of("relax")
    settings = RelaxSettings(fmax=fmax, max_steps=steps, snapshot_steps=[], min_distance=1.0)
    task.setup({**settings.model_dump(), "calculator": calculator, "arguments": arguments})
    ends = []
    for number, atoms in enumerate(cells):
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info={"frame_id": f"{number}"})
        status, frames = task.run(bare, np.inf)
        if status in ("converged", "max_steps"):
            frames[-1].info["frame_id"] = str(atoms.info.get("frame_id", number))
            ends.append(frames[-1])
    return ends


@dataclass(frozen=True)
class Truth:
    """The ground state (eV/atom), all structures of its energy, the lowest minima, and the frames of the test."""

    energy: float
    ground: list[Atoms]
    minima: list[Atoms]
    test: list[Atoms]

    def is_ground(self, atoms: Atoms) -> bool:
        """Tell whether a frame is one of the ground states, whatever its density."""
        return any(KEPT.fit(structure(atoms), structure(one)) for one in self.ground)


def structure(atoms: Atoms) -> Any:
    """Return a frame as pymatgen has it."""
    from pymatgen.io.ase import AseAtomsAdaptor

    return AseAtomsAdaptor.get_structure(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))


def truth(reference: Reference, folder: Path, cells: int = 200) -> Truth:
    """Return what is true of a reference; what has been found out lies in a folder.

    The minima are those of so many random cells that the reference, or its explorer, relaxes.
    """
    path = folder / f"{reference.name}-truth.extxyz"
    if not path.is_file():
        found = _explored(reference, cells)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(fr.dumps(found), encoding="utf-8")
    frames = fr.loads(path.read_text(encoding="utf-8"))
    of_kind = {kind: [a for a in frames if a.info["config_type"] == kind] for kind in ("ground", "minimum", "distorted")}
    lowest = min(per_atom(atoms) for atoms in of_kind["ground"])
    test = [a for a in [*of_kind["minimum"], *of_kind["distorted"]] if per_atom(a) <= lowest + WINDOW]
    return Truth(lowest, of_kind["ground"], of_kind["minimum"], test)


def per_atom(atoms: Atoms, prefix: str = "REF") -> float:
    """Return the energy, eV/atom."""
    return float(atoms.info[f"{prefix}_energy"]) / len(atoms)


def _explored(reference: Reference, cells: int) -> list[Atoms]:
    explorer = references()[reference.explorer] if reference.explorer else reference
    made = make_cells(
        {"random": strategy_of({"kind": "random", "n_atoms": [2, 3, 4, 6], "n_operations": [1, 2, 4, 8], **explorer.seed})},
        reference.formula,
        {"random": cells},
        7_000_001,
    )
    ends = [*explorer.relaxed([explorer.crystal], 0.001, 300), *explorer.relaxed(made, 0.01, 300)]
    minima = [minimum.atoms for minimum in unique_minima(ends, window=WINDOW, limit=MINIMA)]
    (crystal,) = reference.relaxed([reference.crystal], 0.005, 100)
    factor = (_volume(crystal) / _volume(ends[0])) ** (1 / 3)
    for atoms in minima:
        atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
    rng = np.random.default_rng(7)
    copies = [copy for atoms in minima for copy in distorted(atoms, COPIES, 0.1, 0.04, (0.9, 1.15), rng)]
    out = [*_named([crystal], "ground"), *_named(minima, "minimum"), *_named(copies, "distorted")]
    out = reference.labelled(out)
    print(f"{reference.name}: ground state {per_atom(out[0]):.4f} eV/atom; {len(minima)} minima of {len(ends)} end points")
    lowest = min(per_atom(atoms) for atoms in out)
    low = [atoms for atoms in out[: 1 + len(minima)] if per_atom(atoms) <= lowest + SAME]
    return [*reference.labelled(_named(low, "ground")), *out[1:]]


def _named(frames: Sequence[Atoms], kind: str) -> list[Atoms]:
    out = []
    for number, atoms in enumerate(frames):
        out.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
        out[-1].info.update(frame_id=f"{kind}-{number:03d}-{len(atoms)}", config_type=kind)
    return out


def _volume(atoms: Atoms) -> float:
    return float(atoms.get_volume()) / len(atoms)
