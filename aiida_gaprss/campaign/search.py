"""Settings of a search: the last one of a campaign, and that of a potential by itself."""

from __future__ import annotations

from ase import units
from pydantic import Field, model_validator

from aiida_gaprss.models.regularisation import Sigma
from aiida_gaprss.settings.faults import Fault, FaultError
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import AtomCount, Count, CountOrZero, Model, Name, Positive, Pressure
from aiida_gaprss.strategies.cells import Seed

#: Config type of minima that are labelled until they hold.
MINIMUM = "held_minimum"


class RankingSettings(Model):
    """How the cells of a search are relaxed, and which minima are told."""

    cells: dict[Name, Count] = Field(description="number of new random cells of each kind of seed")
    pressure_GPa: Pressure = Field(0.0, description="pressure of the search; minima are ranked by their enthalpy at it")
    relax: RelaxSettings = Field(default_factory=lambda: RelaxSettings(snapshot_steps=[]))
    window: Positive = Field(0.5, description="eV/atom above the lowest within which minima are reported")
    report: Count = Field(10, description="number of minima reported")
    batch: Count = Field(500, description="cells in one job; other batches are other cells")


class SearchSettings(RankingSettings):
    """The search with the final potential."""

    again: CountOrZero = Field(20, description="number of the lowest frames of the database that are relaxed once more")
    label: CountOrZero = Field(5, description="number of the lowest minima checked against the reference")


class HoldSettings(Model):
    """Searches, each with the potential fitted to what the last has found, until the lowest minima agree with the reference.

    Every round labels those of the lowest minima that no label of the database stands for, or that do not hold, and fits to all.
    It is over when all of them agree, labelled as they are, and some searches in a row have brought nothing new.
    """

    lowest: Count = Field(10, description="so many of the lowest minima are to agree with the reference")
    energy: Positive = Field(0.01, description="eV/atom, up to which the energy of a minimum agrees")
    force: Positive = Field(0.1, description="eV/Å, largest component that the reference may leave at a minimum")
    pressure: Positive = Field(1.0, description="GPa, largest component of the stress that the reference may leave")
    searches: Count = Field(2, description="in a row that may bring no minimum among the lowest that the database does not know")
    max_labels: Count = Field(100, description="labels of all rounds together")
    max_rounds: Count = Field(25, description="searches at most")
    per_round: Count = Field(10, description="labels of one round at most, lowest first")
    cells: dict[Name, Count] | None = Field(None, description="random cells of each search; default: those of search")
    tight: bool = Field(
        True,
        description=f"fit these minima (config type {MINIMUM}) with sigmas of a tenth of energy, a fifth of force and pressure; "
        "false, or a family without regularisation: as the other frames",
    )

    def sigma(self, volume: float) -> Sigma:
        """Return the sigmas of these minima.

        :param volume: of an atom, Å³, by which a pressure is a virial.
        """
        virial = self.pressure * units.GPa * volume / 5
        return Sigma(energy=self.energy / 10, forces=self.force / 5, virial=virial)


class DiagnosticSearchSettings(RankingSettings):
    """A search with one potential, from random cells of one composition."""

    formula: dict[str, AtomCount] = Field(min_length=1, description="atoms per formula unit")
    seeds: dict[Name, Seed] = Field(min_length=1, description="kinds of random cells by name")

    @model_validator(mode="after")
    def _known_kinds(self) -> DiagnosticSearchSettings:
        known = ", ".join(self.seeds)
        faults = [f"no kind of seed is called {kind!r}; known: {known}" for kind in self.cells if kind not in self.seeds]
        if not self.cells:
            faults.append("expected at least one kind of seed with its number")
        if faults:
            raise FaultError([Fault(("cells",), message) for message in faults])
        return self

    @property
    def attempts(self) -> int:
        """Number of random cells."""
        return sum(self.cells.values())

    def counts(self) -> list[dict[str, int]]:
        """Return the number of cells of each kind for every batch; every batch has its share of all kinds."""
        batches = -(-self.attempts // self.batch)
        shares = [{k: n * (b + 1) // batches - n * b // batches for k, n in self.cells.items()} for b in range(batches)]
        return [{kind: n for kind, n in share.items() if n} for share in shares]


def scaled(cells: dict[str, int], attempts: int) -> dict[str, int]:
    """Return the numbers of cells in the same proportions, of ``attempts`` cells in all; a kind that gets none is left out."""
    total = sum(cells.values())
    ends = [sum(list(cells.values())[: i + 1]) * attempts // total for i in range(len(cells))]
    return {kind: n for kind, n in zip(cells, (b - a for a, b in zip([0, *ends], ends, strict=False)), strict=True) if n}
