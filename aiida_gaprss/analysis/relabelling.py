"""Which existing frames another reference labels anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hull import above_hull
from aiida_gaprss.selection.choose import lowest
from aiida_gaprss.selection.databases import chosen, each_once
from aiida_gaprss.settings.model import Count, Model, SeedNumber

#: How frames are chosen.
How: TypeAlias = Literal["farthest", "cur", "random", "lowest"]


class Relabelling(Model):
    """Which of some frames are labelled anew: all, or so many."""

    max_labels: Count | None = Field(
        None, description="so many frames at most, isolated atoms and dimers, which are always among them, counted; default: all"
    )
    choose: How = Field(
        "farthest",
        description="which: farthest or cur, those that differ most from each other, and from what is labelled already, by "
        "fingerprint; random; lowest, those of the lowest energies above the convex hull of their labels",
    )
    seed: SeedNumber = 1

    def frames(self, given: Sequence[Atoms], database: Sequence[Atoms] = ()) -> list[Atoms]:
        """Return the frames that are to be labelled, without labels.

        One that had labels gets a name of its own, and the frame that it is of as its parent.

        :param database: frames that are labelled at the new level already: they are not chosen again.
        :raises ValueError: if nothing is left to be chosen, or frames without energies are to be chosen by these.
        """
        known = {fr.label_key(atoms) for atoms in database if fr.is_labelled(atoms)}
        left = [atoms for atoms in each_once({"": given}) if fr.label_key(atoms) not in known]
        wanted = self._chosen(left, database)
        if not any(not fr.is_in_vacuum(atoms) for atoms in wanted):
            raise ValueError(self._nothing(left, bool(database)))
        return [_to_label(atoms) for atoms in wanted]

    def _chosen(self, left: Sequence[Atoms], database: Sequence[Atoms]) -> list[Atoms]:
        if self.max_labels is None:
            return list(left)
        if self.choose != "lowest":
            return chosen(self, {"": left}, database)
        heights = above_hull(left)
        known = np.flatnonzero(np.isfinite(heights))
        room = max(0, self.max_labels - sum(map(fr.is_in_vacuum, left)))
        kept = {int(known[number]) for number in lowest(heights[known], room).kept}
        return [atoms for number, atoms in enumerate(left) if number in kept or fr.is_in_vacuum(atoms)]

    def _nothing(self, left: Sequence[Atoms], beside: bool) -> str:
        vacuum = sum(map(fr.is_in_vacuum, left))
        if self.choose == "lowest" and not any(fr.is_labelled(atoms) for atoms in left if not fr.is_in_vacuum(atoms)):
            return "choose: lowest, but no frame has an energy; expected labelled frames, or farthest, cur, random"
        if len(left) > vacuum:
            what = f"isolated atoms and dimers, which are always among them, are {vacuum} already"
            return f"max_labels: {self.max_labels}, but {what}: nothing else can be chosen; expected more than {vacuum}"
        return "no frames but isolated atoms and dimers are left to be labelled" + (
            ": the others are labelled already" if beside else ""
        )


def _to_label(atoms: Atoms) -> Atoms:
    if fr.is_labelled(atoms):
        return fr.to_label_again(atoms, f"{atoms.info['frame_id']}-again")
    out = atoms.copy()
    fr.drop_labels(out)
    return out


def elements_without_atom(frames: Sequence[Atoms]) -> list[str]:
    """Return the elements of which no frame is an isolated atom."""
    elements = {symbol for atoms in frames for symbol in atoms.symbols}
    return sorted(elements - {atoms.symbols[0] for atoms in frames if fr.is_isolated_atom(atoms)})
