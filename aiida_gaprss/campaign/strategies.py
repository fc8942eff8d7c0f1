"""Frames of strategies before anything runs: what each of them makes, and why others cannot have theirs labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.reference import lack_of_moving, lack_of_relaxing
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.settings.jobs import DRIVERS
from aiida_gaprss.strategies.base import Strategy
from aiida_gaprss.strategies.lists import NoFramesError, StrategyList
from aiida_gaprss.strategies.relaxed import RelaxedCrystals


def made_by(
    strategies: StrategyList, crystals: Sequence[Atoms], given: Mapping[str, Any]
) -> tuple[dict[str, list[Atoms]], list[Fault]]:
    """Return the frames of each strategy, and why the others cannot have theirs labelled.

    :param given: inputs of ``BuildWorkChain``: ``potential`` or ``calculator``, ``label``.
    """
    made, faults = {}, []
    for name, strategy in strategies.strategies.items():
        if why := why_not_run(strategy, given):
            faults.append(Fault(("strategies", name), f"{strategy.kind} {why}"))
            continue
        try:
            frames = strategies.frames(name, crystals)
        except NoFramesError as error:
            faults.append(error.fault)
            continue
        if lack := lack_of_elements(frames, name, strategies, crystals, given.get("potential")):
            faults.append(Fault(("strategies", name), lack))
        else:
            made[name] = frames
    return made, faults


def why_not_run(strategy: Strategy, given: Mapping[str, Any]) -> str | None:
    """Return why the frames of a strategy cannot be run by what is given, or None."""
    if strategy.by_reference:
        why = lack_of_moving(given.get("label") or {})
        return f"is to be run by the reference (by: reference), but {why}" if why else None
    if "potential" in strategy.wants and not any(given.get(driver) for driver in DRIVERS):
        return "needs a potential, got none (potential: PK; or calculator: …, an ASE calculator)"
    return None


def lack_of_elements(
    frames: Sequence[Atoms], name: str, strategies: StrategyList, crystals: Sequence[Atoms], potential: Potential | None
) -> str | None:
    """Return which elements of frames the formula lacks, or the potential that runs or examines them; None if none."""
    elements, formula = {symbol for atoms in frames for symbol in atoms.symbols}, list(strategies.elements(crystals))
    if unknown := sorted(elements - set(formula)):
        return f"frames have {', '.join(unknown)}, the formula has {', '.join(formula)} (formula: …)"
    bulk = {symbol for atoms in frames if not fr.is_in_vacuum(atoms) for symbol in atoms.symbols}
    asked = name in strategies.runs or (strategies.choose == "variance" and bulk)
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


def lack_of_relaxation(relax: RelaxedCrystals, reference: Any, driver: Any) -> str | None:
    """Return why crystals cannot be relaxed as is asked for, or None.

    :param reference: inputs of a labelling, or what a file says under ``reference``.
    :param driver: a potential or a calculator, or what stands for one.
    """
    if relax.by == "potential":
        return "the potential is to relax the crystals, but there is none (potential: PK)" if driver is None else None
    if not reference:
        return "the reference is to relax the crystals, but there is none (reference: …); a potential can, too (by: potential)"
    why = lack_of_relaxing(reference)
    return f"{why}; or let a potential relax the crystals (by: potential), or give relaxed ones, without relax" if why else None
