"""Which frames of several strategies are labelled, where more were made than that, and a database is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Protocol

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.selection.choose import cur, deviation, farthest, uncertain
from aiida_gaprss.selection.fingerprints import fingerprints
from aiida_gaprss.selection.ranges import features, outside
from aiida_gaprss.structures.seeding import stage_seed

#: Of the variance of the database, what its directions carry that CUR leaves out.
KNOWN_VARIANCE = 0.99


class Rules(Protocol):
    """How many frames are chosen, and which, as a list of strategies says it, or a relabelling."""

    @property
    def max_labels(self) -> int | None:
        """So many at most."""

    @property
    def choose(self) -> str:
        """``random``, ``farthest``, ``cur``, ``range``, ``variance``."""

    @property
    def seed(self) -> int:
        """Of what is random."""


def chosen(
    rules: Rules,
    made: Mapping[str, Sequence[Atoms]],
    database: Sequence[Atoms] = (),
    examined: Sequence[Atoms] = (),
) -> list[Atoms]:
    """Return what is to be labelled of the frames of all strategies, in their order: of the same structure the first.

    Frames in vacuum, isolated atoms and dimers, are always among them.

    :param database: labelled frames, against which ``farthest``, ``cur``, ``range`` and ``variance`` choose.
    :param examined: of the same names, with ``PRED_local_variance``, for ``variance``; what is not among them is not chosen.
    """
    once = each_once(made)
    vacuum = [atoms for atoms in once if fr.is_in_vacuum(atoms)]
    bulk = [atoms for atoms in once if not fr.is_in_vacuum(atoms)]
    room = len(bulk) if rules.max_labels is None else max(0, rules.max_labels - len(vacuum))
    if rules.choose == "random":
        names = _in_turn(rules, made, bulk)[:room]
    else:
        variances = {str(atoms.info["frame_id"]): deviation(atoms) for atoms in examined}
        names = _unfamiliar(bulk, database, rules.choose, room, variances)
    wanted = {*names, *(str(atoms.info["frame_id"]) for atoms in vacuum)}
    return [atoms for atoms in once if atoms.info["frame_id"] in wanted]


def each_once(made: Mapping[str, Sequence[Atoms]]) -> list[Atoms]:
    """Return the frames of all strategies in their order, of the same structure the first."""
    known: dict[bytes, Atoms] = {}
    for frames in made.values():
        for atoms in frames:
            known.setdefault(fr.label_key(atoms), atoms)
    return list(known.values())


def _in_turn(rules: Rules, made: Mapping[str, Sequence[Atoms]], bulk: Sequence[Atoms]) -> list[str]:
    """Return names of frames, one of each strategy, drawn at random, after another."""
    ids = {atoms.info["frame_id"] for atoms in bulk}
    queues = []
    for name, frames in made.items():
        mine = [str(atoms.info["frame_id"]) for atoms in frames if atoms.info["frame_id"] in ids]
        order = np.random.default_rng(stage_seed(rules.seed, 0, f"{name} shared")).permutation(len(mine))
        queues.append([mine[number] for number in order])
    return [name for turn in zip_longest(*queues) for name in turn if name is not None]


def _unfamiliar(
    bulk: Sequence[Atoms], database: Sequence[Atoms], how: str, room: int, deviations: Mapping[str, float]
) -> list[str]:
    """Return names of frames that differ most from the database and each other.

    Of those that a range classifier leaves, too, the least familiar are taken, if there are more than room.

    :param deviations: predicted standard deviations (eV) by name, for ``variance``, which passes over frames without.
    """
    if how == "variance":
        bulk = [atoms for atoms in bulk if atoms.info["frame_id"] in deviations]
    known = [atoms for atoms in database if not fr.is_in_vacuum(atoms)]
    species = sorted({int(z) for atoms in (*bulk, *known) for z in atoms.numbers})
    if how == "range" and bulk:
        seen = np.array([features(atoms, species) for atoms in known]) if known else None
        bulk = [bulk[number] for number in outside(np.array([features(atoms, species) for atoms in bulk]), seen).kept]
    if not bulk:
        return []
    rows, there = fingerprints(bulk, species), fingerprints(known, species) if known else None
    if how == "variance":
        found = uncertain([deviations[str(atoms.info["frame_id"])] for atoms in bulk], rows, room, there)
    else:
        found = cur(rows, room, there, KNOWN_VARIANCE) if how == "cur" else farthest(rows, room, there)
    return [str(bulk[number].info["frame_id"]) for number in found.kept]
