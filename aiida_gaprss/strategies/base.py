"""What a strategy is: settings, and the frames made by them, which the reference is to label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeAlias

from ase import Atoms
from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.settings.model import Model, in_words
from aiida_gaprss.settings.plugins import STRATEGIES, KindError, by_kind, kind_of
from aiida_gaprss.structures.checks import AT_ONE_PLACE, at_one_place

#: Atoms per formula unit of a campaign.
CampaignFormula: TypeAlias = Mapping[str, int]


class StrategyError(ValueError):
    """Settings of a strategy that are wrong, something that it needs and has not got, or frames that are not as agreed."""


class Strategy(Model):
    """A way to make frames: settings and function in one. It knows nothing of AiiDA.

    Another package adds one as an entry point of the group ``aiida_gaprss.strategies``, under its ``kind``.
    """

    kind: str
    #: What it cannot do without: ``crystals``; ``potential``, or an ASE calculator in its place.
    needs: ClassVar[frozenset[str]] = frozenset()
    #: The task (``gaprss.<run>``) of a potential or a calculator that its frames are handed to, each with its settings under
    #: ``task`` in ``info``; what that leaves is labelled, as far as it is :meth:`taken`. None: the frames themselves are.
    run: ClassVar[str | None] = None
    #: Whether its frames are crystals that are little displaced and strained: such are fitted with sigmas of their own.
    harmonic: ClassVar[bool] = False
    #: Whether its frames are isolated atoms or dimers, the only ones that may be called so: such get one k-point, and no virial.
    in_vacuum: ClassVar[bool] = False

    @property
    def labels_each(self) -> int:
        """So many labels at most a frame: more than one where frames are where trajectories begin."""
        return 1

    @property
    def by_reference(self) -> bool:
        """Whether its frames are run by the program of the reference itself, by tasks of ``ReferenceMdSettings``."""
        return False

    @property
    def wants(self) -> frozenset[str]:
        """What of ``needs`` it cannot do without as it is set: no potential, if the reference runs its frames."""
        return self.needs - {"potential"} if self.by_reference else self.needs

    @abstractmethod
    def most(self, crystals: int, formula: CampaignFormula) -> int | None:
        """Return the largest number of frames it makes, of so many crystals: labels that are budgeted before.

        None, if that depends on the crystals: how many there are is known when they are made.
        """

    @abstractmethod
    def frames(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return frames, each with its ``config_type`` and a ``frame_id`` (no other of them has it) in its ``info``.

        The same arguments give the same frames. ``parent`` is the ``frame_id`` of the crystal that one is made of.

        :raises StrategyError: if they cannot be made.
        """

    def config_type_as(self, name: str) -> str:
        """Return the ``config_type`` of its frames in a list where it has a name, unless they have several."""
        return getattr(self, "config_type", None) or name

    def taken(self, done: Sequence[Atoms]) -> list[Atoms]:
        """Return those frames that are labelled, of what its task has left; each knows its ``parent``."""
        return list(done)

    def apply(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return the frames, which are as agreed.

        :raises StrategyError: if they cannot be made, are more than was said, or lack ``config_type`` or a name of their own.
        """
        if "crystals" in self.needs and not crystals:
            raise StrategyError(f"{self.kind}: needs crystals, got none")
        self._check_crystals(crystals)
        if "crystals" in self.needs and (wrong := [atoms for atoms in crystals if at_one_place(atoms)]):
            what = wrong[0].info.get("frame_id", wrong[0].symbols)
            raise StrategyError(f"{self.kind}: crystal {what}: there are two atoms at one place (closer than {AT_ONE_PLACE:g} Å)")
        made, most = self.frames(crystals, formula, seed), self.most(len(crystals), formula)
        if most is not None and len(made) > most:
            raise StrategyError(f"{self.kind}: made {len(made)} frames, expected at most {most} as it said before")
        if any("config_type" not in atoms.info for atoms in made):
            raise StrategyError(f"{self.kind}: a frame has no config_type")
        if len({atoms.info.get("frame_id") for atoms in made} - {None}) < len(made):
            raise StrategyError(f"{self.kind}: a frame has no frame_id of its own")
        return made

    def _check_crystals(self, crystals: Sequence[Atoms]) -> None:
        """Refuse crystals that no library can be given: with positions that are no numbers some of them end the process.

        :raises StrategyError: with the name of the crystal.
        """
        for index, crystal in enumerate(crystals):
            try:
                fr.check(crystal, f"crystal {crystal.info.get('frame_id', f'{index:04d}')}")
            except fr.FrameError as error:
                raise StrategyError(f"{self.kind}: {error}") from error


#: A strategy by its settings, as it stands in a file.
AnyStrategy: TypeAlias = Annotated[SerializeAsAny[Strategy], BeforeValidator(by_kind(STRATEGIES, Strategy))]


def strategy_of(settings: Mapping[str, Any]) -> Strategy:
    """Return a strategy from its settings, ``{"kind": "distort", …}``.

    :raises StrategyError: if there is no such kind, or a setting is wrong.
    """
    kind = str(settings.get("kind"))
    try:
        found: Strategy = kind_of(STRATEGIES, kind, Strategy)(**settings)
    except KindError as error:
        raise StrategyError(str(error)) from error
    except ValidationError as error:
        raise StrategyError(in_words(error, prefix=f"{kind}.")) from error
    return found
