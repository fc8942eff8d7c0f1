"""Does a potential know where it is wrong? python benchmarks/uncertainty.py [--labels 60] [--members 4].

Stillinger-Weber silicon: a GAP of random cells and of frames on the way of relaxations relaxes other cells. Of all frames on the
way, two measures are compared with the error of the energy and the largest error of a force: the largest standard deviation of
a local energy, and the spread of the forces of a committee, fits to 80 % of the frames each. Printed are rank correlations
(Spearman), and what each costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from recipes import keep_memory
from recipes_loop import ANGLES, SMALL, committee, driver, evaluated, fit, settings_of
from recipes_truth import references
from scipy.stats import spearmanr

from aiida_gaprss.runners import task_of
from aiida_gaprss.strategies.cells import make_cells

#: Steps of the relaxations of which frames are looked at.
STEPS = [0, 2, 5, 10, 20, 40]

#: eV/Å; smaller errors of forces are those that symmetry forbids.
FORBIDDEN = 1e-3


def cells(settings: Any, number: int, seed: int) -> list[Atoms]:
    """Return random cells with names."""
    made = make_cells(settings.seeds, settings.formula, {"random": number}, seed)
    for index, atoms in enumerate(made):
        atoms.info.update(frame_id=f"{seed}-{index}", config_type="random")
    return made


def on_the_way(settings: Any, how: dict[str, Any], frames: Sequence[Atoms]) -> list[Atoms]:
    """Return frames of relaxations at zero pressure."""
    task = task_of("relax")
    given = {**settings.generations[0].relax.model_dump(), "snapshot_steps": STEPS, "min_distance": settings.hard_core}
    task.setup({**given, **how})
    out = [frame for atoms in frames for frame in task.run(atoms, np.inf)[1]]
    for number, atoms in enumerate(out):
        atoms.info.update(frame_id=f"way-{number}", config_type="snapshot")
    return out


def timed(xml: str, frames: Sequence[Atoms], variances: bool = False) -> tuple[list[Atoms], float]:
    """Return what a potential says of frames, and the CPU time, ms a frame."""
    started = time.process_time()
    done = evaluated(xml, frames, variances)
    return done, 1000 * (time.process_time() - started) / len(frames)


def largest(vectors: np.ndarray) -> float:
    """Return the largest length of the vectors of the atoms."""
    return float(np.linalg.norm(vectors, axis=-1).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--angles", action="store_true", help="the potential has a term of angles, too")
    options = parser.parse_args()
    keep_memory()
    reference = references()["sw"]
    settings = settings_of(reference, {"fit": {"descriptors": [*SMALL, ANGLES]}} if options.angles else {})
    atom = Atoms("Si", cell=[15.0] * 3, pbc=True, info={"frame_id": "atom-Si", "config_type": "isolated_atom"})
    first = reference.labelled([atom, *cells(settings, options.labels // 2, 11 + 100 * options.seed)])
    way = on_the_way(settings, driver(fit(first, settings, 1)), cells(settings, 20, 12 + 100 * options.seed))
    rng = np.random.default_rng(options.seed)
    more = [way[number] for number in rng.permutation(len(way))[: options.labels - len(first)]]
    known = [*first, *reference.labelled(more)]
    xml = fit(known, settings, 1)
    test = on_the_way(settings, driver(xml), cells(settings, 40, 13 + 100 * options.seed))
    labelled = reference.labelled(test)
    plain, cost = timed(xml, test)
    done, dear = timed(xml, test, variances=True)
    started = time.process_time()
    members = [evaluated(one, test) for one in committee(known, settings, options.members, options.seed)]
    print(f"{len(known)} labels, {len(test)} frames; ms a frame: {cost:.1f}, with variances {dear:.1f}")
    print(f"committee of {options.members}: {time.process_time() - started:.0f} s of this process, and the fits")
    tell(test, plain, done, members, labelled)


def tell(
    test: Sequence[Atoms], plain: Sequence[Atoms], done: Sequence[Atoms], members: list[list[Atoms]], labelled: Sequence[Atoms]
) -> None:
    """Print the rank correlations; forces that the symmetry of a frame forbids are no question to anybody, and left out."""
    pairs, numbers = list(zip(plain, labelled, strict=True)), range(len(test))
    forces = [largest(one.arrays["PRED_forces"] - other.arrays["REF_forces"]) for one, other in pairs]
    energies = [abs(one.info["PRED_energy"] - other.info["REF_energy"]) / len(one) for one, other in pairs]
    measures = {
        "σ": [float(np.sqrt(atoms.arrays["PRED_local_variance"].max())) for atoms in done],
        "committee, forces": [largest(np.std([m[n].arrays["PRED_forces"] for m in members], axis=0)) for n in numbers],
        "committee, energy": [float(np.std([m[n].info["PRED_energy"] / len(test[n]) for m in members])) for n in numbers],
        "the force itself": [largest(atoms.arrays["PRED_forces"]) for atoms in plain],
    }
    step, free = np.array([atoms.info["step"] for atoms in test]), np.array(forces) > FORBIDDEN
    for name, chosen in (("all", free), ("from step 5", free & (step >= 5))):
        for what, values in measures.items():
            ranks = [spearmanr(np.array(values)[chosen], np.array(error)[chosen])[0] for error in (forces, energies)]
            print(f"{name}, {chosen.sum()} frames: {what:18s} with errors of forces {ranks[0]:5.2f}, of energies {ranks[1]:5.2f}")
    for number in STEPS:
        mine = np.array(measures["σ"])[step == number]
        print(f"step {number:3d}: {len(mine)} frames, σ {np.median(mine):.4f} eV, 90 % up to {np.quantile(mine, 0.9):.4f}")


if __name__ == "__main__":
    main()
