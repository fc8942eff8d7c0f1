"""Which frames are left out of a fit, to test it or to make it smaller."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.selection.copies import copies


def _by_config_type(frames: Sequence[Atoms]) -> dict[str, list[str]]:
    """Return the ids of the labelled frames that a fit can do without."""
    kinds: dict[str, list[str]] = {}
    for atoms in _dispensable(frames):
        kinds.setdefault(str(atoms.info.get("config_type", "")), []).append(str(atoms.info["frame_id"]))
    return kinds


def _dispensable(frames: Sequence[Atoms]) -> list[Atoms]:
    return [atoms for atoms in frames if fr.is_labelled(atoms) and not fr.is_in_vacuum(atoms)]


def _groups_by_config_type(frames: Sequence[Atoms]) -> dict[str, list[list[str]]]:
    """Return the ids of the labelled frames that a fit can do without, copies together, by the config type of the first."""
    some = sorted(_dispensable(frames), key=lambda atoms: str(atoms.info["frame_id"]))
    kinds: dict[str, list[list[str]]] = {}
    for group in copies(some):
        kind = str(some[group[0]].info.get("config_type", ""))
        kinds.setdefault(kind, []).append([str(some[i].info["frame_id"]) for i in group])
    return kinds


def _draw(groups: list[list[str]], count: int, generator: np.random.Generator) -> list[str]:
    """Return the ids of random groups, ``count`` of them or as near below as whole groups allow."""
    if all(len(group) == 1 for group in groups):
        return [str(x) for x in generator.choice([group[0] for group in groups], size=count, replace=False)]
    chosen: list[str] = []
    for index in generator.permutation(len(groups)):
        if len(chosen) + len(groups[index]) <= count:
            chosen += groups[index]
    return chosen


def stratified(frames: Sequence[Atoms], fraction: float, seed: int) -> list[str]:
    """Return the ids of a random part of the labelled frames, of every config type in proportion.

    Copies of a structure (``selection.copies``) are all in it or all not: else a test would ask what the fit was told. Isolated
    atoms and dimers in vacuum are never in it: no fit can do without. The numbers of the config types are rounded so that they
    add up (largest remainders).

    :param fraction: between 0 and 1.
    :param seed: of the choice; the order of the frames does not matter.
    :raises ValueError: if the fraction is not between 0 and 1, or leaves nothing on one side.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction must lie between 0 and 1, got {fraction}")
    kinds = _groups_by_config_type(frames)
    names = sorted(kinds)
    sizes = {name: sum(map(len, kinds[name])) for name in names}
    exact = np.array([fraction * sizes[name] for name in names])
    counts = np.floor(exact).astype(int)
    total = round(float(exact.sum()))
    for index in np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]:
        counts[index] += 1
    generator = np.random.default_rng(seed)
    chosen = [x for name, count in zip(names, counts, strict=True) for x in _draw(kinds[name], int(count), generator)]
    if not 0 < len(chosen) < sum(sizes.values()):
        together = (
            "" if all(len(g) == 1 for groups in kinds.values() for g in groups) else ", as copies of a structure stay together"
        )
        raise ValueError(f"a fraction of {fraction} of {sum(sizes.values())} frames leaves nothing on one side{together}")
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
