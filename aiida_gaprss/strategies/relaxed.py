"""Crystals that are relaxed before strategies are applied to them, and which of them are left out.

As J. George, G. Hautier, A. P. Bartók, G. Csányi and V. L. Deringer, J. Chem. Phys. 153, 044104 (2020) took theirs from the
Materials Project: up to a number of atoms, and only those that a relaxation by the reference left what they were.
"""

from __future__ import annotations

from typing import Literal

from ase import Atoms
from pydantic import Field

from aiida_gaprss.runners.status import CONVERGED
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import Count, Length, Model, Positive
from aiida_gaprss.structures.matching import ANGLE_TOL, LTOL, STOL, is_same, space_group


class RelaxedCrystals(Model):
    """Who relaxes the crystals, cell and atoms at zero pressure, and which of them go on to the strategies."""

    by: Literal["reference", "potential"] = Field(
        "reference", description="the reference, if it relaxes crystals: an ASE calculator, quantumespresso; or the potential"
    )
    most_atoms: Count | None = Field(None, description="crystals of more atoms are left out before they are relaxed")
    ltol: Positive = Field(LTOL, description="a crystal that becomes another structure is left out: of lengths, relative")
    stol: Positive = Field(STOL, description="of sites, relative to the distance of atoms (pymatgen's StructureMatcher)")
    angle_tol: Positive = Field(ANGLE_TOL, description="of angles, degrees")
    volume_change: Positive | None = Field(
        0.3,
        description="relative, of a crystal that stays the same but for its size; more is another phase, or a hole of a "
        "potential; null: any, as in the paper",
    )
    fmax: Positive = Field(0.005, description="largest force that is left, eV/Å, by a potential or an ASE calculator")
    max_steps: Count = Field(500, description="by a potential or an ASE calculator; a crystal that needs more is left out")
    symprec_A: Length = Field(0.05, description="of the space groups that are told")

    @property
    def job(self) -> RelaxSettings:
        """Settings of relaxations by a potential or an ASE calculator; as by DFT programs, the symmetry is kept."""
        return RelaxSettings(fmax=self.fmax, max_steps=self.max_steps, snapshot_steps=[], symmetry="kept")

    def too_large(self, crystal: Atoms) -> str | None:
        """Return why a crystal is not relaxed, or None."""
        if self.most_atoms is None or len(crystal) <= self.most_atoms:
            return None
        return f"{len(crystal)} atoms, expected at most {self.most_atoms} (relax.most_atoms)"

    def why_not(self, given: Atoms, end: Atoms | None, failure: str = "") -> str | None:
        """Return why a crystal is left out, or None.

        :param end: the last step of its relaxation, whose ``relax_status`` says how it ended; ``failure``: why there is none.
        """
        if (large := self.too_large(given)) is not None:
            return large
        status = str(end.info.get("relax_status") or end.info.get("label_status")) if end is not None else failure
        if end is None or status != CONVERGED:
            return f"not relaxed: {status or 'no frame came back'}"
        if not is_same(given, end, self.ltol, self.stol, self.angle_tol):
            return f"became another structure: {self.in_words(given, end)}"
        if self.volume_change is not None and abs(_volume_change(given, end)) > self.volume_change:
            return f"{self.in_words(given, end)}, expected at most {100 * self.volume_change:g} % (relax.volume_change)"
        return None

    def in_words(self, given: Atoms, end: Atoms) -> str:
        """Return space group before and after, and the change of volume."""
        before, after = (space_group(one, self.symprec_A) for one in (given, end))
        groups = before if before == after else f"{before} before, {after} after"
        return f"{groups}, volume {100 * _volume_change(given, end):+.1f} %"


def _volume_change(given: Atoms, end: Atoms) -> float:
    """Return by how much the volume of an atom has changed, relative to what it was."""
    return float(end.get_volume() / len(end) * len(given) / given.get_volume() - 1)
