"""Pair potentials as a family of models: fitted and evaluated by a small program of python and numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator
from pydantic import ValidationError

from aiida_gaprss.frames import describe
from aiida_gaprss.models.base import Family, FitFault, FitJob, FitOutcome, PotentialError, Source
from aiida_gaprss.models.pair.settings import PairFile, PairSettings
from aiida_gaprss.models.training import atomic_energies
from aiida_gaprss.outside import shown
from aiida_gaprss.runners import FOLDER
from aiida_gaprss.runners.pair import PairPotential
from aiida_gaprss.settings.model import in_words

#: Largest file of a pair potential, bytes.
MOST_BYTES = 2**24


class Pair(Family):
    """Pair potentials by linear least squares: E = Σ E0 + Σ_pairs Σ_k A_k/r^k, switched off smoothly."""

    NAME, TITLE = "pair", "Pair potential"
    SETTINGS: ClassVar[type[PairSettings]] = PairSettings
    PROGRAM = "python"
    MAIN = "pair.json"
    SCRIPTS = (FOLDER / "pair.py",)
    #: What the program is told.
    CONFIG = "fit.in"

    def job(self, frames: Sequence[Atoms], settings: PairSettings, seed: int, training: str) -> FitJob:
        """Return the options of the fit; nothing of it is random."""
        known = {} if settings.e0 == "average" else atomic_energies(frames, settings.e0)
        options = {
            "training": training,
            "output": self.MAIN,
            "cutoff": settings.cutoff,
            "switch": settings.switch_A,
            "powers": list(settings.powers),
            "sigma": settings.sigma,
            "e0": known,
        }
        return FitJob({self.CONFIG: json.dumps(options, indent=1) + "\n"}, ["pair.py", self.CONFIG], [self.MAIN])

    def read(self, folder: Path, log: str, errors: str, frames: Sequence[Atoms], settings: PairSettings) -> FitOutcome:
        """Compare what was used with what was sent."""
        last = errors.strip().splitlines()[-1:] or ["no error message"]
        if not log.strip():
            return FitOutcome(fault=FitFault("abort" if errors.strip() else "no log", shown(last[0])))
        try:
            said = json.loads(log)
            counts = {key: int(said["counts"][key]) for key in ("energies", "forces", "virials")}
            results = {"counts": counts, **{key: said[key] for key in ("rank", "columns", "eta_2body")}}
        except (ValueError, KeyError, TypeError) as exception:
            return FitOutcome(fault=FitFault("abort", f"its last words are no JSON of a fit: {shown(log[-200:])} ({exception})"))
        known = describe(frames)
        expected = {"energies": known["energies"], "forces": known["forces"], "virials": 6 * known["virials"]}
        wrong = [f"{key}: {n} sent, {counts[key]} read" for key, n in expected.items() if counts[key] != n]
        if wrong:
            return FitOutcome(results, FitFault("counts", "; ".join(wrong)))
        if not (folder / self.MAIN).is_file():
            return FitOutcome(results, FitFault("no potential", f"there is no {self.MAIN}; {shown(last[0])}"))
        return FitOutcome(results)

    def open(self, source: Source, main: str, where: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Read the file as that of a stranger."""
        content = source.content(main, MOST_BYTES)
        try:
            told = PairFile.model_validate(json.loads(content))
        except ValidationError as exception:
            raise PotentialError(f"{where}: {in_words(exception)}") from exception
        except (ValueError, RecursionError, TypeError) as exception:
            raise PotentialError(f"{where}: is no pair potential, expected JSON: {shown(exception)}") from exception
        facts = {
            "elements": sorted(told.e0_eV),
            "cutoff": told.cutoff_A,
            "e0": dict(sorted(told.e0_eV.items())),
            "powers": list(told.powers),
            "eta_2body": told.eta,
            "pairs": [f"{'–'.join(pair.elements)}, from {pair.shortest_A:.3f} Å on" for pair in told.pairs],
        }
        return facts, {main: content}

    def differs(self, facts: Mapping[str, Any], frames: Sequence[Atoms], settings: PairSettings) -> str | None:
        """Compare elements, cutoff and powers."""
        wanted = {
            "elements": sorted({s for atoms in frames for s in atoms.get_chemical_symbols()}),
            "cutoff": settings.cutoff,
            "powers": list(settings.powers),
        }
        other = [f"its {key} is {facts[key]}, expected {value}" for key, value in wanted.items() if facts[key] != value]
        return other[0] if other else None

    def calculator(self, facts: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Return the calculator that travels with the job."""
        return {"calculator": "pair.PairPotential", "arguments": {"param_filename": path}}

    def how_to_use(self, facts: Mapping[str, Any], path: str) -> str:
        """Return the call of the calculator where this package is."""
        return f"aiida_gaprss.runners.pair.PairPotential({path!r})"

    def owns(self, name: str, content: Callable[[], bytes]) -> bool:
        """Tell whether a file is that of a pair potential, whatever its name."""
        return name == self.MAIN or (name.endswith(".json") and b'"kind": "pair potential"' in content())

    def load(self, facts: Mapping[str, Any], path: Path, args: str = "") -> Calculator:
        """Return the calculator."""
        return PairPotential(str(path))

    def needs(self, facts: Mapping[str, Any]) -> str:
        """Say what reads it."""
        return "python with ase and this package (aiida_gaprss.runners.pair, one file without others of it)"

    def sigma(self, settings: PairSettings) -> dict[str, Any]:
        """Return the expected errors."""
        return {"sigma": settings.sigma}

    def terms(self, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the pairs."""
        powers = ", ".join(map(str, facts["powers"]))
        return [
            {
                "kind": "pair",
                "words": f"{pair}; 1/r^k with k = {powers}; cutoff {facts['cutoff']:g} Å",
                "species": sorted(pair.partition(",")[0].split("–")),
                "cutoff_A": facts["cutoff"],
            }
            for pair in facts["pairs"]
        ]

    def told(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return how far pairs go by themselves."""
        return {"eta_2body": facts.get("eta_2body")}
