"""Audit of a labelled dataset before anybody fits to it: are the labels what they say they are?

No DFT and no potential is needed. Labels of one frame are held against each other and against those of neighbouring frames:
:mod:`evidence` with a small linear model, :mod:`paths` without any. No AiiDA.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from ase import Atoms

from aiida_gaprss.audit.consistency import check_forces, check_net_force, check_virials
from aiida_gaprss.audit.duplicates import check_duplicates
from aiida_gaprss.audit.energies import check_energy_unit, check_energy_zero, check_isolated_atoms
from aiida_gaprss.audit.evidence import Evidence, examine
from aiida_gaprss.audit.labels import check_labels, check_levels
from aiida_gaprss.audit.paths import Paths, find_paths
from aiida_gaprss.audit.placeholders import Placeholders, drop_placeholders, find_placeholders
from aiida_gaprss.audit.result import VERDICTS, Audit, AuditSettings, Check, worst
from aiida_gaprss.audit.structures import check_geometry, check_outliers
from aiida_gaprss.levels import Level

__all__ = ["CHECKS", "VERDICTS", "Audit", "AuditSettings", "Check", "audit", "worst"]


class _Work:
    """The frames, and what several checks need, computed once."""

    def __init__(
        self,
        sources: Mapping[str, Sequence[Atoms]],
        levels: Mapping[str, Level | str | None],
        settings: AuditSettings,
        mixed_levels: bool,
        refused: Sequence[str],
    ) -> None:
        self.levels, self.settings, self.mixed_levels, self.refused = levels, settings, mixed_levels, refused
        self.frames = [atoms for frames in sources.values() for atoms in frames]
        ids = [str(a.info.get("frame_id", f"frame {n}")) for frames in sources.values() for n, a in enumerate(frames, start=1)]
        where = [source for source, frames in sources.items() for _ in frames]
        count = Counter(ids)
        self.names = [name if count[name] == 1 else f"{source}: {name}" for name, source in zip(ids, where, strict=True)]

    @cached_property
    def placeholders(self) -> list[Placeholders]:
        return find_placeholders(self.frames)

    @cached_property
    def calculated(self) -> list[Atoms]:
        """The frames without labels that stand for "not calculated"."""
        if not self.placeholders:
            return self.frames
        frames = [atoms.copy() for atoms in self.frames]
        drop_placeholders(frames, self.placeholders)
        return frames

    @cached_property
    def evidence(self) -> Evidence:
        return examine(self.calculated, self.settings.fit_atoms)

    @cached_property
    def paths(self) -> Paths:
        """Paths, with labels of which the model has undone a mistake."""
        frames = self.calculated
        if self.evidence.global_mistake:
            frames = [self.evidence.mended(atoms) for atoms in frames]
        return find_paths(frames)


_CHECKS: dict[str, Callable[[_Work], Check]] = {
    "labels": lambda w: check_labels(w.frames, w.names, w.placeholders, w.refused),
    "level of theory": lambda w: check_levels(w.levels, w.mixed_levels),
    "isolated atoms": lambda w: check_isolated_atoms(w.calculated, w.names, w.settings),
    "energy zero": lambda w: check_energy_zero(w.calculated, w.names, w.evidence, w.paths),
    "energy unit": lambda w: check_energy_unit(w.evidence),
    "forces": lambda w: check_forces(w.calculated, w.names, w.evidence, w.paths),
    "net force": lambda w: check_net_force(w.calculated, w.names),
    "virials": lambda w: check_virials(w.calculated, w.names, w.evidence, w.paths),
    "duplicates": lambda w: check_duplicates(w.calculated, w.names, w.settings),
    "outliers": lambda w: check_outliers(w.calculated, w.names, w.settings),
    "geometry": lambda w: check_geometry(w.frames, w.names, w.settings),
}

#: Names of the checks, in their order.
CHECKS = tuple(_CHECKS)


def audit(
    sources: Mapping[str, Sequence[Atoms]],
    levels: Mapping[str, Level | str | None] | None = None,
    settings: AuditSettings | None = None,
    mixed_levels: bool = False,
    skip: Sequence[str] = (),
    refused: Sequence[str] = (),
) -> Audit:
    """Return the audit of the frames of some sources, taken together.

    :param sources: frames with ``REF_*`` labels by the name of the file or dataset.
    :param levels: level of theory by the name of the source, None where it is not known.
    :param mixed_levels: let several levels of theory pass with a warning.
    :param skip: names of checks that are left out.
    :param refused: why further frames could not even be read; a fault of the labels.
    :raises ValueError: if there are no frames, or for a check that does not exist.
    """
    unknown = [name for name in skip if name not in CHECKS]
    if unknown:
        raise ValueError(f"no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    work = _Work(sources, levels or dict.fromkeys(sources), settings or AuditSettings(), mixed_levels, refused)
    if not work.frames:
        raise ValueError("no frames to audit")
    checks = [make(work) for name, make in _CHECKS.items() if name not in skip]
    return Audit(checks, len(work.frames), work.settings)
