"""A list of strategies, each with a name, and the frames that they make of crystals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from ase import Atoms
from ase.data import atomic_numbers
from pydantic import AfterValidator, Field, field_validator, model_validator

from aiida_gaprss import frames as fr
from aiida_gaprss.outside import shown
from aiida_gaprss.settings.model import Count, Model, SeedNumber
from aiida_gaprss.strategies.base import AnyStrategy, Strategy, StrategyError
from aiida_gaprss.structures.seeding import stage_seed


def _named(value: dict[str, Strategy]) -> dict[str, Strategy]:
    if wrong := [name for name in value if not re.fullmatch(r"[A-Za-z]\w{0,49}", name, flags=re.ASCII) or "__" in name]:
        raise ValueError(f"{wrong[0]!r} is no name: expected a letter, then letters, digits and single _, 50 at most")
    for name, one in value.items():
        if (word := one.config_type_as(name)) in fr.IN_VACUUM and not one.in_vacuum:
            raise ValueError(f"{name}: {one.kind} makes no {word}, and cannot have the config type {word!r}")
    return value


#: Strategies by names that links and outputs can have.
Strategies: TypeAlias = Annotated[dict[str, AnyStrategy], AfterValidator(_named)]


#: How frames are chosen where more are made than labelled.
Choice: TypeAlias = Literal["random", "farthest", "cur", "range"]

MAX_LABELS = "so many frames are labelled at most; isolated atoms and dimers are always among them"
CHOOSE = (
    "which: random, of each strategy the same number as far as it has them; farthest or cur, those that differ most from the "
    "database and each other by fingerprint; range, those outside of the range of features that the database and others have"
)


class StrategyList(Model):
    """Strategies by names of your choice, which become names of outputs and, unless a strategy says otherwise, config types."""

    strategies: Strategies = Field(min_length=1, description="each with its kind and its settings")
    formula: dict[str, Count] | None = Field(
        None, description="elements, for strategies without crystals; default: the crystals'"
    )
    seed: SeedNumber = 1
    max_labels: Count | None = Field(None, description=MAX_LABELS)
    choose: Choice = Field("random", description=CHOOSE)

    @model_validator(mode="after")
    def _limited(self) -> StrategyList:
        if self.choose in ("farthest", "cur") and self.max_labels is None:
            raise ValueError(f"choose is {self.choose}, which needs max_labels: how many frames are chosen")
        return self

    @field_validator("formula")
    @classmethod
    def _of_elements(cls, value: dict[str, int] | None) -> dict[str, int] | None:
        if wrong := [symbol for symbol in value or () if atomic_numbers.get(symbol, 0) == 0]:
            raise ValueError(f"{shown(wrong[0], 40)!r} is not a chemical element")
        return value

    @property
    def runs(self) -> dict[str, str]:
        """The tasks of a potential that strategies need, by their names."""
        return {name: one.run for name, one in self.strategies.items() if one.run is not None and not one.by_reference}

    @property
    def by_reference(self) -> list[str]:
        """The names of the strategies whose frames the program of the reference runs."""
        return [name for name, one in self.strategies.items() if one.by_reference]

    def elements(self, crystals: Sequence[Atoms]) -> dict[str, int]:
        """Return the formula: what is given, or one atom of each element of the crystals."""
        return self.formula or dict.fromkeys(sorted({symbol for atoms in crystals for symbol in atoms.symbols}), 1)

    def frames(self, name: str, crystals: Sequence[Atoms]) -> list[Atoms]:
        """Return the frames of one strategy, under names that no other has, with its seed.

        :raises StrategyError: with the name of the strategy, if it has none.
        """
        strategy, seed = self.strategies[name], stage_seed(self.seed, 0, name)
        try:
            made = strategy.apply(crystals, self.elements(crystals), seed)
            for atoms in made:
                self._called(atoms, name, strategy, seed)
                fr.check(atoms, f"frame {atoms.info['frame_id']}")
        except (StrategyError, fr.FrameError) as error:
            raise StrategyError(f"strategies.{name}: {error}") from error
        return made

    @staticmethod
    def _called(atoms: Atoms, name: str, strategy: Strategy, seed: int) -> None:
        rest = str(atoms.info["frame_id"]).removeprefix(f"{strategy.kind}-")
        atoms.info.update(frame_id=f"{name}-{rest}", seed=seed)
        if atoms.info["config_type"] == strategy.kind:
            atoms.info["config_type"] = strategy.config_type_as(name)
