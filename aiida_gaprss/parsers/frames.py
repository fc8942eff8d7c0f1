"""Parser of the batched jobs: results.jsonl and the input frames to a dataset."""

from __future__ import annotations

import math
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser
from ase import Atoms

from aiida_gaprss.calculations.common import named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import Level
from aiida_gaprss.outside import shown
from aiida_gaprss.parsers.results import DamageError, Result, in_words, read_object, read_results
from aiida_gaprss.runners.status import NOT_REACHED, NOT_REACHED_WORD, TIME_LIMIT

#: What ``summary.json`` says, and of which kind it is.
SUMMARY = {"frames": int, "done": int, "processes": int, "wall_s": float, "python": str, "complete": bool}


class FramesParser(Parser):
    """Collect what a batched job finished, whether or not it came to its end.

    A result that is damaged, or not of the frame that was sent, is left out as if the job had not reached the frame, and told.
    """

    WHAT: str  #: what a person calls the frames that come out

    @cached_property
    def potential(self) -> str:
        """Return the uuid of the potential, asked for once and not for every frame."""
        return str(self.node.inputs.potential.uuid)

    def sources(self) -> list[Atoms]:
        """Return the input frames."""
        return list(self.node.inputs.frames.get_frames())

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse what the task cannot have made of an input frame.

        :raises DamageError: naming the value, and what was expected.
        """
        raise NotImplementedError

    def collect(self, sources: list[Atoms], results: list[tuple[str, list[Atoms]]]) -> None:
        """Make the output of the input frames, and of status and frames of each."""
        frames = [a for source, result in zip(sources, results, strict=True) for a in self.merge(source, *result)]
        dataset = Dataset(frames, level_of_theory=self.level_of_theory())
        self.out("frames", named(dataset, self.WHAT, frames, self.node))

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the output frames for one input frame."""
        raise NotImplementedError

    def name_children(self, source: Atoms, results: list[Atoms], inherited: tuple[str, ...] = ()) -> None:
        """Name what a potential has made of a frame after that frame and the step, and say where it is from.

        :param inherited: keys of the frame that hold for them, too.
        """
        parent = source.info["frame_id"]
        for atoms in results:
            atoms.info.update({key: source.info[key] for key in inherited if key in source.info})
            atoms.info.update(frame_id=f"{parent}-s{atoms.info['step']}", parent=parent, origin=self.node.uuid)
            if "potential" in self.node.inputs:
                atoms.info["potential"] = self.potential

    def keep_states(self, folder: Path, sources: list[Atoms], unfinished: list[int]) -> None:
        """Keep what another job needs to go on with frames that are not finished, by their numbers; most tasks have nothing."""

    def level_of_theory(self) -> Level | str:
        """Return the level of theory of the output dataset."""
        level: Level | str = self.node.inputs.frames.level
        return level

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Build the output dataset and the summary."""
        sources = self.sources()
        found = read_results(Path(kwargs["retrieved_temporary_folder"]) / "results.jsonl", sources, self.check)
        told = self.told(found.total, found.damage)
        lines = {index: line for index, line in found.lines.items() if not line.status.startswith(NOT_REACHED_WORD)}
        unfinished = [index for index in range(len(sources)) if index not in lines or lines[index].status == TIME_LIMIT]
        self.keep_states(Path(kwargs["retrieved_temporary_folder"]), sources, unfinished)
        if not lines and sources:
            if found.damage:
                return self.exit_codes.ERROR_DAMAGED.format(message=in_words(found.damage))
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        results = []
        for index in range(len(sources)):
            line = lines.get(index)
            results.append((line.status, line.frames) if line else (NOT_REACHED, []))
        self.collect(sources, results)
        failed = [line.status for _, line in sorted(lines.items()) if line.status.startswith("failed")]
        summary = Dict({**self.summary(told, lines, len(sources)), "times": times_by_size(sources, lines)})
        self.out("summary", named(summary, f"counts and times of {self.WHAT}", sources, self.node))
        if found.damage:
            return self.exit_codes.ERROR_DAMAGED.format(message=in_words(found.damage))
        if failed and len(failed) == len(sources):
            return self.exit_codes.ERROR_ALL_FAILED.format(message=shown(failed[0], most=500))
        if len(lines) < len(sources):
            return self.exit_codes.ERROR_INCOMPLETE.format(done=len(lines), total=len(sources))
        return None

    def told(self, total: int, damage: list[str]) -> dict[str, Any]:
        """Return what the job says of itself at its end, or that it did not come to it.

        :param total: lines of its results.
        :param damage: to which is added what is wrong with it.
        """
        try:
            text = self.retrieved.base.repository.get_object_content("summary.json", "rb")
        except FileNotFoundError:
            return {"complete": False}
        try:
            out = _checked(read_object(text))
            if out["done"] != total:
                raise DamageError(f"done is {out['done']}, but results.jsonl has {total} lines")
        except DamageError as fault:
            damage.append(f"summary.json: {fault}")
            return {"complete": False}
        return out

    def summary(self, told: dict[str, Any], lines: dict[int, Result], total: int) -> dict[str, Any]:
        """Return counts by status and times, and the numbers of frames that were not reached or cut off, if there are any.

        :param told: what the job said of itself.
        """
        summary = {**told, "frames": total, "done": len(lines)}
        summary["status"] = dict(sorted(Counter(line.status.split(":")[0] for line in lines.values()).items()))
        for key, indices in (
            ("left", [index for index in range(total) if index not in lines]),
            ("cut", [index for index, line in sorted(lines.items()) if line.status == TIME_LIMIT]),
        ):
            if indices:
                summary[key] = indices
        summary["work_s"] = round(sum(line.seconds for line in lines.values()), 3)
        summary["cpu_s"] = round(sum(line.cpu for line in lines.values()), 3)
        return summary

    def last_words(self) -> str:
        """Return the end of the job's standard error, or what the scheduler said."""
        for name in ("stderr.txt", "_scheduler-stderr.txt"):
            if name in self.retrieved.base.repository.list_object_names():
                text = self.retrieved.base.repository.get_object_content(name, "rb").decode("utf-8", errors="replace").strip()
                if text:
                    return shown(text.splitlines()[-1], most=500)
        return "none (no standard error)"


def times_by_size(sources: list[Atoms], lines: dict[int, Result]) -> dict[str, list[float]]:
    """Return by number of atoms how many frames were finished, and their seconds together."""
    out: dict[str, list[float]] = {}
    for index, line in sorted(lines.items()):
        if not line.status.startswith("failed"):
            count, seconds = out.get(str(len(sources[index])), (0, 0.0))
            out[str(len(sources[index]))] = [count + 1, round(seconds + line.seconds, 4)]
    return out


def _checked(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of a job.

    :raises DamageError: for a key that is missing, unknown or of another kind.
    """
    if set(summary) != set(SUMMARY):
        raise DamageError(f"has {', '.join(map(shown, sorted(summary)))}, expected {', '.join(SUMMARY)}")
    for key, kind in SUMMARY.items():
        value = summary[key]
        # In python True is a number, and a number with a point may come without.
        good = type(value) is kind or (kind is float and type(value) is int)
        if not good or (kind in (int, float) and not (0 <= value < 1e12 and math.isfinite(value))):
            raise DamageError(f"{key} is {shown(repr(value), most=60)}, expected {kind.__name__}")
    return summary
