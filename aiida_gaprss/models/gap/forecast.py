"""Memory and CPU time of a fit, known before it is paid for.

Counts are exact: instances and derivatives of every descriptor come from neighbour lists, as gap_fit counts them in its log.
From the counts, memory and time follow by a model with a few terms, each a loop or an array of gap_fit; the coefficients were
measured (:data:`MEASURED`) by ``benchmarks/forecast.py --calibrate``, which prints new ones for another machine or version.
Times are for one thread, memory hardly depends on threads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list

from aiida_gaprss import frames as fr
from aiida_gaprss.models.gap.settings import Descriptor, GapSettings

#: Megabytes of a number in double precision.
_REAL = 8e-6


@dataclass(frozen=True)
class Coefficients:
    """What one unit of work costs: where and when it was measured, seconds by part of the run, megabytes (10⁶ bytes) by array."""

    date: str
    machine: str
    gap_fit: str
    preparation: Mapping[str, float]
    covariance: Mapping[str, float]
    solution: Mapping[str, float]
    memory: Mapping[str, float]


#: Coefficients of the reference core; printed by ``python benchmarks/forecast.py --calibrate``.
MEASURED = Coefficients(
    date="2026-11-21",
    machine="AMD EPYC (Zen 5, 2.6 GHz), virtual machine",
    gap_fit="0.9.14",
    preparation={
        "CUR": 4.47e-10,
        "angle_3b derivative": 1e-07,
        "atom": 8.04e-05,
        "copy": 7.27e-10,
        "distance_2b derivative": 0.0,
        "frame": 0.0015,
        "run": 0.00827,
        "soap expansion": 8.81e-09,
        "soap gradient": 1.24e-08,
        "soap_turbo expansion": 2.3e-08,
        "soap_turbo gradient": 0.0,
    },
    covariance={
        "angle_3b derivative": 4.15e-09,
        "angle_3b instance": 9.13e-08,
        "derivative x length": 3.99e-10,
        "distance_2b derivative": 3.13e-09,
        "distance_2b instance": 9.25e-08,
        "instance": 7.86e-09,
        "instance x length": 1.23e-09,
    },
    solution={
        "QR": 4.88e-11,
        "element": 1.95e-08,
        "number written": 2.36e-07,
    },
    memory={
        "program": 22.5,
        "pair": 7.4e-05,
        "derivative": 2.27e-05,
        "instance": 2.39e-05,
        "copies of an instance": 6.02,
        "coordinates kept": 0.397,
        "copies of the rectangle": 1.43,
        "copies of the square": 4.24,
    },
)


@dataclass(frozen=True)
class Term:
    """One descriptor of gap_fit: a pair, a triplet or a centre of given elements, after the expansion over elements.

    ``elements`` are the two of a pair, the centre and its two neighbours of a triplet, or the centre of a many-body descriptor.
    ``length`` counts the numbers of a descriptor. ``basis`` is the number of expansion coefficients of a neighbourhood, and
    ``products`` of their products that make up the power spectrum; both are zero for pairs and triplets.
    """

    kind: str
    elements: tuple[str, ...]
    cutoff: float
    length: int
    n_sparse: int
    sparse_method: str
    basis: int = 0
    products: int = 0

    @property
    def name(self) -> str:
        """Kind and elements."""
        return f"{self.kind} {'-'.join(self.elements)}"


def expand(descriptor: Descriptor, elements: Iterable[str]) -> list[Term]:
    """Return the descriptors that gap_fit makes of one entry of the settings for the elements of a training set, in its order."""
    symbols = sorted(set(elements), key=atomic_numbers.__getitem__)
    kind, cutoff, n_sparse = descriptor.kind, descriptor.cutoff, descriptor.most_sparse
    groups = descriptor.species(symbols)
    if descriptor.kind == "distance_2b":
        return [Term(kind, pair, cutoff, 1, n_sparse, "uniform") for pair in groups]
    if descriptor.kind == "angle_3b":
        return [Term(kind, triplet, cutoff, 3, n_sparse, "uniform") for triplet in groups]
    channels, angular = len(symbols) * descriptor.n_max, descriptor.l_max + 1
    pairs = channels * (channels + 1) // 2
    if descriptor.kind == "soap":
        length = pairs * angular + 1
    elif len(symbols) == 1:
        # The trivial compression keeps the products with the first radial function.
        pairs = channels
        length = pairs * angular
    else:
        length = pairs * angular
    method = descriptor.sparse_method
    size = {"basis": descriptor.n_max * angular**2, "products": pairs * angular**2}
    return [Term(kind, centre, cutoff, length, n_sparse, method, **size) for centre in groups]


@dataclass(frozen=True)
class DescriptorForecast:
    """What gap_fit computes for one descriptor.

    ``n_descriptors`` and ``n_derivatives`` are the "Number of descriptors" and "Number of partial derivatives of descriptors" in
    gap_fit's log. ``gradients`` counts the gradients with respect to a position that derivatives are made of, three of each for
    forces and six for a virial; ``largest`` those of the largest frame. ``neighbours`` is the number of neighbours of all
    instances, with gradients or without.
    """

    term: Term
    n_descriptors: int
    n_derivatives: int
    gradients: int
    largest: int
    neighbours: int

    @property
    def n_sparse(self) -> int:
        """Sparse points, at most: gap_fit also counts equal instances, as the two atoms of a dimer, only once."""
        return min(self.term.n_sparse, self.n_descriptors)


@dataclass(frozen=True)
class Forecast:
    """Size of a fit, and what it costs.

    ``rows`` are the target values (energies, force components, six numbers per virial), ``columns`` the sparse points of all
    descriptors, at most. ``pairs`` counts neighbours within the largest cutoff. The time is that of a core ``speed`` times faster
    than the one of ``coefficients``.
    """

    descriptors: tuple[DescriptorForecast, ...]
    frames: int
    atoms: int
    rows: int
    columns: int
    pairs: int
    speed: float = 1.0
    coefficients: Coefficients = MEASURED

    @property
    def memory_MB(self) -> float:
        """Peak resident memory of gap_fit, MB (10⁶ bytes).

        Two moments may be the worst. Before the solution, the coordinates of all instances, their derivatives and the covariances
        are there together: a rectangle of rows x columns, and the square of the sparse points among themselves. Then most of the
        coordinates are given back, and the QR decomposition works on copies of the covariances.
        """
        cost = self.coefficients.memory
        coordinates = 0.0
        for d in self.descriptors:
            coordinates += d.n_derivatives * (_REAL * d.term.length + cost["derivative"])
            coordinates += d.n_descriptors * (_REAL * d.term.length * cost["copies of an instance"] + cost["instance"])
        frame = max(3 * _REAL * d.term.length * d.largest for d in self.descriptors)
        rectangle, square = _REAL * self.rows * self.columns, _REAL * self.columns**2
        covariance = rectangle + square
        solution = cost["coordinates kept"] * coordinates
        solution += cost["copies of the rectangle"] * rectangle + cost["copies of the square"] * square
        return cost["program"] + cost["pair"] * self.pairs + max(coordinates + max(frame, covariance), solution)

    @property
    def cpu_seconds(self) -> float:
        """CPU time, user and system, s: the sum of :meth:`seconds`."""
        return sum(self.seconds().values())

    def seconds(self) -> dict[str, float]:
        """Return the CPU time (s) of the parts of the run: preparation, covariance, solution."""
        cost = self.coefficients
        return {
            "preparation": _dot(cost.preparation, preparation_work(self)) / self.speed,
            "covariance": sum(_dot(cost.covariance, covariance_work(d)) for d in self.descriptors) / self.speed,
            "solution": _dot(cost.solution, solution_work(self)) / self.speed,
        }

    def grown(self, factor: float) -> Forecast:
        """Return the forecast for so many times as many frames of the same kinds."""
        counts = ("n_descriptors", "n_derivatives", "gradients", "neighbours")
        terms = tuple(replace(d, **{name: round(getattr(d, name) * factor) for name in counts}) for d in self.descriptors)
        numbers = {name: round(getattr(self, name) * factor) for name in ("frames", "atoms", "rows", "pairs")}
        return replace(self, descriptors=terms, columns=sum(d.n_sparse for d in terms), **numbers)

    def describe(self) -> str:
        """Return one sentence for a person."""
        memory = f"{self.memory_MB / 1000:.1f} GB" if self.memory_MB >= 1000 else f"{_two_digits(self.memory_MB):.0f} MB"
        if self.cpu_seconds < 90:
            time = f"{max(1.0, _two_digits(self.cpu_seconds)):.0f} CPU-seconds"
        elif self.cpu_seconds < 5400:
            time = f"{_two_digits(self.cpu_seconds / 60):.0f} CPU-minutes"
        else:
            time = f"{_two_digits(self.cpu_seconds / 3600):.1f} CPU-hours"
        parts = []
        for kind in dict.fromkeys(d.term.kind for d in self.descriptors):
            group = [d for d in self.descriptors if d.term.kind == kind]
            derivatives, instances = sum(d.n_derivatives for d in group), sum(d.n_descriptors for d in group)
            what = f"{_short(derivatives)} derivatives" if derivatives else f"{_short(instances)} instances"
            points = f"{sum(d.n_sparse for d in group)} sparse points"
            parts.append(f"{kind}: {what} x {points}" if len(group) == 1 else f"{len(group)} {kind}: {what}, {points} in all")
        size = f"{self.atoms} atoms in {self.frames} frames, {self.rows} target values"
        return f"about {memory} and {time}; {size}; {'; '.join(parts)}"


def preparation_work(size: Forecast) -> dict[str, float]:
    """Return the work of reading the frames, computing descriptors and their gradients, and choosing the sparse points.

    Gradients of a power spectrum cost its number of products per neighbour; an expansion, its number of coefficients. Choosing
    points by CUR is a singular value decomposition of all descriptors.
    """
    work = Counter[str]({"run": 1, "frame": size.frames, "atom": size.atoms})
    for d in size.descriptors:
        kind, length = d.term.kind, d.term.length
        if d.term.basis == 0:
            work[f"{kind} derivative"] += d.n_derivatives
            continue
        work[f"{kind} expansion"] += (d.n_descriptors + d.neighbours) * d.term.basis
        work[f"{kind} gradient"] += d.gradients * d.term.products
        work["copy"] += d.n_derivatives * length
        if d.term.sparse_method == "cur_points":
            work["CUR"] += length * (d.n_descriptors * min(length, d.n_descriptors) + d.n_sparse * min(length, d.n_sparse))
    return dict(work)


def covariance_work(d: DescriptorForecast) -> dict[str, float]:
    """Return the work of the covariances between the sparse points of one descriptor and all instances and derivatives."""
    kind, length = d.term.kind, d.term.length
    if d.term.basis == 0:
        return {f"{kind} instance": d.n_sparse * d.n_descriptors, f"{kind} derivative": d.n_sparse * d.n_derivatives}
    return {
        "instance": d.n_sparse * d.n_descriptors,
        "instance x length": d.n_sparse * d.n_descriptors * length,
        "derivative x length": d.n_sparse * d.n_derivatives * length,
    }


def solution_work(size: Forecast) -> dict[str, float]:
    """Return the work of building and solving the linear system by QR, and of writing the sparse points."""
    elements = (size.rows + size.columns) * size.columns
    written = sum(d.n_sparse * d.term.length for d in size.descriptors)
    return {"QR": elements * size.columns, "element": elements, "number written": written}


def forecast(frames: Sequence[Atoms], settings: GapSettings, speed: float = 1.0) -> Forecast:
    """Return size, memory and CPU time of a fit to the labelled frames, on one thread.

    :param frames: training set as gap_fit gets it; frames without an energy are left out, as they are in a fit.
    :param speed: how many times faster than the reference core (:data:`MEASURED`) the core of the fit is.
    :raises ValueError: if no frame is labelled, or the speed is not positive.
    """
    if not speed > 0:
        raise ValueError(f"the speed of a core must be positive, got {speed}")
    labelled = [atoms for atoms in frames if fr.is_labelled(atoms)]
    if not labelled:
        raise ValueError("no labelled frame: nothing to forecast")
    elements = {s for atoms in labelled for s in atoms.get_chemical_symbols()}
    terms = [term for descriptor in settings.descriptors for term in expand(descriptor, elements)]
    tallies = [Counter[str]() for _ in terms]
    cutoff = max(term.cutoff for term in terms)
    rows = pairs = 0
    for atoms in labelled:
        known = fr.describe([atoms])
        virials = 6 * known["virials"]
        rows += 1 + known["forces"] + virials
        # gap_fit takes the gradient with respect to a position three times for forces and six times for a virial.
        weight = (3 if known["forces"] else 0) + virials
        neighbourhood = _Neighbourhood(atoms, cutoff)
        pairs += len(neighbourhood.distance)
        for term, tally in zip(terms, tallies, strict=True):
            instances, gradients = neighbourhood.count(term)
            tally["instances"] += instances
            tally["neighbours"] += gradients - instances
            if weight:
                tally["gradients"] += gradients
                tally["derivatives"] += weight * gradients
                tally["largest"] = max(tally["largest"], gradients)
    descriptors = tuple(
        DescriptorForecast(
            term=term,
            n_descriptors=tally["instances"],
            n_derivatives=tally["derivatives"],
            gradients=tally["gradients"],
            largest=tally["largest"],
            neighbours=tally["neighbours"],
        )
        for term, tally in zip(terms, tallies, strict=True)
    )
    columns = sum(d.n_sparse for d in descriptors)
    return Forecast(
        descriptors=descriptors,
        frames=len(labelled),
        atoms=sum(map(len, labelled)),
        rows=rows,
        columns=columns,
        pairs=pairs,
        speed=speed,
    )


class _Neighbourhood:
    """The neighbours of all atoms of a frame, every direction counted."""

    def __init__(self, atoms: Atoms, cutoff: float) -> None:
        self.numbers = atoms.numbers
        self.centre, self.other, self.distance = _neighbours(atoms, float(cutoff))
        self._tables: dict[float, dict[int, np.ndarray]] = {}

    def table(self, cutoff: float) -> dict[int, np.ndarray]:
        """Return the numbers of neighbours that the atoms have, by atomic number of the neighbours."""
        if cutoff not in self._tables:
            near = self.distance < cutoff
            centre, kinds = self.centre[near], self.numbers[self.other[near]]
            self._tables[cutoff] = {
                int(z): np.bincount(centre[kinds == z], minlength=len(self.numbers)) for z in np.unique(self.numbers)
            }
        return self._tables[cutoff]

    def count(self, term: Term) -> tuple[int, int]:
        """Return how many instances of a descriptor there are, and how many positions they depend on in all."""
        table = self.table(term.cutoff)
        centre, *others = (atomic_numbers[symbol] for symbol in term.elements)
        if any(z not in table for z in (centre, *others)):
            return 0, 0
        centres = self.numbers == centre
        if term.kind == "distance_2b":
            # Every pair once from either end.
            instances = int(table[others[0]][centres].sum()) * (1 if centre == others[0] else 2)
            return instances, 2 * instances
        if term.kind == "angle_3b":
            # Every triplet once for either order of the neighbours.
            first, second = (table[z][centres] for z in others)
            instances = int((first * (first - 1)).sum()) if others[0] == others[1] else 2 * int((first * second).sum())
            return instances, 3 * instances
        instances = int(centres.sum())
        return instances, instances + sum(int(numbers[centres].sum()) for numbers in table.values())


def _neighbours(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centre, neighbour and distance of all pairs closer than the cutoff, periodic images and both directions counted."""
    periodic = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    cell = periodic.cell.array
    reach = (np.floor(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0)) + 1).astype(int)
    n, images = len(atoms), int(np.prod(2 * reach + 1))
    if n * n * images > 3_000_000:
        return neighbor_list("ijd", periodic, cutoff)
    # Many small cells: all distances at once take a fraction of the time of a list.
    positions = periodic.get_scaled_positions(wrap=True) @ cell
    shifts = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    here = images // 2  # the shift by nothing
    others = positions[None, :, :] + (shifts @ cell)[:, None, :]
    squared = ((others[:, None, :, :] - positions[None, :, None, :]) ** 2).sum(axis=-1)
    squared[here][np.diag_indices(n)] = np.inf
    image, centre, other = np.nonzero(squared < cutoff**2)
    return centre, other, np.sqrt(squared[image, centre, other])


def _dot(cost: Mapping[str, float], work: Mapping[str, float]) -> float:
    return sum(cost[name] * amount for name, amount in work.items())


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value))) if value > 0 else 0.0


def _short(number: int) -> str:
    return str(number) if number < 10000 else f"{number:.1e}".replace("e+0", "e").replace("e+", "e")
