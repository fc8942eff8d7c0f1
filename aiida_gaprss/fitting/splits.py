"""Which frames are left out of a fit, to test it or to make it smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr


def stratified(frames: Sequence[Atoms], fraction: float, seed: int) -> list[str]:
    """Return the ids of a random part of the labelled frames, of every config type in proportion.

    Isolated atoms and dimers in vacuum are never among them: no fit can do without. The numbers of the config types are rounded
    so that they add up (largest remainders).

    :param fraction: between 0 and 1.
    :param seed: of the choice; the order of the frames does not matter.
    :raises ValueError: if the fraction is not between 0 and 1, or leaves nothing on one side.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction must lie between 0 and 1, got {fraction}")
    kinds: dict[str, list[str]] = {}
    for atoms in frames:
        if fr.is_labelled(atoms) and not fr.is_in_vacuum(atoms):
            kinds.setdefault(str(atoms.info.get("config_type", "")), []).append(str(atoms.info["frame_id"]))
    names = sorted(kinds)
    exact = np.array([fraction * len(kinds[name]) for name in names])
    counts = np.floor(exact).astype(int)
    total = round(float(exact.sum()))
    for index in np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]:
        counts[index] += 1
    if not 0 < counts.sum() < sum(map(len, kinds.values())):
        raise ValueError(f"a fraction of {fraction} of {sum(map(len, kinds.values()))} frames leaves nothing on one side")
    generator = np.random.default_rng(seed)
    chosen: list[str] = []
    for name, count in zip(names, counts, strict=True):
        chosen += [str(x) for x in generator.choice(sorted(kinds[name]), size=count, replace=False)]
    return sorted(chosen)
