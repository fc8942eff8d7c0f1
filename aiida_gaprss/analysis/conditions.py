"""Conditions by which frames of a dataset are kept or left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hull import above_hull, reduced_formula
from aiida_gaprss.settings.model import Count, CountOrZero, Model, Positive, PositiveOrZero


class Conditions(Model):
    """What a frame must be to be kept; what is not given does not matter.

    A frame without the label that a condition asks about is left out. Energies of isolated atoms and dimers are not asked about:
    no fit can do without them.
    """

    config_types: list[str] | None = Field(None, description="kept")
    without_config_types: list[str] | None = Field(None, description="left out")
    elements: list[str] | None = Field(None, description="no others")
    n_atoms: tuple[Count, Count] | None = Field(None, description="fewest and most")
    from_generation: CountOrZero | None = Field(None, description="of the campaign; frames of no generation are left out")
    to_generation: CountOrZero | None = Field(None, description="the same")
    max_above: PositiveOrZero | None = Field(None, description="eV/atom above the lowest frame of the same composition")
    max_above_hull: PositiveOrZero | None = Field(None, description="eV/atom above the convex hull of all frames")
    max_force: Positive | None = Field(None, description="eV/Å, of the largest force on an atom")
    labelled: bool | None = Field(None, description="with an energy, or without")

    @field_validator("elements")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        unknown = [symbol for symbol in value or [] if not atomic_numbers.get(symbol)]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no element")
        return value

    @model_validator(mode="after")
    def _some(self) -> Conditions:
        if not self.model_dump(exclude_none=True):
            raise ValueError("give at least one condition")
        if self.n_atoms is not None and self.n_atoms[0] > self.n_atoms[1]:
            raise ValueError(f"n_atoms is {self.n_atoms[0]} to {self.n_atoms[1]}, expected the smaller number first")
        if None not in (self.from_generation, self.to_generation) and self.from_generation > self.to_generation:  # type: ignore[operator]
            raise ValueError(f"generations are {self.from_generation} to {self.to_generation}, expected the smaller number first")
        return self


def kept(frames: Sequence[Atoms], conditions: Conditions) -> list[int]:
    """Return the indices of the frames that fulfil all conditions.

    :raises ValueError: for config types that no frame has; for a height above the hull of frames that have none.
    """
    refuse_unknown(frames, conditions)
    above = heights(frames) if conditions.max_above is not None else [0.0] * len(frames)
    hull = above_hull(frames) if conditions.max_above_hull is not None else [0.0] * len(frames)
    return [i for i, atoms in enumerate(frames) if fulfils(atoms, conditions, above[i], float(hull[i]))]


def refuse_unknown(frames: Iterable[Atoms], conditions: Conditions) -> None:
    """Refuse conditions about config types that no frame has.

    :raises ValueError: naming one, and those that there are.
    """
    kinds = {str(atoms.info.get("config_type")) for atoms in frames}
    for name in (*(conditions.config_types or ()), *(conditions.without_config_types or ())):
        if name not in kinds:
            raise ValueError(f"no frame is of config type {name!r}; there are {', '.join(sorted(kinds))}")


def fulfils(atoms: Atoms, wanted: Conditions, above: float, hull: float) -> bool:
    """Tell whether a frame fulfils all conditions.

    :param above: its energy above the lowest of its composition, :param hull: above the convex hull; eV/atom.
    """
    kind = str(atoms.info.get("config_type"))
    forces = atoms.arrays.get(f"{fr.REFERENCE}_forces")
    strong = forces is None or float(np.linalg.norm(forces, axis=1).max()) > (wanted.max_force or np.inf)
    vacuum = fr.is_in_vacuum(atoms)
    return (
        (wanted.config_types is None or kind in wanted.config_types)
        and kind not in (wanted.without_config_types or ())
        and (wanted.elements is None or set(atoms.get_chemical_symbols()) <= set(wanted.elements))
        and (wanted.n_atoms is None or wanted.n_atoms[0] <= len(atoms) <= wanted.n_atoms[1])
        and _of_generation(atoms, wanted)
        and (wanted.max_above is None or vacuum or above <= wanted.max_above)
        and (wanted.max_above_hull is None or vacuum or hull <= wanted.max_above_hull)
        and (wanted.max_force is None or vacuum or not strong)
        and (wanted.labelled is None or fr.is_labelled(atoms) == wanted.labelled)
    )


def _of_generation(atoms: Atoms, wanted: Conditions) -> bool:
    if wanted.from_generation is None and wanted.to_generation is None:
        return True
    number = atoms.info.get("generation")
    first, last = wanted.from_generation or 0, np.inf if wanted.to_generation is None else wanted.to_generation
    return isinstance(number, int | np.integer) and first <= int(number) <= last


def heights(frames: Sequence[Atoms]) -> list[float]:
    """Return the reference energies above the lowest of the same composition, eV/atom; NaN without a label or in vacuum."""
    lowest: dict[str, float] = {}
    per_atom = [
        float(atoms.info[f"{fr.REFERENCE}_energy"]) / len(atoms)
        if fr.is_labelled(atoms) and not fr.is_in_vacuum(atoms)
        else float("nan")
        for atoms in frames
    ]
    formulas = [reduced_formula(atoms) for atoms in frames]
    for formula, energy in zip(formulas, per_atom, strict=True):
        lowest[formula] = (
            float(np.nanmin([lowest.get(formula, np.nan), energy])) if energy == energy else lowest.get(formula, np.nan)
        )
    return [energy - lowest[formula] for formula, energy in zip(formulas, per_atom, strict=True)]
