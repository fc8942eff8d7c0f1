"""Settings of the batched jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from ase.data import atomic_numbers
from pydantic import AfterValidator, Field, field_validator, model_validator
from typing_extensions import Self

from aiida_gaprss.settings.calculators import check_name
from aiida_gaprss.settings.model import (
    Coordinate,
    Count,
    CountOrZero,
    Length,
    LengthOrZero,
    Line,
    Model,
    Positive,
    PositiveOrZero,
    Pressure,
    Seconds,
    SeedNumber,
)

#: Scratch folders that are removed when their jobs have been evaluated: of no job, of those that ended well, of all.
ScratchPolicy = Literal["keep", "finished", "all"]


def _pairs(value: float | dict[str, float]) -> float | dict[str, float]:
    for pair in value if isinstance(value, dict) else ():
        if len(pair.split("-")) != 2 or not all(atomic_numbers.get(symbol) for symbol in pair.split("-")):
            raise ValueError(f"{pair!r} is not a pair of elements, expected e.g. Li-Cu")
    return value


def _range(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < 1 < value[1]:
        raise ValueError(f"expected a number below 1 and one above, got {list(value)}")
    return value


#: Å, for all pairs or by pair; and the volume relative to that of the start, its least and its largest.
MinDistance: TypeAlias = Annotated[LengthOrZero | dict[str, Length], AfterValidator(_pairs)]
VolumeFactors: TypeAlias = Annotated[tuple[Positive, Positive], AfterValidator(_range)]


#: What may drive a task; one of them.
DRIVERS = ("potential", "calculator")


class EveryStep(Model):
    """Steps at equal distances, the first one among them."""

    every: Count = Field(description="every so many steps")


class RelaxSettings(Model):
    """How cells are relaxed; the pressure (GPa) of each stands in its ``pressure_GPa``."""

    optimizer: Literal["lbfgs", "cg", "fire"] = "lbfgs"
    fmax: Positive = Field(0.05, description="largest force (eV/Å; for the cell, the generalised force of the filter)")
    max_steps: Count = Field(200, description="of the optimizer; with cg, line searches")
    snapshot_steps: list[CountOrZero] | Literal["all"] | EveryStep = Field(
        default=[5], description="steps kept besides the last one: a list, all, or {every: n}"
    )
    cell: Literal["free", "fixed"] = Field("free", description="whether the cell is relaxed, too, or the atoms only")
    symmetry: Literal["free", "kept"] = Field("free", description="whether the space group of the cell (to 1e-4 Å) is imposed")
    min_distance: MinDistance = Field(
        0.0, description="Å, for all pairs or by pair (Li-Cu: 1.5); two atoms closer than this end the relaxation (collapsed)"
    )
    volume_factors: VolumeFactors = Field(
        (0.2, 4.0), description="the volume, relative to the start, outside of which a relaxation ends (collapsed, exploded)"
    )
    max_neighbour_distance: LengthOrZero = Field(
        6.0, description="Å; an atom without any other this near ends the relaxation (evaporated); 0: none does"
    )

    stop_where_unsure: Positive | None = Field(
        None,
        description="eV; a relaxation ends (unsure) where the predicted standard deviation of the energy of an atom is larger; "
        "the frame there is kept; for families with variances; default: none does",
    )
    unsure_every: Count = Field(5, description="steps from one look at the standard deviations to the next")

    @property
    def n_snapshots(self) -> int:
        """Largest number of frames kept of a cell besides the last one."""
        if isinstance(self.snapshot_steps, list):
            return len(self.snapshot_steps)
        return -(-self.max_steps // (1 if self.snapshot_steps == "all" else self.snapshot_steps.every))

    @model_validator(mode="after")
    def _together(self) -> RelaxSettings:
        if self.symmetry == "kept" and self.optimizer == "cg":
            raise ValueError("symmetry: kept goes with lbfgs and fire; the line searches of cg are too long for it")
        return self


class WithTasks(Model):
    """Settings of a job in which frames may have some of their own."""

    tasks: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="settings of single frames, by frame_id, where they differ"
    )

    @model_validator(mode="after")
    def _each(self) -> Self:
        self.complete()
        return self

    def complete(self) -> dict[str, Any]:
        """Return the settings as the script reads them: those of each frame whole, also within lists."""
        common = self.model_dump(exclude={"tasks"})
        of_one = next(kind for kind in type(self).__mro__ if issubclass(kind, Model) and "tasks" not in kind.model_fields)
        return common | {"tasks": {name: of_one(**{**common, **own}).model_dump() for name, own in self.tasks.items()}}


class RelaxJobSettings(WithTasks, RelaxSettings):
    """Settings of a job of relaxations."""


class SpeedSettings(Model):
    """How the time of a potential is measured."""

    calls: Count = Field(5, description="of which the median is taken, after one that is not counted")
    displacement: Length = Field(0.01, description="Å, standard deviation of the atoms in each call")
    seed: SeedNumber = Field(1, description="of the displacements")


class SpeedJobSettings(WithTasks, SpeedSettings):
    """Settings of a job that measures times."""


#: Ensembles of molecular dynamics and the algorithms behind them, which are ASE's.
Ensemble = Literal["nve", "nvt_langevin", "nvt_berendsen", "npt_berendsen", "npt_mtk"]

#: Those whose temperature cannot change on the way: there is none to set, or their masses depend on it.
STEADY = ("nve", "npt_mtk")


class MdSegment(Model):
    """A part of a trajectory: at one temperature, or from one to another at a constant rate."""

    start_K: Positive = Field(description="temperature at the beginning, K")
    end_K: Positive | None = Field(None, description="temperature at the end, K; default: the same")
    ps: Positive = Field(description="how long it takes, ps")
    ensemble: Ensemble | None = Field(None, description="default: that of the trajectory")


class MdSettings(Model):
    """A trajectory of molecular dynamics. The centre of mass stays where it is."""

    ensemble: Ensemble = Field("nvt_langevin", description="npt: the cell keeps its shape")
    program: list[MdSegment] = Field(
        default=[MdSegment(start_K=300.0, ps=1.0)], min_length=1, description="temperatures, one segment after another"
    )
    timestep_fs: Positive = Field(1.0, description="fs")
    snapshot_every: Count = Field(50, description="steps from one frame that is kept to the next; the first and last are")
    friction_per_ps: Positive = Field(10.0, description="of nvt_langevin, 1/ps")
    thermostat_ps: Positive = Field(0.1, description="time constant of the other thermostats, ps")
    barostat_ps: Positive = Field(1.0, description="time constant of the barostats, ps")
    pressure_GPa: Pressure = Field(0.0, description="of npt, GPa")
    bulk_modulus_GPa: Positive = Field(
        100.0, description="by which npt_berendsen reckons how far the cell is to be scaled, GPa; a guess will do"
    )
    seed: SeedNumber = Field(1, description="of momenta and random forces; a frame has random numbers of its own")
    min_distance: MinDistance = Field(
        0.5, description="Å, for all pairs or by pair (Li-Cu: 1.5); two atoms closer than this end the trajectory (collapsed)"
    )
    volume_factors: VolumeFactors = Field(
        (0.4, 3.0), description="the volume, relative to the start, outside of which a trajectory ends (collapsed, exploded)"
    )
    max_temperature_factor: Positive = Field(
        10.0, description="times the highest temperature of the program, and 300 K: above, a trajectory ends (exploded)"
    )
    max_energy_change: Positive = Field(
        10.0, description="of the potential energy since the start, eV per atom: beyond, a trajectory ends (exploded)"
    )
    state_every_s: PositiveOrZero = Field(
        10.0, description="s; as often what another job needs to go on is kept, should this one be killed"
    )

    @model_validator(mode="after")
    def _steady(self) -> MdSettings:
        for number, segment in enumerate(self.program):
            ensemble = segment.ensemble or self.ensemble
            if ensemble in STEADY and segment.end_K not in (None, segment.start_K):
                raise ValueError(
                    f"program, segment {number + 1}: from {segment.start_K:g} to {segment.end_K:g} K with {ensemble}, which "
                    "keeps to one temperature; nvt_langevin and the berendsen ensembles can change it"
                )
        return self


class MdJobSettings(WithTasks, MdSettings):
    """Settings of a job of trajectories."""


#: Ensembles of molecular dynamics by the program of a reference.
EnsembleOfReference = Literal["nve", "nvt_langevin", "nvt_berendsen"]


#: k-points of a trajectory by the program of a reference.
MdKpoints: TypeAlias = Annotated[Length, Field(lt=1)] | Literal["gamma"] | None
MD_KPOINTS = "k-points of trajectories by the reference: 1/Å without 2π, or gamma (Γ only); default: as of the labels"


class ReferenceMdSettings(Model):
    """A trajectory by the program of a reference itself, in a cell that stays as it is."""

    ensemble: EnsembleOfReference = Field("nvt_langevin", description="or what the program has that samples the same")
    temperature_K: Positive = Field(300.0, description="K")
    steps: Count = Field(1000, description="after the first frame")
    timestep_fs: Positive = Field(1.0, description="fs")
    thermostat_ps: Positive = Field(0.1, description="time constant of the thermostat, ps")
    snapshot_every: Count = Field(50, description="steps from one frame that is kept to the next; the first and last are")
    kpoint_spacing: MdKpoints = Field(None, description=MD_KPOINTS)


class NebSettings(Model):
    """How the path of a hop is found: the ends are relaxed in their cell, and the images between them as a band."""

    atom: CountOrZero | None = Field(
        None, description="number, from 0, of the atom that hops; none: the frame is relaxed, and there is no path"
    )
    to: tuple[Coordinate, Coordinate, Coordinate] | None = Field(None, description="Å, where it hops to, before it is relaxed")
    images: Annotated[Count, Field(le=100)] = Field(5, description="between the ends")
    fmax: Positive = Field(0.03, description="largest force on ends and band, eV/Å")
    max_steps: Count = Field(300, description="of the optimizer, for each of the ends and for the band")
    interpolation: Literal["linear", "idpp"] = Field("linear", description="how the first band is made; idpp keeps atoms apart")
    min_distance: MinDistance = Field(
        0.0, description="Å, for all pairs or by pair (Li-Cu: 1.5); two atoms closer than this end it (collapsed)"
    )
    max_neighbour_distance: LengthOrZero = Field(
        6.0, description="Å; an atom of an end without any other this near ends it (evaporated); 0: none does"
    )

    @model_validator(mode="after")
    def _together(self) -> NebSettings:
        if (self.atom is None) != (self.to is None):
            raise ValueError("atom and to go together: which atom hops, and where to")
        return self


class NebJobSettings(WithTasks, NebSettings):
    """Settings of a job of paths; of a frame, at least which atom hops."""


class EvaluateSettings(Model):
    """What is evaluated besides energies, forces and virials."""

    local_energies: bool = False
    variances: bool = Field(
        False, description="variance of each local energy by the Gaussian process, eV²: large where no sparse point is near"
    )


class LabelSettings(Model):
    """The ASE calculator that makes the labels."""

    calculator: str = Field(description="name that ASE knows (emt, lj, …) or the dotted path of a class")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the class")
    _is_one = field_validator("calculator")(check_name)

    level_of_theory: Line | None = Field(None, description="one line naming the level of theory; default: the calculator's name")


class BuildcellSettings(Model):
    """How buildcell of AIRSS makes cells."""

    text: str = Field(min_length=1, description="the seed, a cell file with #TAG lines, without #SEED")
    timeout_s: Seconds = Field(30.0, description="seconds after which a cell is given up; some seeds never end")

    @field_validator("text")
    @classmethod
    def _no_seed(cls, value: str) -> str:
        for number, line in enumerate(value.splitlines(), start=1):
            if line.strip().upper().startswith("#SEED"):
                raise ValueError(f"line {number}: every cell gets a #SEED of its own, remove {line.strip()}")
        return value
