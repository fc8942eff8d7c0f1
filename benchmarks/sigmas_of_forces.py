"""Sigmas in proportion to forces, after figure 4 of George et al.: python benchmarks/sigmas_of_forces.py [f …].

J. George et al., J. Chem. Phys. 153, 044104 (2020): force sigmas f·|F_i| for supercells in which one atom is displaced, the usual
ones for supercells at several volumes in which all atoms are; phonons of three allotropes against f. What gets worse where
phonons get better is looked for: the thermal conductivity of diamond (table I), and forces on atoms far from their places.

Silicon is that of Stillinger and Weber. Supercells are of 10 Å, where the paper has 15.
"""

from __future__ import annotations

import sys
from typing import Any

from ase import Atoms
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.spacegroup import crystal
from common import fitted, label, stillinger_weber

from aiida_gaprss.analysis.errors import errors
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.properties.base import PropertyError
from aiida_gaprss.properties.conductivity import Conductivity
from aiida_gaprss.properties.phonons import Phonons
from aiida_gaprss.strategies.base import strategy_of

FACTORS = (1e-1, 1e-2, 1e-3, 1e-4)
SOAP = {"kind": "soap", "cutoff": 5.0, "n_max": 8, "l_max": 6, "atom_sigma": 0.5, "zeta": 4, "delta": 3.0}
SPARSE = 400
PHONONS = Phonons(length_A=10, displacement_A=0.01, allow_small=True)
KAPPA = Conductivity(supercell=(2, 2, 2), second_supercell=(3, 3, 3), temperatures_K=(300.0,), allow_small=True)


def allotropes(calculator: Any) -> list[Atoms]:
    """Return diamond, lonsdaleite and BC8, relaxed."""
    hexagonal = Atoms(
        "Si4",
        cell=[3.84, 3.84, 6.27, 90, 90, 120],
        scaled_positions=[(1 / 3, 2 / 3, z) for z in (0.0625, 0.4375)] + [(2 / 3, 1 / 3, z) for z in (0.5625, 0.9375)],
        pbc=True,
    )
    bc8 = crystal("Si", [(0.1003,) * 3], spacegroup=206, cellpar=[6.64] * 3 + [90] * 3, primitive_cell=True)
    found = {"diamond": bulk("Si"), "lonsdaleite": hexagonal, "BC8": bc8}
    for name, atoms in found.items():
        atoms.calc = calculator
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5, steps=300)
        atoms.info = {"frame_id": name}
    return list(found.values())


def made(crystals: list[Atoms], calculator: Any, **settings: Any) -> list[Atoms]:
    """Return the labelled frames of a strategy."""
    return label(strategy_of(settings).apply(crystals, {"Si": 1}, seed=1), calculator)


def settings_for(f: float, kinds: list[str]) -> GapSettings:
    """Return the settings of a fit: force sigmas f·|F_i| for single displacements, 0.1 eV/Å for the others, as in the paper."""
    rule = {"kind": "force_proportional", "f": f, "config_types": ["displacements"]}
    return GapSettings(
        descriptors=[{**SOAP, "n_sparse": dict.fromkeys(kinds, SPARSE)}],
        sigma={"energy": 1e-3, "forces": 0.1, "virial": 0.05},
        regularisation=[rule] if "displacements" in kinds else [],
    )


def phonon_error(gap: Any, calculator: Any, atoms: Atoms) -> str:
    """Return the RMS of the branches, each crystal as the potential relaxes it; what it is instead, if that is another one."""
    mine = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    mine.calc = gap
    BFGS(FrechetCellFilter(mine), logfile=None).run(fmax=1e-4, steps=200)
    ours = Atoms(mine.numbers, mine.positions, cell=mine.cell, pbc=True)
    theirs = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    try:
        scores = PHONONS.scores(PHONONS.compute(gap, ours), PHONONS.compute(calculator, theirs))
    except PropertyError as error:
        return str(error)[:20]
    return f"{scores['rms_path_THz']:.3f}" if "rms_path_THz" in scores else "another crystal"


def forces_far_away(gap: Any, calculator: Any, atoms: Atoms) -> float:
    """Return the RMS error of forces (eV/Å) of supercells whose atoms are displaced by 0.2 Å."""
    frames = made([atoms], calculator, kind="rattled", length_A=10, volumes=[1.0], copies=5, displacement_A=0.2)
    for frame in frames:
        frame.arrays["PRED_forces"] = Atoms(
            frame.numbers, frame.positions, cell=frame.cell, pbc=True, calculator=gap
        ).get_forces()
        frame.info["PRED_energy"] = frame.info["REF_energy"]
    return float(errors(frames).forces.rmse)


def main() -> None:
    """Print a row for each database and f."""
    from quippy.potential import Potential

    reference = Potential(**stillinger_weber()["arguments"])
    crystals = allotropes(reference)
    single = made(crystals, reference, kind="displacements", length_A=10)
    rattled = made(crystals, reference, kind="rattled", length_A=10, volumes=[0.97, 1.0, 1.03], copies=3)
    bare = Atoms(crystals[0].numbers, crystals[0].positions, cell=crystals[0].cell, pbc=True)
    true = KAPPA.compute(reference, bare)["kappa_W/mK"][0]
    print(f"{len(single)} single, {len(rattled)} rattled frames; kappa of diamond at 300 K {true:.1f} W/(m K) by the reference")
    factors = [float(text) for text in sys.argv[1:]] or FACTORS
    runs = [("rattled", rattled, 0.1)] + [
        (n, some, f) for n, some in (("single", single), ("both", single + rattled)) for f in factors
    ]
    print("database  f       phonons of diamond, lonsdaleite, BC8 (RMS, THz)   kappa (%)  forces at 0.2 Å (eV/Å)")
    for name, frames, f in runs:
        kinds = sorted({atoms.info["config_type"] for atoms in frames})
        gap = fitted(frames, settings_for(f, kinds), reference)
        phonons = "  ".join(phonon_error(gap, reference, atoms) for atoms in crystals)
        kappa = 100 * (KAPPA.compute(gap, bare)["kappa_W/mK"][0] / true - 1)
        far = forces_far_away(gap, reference, crystals[0])
        what = "-" if name == "rattled" else f"{f:g}"
        print(f"{name:8s}  {what:6s}  {phonons:50s}  {kappa:+7.1f}  {far:.3f}", flush=True)


if __name__ == "__main__":
    main()
