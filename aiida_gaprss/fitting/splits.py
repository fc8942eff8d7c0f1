"""Which frames are left out of a fit, to test it or to make it smaller."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr


def _by_config_type(frames: Sequence[Atoms]) -> dict[str, list[str]]:
    """Return the ids of the labelled frames that a fit can do without."""
    kinds: dict[str, list[str]] = {}
    for atoms in frames:
        if fr.is_labelled(atoms) and not fr.is_in_vacuum(atoms):
            kinds.setdefault(str(atoms.info.get("config_type", "")), []).append(str(atoms.info["frame_id"]))
    return kinds


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
    kinds = _by_config_type(frames)
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


def all_but(frames: Sequence[Atoms], fraction: float, seed: int, without: Collection[str] = ()) -> list[str]:
    """Return the ids of the frames to leave out, so that a random part is fitted, of every config type in proportion.

    With the same seed a larger part contains the smaller ones. Isolated atoms and dimers in vacuum are never left out.

    :param fraction: above 0, at most 1, of the frames that are not in ``without``.
    :param without: ids that are left out in any case, e.g. those of a test; they are among the ids returned.
    :raises ValueError: if the fraction is not between 0 and 1, or no frame would be fitted.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction must be above 0 and at most 1, got {fraction}")
    generator = np.random.default_rng(seed)
    ranked: list[tuple[float, float, str]] = []
    for _, names in sorted(_by_config_type([a for a in frames if a.info["frame_id"] not in without]).items()):
        shuffled = generator.permutation(sorted(names))
        ties = generator.random(len(names))
        ranked += [
            ((i + 0.5) / len(names), float(tie), str(name)) for i, (name, tie) in enumerate(zip(shuffled, ties, strict=True))
        ]
    count = round(fraction * len(ranked))
    if not count:
        raise ValueError(f"a fraction of {fraction} of {len(ranked)} frames leaves nothing to fit")
    return sorted({*without, *(name for _, _, name in sorted(ranked)[count:])})
