"""Non-diagonal supercells against diagonal ones at equal cost, and how many are needed: python benchmarks/strategies.py [NAME].

After C. Allen and A. P. Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), figures 3 and 4 and table 3: many-body GAPs with
sigmas of single components, for silicon (Stillinger-Weber) and aluminium (EMT of ASE), each at its own lattice parameter. The
cost is that of plane-wave DFT up to a factor, Σ N³ n_k.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from common import fitted, stillinger_weber

from aiida_gaprss.campaign.build import kpoints_of
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.properties.elastic import Elastic
from aiida_gaprss.properties.phonons import Phonons
from aiida_gaprss.strategies.base import strategy_of

#: 1/Å without 2π, as the paper has it for silicon.
SPACING = 0.03
SOAP = {"kind": "soap", "cutoff": 6.0, "n_max": 8, "l_max": 6, "atom_sigma": 0.5, "zeta": 4, "delta": 2.0}
PHONONS = Phonons(supercell=(4, 4, 4), mesh=(8, 8, 8), displacement_A=0.01, allow_small=True)


def references() -> dict[str, tuple[Atoms, Any]]:
    """Return crystals, relaxed, and their calculators."""
    from ase.calculators.emt import EMT
    from quippy.potential import Potential

    found = {"silicon": (bulk("Si"), Potential(**stillinger_weber()["arguments"])), "aluminium": (bulk("Al", a=4.0), EMT())}
    for name, (atoms, calculator) in found.items():
        atoms.calc = calculator
        BFGS(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=1e-5, steps=200)
        atoms.info["frame_id"] = name
    return found


def cost(frames: list[Atoms]) -> float:
    """Return Σ N³ n_k."""
    return float(sum(len(atoms) ** 3 * kpoints_of(atoms, SPACING) for atoms in frames))


def made(crystal: Atoms, **settings: Any) -> list[Atoms]:
    """Return the frames of a strategy."""
    return strategy_of(settings).apply([crystal], {crystal.symbols[0]: 1}, seed=1)


def drawn(frames: list[Atoms], most: float, seed: int) -> list[Atoms]:
    """Return frames drawn at random until the cost is spent; the first, the crystal as it is, always."""
    out = [frames[0]]
    for number in np.random.default_rng(seed).permutation(len(frames) - 1) + 1:
        if cost([*out, frames[number]]) <= most:
            out.append(frames[number])
    return out


def settings_for(frames: list[Atoms]) -> GapSettings:
    """Return the settings of the paper, with as many sparse points as there are environments, 1400 at most."""
    return GapSettings(
        descriptors=[{**SOAP, "n_sparse": min(sum(len(atoms) for atoms in frames), 1400)}],
        sigma={"energy": 1e-3, "forces": 1e-2, "virial": 1e-2},
        regularisation=[{"kind": "component"}],
    )


def told(frames: list[Atoms], crystal: Atoms, calculator: Any) -> str:
    """Return errors of phonons and elastic constants of a GAP fitted to frames, at the crystal of the reference."""
    gap, plain = (
        fitted(frames, settings_for(frames), calculator),
        Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True),
    )
    ours, theirs = PHONONS.compute(gap, plain), PHONONS.compute(calculator, plain)
    phonons = PHONONS.scores(ours, theirs)
    elastic = Elastic()
    constants = [elastic.compute(one, plain)["constants_GPa"] for one in (gap, calculator)]
    errors = ", ".join(f"{name} {100 * (value / constants[1][name] - 1):+.1f} %" for name, value in constants[0].items())
    numbers = f"{len(frames):4d} frames {sum(map(len, frames)):5d} atoms, cost {cost(frames):9.3g}"
    unstable = ", false imaginary modes" if phonons["false_imaginary"] else ""
    return f"{numbers}: phonons {phonons['rms_path_THz']:.3f} THz{unstable}; {errors}"


def main() -> None:
    """Print the tables."""
    from aiida import load_profile
    from aiida.storage.sqlite_temp import SqliteTempBackend

    load_profile(SqliteTempBackend.create_profile("strategies"))  # AiiDA's meshes of k-points need one
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["silicon", "aluminium"])
    for name in parser.parse_args().names:
        crystal, calculator = references()[name]
        single = made(crystal, kind="displacements", supercell=[4, 4, 4], displacement_A=0.05, perfect=False)[:1]
        diagonal = [made(crystal, kind="displacements", supercell=[1, 1, 1], perfect=True)[0], *single]
        every = made(crystal, kind="nondiagonal", copies=20, volumes=[0.97, 1.0, 1.03])
        still = made(crystal, kind="nondiagonal", copies=40, volumes=[1.0])
        print(f"{name}: at the cost of one displaced atom in a 4×4×4 supercell (figure 3)")
        print(f"  diagonal      {told(diagonal, crystal, calculator)}", flush=True)
        for seed in (1, 2, 3):
            print(f"  non-diagonal  {told(drawn(still, cost(diagonal), seed), crystal, calculator)}", flush=True)
        print(f"{name}: more of them (figure 4 and table 3), and primitive cells alone (GAP*)")
        for most in (50, 150, 400):
            order = np.random.default_rng(most).permutation(len(every) - 1)[: most - 1] + 1
            print(f"  non-diagonal  {told([every[0], *(every[n] for n in order)], crystal, calculator)}", flush=True)
        primitive = made(crystal, kind="nondiagonal", grid=[1, 1, 1], copies=130, volumes=[0.97, 1.0, 1.03])
        print(f"  primitive     {told(primitive, crystal, calculator)}", flush=True)


if __name__ == "__main__":
    main()
