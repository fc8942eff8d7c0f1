"""Checks that need no physics: which labels there are, and at which level of theory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ase import Atoms

from aiida_gaprss.audit.placeholders import Placeholders
from aiida_gaprss.audit.result import Check
from aiida_gaprss.frames import REFERENCE, is_in_vacuum, is_isolated_atom, is_labelled
from aiida_gaprss.levels import Level, difference, line_of

#: What ``level_of_theory`` says if nobody has said anything.
UNKNOWN = ("", "unknown", "unlabelled")
#: What is wrong with a placeholder: a whole one, and one in part.
_WHY = ("which no calculation gives", "though symmetry does not demand it: held atoms, or a constrained cell?")


def check_labels(
    frames: Sequence[Atoms], names: Sequence[str], placeholders: Sequence[Placeholders], refused: Sequence[str] = ()
) -> Check:
    """Check that every frame has energy, forces and virial, and that none is a placeholder or of a calculation that failed.

    Isolated atoms and dimers need no virial. Energies without forces, or forces without virials, in a part of the frames make a
    warning: a fit is then lopsided, mostly without anybody's intent.

    :param placeholders: what stands for labels that were not calculated.
    :param refused: why frames could not be read, for example for a label that is not a finite number.
    """
    check = Check("labels")
    if refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        check.add("fault", f"{len(refused)} frames cannot be used: {refused[0]}{more}")
    for found in placeholders:
        sentence = f"{len(found.reasons)} {found.kind.replace(' that are ', ' are ', 1)}, {_WHY[found.kind.endswith('in part')]}"
        check.add("fault", sentence, [names[i] for i in found.reasons])
    others = [i for i, a in enumerate(frames) if not is_isolated_atom(a)]
    status = {i: str(frames[i].info["label_status"]) for i in range(len(frames)) if "label_status" in frames[i].info}
    kept = [i for i in status if status[i] != "ok" and is_labelled(frames[i])]
    if kept:
        reason = Counter(status[i] for i in kept).most_common(1)[0][0]
        check.add("fault", f"{len(kept)} frames have a label though their status is: {reason}", [names[i] for i in kept])
    failed = [i for i in status if status[i] != "ok" and not is_labelled(frames[i])]
    if failed:
        reason = Counter(status[i] for i in failed).most_common(1)[0][0]
        check.add("warning", f"{len(failed)} frames without label, most of them for: {reason}", [names[i] for i in failed])
    never = [i for i in range(len(frames)) if i not in status and not is_labelled(frames[i])]
    if never:
        check.add("warning", f"{len(never)} frames without energy, for no reason given", [names[i] for i in never])
    labelled = [i for i in others if is_labelled(frames[i])]
    if not any(is_labelled(atoms) for atoms in frames):
        check.add("fault", "no frame has an energy")
    for kind, have in (
        ("forces", {i for i in labelled if f"{REFERENCE}_forces" in frames[i].arrays}),
        ("virial", {i for i in labelled if f"{REFERENCE}_virial" in frames[i].info}),
    ):
        check.numbers[kind] = len(have)
        without = [i for i in labelled if i not in have and not (kind == "virial" and is_in_vacuum(frames[i]))]
        if without and have:
            types = Counter(str(frames[i].info.get("config_type", "unknown")) for i in without)
            listed = ", ".join(f"{n} {name}" for name, n in types.most_common(3))
            noun = "virials" if kind == "virial" else kind
            check.add("warning", f"no {noun} in {len(without)} of {len(labelled)} frames: {listed}", [names[i] for i in without])
    check.numbers["energy"] = len(labelled)
    if check.verdict == "ok":
        nouns = {"forces": "forces", "virial": "virials"}
        others_too = " and ".join(f"{check.numbers[kind]} {noun}" for kind, noun in nouns.items() if check.numbers[kind])
        check.add("ok", f"{len(labelled)} energies, {others_too or 'nothing else'}")
    return check


def check_levels(levels: Mapping[str, Level | str | None], mixed: bool = False) -> Check:
    """Check that all sources are labelled at one level of theory.

    :param levels: by source; None for a file, which cannot say.
    :param mixed: let several levels pass.
    """
    check = Check("level of theory")
    known = {source: level for source, level in levels.items() if level is not None and level not in UNKNOWN}
    lines = {source: level and line_of(level) for source, level in levels.items()}
    check.numbers["levels"] = lines
    distinct = sorted({line_of(level) for level in known.values()})
    other = difference(known)
    if other:
        listed = "; ".join(f"{line} ({', '.join(s for s in known if lines[s] == line)})" for line in distinct)
        check.add("warning" if mixed else "fault", f"{len(distinct)} levels: {listed}")
    elif len(known) == len(levels) and known:
        check.add("ok", distinct[0])
    elif known:
        silent = [source for source in levels if source not in known]
        check.add("not judged", f"{distinct[0]}; nothing is said of {', '.join(silent)}")
    else:
        check.add("not judged", "nothing is said of it")
    return check
