"""Choose which relaxed frames of a generation are labelled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_gaprss import frames as fr
from aiida_gaprss.runners.status import ENDED, UNSURE
from aiida_gaprss.selection import Selection
from aiida_gaprss.selection.choose import cur, deviation, farthest, flat_boltzmann, lowest, maxvol, most_uncertain, nearest
from aiida_gaprss.selection.duplicates import unique
from aiida_gaprss.selection.fingerprints import fingerprints
from aiida_gaprss.selection.ranges import features, outside
from aiida_gaprss.selection.sanity import Limits, why_absurd
from aiida_gaprss.selection.settings import (
    DEFAULT_GRADE,
    DEFAULT_KNOWN_VARIANCE,
    DEFAULT_KT,
    ENERGY_OF,
    MEASURING,
    SelectionRule,
    SelectionSettings,
)

#: Parts of the tolerance within which a frame is in the database already, so that its minimum teaches nothing.
IN_DATABASE = 0.3


def choose_frames(
    candidates: Sequence[Atoms],
    known: Sequence[Atoms],
    settings: SelectionSettings,
    limits: Limits,
    seed: int,
    vectors: np.ndarray | None = None,
    known_vectors: np.ndarray | None = None,
    most: int | None = None,
) -> tuple[list[Atoms], dict[str, Any]]:
    """Return the frames to be labelled, in the order of the candidates, and a report with the fate of every candidate.

    :param candidates: snapshots of relaxations with ``frame_id``, ``PRED_energy``, ``relax_status``; if there are,
        ``PRED_forces``, ``pressure_GPa``, and ``PRED_local_variance``, which the rule ``variance`` needs.
    :param known: labelled frames of the database; atoms and dimers in vacuum among them are passed over.
    :param limits: what is too absurd to be labelled.
    :param vectors: (candidates, m), needed if ``settings.vectors`` is given; rows of frames without a vector are nan.
    :param known_vectors: (known, m), the same for the database.
    :param most: no more frames than this, whatever the rules would take; the rules that come first have the first choice.
    :return: frames, and a report: ``candidates``, ``chosen``, ``chosen_as`` by rule, ``rejected`` by kind of reason, and
        ``reasons`` with one text for every candidate, by ``frame_id``.
    :raises ValueError: for candidates without energy or variance, or vectors that are missing or of the wrong number.
    """
    choice = _Choice(candidates, known, settings, seed, most)
    if settings.vectors is not None:
        choice.take_vectors(vectors, known_vectors)
    choice.drop_unfit(limits)
    choice.drop_duplicates()
    choice.drop_familiar()
    for rule in settings.rules:
        choice.apply(rule)
    return choice.result()


class _Choice:
    """The state of a selection: what can still be taken, what was taken and by which rule, what was said of the others."""

    def __init__(
        self, candidates: Sequence[Atoms], known: Sequence[Atoms], settings: SelectionSettings, seed: int, most: int | None
    ) -> None:
        self.candidates = candidates
        self.most = len(candidates) if most is None else most
        self.solid = [i for i, atoms in enumerate(known) if not fr.is_in_vacuum(atoms)]
        self.known = known
        self.settings = settings
        self.rng = np.random.default_rng(seed)
        solids = [*candidates, *(known[i] for i in self.solid)]
        self.species = sorted({int(z) for atoms in solids for z in atoms.numbers})
        self.left = list(range(len(candidates)))
        self.taken: dict[int, str] = {}
        self.why: dict[int, str] = {}
        self.passed: dict[int, list[str]] = defaultdict(list)
        self.vectors: np.ndarray | None = None
        self.known_vectors: np.ndarray | None = None

    def drop(self, indices: Mapping[int, str]) -> None:
        """Take no longer into account, for these reasons."""
        self.why.update(indices)
        self.left = [i for i in self.left if i not in indices]

    def name(self, index: int) -> str:
        return str(self.candidates[index].info["frame_id"])

    # --- what frames are compared by ---

    def energy(self, index: int, kind: str = "energy") -> float:
        """Return energy, or enthalpy at the pressure of the frame's relaxation, eV/atom."""
        atoms = self.candidates[index]
        energy = float(atoms.info["PRED_energy"])
        if kind == "enthalpy":
            energy += float(atoms.info.get("pressure_GPa", 0.0)) * units.GPa * atoms.get_volume()
        return energy / len(atoms)

    @cached_property
    def prints(self) -> dict[int, np.ndarray]:
        """Fingerprints of the candidates that are not dropped when one is asked for first."""
        sane = [*self.left, *self.taken]
        return dict(zip(sane, fingerprints([self.candidates[i] for i in sane], self.species), strict=True))

    @cached_property
    def known_prints(self) -> np.ndarray:
        """Fingerprints of the database."""
        return fingerprints([self.known[i] for i in self.solid], self.species)

    def measured(self, pool: list[int], others: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return what the rules of ``MEASURING`` measure with: the rows of a pool, and those of the database and of others."""
        if self.vectors is not None and self.known_vectors is not None:
            return self.vectors[pool], np.concatenate([self.known_vectors, self.vectors[others]])
        rows = [self.prints[i] for i in others]
        return np.array([self.prints[i] for i in pool]), np.array([*self.known_prints, *rows])

    # --- before the rules ---

    def take_vectors(self, vectors: np.ndarray | None, known_vectors: np.ndarray | None) -> None:
        """Check the vectors and drop the candidates that have none."""
        if vectors is None or (known_vectors is None and len(self.known)):
            whose = "candidates" if vectors is None else "database"
            raise ValueError(f"vectors: the {whose} have none, but the settings ask for them; they come from gaprss.describe")
        self.vectors = np.asarray(vectors, dtype=float)
        length = self.vectors.shape[-1]
        database = np.empty((0, length)) if known_vectors is None else np.asarray(known_vectors, dtype=float)
        for name, rows, number in (("vectors", self.vectors, len(self.candidates)), ("known_vectors", database, len(self.known))):
            if rows.shape != (number, length):
                raise ValueError(f"{name} have shape {rows.shape}, expected {(number, length)}")
        database = database[self.solid]
        self.known_vectors = database[np.isfinite(database).all(axis=1)]
        bare = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        self.drop({int(i): "no vector: the frame could not be described" for i in bare})

    def drop_unfit(self, limits: Limits) -> None:
        """Drop what needs no look at the others."""
        self.drop({i: reason for i in self.left if (reason := _why_unfit(self.candidates[i], limits))})

    def drop_duplicates(self) -> None:
        """Keep the lowest in energy of equal end points, in the order of energy."""
        ends = [i for i in self.left if self.is_end(i)]
        if self.settings.tolerance > 0 and ends:
            rows = np.array([self.prints[i] for i in ends])
            energies = [self.energy(i) for i in ends]
            distinct = unique(rows, self.settings.tolerance, energies, names=[self.name(i) for i in ends])
            self.left = [i for i in self.left if not self.is_end(i)]
            self.left += [ends[place] for place in distinct.kept]
            self.why.update({ends[place]: f"duplicate: {reason}" for place, reason in distinct.rejected.items()})

    def drop_familiar(self) -> None:
        """Drop what lies inside the range already seen."""
        chosen = self.settings.range_filter
        if chosen is None or not self.left:
            return
        order = sorted(self.left)
        rows, seen = (
            np.array([features(atoms, self.species, chosen.features, chosen.cutoff) for atoms in frames])
            for frames in ([self.candidates[i] for i in order], [self.known[i] for i in self.solid])
        )
        inside = outside(rows, seen).rejected
        self.drop({order[place]: f"inside the range already seen: {reason}" for place, reason in inside.items()})

    def is_end(self, index: int) -> bool:
        return self.candidates[index].info.get("relax_status") in ENDED

    def belongs(self, index: int, pool: str) -> bool:
        """Tell whether a candidate is one of the frames that a rule takes from."""
        if pool == "unsure":
            return self.candidates[index].info.get("relax_status") == UNSURE
        return self.is_end(index) in {"end_points": (True,), "snapshots": (False,), "all": (True, False)}[pool]

    # --- the rules ---

    def apply(self, rule: SelectionRule) -> None:
        """Take the frames of one rule."""
        pool = [i for i in self.left if self.belongs(i, rule.pool)]
        for step in rule.steps:
            selection = self.pick(step, pool) if pool else Selection()
            for place, reason in selection.rejected.items():
                self.passed[pool[place]].append(reason)
            pool = [pool[place] for place in selection.kept]
        room = self.most - len(self.taken)
        for i in pool[room:]:
            self.passed[i].append("the budget of labels is spent")
        self.taken.update({i: rule.name for i in pool[:room]})
        self.left = [i for i in self.left if i not in self.taken]

    def pick(self, rule: SelectionRule, pool: list[int]) -> Selection:
        """Return the places in the pool that a rule takes, best first."""
        n = rule.n or len(pool)
        energies = [self.energy(i, rule.energy_of or ENERGY_OF.get(rule.by, "energy")) for i in pool]
        if rule.by == "lowest":
            return self.lowest(rule, pool, energies, n)
        if rule.by == "boltzmann":
            return flat_boltzmann(energies, n, rule.kT or DEFAULT_KT, self.rng)
        if rule.by == "random":
            order = [int(i) for i in self.rng.permutation(len(pool))]
            return Selection(sorted(order[:n]), {i: "not drawn" for i in sorted(order[n:])})
        if rule.by == "variance":
            return most_uncertain([deviation(self.candidates[i]) for i in pool], n)
        if rule.by in MEASURING:
            rows, seen = self.measured(pool, list(self.taken))
            if rule.by == "farthest":
                return farthest(rows, n, seen)
            if rule.by == "maxvol":
                return maxvol(rows, n, seen, DEFAULT_GRADE if rule.grade is None else rule.grade)
            return cur(rows, n, seen, rule.known_variance or DEFAULT_KNOWN_VARIANCE)
        return Selection(list(range(len(pool))))

    def lowest(self, rule: SelectionRule, pool: list[int], energies: list[float], n: int) -> Selection:
        """Return the lowest; a minimum that the database holds teaches nothing."""
        fresh = list(range(len(pool)))
        held: dict[int, str] = {}
        if rule.only_new is not False:
            distances = nearest(np.array([self.prints[i] for i in pool]), self.known_prints)
            held = {i: "the database holds it" for i in fresh if distances[i] <= IN_DATABASE * self.settings.tolerance}
            fresh = [i for i in fresh if i not in held]
        selection = lowest([energies[i] for i in fresh], n)
        rejected = {fresh[i]: reason for i, reason in selection.rejected.items()}
        return Selection([fresh[i] for i in selection.kept], held | rejected)

    def result(self) -> tuple[list[Atoms], dict[str, Any]]:
        """Return the frames taken and the report."""
        for i in self.left:
            passed = "; ".join(dict.fromkeys(self.passed[i]))
            self.why[i] = f"not needed: {passed or 'no rule takes such frames'}"
        reasons = self.why | {i: f"chosen: {name}" for i, name in self.taken.items()}
        report = {
            "candidates": len(self.candidates),
            "chosen": len(self.taken),
            "chosen_as": dict(Counter(self.taken.values())),
            "rejected": dict(sorted(Counter(reason.split(":")[0] for reason in self.why.values()).items())),
            "reasons": {self.name(i): reason for i, reason in sorted(reasons.items())},
        }
        return [self.candidates[i] for i in sorted(self.taken)], report


def _why_unfit(atoms: Atoms, limits: Limits) -> str | None:
    """Return why a frame is not considered, whatever the others are; None if it is.

    :raises ValueError: for a frame without an energy.
    """
    if "PRED_energy" not in atoms.info:
        raise ValueError(f"candidate {atoms.info['frame_id']} has no PRED_energy; relax or evaluate it with a potential")
    if fr.is_in_vacuum(atoms):
        return "in vacuum: an isolated atom or a dimer"
    if not np.isfinite(atoms.info["PRED_energy"]):
        return f"not finite: the energy is {atoms.info['PRED_energy']}"
    reason = why_absurd(atoms, limits, atoms.arrays.get("PRED_forces"))
    return f"absurd: {reason}" if reason else None
