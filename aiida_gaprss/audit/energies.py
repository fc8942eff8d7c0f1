"""Checks of the energies: one zero, one unit, plausible isolated atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from aiida_gaprss.audit.descriptors import neighbours
from aiida_gaprss.audit.evidence import MIN_FRAMES, MIN_OF_KIND, Evidence
from aiida_gaprss.audit.model import least_absolute
from aiida_gaprss.audit.paths import Paths
from aiida_gaprss.audit.result import AuditSettings, Check
from aiida_gaprss.frames import REFERENCE, is_isolated_atom

#: Energies this far from the model's, eV/atom and in standard deviations, are looked at for a common shift.
SHIFT, DEVIATIONS = 0.3, 3.0
#: A common shift is larger than this many standard deviations.
SEPARATE = 5.0
#: Frames a common shift needs: number (a large one, fewer), fraction of all frames, fraction of all that are far off.
SHIFTED, SHIFTED_MUCH, SHIFTED_OF_ALL, SHIFTED_OF_FAR = 4, 3, 0.03, 0.6
#: Separation of two groups of energies, in standard deviations.
SPLIT = 6.0
#: A shift that all frames of some elements have is told from an error of the model only beyond this, eV/atom.
SHIFT_OF_ALL = 2.0
#: If shifts must be larger than this to be seen, eV/atom, nothing is said of the zero.
VISIBLE = 0.5
#: Fraction of frames with odd forces or virials up to which the others may speak of energies.
FEW = 0.1
#: An energy that contradicts all of three or more neighbouring frames by this, eV/atom, is not converged.
CERTAIN_JUMP = 0.1
#: Volumes per atom above this many times the spheres of the covalent radii are atoms or clusters in a box.
BOX = 10.0


def isolated_atom_energies(frames: Sequence[Atoms]) -> dict[int, list[float]]:
    """Return the energies (eV) of labelled isolated atoms by atomic number."""
    found: dict[int, list[float]] = {}
    for atoms in frames:
        if is_isolated_atom(atoms) and f"{REFERENCE}_energy" in atoms.info:
            found.setdefault(int(atoms.numbers[0]), []).append(float(atoms.info[f"{REFERENCE}_energy"]))
    return found


def in_box(atoms: Atoms) -> bool:
    """Tell whether the cell is mostly vacuum, as that of a dimer."""
    return abs(atoms.cell.volume) > BOX * covalent_volume(atoms)


def is_alone(atoms: Atoms) -> bool:
    """Tell whether no atom of a frame has a neighbour, nor an image of its own, within 6 Å."""
    return not len(neighbours(atoms, 6.0)[0])


def covalent_volume(atoms: Atoms) -> float:
    """Return the volume of spheres with the covalent radii, Å³."""
    return float((4 / 3 * np.pi * covalent_radii[atoms.numbers] ** 3).sum())


def check_isolated_atoms(frames: Sequence[Atoms], names: Sequence[str], settings: AuditSettings) -> Check:
    """Check that there is one isolated atom per element and that the others are bound by a plausible energy.

    A fit needs the isolated atoms as its zero. Solids are bound by up to 9 eV/atom (tungsten), so a lowest energy per
    composition outside ``cohesive_energy`` comes from atoms at another level of theory, with other pseudopotentials, or from
    labels that are wrong.
    """
    check = Check("isolated atoms")
    energies = isolated_atom_energies(frames)
    elements = sorted({int(z) for atoms in frames for z in atoms.numbers})
    check.numbers["energies"] = {chemical_symbols[z]: values for z, values in energies.items()}
    missing = [chemical_symbols[z] for z in elements if z not in energies]
    if missing:
        alone = [n for a, n in zip(frames, names, strict=True) if len(a) == 1 and not is_isolated_atom(a) and is_alone(a)]
        check.add(
            "warning",
            f"no labelled isolated atom of {', '.join(missing)}: a fit needs one, a single atom with config_type isolated_atom"
            + (f"; {alone[0]} would be one by its distances" if alone else ""),
            alone,
        )
    for z, values in energies.items():
        if len(values) > 1:
            same = max(values) - min(values) < 1e-3
            listed = [n for a, n in zip(frames, names, strict=True) if is_isolated_atom(a) and int(a.numbers[0]) == z]
            words = ", ".join(f"{value:.4f}" for value in values)
            check.add(
                "warning" if same else "fault", f"{len(values)} isolated atoms of {chemical_symbols[z]}: {words} eV", listed
            )
    usable = {z: values[0] for z, values in energies.items()}
    cohesive = {
        i: (atoms.info[f"{REFERENCE}_energy"] - sum(usable[int(z)] for z in atoms.numbers)) / len(atoms)
        for i, atoms in enumerate(frames)
        if f"{REFERENCE}_energy" in atoms.info and not is_isolated_atom(atoms) and all(int(z) in usable for z in atoms.numbers)
    }
    if not cohesive:
        return check
    low, high = settings.cohesive_energy
    below = sorted((i for i in cohesive if cohesive[i] < low), key=lambda i: cohesive[i])
    lowest = min(cohesive, key=lambda i: cohesive[i])
    check.numbers["cohesive_energy"] = [min(cohesive.values()), max(cohesive.values())]
    if below:
        check.add(
            "fault",
            f"{len(below)} of {len(cohesive)} frames are bound by more than {-low:g} eV/atom, {names[lowest]} by "
            f"{-cohesive[lowest]:.3g}: not the same zero, or no converged label",
            [names[i] for i in below],
        )
    typical = [value for i, value in cohesive.items() if not in_box(frames[i])] or list(cohesive.values())
    if min(typical) > high:
        check.add(
            "fault", f"no frame is bound: the lowest lies {min(typical):.3g} eV/atom above its isolated atoms", [names[lowest]]
        )
    if check.verdict == "ok":
        check.add("ok", f"cohesive energies from {min(cohesive.values()):.2f} to {max(cohesive.values()):.2f} eV/atom")
    return check


def check_energy_unit(evidence: Evidence) -> Check:
    """Check the unit of the energies against forces and virials.

    The usual mistakes of a unit are tried on all energies; see :mod:`evidence`.
    """
    check = Check("energy unit")
    if evidence.not_judged or "energy" not in evidence.kinds or len(evidence.kinds) < 2:
        check.add("not judged", evidence.not_judged or "needs energies together with forces or virials")
        return check
    mistake = evidence.global_mistake.get("energy")
    others = [m for m in evidence.alternatives if m.kind != "energy"]
    if mistake is not None:
        before, after = evidence.unexplained["energy"]
        sentence = f"energies are {mistake.words}: then {after:.0%} of them is unexplained, {before:.0%} as stored"
        check.add("fault", sentence + _or(others))
    elif any(m.kind == "energy" for m in evidence.alternatives):
        words = next(m.words for m in evidence.alternatives if m.kind == "energy")
        known = next(iter(evidence.global_mistake.values()))
        check.add("fault", f"energies are {words}, or else {known.kind} are {known.words}: the data cannot tell")
    else:
        check.add("ok", f"fits forces and virials: a common model explains {evidence.explained['energy']:.0%} of the energies")
    return check


def _or(others: Sequence) -> str:
    return "".join(f"; or else {m.kind} are {m.words}" for m in others[:1])


def _split(off: dict[int, float]) -> list[int]:
    """Return the smaller of two well separated groups of energies, or nothing.

    Separated: the means differ by more than ``SPLIT`` times the root mean square of the two standard deviations (Ashman's D),
    and by more than ``SHIFT``.
    """
    order = sorted(off, key=lambda i: off[i])
    values = np.array([off[i] for i in order])
    best, group = SPLIT, []
    for k in range(SHIFTED, len(order) - SHIFTED + 1):
        low, high = values[:k], values[k:]
        distance = float(high.mean() - low.mean())
        separation = distance / max(float(np.sqrt(0.5 * (low.var(ddof=1) + high.var(ddof=1)))), 1e-9)
        if separation > best and distance > SHIFT:
            best, group = separation, order[:k] if k < len(order) - k else order[k:]
    return group


@dataclass(frozen=True)
class _Shift:
    """A shift of the energies, eV/atom, as a whole or per element, the frames that have it, and how many it takes."""

    of_element: np.ndarray
    uniform: bool
    frames: list[int]
    needed: int


def check_energy_zero(frames: Sequence[Atoms], names: Sequence[str], evidence: Evidence, paths: Paths) -> Check:
    """Check that all energies count from the same zero.

    Frames whose energies are far (0.3 eV/atom and three robust standard deviations) from a model that fits the others are
    searched for a common shift, per atom or per element: another code, other pseudopotentials, or isolated atoms subtracted in a
    part. Single frames that are off are told from it. Dimers and the like, of which the model knows little, are judged among
    themselves, and singly only by their neighbours along a path.
    """
    check = Check("energy zero")
    if evidence.not_judged or "energy" not in evidence.kinds:
        check.add("not judged", evidence.not_judged or "too few energies")
        return check
    off: dict[int, float] = {}
    spreads: dict[str, float] = {}
    allowed: dict[int, float] = {}
    far: list[int] = []
    for boxed, word in ((False, "cells"), (True, "atoms and clusters in a box")):
        stored = evidence.frames["energy"].items()
        mine = {i: float(f.labels[0] - f.predicted[0]) for i, f in stored if in_box(frames[i]) == boxed}
        if len(mine) < MIN_OF_KIND:
            continue
        apart = set(_split(mine)) if len(mine) >= MIN_FRAMES else set()
        values = np.array([value for i, value in mine.items() if i not in apart])
        middle = float(np.median(values))
        low, high = np.quantile(values, (0.2, 0.8))  # the median deviation alone is too good where the tails are long
        spread = spreads[word] = max(1.4826 * float(np.median(np.abs(values - middle))), float(high - low) / 1.683)
        off.update({i: value - middle for i, value in mine.items()})
        allowed.update(dict.fromkeys(mine, spread))
        far += [i for i in mine if i in apart or abs(off[i]) > max(SHIFT, DEVIATIONS * spread)]
    shift = _common_shift(frames, {i: off[i] for i in far}, allowed, evidence)
    shifted = [] if shift is None else shift.frames
    if shift is not None and len(shifted) >= max(shift.needed, SHIFTED_OF_ALL * len(off), SHIFTED_OF_FAR * len(far)):
        _report_shift(check, frames, names, shift, off)
    else:
        shifted = []
    n_cells = sum(not in_box(frames[i]) for i in off)
    singly = {
        i: off[i]
        for i in far
        if i not in shifted
        and n_cells >= MIN_FRAMES
        and not in_box(frames[i])
        and abs(off[i]) > 2 * max(SHIFT, DEVIATIONS * allowed[i])
        and evidence.otherwise_ordinary(i, "energy")
    }
    jumps: dict[int, float] = {}
    odd = evidence.odd(("forces", "virial"))
    wrong = {*evidence.contradicts, evidence.culprit}
    if len(odd) < FEW * len(evidence.judged) and "forces" not in wrong:
        if "virial" in wrong:
            paths = paths.select(~paths.work_virial.any(axis=1))
        jumps = _jumps(paths, odd.union(shifted))
    for found, how in ((jumps, "neighbouring frames"), (singly, "a model of all frames")):
        order = sorted(found, key=lambda i: -abs(found[i]))
        if order:
            listed = ", ".join(f"{names[i]} {found[i]:+.3g}" for i in order[:3]) + (", …" if len(order) > 3 else "")
            certain = found is jumps and any(abs(jumps[i]) > CERTAIN_JUMP for i in jumps)
            sentence = f"{len(order)} single energies are off from {how} (eV/atom): {listed}: converged?"
            check.add("fault" if certain else "warning", sentence, [names[i] for i in order])
    check.numbers["single_frames"] = {names[i]: value for i, value in (singly | jumps).items()}
    check.numbers["standard_deviation"] = spreads
    seen = max(SHIFT, SEPARATE * max(spreads.values(), default=np.inf))
    if check.verdict == "ok" and seen > VISIBLE:
        check.add(
            "not judged", f"no shift beyond {seen:.2g} eV/atom among {len(off)} frames; a smaller one a model would not see"
        )
    elif check.verdict == "ok":
        check.add("ok", f"one zero for {len(off)} frames: no shift beyond {seen:.2g} eV/atom")
    return check


def _common_shift(frames: Sequence[Atoms], off: dict[int, float], allowed: dict[int, float], evidence: Evidence) -> _Shift | None:
    """Return the shift that most of the frames ``off`` (eV/atom) have, each within twice its ``allowed`` error and 2 %."""
    if len(off) < SHIFTED_MUCH:
        return None
    assert evidence.basis is not None
    indices = list(off)
    values, error = np.array([off[i] for i in indices]), np.array([allowed[i] for i in indices])
    fractions = np.array([[(frames[i].numbers == z).mean() for z in evidence.basis.species] for i in indices])
    n = fractions.shape[1]
    by_element = []
    if n > 1 and len(off) >= n + SHIFTED:
        rng = np.random.default_rng(0)
        for _ in range(200):
            some = rng.choice(len(off), size=n, replace=False)
            if np.linalg.matrix_rank(fractions[some], tol=0.05) == n:
                by_element.append(np.linalg.solve(fractions[some], values[some]))
        by_element.append(least_absolute(fractions, values))

    def same(shift: np.ndarray) -> np.ndarray:
        expected = fractions @ shift
        return np.abs(values - expected) < 2 * error + 0.02 * np.abs(expected)

    best = max((np.full(n, value) for value in values), key=lambda shift: int(same(shift).sum()))
    uniform = True
    for shift in by_element:
        if same(shift).sum() > same(best).sum() + (n if uniform else 0):
            best, uniform = shift, False
    mine = same(best)
    size = float(np.median(np.abs(fractions[mine] @ best))) if mine.any() else 0.0
    if size < max(SHIFT, SEPARATE * float(np.median(error[mine]))):
        return None
    if uniform:
        best = np.full(n, float(np.median(values[mine])))
    needed = SHIFTED_MUCH if size > SHIFT_OF_ALL else SHIFTED
    return _Shift(best, uniform, [i for i, m in zip(indices, mine, strict=True) if m], needed)


def _report_shift(check: Check, frames: Sequence[Atoms], names: Sequence[str], shift: _Shift, off: dict[int, float]) -> None:
    mine = list(off)
    elements = sorted({int(z) for i in mine for z in frames[i].numbers})

    def kind(i: int) -> tuple[bool, frozenset[int]]:
        return in_box(frames[i]), frozenset(int(z) for z in frames[i].numbers)

    shifted = set(shift.frames)
    of_kind = {k: [i for i in mine if kind(i) == k] for k in {kind(i) for i in shifted}}
    whole = all(sum(i in shifted for i in members) >= 0.7 * len(members) for members in of_kind.values()) and len(
        {kind(i) for i in mine}
    ) > len(of_kind)
    if shift.uniform:
        words = f"{shift.of_element[0]:+.3g} eV/atom"
        largest = abs(float(shift.of_element[0]))
    else:
        words = ", ".join(
            f"{value:+.4g} eV per {chemical_symbols[z]}" for z, value in zip(elements, shift.of_element, strict=True)
        )
        largest = float(np.max(np.abs([off[i] for i in shift.frames])))
    sentence = f"{len(shifted)} of {len(mine)} frames are shifted by {words}"
    known = _known_energy(frames, shift, elements)
    if known:
        sentence += f", {known}"
    if whole and largest < SHIFT_OF_ALL:
        check.add("not judged", sentence + ", all there are of their elements: another zero, or an error of the model")
    else:
        check.add("fault", sentence + ": another zero, another code or other pseudopotentials", [names[i] for i in shift.frames])
    check.numbers["shift"] = {chemical_symbols[z]: float(v) for z, v in zip(elements, shift.of_element, strict=True)}
    check.numbers["shifted_frames"] = len(shifted)


def _known_energy(frames: Sequence[Atoms], shift: _Shift, elements: Sequence[int]) -> str:
    """Say if a shift is that of isolated atoms, subtracted or added."""
    energies = {z: values[0] for z, values in isolated_atom_energies(frames).items()}
    if not all(z in energies for z in elements) or len(shift.of_element) != len(elements):
        return ""
    atoms = np.array([energies[z] for z in elements])
    for times, words in ((1, "the energies of the isolated atoms"), (2, "twice the energies of the isolated atoms")):
        if np.abs(atoms).max() > SHIFT and np.allclose(np.abs(shift.of_element), times * np.abs(atoms), rtol=0.02, atol=0.1):
            return words
    return ""


def _jumps(paths: Paths, without: set[int]) -> dict[int, float]:
    """Return by how much energies of frames (eV/atom) contradict all, three or more, neighbours in the same way.

    Against every neighbour the energy is off by more than 10 meV/atom, by more than a quarter of what the forces at both ends
    differ by, and by ten times what is usual; and by the same amount within a half. Frames ``without`` are left out;
    nothing is found if forces and virials do not account for most energy differences.
    """
    paths = paths.select(~np.isin(paths.pairs, list(without)).any(axis=1))
    wrong = paths.energy - paths.work
    if not len(wrong) or np.median(paths.misfit()) > 0.5:
        return {}
    limit = np.maximum(np.maximum(0.01, 10 * float(np.median(np.abs(wrong)))), 0.25 * paths.curvature)
    found: dict[int, float] = {}
    alive = np.ones(len(wrong), dtype=bool)
    while True:
        candidates: dict[int, tuple[float, float]] = {}
        for index in np.unique(paths.pairs[alive & (np.abs(wrong) > limit)]):
            mine = alive & (paths.pairs == index).any(axis=1)
            signed = np.where(paths.pairs[mine, 1] == index, wrong[mine], -wrong[mine])
            middle = float(np.median(signed))
            together = (np.abs(signed) > limit[mine]).all() and (np.abs(signed - middle) < 0.5 * abs(middle)).all()
            if mine.sum() >= 3 and together:
                candidates[int(index)] = abs(middle) * float(mine.sum()), middle
        if not candidates:
            return found
        worst = max(candidates, key=lambda index: candidates[index][0])
        found[worst] = candidates[worst][1]
        alive &= ~(paths.pairs == worst).any(axis=1)
