"""Checks of forces and virials: sign, unit, order, net force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols

from aiida_gaprss.audit.energies import in_box
from aiida_gaprss.audit.evidence import Evidence
from aiida_gaprss.audit.mistakes import MISTAKES
from aiida_gaprss.audit.model import least_absolute
from aiida_gaprss.audit.paths import Paths
from aiida_gaprss.audit.result import Check
from aiida_gaprss.frames import REFERENCE

NOUNS = {"energy": "energies", "forces": "forces", "virial": "virials"}
_CULPRIT = "without the {} the other labels agree, with them they do not: wrong in many frames?"
#: Frames with the same mistake that make a fault; the same if they are dimers and the like.
MISTAKEN, MISTAKEN_IN_BOX = 3, 10
#: A model that explains less than this says nothing. Frames that it takes to say that labels belong to other positions.
LEAST_EXPLAINED, CONTRADICTING = 0.4, 20
#: Factors within which the work along paths agrees with the energies, for forces (which anharmonicity affects) and virials;
#: pairs needed; work that counts, eV/atom; change of the labels along a path, relative to the work.
SLOPE = {"forces": 1.35, "virial": 1.15}
PAIRS, WORK, STRAIGHT = 10, 1e-5, 3.0
#: By how much better an explanation must be: per pair (the error falls to a third), and in all; nats.
BETTER, DECISIVE = 1.1, 20.0
#: Isotropic virial, eV/atom, that no energy accounts for.
PRESSURE = 1.0
#: Net force relative to what independent errors of the size of the forces would give: warning, fault. Smallest that counts, eV/Å.
NET_FORCE, SMALL_NET_FORCE = (0.1, 0.5), 0.02


def check_net_force(frames: Sequence[Atoms], names: Sequence[str]) -> Check:
    """Check that the forces of each frame sum to zero.

    The energy does not depend on where the cell lies. What is left is noise (a few meV/Å per atom), unless forces are those of
    another frame, or were altered after the calculation. |ΣF| is compared with √n times the root mean square of |F|.
    """
    check = Check("net force")
    share: dict[int, float] = {}
    net: dict[int, float] = {}
    for i, atoms in enumerate(frames):
        forces = atoms.arrays.get(f"{REFERENCE}_forces")
        if forces is not None and len(atoms) > 1:
            net[i] = float(np.linalg.norm(forces.sum(axis=0)))
            share[i] = net[i] / max(float(np.sqrt((forces**2).sum())), 1e-12)
    if not net:
        check.add("not judged", "no forces")
        return check
    check.numbers["largest"] = max(net.values())
    counted = [i for i in net if net[i] > SMALL_NET_FORCE * np.sqrt(len(frames[i]))]
    for level, limit in (("fault", NET_FORCE[1]), ("warning", NET_FORCE[0])):
        wrong = sorted((i for i in counted if share[i] > limit), key=lambda i: -share[i])
        if wrong and (level == "warning" or len(wrong) >= MISTAKEN):
            i = wrong[0]
            check.add(
                level,
                f"forces of {len(wrong)} of {len(net)} frames do not sum to zero, in {names[i]} to {net[i]:.3g} eV/Å",
                [names[k] for k in wrong],
            )
            break
    if check.verdict == "ok":
        check.add("ok", f"forces sum to zero within {max(net.values()):.2g} eV/Å")
    return check


def check_forces(frames: Sequence[Atoms], names: Sequence[str], evidence: Evidence, paths: Paths) -> Check:
    """Check sign, unit and order of the forces against energies and virials."""
    check = Check("forces")
    _from_model(check, "forces", frames, names, evidence)
    _from_paths(check, "forces", evidence, paths)
    _from_culprit(check, "forces", evidence)
    return check


_EXCESS = "virials have {} that energies and forces know nothing of: Pulay stress of too small a basis?"


def check_virials(frames: Sequence[Atoms], names: Sequence[str], evidence: Evidence, paths: Paths) -> Check:
    """Check sign and unit of the virials against energies and forces, order of the shear components, and Pulay stress."""
    check = Check("virials")
    _from_model(check, "virial", frames, names, evidence)
    if not evidence.not_judged and "virial" in evidence.kinds and "virial" not in evidence.contradicts:
        _pressure(check, frames, evidence)
        _shear(check, evidence)
    _from_paths(check, "virial", evidence, paths)
    _from_culprit(check, "virial", evidence)
    return check


def _from_model(check: Check, kind: str, frames: Sequence[Atoms], names: Sequence[str], evidence: Evidence) -> None:
    """Add what the model says: mistakes of all labels and of single frames."""
    noun = NOUNS[kind]
    if evidence.not_judged or kind not in evidence.kinds or len(evidence.kinds) < 2:
        alone = f"too few {noun}" if kind not in evidence.kinds else "needs other labels, too"
        check.add("not judged", evidence.not_judged or alone)
        return
    total = len(evidence.frames[kind])
    explained = evidence.explained[kind]
    if kind in evidence.contradicts and explained >= LEAST_EXPLAINED:
        check.add("warning", _CULPRIT.format(noun))
    elif kind in evidence.contradicts:
        others = {k: evidence.explained[k] for k in evidence.kinds if k not in evidence.contradicts}
        best = max(others, key=lambda k: others[k])
        enough = others[best] > 0.5 and total >= CONTRADICTING
        check.add(
            "fault" if enough else "not judged",
            f"a model explains {max(explained, 0):.0%} of the {noun} but {others[best]:.0%} of the {NOUNS[best]}: of other "
            "atoms or frames, or wrong in many ways",
        )
    elif explained < LEAST_EXPLAINED:
        check.add("not judged", f"a model explains {max(explained, 0):.0%} of the {noun} only")
    check.numbers["explained"] = evidence.explained[kind]
    check.numbers["frames"] = total
    mistake = evidence.global_mistake.get(kind)
    if mistake is not None:
        before, after = evidence.unexplained[kind]
        alike = [m for m in evidence.alternatives if m.kind == kind]
        elsewhere = [m for m in evidence.alternatives if m.kind != kind]
        text = f"{noun} are {mistake.words}" + "".join(f", or {m.words}" for m in alike[:1])
        text += f": so corrected a common model leaves {after:.0%} unexplained, as stored {before:.0%}"
        check.add("fault", text + "".join(f"; or else {NOUNS[m.kind]} are {m.words}" for m in elsewhere[:1]))
        check.numbers["mistake"] = mistake.words
    elif any(m.kind == kind for m in evidence.alternatives):
        words = next(m.words for m in evidence.alternatives if m.kind == kind)
        surer = next(iter(evidence.global_mistake.values()))
        check.add("fault", f"{noun} are {words}, or else {NOUNS[surer.kind]} are {surer.words}: the data cannot tell")
    single = evidence.frame_mistakes.get(kind, {})
    for words, count in Counter(single.values()).most_common():
        mine = sorted((i for i in single if single[i] == words), key=lambda i: -evidence.frames[kind][i].deviation)
        # In a box a pair of atoms has one force, which by chance looks like one mistake or another.
        if sum(not in_box(frames[i]) for i in mine) < MISTAKEN and count < MISTAKEN_IN_BOX:
            continue
        known = f", once {mistake.words} is undone," if mistake is not None else ""
        check.add("fault", f"{noun} of {count} of {total} frames{known} are {words}", [names[i] for i in mine])
    check.numbers["single_mistakes"] = dict(Counter(single.values()))


def _from_culprit(check: Check, kind: str, evidence: Evidence) -> None:
    """Add that all would be well without this kind; or that all is well with it."""
    if evidence.culprit == kind and check.verdict in ("ok", "not judged"):
        check.add("warning", _CULPRIT.format(NOUNS[kind]))
    if check.verdict == "ok" and kind in evidence.explained:
        check.add("ok", f"a model common to all labels explains {evidence.explained[kind]:.0%} of the {NOUNS[kind]}")


def _from_paths(check: Check, kind: str, evidence: Evidence, paths: Paths) -> None:
    """Add what pairs of neighbouring frames say whose energy difference is mostly due to labels of ``kind``.

    A mistake is named if it explains the energy differences decisively better than right labels with noise do, better than a
    constant pressure, and better than nothing does: where all is noise, any mistake that makes the labels small seems to fit.
    """
    own, other = (paths.work_forces, paths.work_virial) if kind == "forces" else (paths.work_virial, paths.work_forces)
    strength = np.abs(own).max(axis=1, initial=0)
    mine = paths.select((strength > 2 * np.abs(other).max(axis=1, initial=0)) & (strength > WORK) & (np.abs(paths.energy) < 5))
    if len(mine) < PAIRS:
        return
    stored, _ = mine.likelihood()
    nothing, _ = mine.with_other(kind, 0.0).likelihood()
    pressure, excess = _with_pressure(mine) if kind == "virial" else (nothing, 0.0)
    known = max(stored, nothing, pressure)
    usual = [m for m in MISTAKES if m.kind == kind and not m.rare and m.volume == 0]
    explained = {mistake.words: mine.with_other(kind, mistake.value).likelihood()[0] for mistake in usual}
    words = max(explained, key=lambda name: explained[name])
    check.numbers["pairs"] = len(mine)
    if _decides(explained[words] - known, mine):
        if check.verdict != "fault" and not evidence.global_mistake:
            check.add(
                "fault",
                f"{NOUNS[kind]} are {words}: along {len(mine)} pairs of neighbouring frames, work and energy then agree",
            )
    elif _decides(pressure - stored, mine) and pressure > nothing and abs(excess) > PRESSURE and check.verdict != "fault":
        check.numbers["isotropic_excess_of_paths"] = excess
        check.add("fault", f"along {len(mine)} pairs of neighbouring frames, {_EXCESS.format(f'{excess:+.3g} eV/atom')}")
    elif stored > nothing:
        _slope(check, kind, evidence, mine)


def _decides(better: float, pairs: Paths) -> bool:
    """Tell whether an explanation that is better by so many nats per pair is the right one."""
    return better > BETTER and better * pairs.n_independent > DECISIVE


def _with_pressure(pairs: Paths) -> tuple[float, float]:
    """Return how well virials explain the pairs that hold a pressure which energies know nothing of, and that, eV/atom."""
    _, error = pairs.likelihood()
    left, unit = (pairs.energy - pairs.work) / error, pairs.work_pressure / error
    if not np.abs(unit).max() > 0:
        return -np.inf, 0.0
    lacking = float(least_absolute(unit[:, None], left)[0])
    return pairs.likelihood(pairs.work_pressure * lacking)[0], -lacking


def _slope(check: Check, kind: str, evidence: Evidence, pairs: Paths) -> None:
    """Add how many times the work the energy differences are, along paths on which the labels do not change too much."""
    straight = pairs.select(pairs.curvature < STRAIGHT * np.abs(pairs.work))
    if len(straight) < PAIRS:
        return
    stored, error = straight.likelihood()
    x = np.stack([straight.work_forces.mean(axis=1), straight.work_virial.mean(axis=1)], axis=1)
    used = np.abs(x).max(axis=0) > 1e-6
    slopes = np.zeros(2)
    slopes[used] = least_absolute(x[:, used] / error[:, None], straight.energy / error)
    value = float(slopes[0 if kind == "forces" else 1])
    check.numbers["slope"] = value
    text = f"{len(straight)} pairs of neighbouring frames: energy differences are {value:.3f} times the work of the {NOUNS[kind]}"
    limit = SLOPE[kind]
    if not 1 / limit < value < limit and len(straight) >= 2 * PAIRS and not evidence.global_mistake:
        then, nothing = (straight.with_other(kind, factor).likelihood()[0] for factor in (value, 0.0))
        if _decides(then - stored, straight) and _decides(then - nothing, straight):
            check.add("fault", text)
    elif check.verdict in ("ok", "not judged"):
        check.verdict = "ok"
        check.found = [text]


def _pressure(check: Check, frames: Sequence[Atoms], evidence: Evidence) -> None:
    """Add isotropic virials that energies and forces contradict: a constant per atom of each element."""
    if evidence.pressure is None or evidence.basis is None or evidence.global_mistake:
        return
    species = evidence.basis.species
    mine = [frames[i] for i in evidence.frames["virial"]]
    constants = np.median(evidence.pressure, axis=0)
    # Per element they are undetermined if all frames have one composition; per frame they never are.
    value = float(np.median([sum(c * (a.numbers == z).mean() for z, c in zip(species, constants, strict=True)) for a in mine]))
    by_element = dict(zip(species, constants, strict=True))
    check.numbers["isotropic_excess"] = {chemical_symbols[z]: float(v) for z, v in by_element.items()}
    if abs(value) > max(PRESSURE, 3 * float(evidence.pressure.std(axis=0).max())):
        gpa = value / float(np.median([abs(a.cell.volume) / len(a) for a in mine])) / units.GPa
        listed = ", ".join(f"{chemical_symbols[z]} {v:+.3g}" for z, v in by_element.items())
        check.add("fault", _EXCESS.format(f"{value:+.3g} eV/atom ({listed}), about {gpa:+.0f} GPa,"))


def _shear(check: Check, evidence: Evidence) -> None:
    """Add an order of the shear components other than yz, xz, xy that fits much better."""
    frames = evidence.frames["virial"].values()
    y = np.array([f.labels.reshape(3, 3)[[1, 0, 0], [2, 2, 1]] for f in frames])
    p = np.array([f.predicted.reshape(3, 3)[[1, 0, 0], [2, 2, 1]] for f in frames])
    sheared = np.abs(p).max(axis=1) >= np.median(np.abs(p).max(axis=1))
    y, p = y[sheared], p[sheared]
    if len(y) < 8 or np.abs(p).sum() == 0:
        return
    misfit = {order: float(np.abs(y[:, order] - p).sum() / np.abs(p).sum()) for order in permutations(range(3))}
    best = min(misfit, key=lambda order: misfit[order])
    if best != (0, 1, 2) and misfit[0, 1, 2] > 0.6 and misfit[best] < 0.5 * misfit[0, 1, 2]:
        names = ("yz", "xz", "xy")
        check.add(
            "fault",
            f"shear components are out of order: where yz xz xy belong stand {' '.join(names[k] for k in np.argsort(best))}",
        )
