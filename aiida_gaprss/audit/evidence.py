"""The labels held against each other: mistakes of a whole dataset, mistakes of single frames.

First every usual mistake (:mod:`mistakes`) is tried on a whole kind of label: if the model explains all kinds together much
better once the mistake is undone, it is taken as made. Then the model is fitted robustly, and frames that it cannot explain are
tried one by one: a label that becomes ordinary once a mistake is undone had that mistake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from aiida_gaprss.audit.descriptors import Basis, basis_for, neighbours
from aiida_gaprss.audit.mistakes import MISTAKES, Mistake
from aiida_gaprss.audit.model import KINDS, Fit, LinearModel, label_rows, least_absolute
from aiida_gaprss.frames import REFERENCE, is_isolated_atom

#: Frames a model needs, frames with labels of a kind, and frames it needs to blame a kind without naming frames.
MIN_FRAMES, MIN_OF_KIND, MIN_TO_BLAME = 20, 15, 40
#: A mistake of a whole kind must lower the score (mean log10 of the unexplained fractions) by this.
GAIN = 0.2
#: Fractions: the labels agree if no kind has more than this unexplained, and after a mistake is undone ...
UNEXPLAINED, UNEXPLAINED_AFTER = 0.5, 0.25
#: ... while as stored at least this much of one was. Others whose score comes this near are named with it.
UNEXPLAINED_BEFORE, ALIKE = 0.03, 0.03
#: A kind of which mistakes of either sign explain the data, with scores this near, says nothing: forces that symmetry makes zero.
EITHER_SIGN = 0.1
#: It also must leave so little unexplained, or so much less than before, that not only some frames are put right.
LITTLE, LESS = 0.15, 0.65
#: Handicap of mistakes that are made seldom.
RARE = 0.05
#: A frame's error in units of the median frame's beyond which it does not fit, and below which it does.
OUT, ORDINARY = 3.0, 3.0
#: By how much less of the virials a model must leave unexplained with a constant pressure; relative difference of the volumes.
NEEDED, VOLUMES = 4.0, 0.03
#: By how much the square error must fall when a mistake of a single frame is undone.
FALL = 9.0
#: A kind of which the model explains less than this, though more of the others, is not what it says it is.
CONTRADICTS = {"forces": 0.4, "virial": 0.2}
#: ... if what the others predict of it is, in squares, uncertain by less than this part, between these parts of its labels, and
#: less than this part of it is there; or, if the others agree without it and not with it, less than the last.
SURE, SIGNAL, MOST, IN_IT = 0.15, 0.2, 10.0, (0.5, 0.75)
#: Root mean square force of a frame, eV/Å, that is more than noise of convergence.
SMALL_FORCE = 5e-3

#: Factors that nobody multiplies by, beside that of a mistake: how many frames they explain is chance. A mistake explains more
#: than so many times as many frames, and so many independent numbers in them.
DECOYS = (0.2, 0.45, 2.2, 5.0)
CHANCE, NUMBERS = 3, 10
#: Independent numbers of a frame which the model must explain if it is to say that its energy is wrong.
KNOWN = 3
#: Fraction of the frames another mistake explains at which a commoner one is preferred.
ALIKE_MISTAKES = 0.8

INTERCHANGED = "of other atoms (another order of the atoms, or another frame)"
_ORDER = (*dict.fromkeys(mistake.words for mistake in MISTAKES), INTERCHANGED)


@dataclass
class FrameOfKind:
    """Labels of a frame as corrected (rows), their prediction, the usual mean square error, the mean square of the labels.

    The latter is relative to what labels of the composition are on average.
    """

    labels: np.ndarray
    predicted: np.ndarray
    usual: float
    size: float

    @property
    def error(self) -> float:
        """Mean square error."""
        return float(((self.labels - self.predicted) ** 2).mean())

    @property
    def deviation(self) -> float:
        """Error in units of what is usual."""
        return float(np.sqrt(self.error / self.usual))


@dataclass
class Evidence:
    """What the model says of a set of frames; frames are named by their index.

    ``global_mistake``: what has been undone for a whole kind before all else, with others that would do as well.
    ``explained``: fraction of the labels of a kind that the model explains out of sample, for forces and virials the median over
    the frames. ``contradicts``: kinds that do not fit the others at all. ``culprit``: kind without which the others agree,
    while all do not. ``frame_mistakes``: by kind, mistakes of single frames. ``unlike``: frames that no mistake explains.
    ``pressure``: isotropic virial, eV/atom, per element that no energy accounts for, shape (folds, elements), if the virials
    cannot be explained without.
    """

    judged: list[int] = field(default_factory=list)
    not_judged: str = ""
    n_fitted: int = 0
    basis: Basis | None = None
    kinds: list[str] = field(default_factory=list)
    global_mistake: dict[str, Mistake] = field(default_factory=dict)
    alternatives: list[Mistake] = field(default_factory=list)
    unexplained: dict[str, tuple[float, float]] = field(default_factory=dict)
    explained: dict[str, float] = field(default_factory=dict)
    contradicts: list[str] = field(default_factory=list)
    culprit: str = ""
    frames: dict[str, dict[int, FrameOfKind]] = field(default_factory=dict)
    frame_mistakes: dict[str, dict[int, str]] = field(default_factory=dict)
    unlike: dict[str, set[int]] = field(default_factory=dict)
    pressure: np.ndarray | None = None

    def odd(self, kinds: Sequence[str]) -> set[int]:
        """Return the frames with a mistake, or without explanation, in some kinds of labels."""
        return {i for kind in kinds for i in (*self.frame_mistakes.get(kind, ()), *self.unlike.get(kind, ()))}

    def otherwise_ordinary(self, index: int, kind: str) -> bool:
        """Tell whether the model explains the labels of all other kinds: then it knows this kind of structure.

        A cell so symmetric that its labels are one number, or zero, is easily explained, and says little.
        """
        others = {other: frames[index] for other, frames in self.frames.items() if other != kind and index in frames}
        known = sum(_independent(frame.labels, other) for other, frame in others.items() if other != "energy")
        return known >= KNOWN and all(frame.deviation < ORDINARY for frame in others.values())

    def corrected(self, atoms: Atoms, kind: str) -> np.ndarray | None:
        """Return the rows of a label with the global mistake undone."""
        rows = label_rows(atoms, kind)
        if rows is None or kind not in self.global_mistake:
            return rows
        return rows * self._factor(atoms, kind)

    def mended(self, atoms: Atoms) -> Atoms:
        """Return a copy with the global mistakes undone."""
        out = atoms.copy()
        for kind in self.global_mistake:
            store = out.arrays if kind == "forces" else out.info
            if f"{REFERENCE}_{kind}" in store:
                store[f"{REFERENCE}_{kind}"] = store[f"{REFERENCE}_{kind}"] * self._factor(atoms, kind)
        return out

    def _factor(self, atoms: Atoms, kind: str) -> float:
        return float(self.global_mistake[kind].factor(len(atoms), abs(atoms.cell.volume)))


def examine(frames: Sequence[Atoms], fit_atoms: int, seed: int = 0) -> Evidence:
    """Return what the model says of ``frames``.

    :param fit_atoms: the model is fitted to frames with so many atoms in all, drawn at random; the others are predicted.
    """
    evidence = Evidence()
    candidates = [i for i, a in enumerate(frames) if not is_isolated_atom(a) and any(label_rows(a, k) is not None for k in KINDS)]
    evidence.basis = basis_for([frames[i] for i in candidates]) if candidates else None
    if evidence.basis is None:
        evidence.not_judged = "no labelled frames with neighbouring atoms"
        return evidence
    evidence.judged = [i for i in candidates if _within_range(frames[i], evidence.basis)]
    chosen = _draw(frames, evidence.judged, fit_atoms, seed)
    if len(chosen) < MIN_FRAMES:
        evidence.not_judged = f"{len(chosen)} frames are too few for a model, which needs {MIN_FRAMES}"
        return evidence
    model = LinearModel([frames[i] for i in chosen], evidence.basis, seed)
    evidence.n_fitted = len(chosen)
    evidence.kinds = [kind for kind in KINDS if kind in model.blocks and _says_something(model, kind)]
    if not evidence.kinds:
        evidence.not_judged = "too few labels of any kind"
        return evidence
    labels = {kind: model.labels[kind] for kind in evidence.kinds}
    labels = _undo_global_mistakes(evidence, model, labels)
    for _ in KINDS:
        fit = model.robust_fit(labels)
        _compare_frames(evidence, model, fit, labels, frames, chosen)
        for kind in labels:
            _single_mistakes(evidence, kind, frames)
        weights = _weights_without_odd(evidence, model, labels, chosen)
        contradicting = _contradicting(evidence, model, labels)
        if contradicting:  # if half of a kind is wrong, the robust fit may have sided with the wrong kind
            other = _culprit(model, labels, None)
            contradicting = other or contradicting
        else:
            evidence.culprit = _culprit(model, labels, weights) or evidence.culprit
            contradicting = "forces" if evidence.culprit == "forces" and "forces" in labels else ""
        if not contradicting:
            break
        # It would only spoil what can be said of the others.
        evidence.contradicts.append(contradicting)
        evidence.frame_mistakes[contradicting], evidence.unlike[contradicting] = {}, set()
        labels = {kind: rows for kind, rows in labels.items() if kind != contradicting}
    if "virial" in labels and _volumes_differ(model) and model.need_of_pressure(labels, weights) > NEEDED:
        evidence.pressure = model.pressure_constants(fit.coefficients)
    return evidence


def _contradicting(evidence: Evidence, model: LinearModel, labels: dict[str, np.ndarray]) -> str:
    """Return a kind of which the model explains little though more of another, and that is not merely drowned in noise."""
    for kind, least in CONTRADICTS.items():
        others = [evidence.explained[k] for k in labels if k != kind]
        if (
            kind in labels
            and others
            and evidence.explained[kind] < least < max(others)
            and _refuted(model, labels, kind, IN_IT[0])
        ):
            return kind
    return ""


def _refuted(model: LinearModel, labels: dict[str, np.ndarray], kind: str, in_it: float) -> bool:
    """Tell whether the other labels, by themselves, predict of a kind what is not in its labels, or less than a part of it.

    What they predict must be sure (the folds agree on it, and it is not many times the labels) and not small beside the labels:
    small labels are noise, as forces at the end of a relaxation are, and noise added to what is predicted contradicts nothing.
    """
    fit = model.fit({k: rows for k, rows in labels.items() if k != kind})
    folds = np.array([model.centred(kind, model.blocks[kind].x @ c) for c in fit.coefficients])
    predicted, stored = folds.mean(axis=0), model.centred(kind, labels[kind])
    size, typical = model.scale(kind, labels[kind])
    weight = np.where(model.has(kind), 1 / (typical + size + model.mean(kind, predicted**2)), 0.0)

    def total(values: np.ndarray) -> float:
        return float((weight * model.mean(kind, values)).sum())

    uncertain = (len(folds) - 1) * total(folds.var(axis=0))  # the jackknife's estimate
    signal = total(predicted**2) - uncertain
    sure = uncertain < SURE * signal and SIGNAL < signal / total(stored**2) < MOST
    return sure and total(predicted * stored) < in_it * signal


def _within_range(atoms: Atoms, basis: Basis) -> bool:
    distances = neighbours(atoms, basis.cutoff)[2]
    return bool(len(distances)) and float(distances.min()) > 0.4 * basis.distance


def _draw(frames: Sequence[Atoms], indices: Sequence[int], fit_atoms: int, seed: int) -> list[int]:
    """Return indices drawn at random until they have ``fit_atoms`` atoms, in their order."""
    order = np.random.default_rng(seed).permutation(len(indices))
    sizes = np.cumsum([len(frames[indices[k]]) for k in order])
    kept = max(int(np.searchsorted(sizes, fit_atoms, side="right")), min(len(indices), MIN_FRAMES))
    return sorted(indices[k] for k in order[:kept])


def _says_something(model: LinearModel, kind: str) -> bool:
    size, typical = model.scale(kind, model.labels[kind])
    floor = SMALL_FORCE**2 if kind == "forces" else 1e-14
    return int((model.has(kind) & (size > floor)).sum()) >= MIN_OF_KIND and typical > floor


def _volumes_differ(model: LinearModel) -> bool:
    """Tell whether cells differ in volume enough for their energies to know of a pressure."""
    low, high = np.quantile(np.log(model.volume / model.n_atoms)[model.has("virial")], (0.1, 0.9))
    return bool(high - low > VOLUMES)


class _Trial:
    """Labels of a model with some mistakes undone, and how well they are explained together."""

    def __init__(self, model: LinearModel, labels: dict[str, np.ndarray], mistakes: tuple[Mistake, ...]) -> None:
        self.labels = dict(labels)
        self.mistakes = mistakes
        for mistake in mistakes:
            factor = mistake.factor(model.n_atoms, model.volume)
            self.labels[mistake.kind] = self.labels[mistake.kind] * factor[model.blocks[mistake.kind].frame]
        self.unexplained = model.fit(self.labels).unexplained
        self.score = float(np.mean([np.log10(max(u, 1e-4)) for u in self.unexplained.values()])) + RARE * sum(
            mistake.rare for mistake in mistakes
        )

    @property
    def most_unexplained(self) -> float:
        return max(self.unexplained.values())

    def has_other_sign(self, other: _Trial) -> bool:
        """Tell whether the last mistakes are of the same kind, but of opposite sign."""
        mine, its = self.mistakes[-1], other.mistakes[-1]
        return mine.kind == its.kind and mine.value * its.value < 0

    def is_much_better(self, stored: _Trial) -> bool:
        """Tell whether no kind is left with much unexplained, or at least there is much less of it in all."""
        left, before = (sum(trial.unexplained.values()) for trial in (self, stored))
        return self.most_unexplained < LITTLE or left < LESS * before


def _best_trials(model: LinearModel, labels: dict[str, np.ndarray], before: tuple[Mistake, ...] = ()) -> list[_Trial]:
    """Return the labels as stored and, before it, trials of one more mistake that explain all of them much better."""
    stored = _Trial(model, labels, ())
    done = {mistake.kind for mistake in before}
    trials = [_Trial(model, labels, (*before, m)) for m in MISTAKES if m.kind in labels and m.kind not in done]
    good = [
        t
        for t in trials
        if t.most_unexplained < UNEXPLAINED_AFTER
        and t.score < stored.score - GAIN
        and t.is_much_better(stored)
        and stored.most_unexplained > UNEXPLAINED_BEFORE
    ]
    good = [t for t in good if not any(t.has_other_sign(other) and other.score < t.score + EITHER_SIGN for other in good)]
    return [*sorted(good, key=lambda trial: trial.score), stored]


def _undo_global_mistakes(evidence: Evidence, model: LinearModel, labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    trials = _best_trials(model, labels) if len(labels) > 1 else [_Trial(model, labels, ())]
    stored = trials[-1]
    if len(trials) == 1 and len(labels) == 3 and stored.most_unexplained > UNEXPLAINED:
        # Two mistakes at once, or virials that no mistake explains: first energies and forces by themselves.
        two = {kind: labels[kind] for kind in ("energy", "forces")}
        first = _best_trials(model, two)
        if len(first) > 1:
            second = _best_trials(model, labels, first[0].mistakes)
            trials = second if len(second) > 1 else [_Trial(model, labels, first[0].mistakes), stored]
    best = trials[0]
    evidence.global_mistake = {mistake.kind: mistake for mistake in best.mistakes}
    if len(best.mistakes) == 1:
        evidence.alternatives = [t.mistakes[0] for t in trials[1:-1] if t.score < best.score + ALIKE]
    evidence.unexplained = {kind: (stored.unexplained[kind], best.unexplained[kind]) for kind in labels}
    return best.labels


def _compare_frames(
    evidence: Evidence,
    model: LinearModel,
    fit: Fit,
    labels: dict[str, np.ndarray],
    frames: Sequence[Atoms],
    chosen: Sequence[int],
) -> None:
    """Fill in labels, predictions and usual errors of all judged frames."""
    coefficients = fit.coefficients.mean(axis=0)
    others = [i for i in evidence.judged if i not in set(chosen)]
    assert evidence.basis is not None
    terms = {i: evidence.basis.terms(frames[i]) for i in others}
    n_constants = 2 * model.n_elements
    for kind, rows in labels.items():
        block = model.blocks[kind]
        _, typical = model.scale(kind, rows)
        usual = model.noise(kind, rows, fit, typical)
        size, size_predicted = model.size(kind, rows), model.size(kind, fit.predicted[kind])
        constants = np.zeros(n_constants)
        if kind != "forces":
            used = np.abs(block.x[:, :n_constants]).max(axis=1) > 0
            constants = least_absolute(block.x[used, :n_constants], fit.predicted[kind][used])
        store: dict[int, FrameOfKind] = {}
        for number, index in enumerate(chosen):
            mine = slice(*np.searchsorted(block.frame, (number, number + 1)))
            if block.count[number]:
                allowed = usual * (typical + float(size_predicted[number]))
                store[index] = FrameOfKind(rows[mine], fit.predicted[kind][mine], allowed, float(size[number]))
        for index in others:
            own = evidence.corrected(frames[index], kind)
            if own is not None:
                x = model.rows(frames[index], terms[index], kind)
                predicted, middle = x @ coefficients, x[:, :n_constants] @ constants
                allowed = usual * (typical + float(((predicted - middle) ** 2).mean()))
                store[index] = FrameOfKind(own, predicted, allowed, float(((own - middle) ** 2).mean()))
        evidence.frames[kind] = store
        shares = [frame.error / frame.size for frame in store.values() if frame.size > 0.1 * typical]
        evidence.explained[kind] = 1 - (fit.unexplained[kind] if kind == "energy" else float(np.median(shares or [1.0])))


def _weights_without_odd(
    evidence: Evidence, model: LinearModel, labels: dict[str, np.ndarray], chosen: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return weights of the frames for a fit without those that have mistakes or fit no model."""
    weights = {}
    for kind, rows in labels.items():
        size, typical = model.scale(kind, rows)
        odd = evidence.odd((kind,))
        good = np.array([index not in odd for index in chosen])
        weights[kind] = np.where(model.has(kind) & good, 1 / (typical + size), 0.0)
    return weights


