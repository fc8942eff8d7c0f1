"""Parser of the batched jobs: results.jsonl and the input frames to a dataset."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import Level

#: The status of frames that a job had no time for. Runners have longer ones for those that they stop in the middle.
NOT_REACHED = "not reached: the job ended before"
#: The status of frames whose calculation the end of a job's time cut off.
TIME_LIMIT = "time_limit"


class FramesParser(Parser):
    """Collect what a batched job finished, whether or not it came to its end."""

    def sources(self) -> list[Atoms]:
        """Return the input frames."""
        return list(self.node.inputs.frames.get_frames())

    def collect(self, sources: list[Atoms], results: list[tuple[str, list[Atoms]]]) -> None:
        """Make the output of the input frames, and of status and frames of each."""
        frames = [a for source, result in zip(sources, results, strict=True) for a in self.merge(source, *result)]
        self.out("frames", Dataset(frames, level_of_theory=self.level_of_theory()))

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the output frames for one input frame."""
        raise NotImplementedError

    def level_of_theory(self) -> Level | str:
        """Return the level of theory of the output dataset."""
        level: Level | str = self.node.inputs.frames.level
        return level

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Build the output dataset and the summary."""
        lines = read_results(Path(kwargs["retrieved_temporary_folder"]) / "results.jsonl")
        lines = {index: line for index, line in lines.items() if not line["status"].startswith("not reached")}
        sources = self.sources()
        if not lines and sources:
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        results = []
        for index in range(len(sources)):
            line = lines.get(index)
            results.append((line["status"], fr.loads(line["frames"])) if line else (NOT_REACHED, []))
        self.collect(sources, results)
        failed = [line["status"] for _, line in sorted(lines.items()) if line["status"].startswith("failed")]
        self.out("summary", Dict(self.summary(lines, len(sources))))
        if failed and len(failed) == len(sources):
            return self.exit_codes.ERROR_ALL_FAILED.format(message=failed[0])
        if len(lines) < len(sources):
            return self.exit_codes.ERROR_INCOMPLETE.format(done=len(lines), total=len(sources))
        return None

    def summary(self, lines: dict[int, dict[str, Any]], total: int) -> dict[str, Any]:
        """Return counts by status and times, and the numbers of frames that were not reached or cut off, if there are any."""
        try:
            summary = json.loads(self.retrieved.base.repository.get_object_content("summary.json", "r"))
        except (FileNotFoundError, json.JSONDecodeError):
            summary = {"complete": False}
        summary["frames"] = total
        summary["done"] = len(lines)
        summary["status"] = dict(sorted(Counter(line["status"].split(":")[0] for line in lines.values()).items()))
        for key, indices in (
            ("left", [index for index in range(total) if index not in lines]),
            ("cut", [index for index, line in sorted(lines.items()) if line["status"] == TIME_LIMIT]),
        ):
            if indices:
                summary[key] = indices
        summary["work_s"] = round(sum(line["seconds"] for line in lines.values()), 3)
        summary["cpu_s"] = round(sum(line["cpu"] for line in lines.values()), 3)
        return summary

    def last_words(self) -> str:
        """Return the end of the job's standard error, or what the scheduler said."""
        for name in ("stderr.txt", "_scheduler-stderr.txt"):
            if name in self.retrieved.base.repository.list_object_names():
                text = self.retrieved.base.repository.get_object_content(name, "r").strip()
                if text:
                    return text.splitlines()[-1]
        return "none (no standard error)"


def read_results(path: Path) -> dict[int, dict[str, Any]]:
    """Return the finished results by index of the input frame; what a kill or a full disk has left of others is left out."""
    results: dict[int, dict[str, Any]] = {}
    if not path.is_file():
        return results
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            results[line["index"]] = line
    return results
