"""Choose which relaxed frames of a generation are labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.selection.choose import farthest, flat_boltzmann
from aiida_gaprss.selection.duplicates import unique
from aiida_gaprss.selection.fingerprints import fingerprints
from aiida_gaprss.selection.sanity import Limits, sane
from aiida_gaprss.selection.settings import SelectionSettings

#: How a relaxation ends at a point that is worth a label as an end point.
ENDS = ("converged", "max_steps")


def choose_frames(
    candidates: Sequence[Atoms], known: Sequence[Atoms], settings: SelectionSettings, limits: Limits, seed: int
) -> tuple[list[Atoms], dict[str, Any]]:
    """Return the frames to be labelled, and a report with counts and the reason for every frame.

    :param candidates: snapshots of relaxations with ``GAP_energy`` (and ``GAP_forces``), ``relax_status``.
    :param known: labelled frames of the database.
    :param limits: what is too absurd to be labelled.
    """
    why: dict[int, str] = {}
    chosen_as: Counter[str] = Counter()
    chosen: list[int] = []
    reasonable = sane(candidates, limits, [a.arrays.get("GAP_forces") for a in candidates])
    why.update({i: f"absurd: {reason}" for i, reason in reasonable.rejected.items()})
    species = sorted({int(z) for atoms in [*candidates, *known] for z in atoms.numbers})
    prints = dict(zip(reasonable.kept, fingerprints([candidates[i] for i in reasonable.kept], species), strict=True))
    database = fingerprints([a for a in known if not fr.is_isolated_atom(a)], species)
    energies = {i: candidates[i].info["GAP_energy"] / len(candidates[i]) for i in reasonable.kept}

    ends = [i for i in reasonable.kept if candidates[i].info.get("relax_status") in ENDS]
    if settings.tolerance > 0 and ends:
        distinct = unique(np.array([prints[i] for i in ends]), settings.tolerance, [energies[i] for i in ends])
        why.update({ends[i]: f"duplicate: {reason}" for i, reason in distinct.rejected.items()})
        ends = [ends[i] for i in distinct.kept]

    def take(rule: str, indices: list[int]) -> None:
        chosen.extend(indices)
        chosen_as[rule] += len(indices)

    def left() -> list[int]:
        return [i for i in ends if i not in chosen]

    rng = np.random.default_rng(seed)
    if settings.lowest and ends:
        # A minimum that the database holds teaches nothing; equal here means well within the tolerance.
        near = 0.3 * settings.tolerance
        fresh = [i for i in ends if not len(database) or np.linalg.norm(database - prints[i], axis=1).min() > near]
        take("lowest", sorted(fresh, key=lambda i: (energies[i], i))[: settings.lowest])
    if settings.boltzmann and left():
        pool = left()
        take(
            "boltzmann", [pool[i] for i in flat_boltzmann([energies[i] for i in pool], settings.boltzmann, settings.kT, rng).kept]
        )
    if settings.unfamiliar and left():
        pool = left()
        seen = np.array([*database, *(prints[i] for i in chosen)])
        take("unfamiliar", [pool[i] for i in farthest(np.array([prints[i] for i in pool]), settings.unfamiliar, seen).kept])
    if settings.random and left():
        pool = left()
        take("random", [pool[i] for i in sorted(rng.permutation(len(pool))[: settings.random])])
    on_the_way = [i for i in reasonable.kept if candidates[i].info.get("relax_status") not in ENDS]
    if settings.snapshots and on_the_way:
        seen = np.array([*database, *(prints[i] for i in chosen)])
        picked = farthest(np.array([prints[i] for i in on_the_way]), settings.snapshots, seen).kept
        take("snapshots", [on_the_way[i] for i in picked])

    for i in reasonable.kept:
        if i not in chosen:
            why.setdefault(i, "not needed: enough others were chosen")
    report = {
        "candidates": len(candidates),
        "chosen": len(chosen),
        "chosen_as": dict(chosen_as),
        "rejected": dict(sorted(Counter(reason.split(":")[0] for reason in why.values()).items())),
        "reasons": {str(candidates[i].info["frame_id"]): reason for i, reason in sorted(why.items())},
    }
    return [candidates[i] for i in sorted(chosen)], report
