"""A list of strategies, each with a name, and the frames that they make of crystals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeAlias

from ase import Atoms
from ase.data import atomic_numbers
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, field_validator, model_validator

from aiida_gaprss import frames as fr
from aiida_gaprss.outside import shown
from aiida_gaprss.settings.faults import Fault, FaultError
from aiida_gaprss.settings.model import Count, Model, SeedNumber, complaints
from aiida_gaprss.strategies.base import AnyStrategy, Strategy, StrategyError
from aiida_gaprss.strategies.relaxed import RelaxedCrystals
from aiida_gaprss.structures.seeding import stage_seed


def _named(value: Any, check: ValidatorFunctionWrapHandler) -> dict[str, Strategy]:
    """Check names and strategies: a name that is wrong hides no wrong strategy.

    :raises FaultError: with all that is wrong.
    """
    wrong = [name for name in value if not _is_name(name)] if _maps(value) else []
    faults = [Fault((name,), _NO_NAME.format(shown(repr(name), 60))) for name in wrong]
    try:
        found: dict[str, Strategy] = check(value)
    except ValidationError as error:
        raise FaultError([*faults, *complaints(error)]) from error
    for name, one in found.items():
        if (word := one.config_type_as(name)) in fr.IN_VACUUM and not one.in_vacuum:
            faults.append(Fault((name,), f"{one.kind} makes no {word}, and cannot have the config type {word!r}"))
    if faults:
        raise FaultError(faults)
    return found


_NO_NAME = "{} is no name: expected a letter, then letters, digits and single _, 50 at most"


def _maps(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z]\w{0,49}", name, flags=re.ASCII) is not None and "__" not in name


#: Strategies by names that links and outputs can have.
Strategies: TypeAlias = Annotated[dict[str, AnyStrategy], WrapValidator(_named)]


#: How frames are chosen where more are made than labelled.
Choice: TypeAlias = Literal["random", "farthest", "cur", "range", "variance"]

#: Those that choose so many frames.
LIMITED = ("farthest", "cur", "variance")

MAX_LABELS = "so many frames are labelled at most; isolated atoms and dimers are always among them"
CHOOSE = (
    "which: random, of each strategy the same number as far as it has them; farthest or cur, those that differ most from the "
    "database and each other by fingerprint; range, those outside of the range of features that the database and others have; "
    "variance, each time the largest product of how unsure the potential is and how far the frame is from database and others"
)


RELAX = (
    "relax the crystals before strategies are applied to them, and leave out those that become another structure, do not relax, "
    "or are too large; {} takes the tolerances of a paper"
)


#: Hexadecimal digits at the end of the names of frames.
DIGITS = 6


class NoFramesError(StrategyError):
    """A strategy of a list that cannot make its frames."""

    def __init__(self, fault: Fault) -> None:
        """Keep what is wrong, and where."""
        self.fault = fault
        super().__init__(str(fault))


def lacks_of_choice(choose: Any, max_labels: Any) -> list[Fault]:
    """Return what is missing for a choice of frames."""
    if choose in LIMITED and max_labels is None:
        return [Fault(("choose",), f"{choose} needs max_labels: how many frames are chosen")]
    return []


class StrategyList(Model):
    """Strategies by names of your choice, which become names of outputs and, unless a strategy says otherwise, config types."""

    strategies: Strategies = Field(min_length=1, description="each with its kind and its settings")
    formula: dict[str, Count] | None = Field(
        None, description="elements, for strategies without crystals; default: the crystals'"
    )
    seed: SeedNumber = 1
    max_labels: Count | None = Field(None, description=MAX_LABELS)
    choose: Choice = Field("random", description=CHOOSE)
    relax: RelaxedCrystals | None = Field(None, description=RELAX)

    @model_validator(mode="after")
    def _limited(self) -> StrategyList:
        if faults := lacks_of_choice(self.choose, self.max_labels):
            raise FaultError(faults)
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

    @property
    def asking_potential(self) -> list[str]:
        """What needs a potential, as users say it."""
        relaxes = ["relax.by"] if self.relax is not None and self.relax.by == "potential" else []
        needing = [name for name, one in self.strategies.items() if name in self.runs or "potential" in one.wants]
        return [*relaxes, *needing, *(["choose: variance"] if self.choose == "variance" else [])]

    def elements(self, crystals: Sequence[Atoms]) -> dict[str, int]:
        """Return the formula: what is given, or one atom of each element of the crystals."""
        return self.formula or dict.fromkeys(sorted({symbol for atoms in crystals for symbol in atoms.symbols}), 1)

    def frames(self, name: str, crystals: Sequence[Atoms]) -> list[Atoms]:
        """Return the frames of one strategy, under names that no other has, with its seed.

        Names end in digits that stand for settings, seed and structure: databases of the same crystal can be fitted together.

        :raises NoFramesError: with the name of the strategy, if it has none.
        """
        strategy, seed = self.strategies[name], stage_seed(self.seed, 0, name)
        try:
            made = strategy.apply(crystals, self.elements(crystals), seed)
            stands_for = f"{strategy.model_dump_json()}{seed}".encode()
            for atoms in made:
                self._called(atoms, name, strategy, seed)
                atoms.info["frame_id"] += f"-{sha256(stands_for + fr.label_key(atoms)).hexdigest()[:DIGITS]}"
                fr.check(atoms, f"frame {atoms.info['frame_id']}")
        except (StrategyError, fr.FrameError) as error:
            raise NoFramesError(Fault(("strategies", name), str(error))) from error
        return made

    @staticmethod
    def _called(atoms: Atoms, name: str, strategy: Strategy, seed: int) -> None:
        rest = str(atoms.info["frame_id"]).removeprefix(f"{strategy.kind}-")
        atoms.info.update(frame_id=f"{name}-{rest}", seed=seed)
        if atoms.info["config_type"] == strategy.kind:
            atoms.info["config_type"] = strategy.config_type_as(name)
