"""A list of strategies, each with a name, and the frames that they make of crystals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Annotated, TypeAlias

import numpy as np
from ase import Atoms
from pydantic import AfterValidator, Field

from aiida_gaprss import frames as fr
from aiida_gaprss.settings.model import Count, Model, SeedNumber
from aiida_gaprss.strategies.base import AnyStrategy, Strategy, StrategyError
from aiida_gaprss.structures.seeding import stage_seed


def _named(value: dict[str, Strategy]) -> dict[str, Strategy]:
    if wrong := [name for name in value if not re.fullmatch(r"[A-Za-z]\w{0,49}", name, flags=re.ASCII) or "__" in name]:
        raise ValueError(f"{wrong[0]!r} is no name: expected a letter, then letters, digits and single _, 50 at most")
    return value


#: Strategies by names that links and outputs can have.
Strategies: TypeAlias = Annotated[dict[str, AnyStrategy], AfterValidator(_named)]


class StrategyList(Model):
    """Strategies by names of your choice, which become names of outputs and, unless a strategy says otherwise, config types."""

    strategies: Strategies = Field(min_length=1, description="each with its kind and its settings")
    formula: dict[str, Count] | None = Field(
        None, description="elements, for strategies without crystals; default: the crystals'"
    )
    seed: SeedNumber = 1
    max_labels: Count | None = Field(
        None,
        description="so many frames are labelled at most: the same number of each strategy, as far as it has them, at random",
    )

    @property
    def runs(self) -> dict[str, str]:
        """The tasks of a potential that strategies need, by their names."""
        return {name: one.run for name, one in self.strategies.items() if one.run is not None}

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

    def shared(self, made: Mapping[str, Sequence[Atoms]]) -> list[Atoms]:
        """Return what is to be labelled of the frames of all strategies: of the same structure the first, ``max_labels`` at most.

        Isolated atoms come first; then one frame of each strategy, drawn at random, after another.
        """
        known: dict[bytes, Atoms] = {}
        for frames in made.values():
            for atoms in frames:
                known.setdefault(fr.label_key(atoms), atoms)
        if self.max_labels is None or len(known) <= self.max_labels:
            return list(known.values())
        ids = {atoms.info["frame_id"] for atoms in known.values()}
        queues = []
        for name, frames in made.items():
            mine = [atoms for atoms in frames if atoms.info["frame_id"] in ids]
            order = np.random.default_rng(stage_seed(self.seed, 0, f"{name} shared")).permutation(len(mine))
            queues.append([mine[number] for number in order])
        turns = [atoms for turn in zip_longest(*queues) for atoms in turn if atoms is not None]
        chosen = sorted(turns, key=lambda atoms: not fr.is_isolated_atom(atoms))[: self.max_labels]
        wanted = {atoms.info["frame_id"] for atoms in chosen}
        return [atoms for atoms in known.values() if atoms.info["frame_id"] in wanted]

    @staticmethod
    def _called(atoms: Atoms, name: str, strategy: Strategy, seed: int) -> None:
        rest = str(atoms.info["frame_id"]).removeprefix(f"{strategy.kind}-")
        atoms.info.update(frame_id=f"{name}-{rest}", seed=seed)
        if atoms.info["config_type"] == strategy.kind:
            atoms.info["config_type"] = strategy.config_type_as(name)