def _culprit(model: LinearModel, labels: dict[str, np.ndarray], weights: dict[str, np.ndarray] | None) -> str:
    """Return forces or virials, if the other labels agree without them, and not with them; for example, if half is wrong."""
    if len(labels) < 3 or model.n_frames < MIN_TO_BLAME or max(model.fit(labels, weights).unexplained.values()) < UNEXPLAINED:
        return ""
    without: dict[str, float] = {}
    for kind in CONTRADICTS:
        others = {k: rows for k, rows in labels.items() if k != kind}
        without[kind] = max(model.fit(others, weights and {k: weights[k] for k in others}).unexplained.values())
    best = min(without, key=lambda kind: without[kind])
    return best if without[best] < UNEXPLAINED and _refuted(model, labels, best, IN_IT[1]) else ""


def _single_mistakes(evidence: Evidence, kind: str, frames: Sequence[Atoms]) -> None:
    """Sort the frames that do not fit into those that a mistake explains and others.

    If several mistakes explain a frame, it is taken to have the one that explains most frames; about as many is as good, and the
    first in the list of mistakes is the commonest. A mistake that explains no more frames than factors which nobody would use
    by mistake, or order of the axes, do, explains the errors of the model; so does one that is seen in a few numbers only.
    """
    odd = {
        index: frame
        for index, frame in evidence.frames[kind].items()
        if frame.deviation > OUT / np.sqrt(2) and (kind == "energy" or frame.error > 0.25 * float((frame.predicted**2).mean()))
    }
    explained: dict[str, set[int]] = {}
    chance: dict[str, Counter[int]] = {}
    for index, frame in odd.items() if kind != "energy" else ():
        enough = min(frame.error / FALL, ORDINARY**2 * frame.usual, 0.25 * float((frame.predicted**2).mean()))
        for mistake in MISTAKES:
            if mistake.kind == kind and not mistake.rare:
                factor = float(mistake.factor(len(frames[index]), abs(frames[index].cell.volume)))
                if ((factor * frame.labels - frame.predicted) ** 2).mean() < enough:
                    explained.setdefault(mistake.words, set()).add(index)
                    continue
                for number, other in enumerate(DECOYS):
                    if ((other * factor * frame.labels - frame.predicted) ** 2).mean() < enough:
                        chance.setdefault(mistake.words, Counter())[number] += 1
        if kind == "forces" and len(frames[index]) > 1:
            stored, predicted = frame.labels.reshape(-1, 3), frame.predicted.reshape(-1, 3)
            if not any(index in mine for mine in explained.values()) and _interchanged(stored, predicted) < enough:
                explained.setdefault(INTERCHANGED, set()).add(index)
                continue
            for number, axes in enumerate(([1, 2, 0], [2, 0, 1])):
                if _interchanged(stored[:, axes], predicted) < enough:
                    chance.setdefault(INTERCHANGED, Counter())[number] += 1
    found: dict[int, str] = {}
    while explained:
        most = max(len(mine) for mine in explained.values())
        words = next(words for words in _ORDER if len(explained.get(words, ())) >= ALIKE_MISTAKES * most)
        mine = explained.pop(words)
        by_chance = max(chance.get(words, Counter()).values(), default=0)
        numbers = sum(_independent(odd[i].predicted, kind) for i in mine)  # labels may be small by mistake
        if len(mine) <= CHANCE * by_chance or numbers < NUMBERS:
            continue
        found.update(dict.fromkeys(sorted(mine), words))
        explained = {other: rest for other, its in explained.items() if (rest := its - mine)}
    evidence.frame_mistakes[kind] = found
    evidence.unlike[kind] = {i for i, frame in odd.items() if i not in found and frame.deviation > 2 * OUT}


def _interchanged(stored: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean square error of forces if each belonged to the atom that it fits best."""
    rows, columns = linear_sum_assignment(cdist(stored, predicted, "sqeuclidean"))
    return float(((stored[rows] - predicted[columns]) ** 2).mean())


def _independent(labels: np.ndarray, kind: str) -> int:
    """Return how many numbers of a label are not small, nor equal by symmetry: lengths of forces, eigenvalues of virials."""
    rows = labels.reshape(-1, 3)
    sizes = np.linalg.norm(rows, axis=1) if kind == "forces" else np.abs(np.linalg.eigvalsh(rows + rows.T))
    sizes = np.sort(sizes[sizes > max(0.05 * sizes.max(), SMALL_FORCE)])
    return 1 + int((np.diff(sizes) > 0.02 * sizes.max()).sum()) if len(sizes) else 0
