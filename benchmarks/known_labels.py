"""How long it takes to find labels that the profile has: by frames known and unknown, with indices and without.

python benchmarks/known_labels.py [DATASETS] [FRAMES]

DATASETS labelling jobs of FRAMES frames each are put into a temporary profile as if they had run, with ten kinds of settings.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import numpy as np
from ase.build import bulk
from common import FOLDER, load_temporary_profile

from aiida_gaprss import frames as fr


def cells(n: int, seed: int, labelled: bool) -> list[Any]:
    """Return cells of eight atoms, each another one."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(n):
        atoms = bulk("Si", cubic=True)
        atoms.positions += rng.normal(0, 0.05, (8, 3))
        atoms.info.update(frame_id=f"b-{seed}-{number}", config_type="random")
        if labelled:
            fr.set_labels(atoms, -34.0, rng.normal(size=(8, 3)), rng.normal(size=9))
        frames.append(atoms)
    return frames


def as_if_labelled(settings: Any, seed: int, n: int) -> Any:
    """Store a labelling job that has not run, and what it would have made."""
    from aiida.common import LinkType
    from aiida.orm import CalcJobNode, load_computer

    from aiida_gaprss.data.dataset import Dataset

    job = CalcJobNode(computer=load_computer("localhost"), process_type="aiida.calculations:gaprss.label")
    job.set_option("resources", {"num_machines": 1, "num_mpiprocs_per_machine": 1})
    job.base.links.add_incoming(settings, LinkType.INPUT_CALC, "settings")
    job.store()
    node = Dataset(cells(n, seed, labelled=True), level_of_theory="a level")
    node.base.links.add_incoming(job, LinkType.CREATE, "frames")
    return node.store()


def main() -> None:
    """Fill a profile, and look for frames in it."""
    datasets, n = (int(x) for x in (sys.argv[1:3] + ["1000", "100"][len(sys.argv) - 1 :]))
    load_temporary_profile()
    from aiida.orm import Dict

    from aiida_gaprss.data.dataset import Dataset
    from aiida_gaprss.workflows.reuse import datasets_with_labels

    settings = [
        Dict({"calculator": "lj", "arguments": {"rc": 5.0 + kind}, "level_of_theory": "a level"}).store() for kind in range(10)
    ]
    nodes = [as_if_labelled(settings[seed % 10], seed, n) for seed in range(datasets)]
    print(f"{datasets} datasets, {datasets * n} frames, all of one level by name, of ten in truth")
    spread = [
        frame for seed in range(0, datasets, max(datasets // 30, 1) // 10 * 10 or 10) for frame in cells(1, seed, labelled=False)
    ]
    for what, frames in (
        ("30 frames of three datasets", [a for seed in (0, 10, 20) for a in cells(10, seed, labelled=False)]),
        (f"{len(spread)} frames of as many datasets", spread),
        ("30 frames that nobody has labelled", cells(30, datasets + 1, labelled=False)),
        ("1000 frames that nobody has labelled", cells(1000, datasets + 2, labelled=False)),
        ("30 frames of three datasets of other settings", [a for seed in (1, 2, 3) for a in cells(10, seed, labelled=False)]),
    ):
        ask(what, Dataset(frames), settings[0], datasets_with_labels)
    for node in nodes:
        node.base.extras.delete(Dataset.INDEX)
    ask("the first, all indices missing", Dataset(cells(10, 0, labelled=False)), settings[0], datasets_with_labels)
    shutil.rmtree(FOLDER)


def ask(what: str, frames: Any, settings: Any, search: Any) -> None:
    """Look for frames, and print how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = search(frames, {"ase": {"settings": settings}})
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what}: {wall:.2f} s, {cpu:.2f} s of CPU, {len(found)} datasets", flush=True)


if __name__ == "__main__":
    main()
