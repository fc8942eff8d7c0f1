"""Frames of strategies before anything runs: what each of them makes, and why others cannot have theirs labelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.reference import lack_of_relaxing
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.strategies.lists import NoFramesError, StrategyList
from aiida_gaprss.strategies.relaxed import RelaxedCrystals


def made_by(
    strategies: StrategyList, crystals: Sequence[Atoms], potential: Potential | None
) -> tuple[dict[str, list[Atoms]], list[Fault]]:
    """Return the frames of each strategy, and why the others cannot have theirs labelled."""
    made, faults = {}, []
    for name, strategy in strategies.strategies.items():
        if "potential" in strategy.needs and potential is None:
            faults.append(Fault(("strategies", name), f"{strategy.kind} needs a potential, got none (potential: PK)"))
            continue
        try:
            frames = strategies.frames(name, crystals)
        except NoFramesError as error:
            faults.append(error.fault)
            continue
        if lack := lack_of_elements(frames, name, strategies, crystals, potential):
            faults.append(Fault(("strategies", name), lack))
        else:
            made[name] = frames
    return made, faults


def lack_of_elements(
    frames: Sequence[Atoms], name: str, strategies: StrategyList, crystals: Sequence[Atoms], potential: Potential | None
) -> str | None:
    """Return which elements of frames the formula lacks, or the potential that runs or examines them; None if none."""
    elements, formula = {symbol for atoms in frames for symbol in atoms.symbols}, list(strategies.elements(crystals))
    if unknown := sorted(elements - set(formula)):
        return f"frames have {', '.join(unknown)}, the formula has {', '.join(formula)} (formula: …)"
    bulk = {symbol for atoms in frames if not fr.is_in_vacuum(atoms) for symbol in atoms.symbols}
    asked = strategies.strategies[name].run is not None or (strategies.choose == "variance" and bulk)
    if asked and potential is not None and (unknown := sorted(bulk - set(potential.elements))):
        return f"the potential knows {', '.join(potential.elements)}, but not {', '.join(unknown)}"
    return None


def lack_of_variances(potential: Potential) -> str | None:
    """Return why frames cannot be chosen by the variances of a potential, or None."""
    family = potential.family
    return None if family.VARIANCES else f"choose: variance: a potential of the family {family.NAME} has none; others are of gap"


def small_enough(strategies: StrategyList, crystals: Sequence[Atoms]) -> list[int]:
    """Return the numbers of the crystals that go on to be relaxed; all of them, if none is."""
    relax = strategies.relax
    return [number for number, atoms in enumerate(crystals) if relax is None or relax.too_large(atoms) is None]


def lack_of_relaxation(relax: RelaxedCrystals, reference: Any, potential: Any) -> str | None:
    """Return why crystals cannot be relaxed as is asked for, or None.

    :param reference: inputs of a labelling, or what a file says under ``reference``; ``potential``: anything, if there is one.
    """
    if relax.by == "potential":
        return "the potential is to relax the crystals, but there is none (potential: PK)" if potential is None else None
    if not reference:
        return "the reference is to relax the crystals, but there is none (reference: …); a potential can, too (by: potential)"
    why = lack_of_relaxing(reference)
    return f"{why}; or let a potential relax the crystals (by: potential), or give relaxed ones, without relax" if why else None
