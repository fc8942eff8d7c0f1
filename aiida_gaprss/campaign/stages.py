"""Names of the parts of a campaign, and of the links in its provenance graph: they are made here, and read here.

A campaign has parts: generations (``g00``, ``g01``, …), known crystals, the last search, and what refines its minima; where
searches and refinements are repeated, they are numbered together (``h01``, ``h02``, ``r03``, ``h04``). What a part calls is a
stage; the label of its link is the tag of the part and the name of the stage (``g03_relax``). Jobs that follow one that was cut
off have a number behind it, the calcfunction that joins them a word. Inputs of one kind have one prefix, and a name of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

#: Tags of the parts that are no generations, and of the first one.
DATABASE, CRYSTALS, SEARCH, REFINE, INITIAL = "database", "crystals", "search", "refine", "g00"
#: The outputs of the last fit have this tag, not that of a part.
FINAL = "final"

#: Stages, in the order of a generation.
INITIAL_CELLS, PARENTS, CELLS, BUILDCELL = "initial_cells", "parents", "cells", "buildcell"
RELAX, DESCRIBE, VARIANCES, SELECT, LABEL = "relax", "describe", "variances", "select", "label"
FIT, FINAL_FIT, LOW_MINIMA, EVALUATE, PROGRESS = "fit", "final_fit", "low_minima", "evaluate", "progress"
#: Stages of the last search.
SETTINGS, LOWEST, LOWEST_MINIMA, MINIMA, HOLD = "settings", "lowest", "lowest_minima", "minima", "hold"
#: Frames made by strategies of the lowest minima.
BUILD = "build"
#: Validations, and the crystals that they are of.
VALIDATE, KNOWN = "validate", "known_crystals"
#: A stage of what is called as LABEL: frames that need no calculation are set aside.
SETTLE = "settle"

#: Prefixes of inputs, besides DATABASE: frames to be labelled anew, cells of buildcell, low end points of earlier generations.
RELABEL, BUILT, SEEN = "relabel", "built", "seen"
#: Suffix of the vectors of a dataset.
VECTORS = "vectors"

#: First letters of the tags of searches until minima hold, and of refinements among them.
HELD, REFINED = "h", "r"

_WORDS = {DATABASE: "begun with", INITIAL: "initial", CRYSTALS: "known crystals", SEARCH: "final search", REFINE: "refined"}
_FRAME = re.compile(r"frame_(\d+)(?:_retry_(\d+))?")
_ROUND = re.compile(rf"({HELD}|{REFINED})(\d+)")
_PART = re.compile(r"frame_(\d+)_part_(\d+)")

Node = TypeVar("Node")


def tag_of(generation: int) -> str:
    """Return the tag of a generation: ``g03``."""
    return f"g{generation:02d}"


def generation_of(tag: str) -> int | None:
    """Return the number of a generation, None for another part."""
    return int(tag[1:]) if re.fullmatch(r"g\d+", tag) else None


def round_tag(kind: str, number: int) -> str:
    """Return the tag of a search (``HELD``) or a refinement (``REFINED``) that is repeated: ``h03``."""
    return f"{kind}{number:02d}"


def round_of(tag: str) -> tuple[str, int] | None:
    """Return kind and number of a part that is repeated after the generations, None for another part."""
    match = _ROUND.fullmatch(tag)
    return None if match is None else (match[1], int(match[2]))


def is_part(tag: str) -> bool:
    """Tell whether this is the tag of a part of a campaign that is made by it."""
    return generation_of(tag) is not None or round_of(tag) is not None or tag in (CRYSTALS, SEARCH, REFINE)


def is_search(tag: str) -> bool:
    """Tell whether a part is a search with a potential."""
    return tag == SEARCH or (round_of(tag) or ("", 0))[0] == HELD


def is_refinement(tag: str) -> bool:
    """Tell whether a part applies strategies to minima."""
    return tag == REFINE or (round_of(tag) or ("", 0))[0] == REFINED


def order(tags: Iterable[str]) -> list[str]:
    """Return tags of parts in the order in which a campaign makes them."""
    return sorted(tags, key=_place)


def _place(tag: str) -> tuple[int, int, str]:
    generation, repeated = generation_of(tag), round_of(tag)
    if generation is not None:
        return 1, generation, tag
    if repeated is not None:
        return 3, repeated[1], tag
    alone = {DATABASE: (0, 0), CRYSTALS: (2, 0), FINAL: (2, 1), SEARCH: (2, 2), REFINE: (2, 3)}
    return *alone.get(tag, (4, 0)), tag


def in_words(tag: str) -> str:
    """Return what a part is called."""
    if (repeated := round_of(tag)) is not None:
        return f"{'search' if repeated[0] == HELD else 'refinement'}, round {repeated[1]}"
    return _WORDS.get(tag, f"generation {generation_of(tag)}")


def link(tag: str, stage: str, kind: str = "") -> str:
    """Return the label of the link to what a part calls: ``g03_relax``, ``g03_buildcell_dense``."""
    return f"{tag}_{stage}" + (f"_{kind}" if kind else "")


def part_of(label: str) -> str:
    """Return the tag in the label of a link."""
    return label.partition("_")[0]


def stage_of(label: str) -> str:
    """Return the stage in the label of a link, with what stands behind it; empty if there is none."""
    return label.partition("_")[2]


def following(label: str, number: int) -> str:
    """Return the label of the link to the job that is the so many-th for one task."""
    return f"{label}_{number}"


def joined(label: str) -> str:
    """Return the label of the link to what joins the results of several jobs for one task."""
    return f"{label}_joined"


def named(prefix: str, name: str) -> str:
    """Return the name of an input of a kind: ``database_old``."""
    return f"{prefix}_{name}"


def all_named(prefix: str, nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Return the inputs of a kind, by the names that they have as inputs."""
    return {key: node for key, node in nodes.items() if key.startswith(f"{prefix}_")}


def vectors_of(name: str) -> str:
    """Return the name of the input with the vectors of a dataset."""
    return f"{name}_{VECTORS}"


def frame_link(index: int, attempt: int) -> str:
    """Return the label of the link to the calculation of a frame; attempt 1 is the first retry."""
    return f"frame_{index:04d}" + (f"_retry_{attempt}" if attempt else "")


def part_link(index: int, part: int) -> str:
    """Return the label of the link to what runs a part of the trajectory of a frame; part 0 is the first."""
    return f"frame_{index:04d}_part_{part}"


def part_of_frame(label: str) -> tuple[int, int] | None:
    """Return frame and part in the label of a link, None if it is of something else."""
    match = _PART.fullmatch(label)
    return None if match is None else (int(match[1]), int(match[2]))


def frame_of(label: str) -> tuple[int, int] | None:
    """Return frame and attempt in the label of a link, None if it is of something else."""
    match = _FRAME.fullmatch(label)
    return None if match is None else (int(match[1]), int(match[2] or 0))
