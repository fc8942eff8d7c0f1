"""Hyperparameters of a GAP fit as a typed model, and the gap_fit input made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement
from typing import Annotated, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from aiida_gaprss.frames import check_name
from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.models.regularisation import Rule, Sigma
from aiida_gaprss.outside import shown
from aiida_gaprss.settings.model import Length, Model, Order, Positive, PositiveOrZero, SparseCount

__all__ = ["Angle3b", "Descriptor", "Distance2b", "GapSettings", "Sigma", "Soap", "SoapTurbo"]


#: gap_fit splits the list of their sigmas into fewer than 200 fields, five each.
MAX_CONFIG_TYPES = 39

#: It copies its input into the potential, and cannot write that of longer lines.
MAX_LINE = 1000


def _check_names(names: Iterable[str], where: str) -> None:
    """Refuse names of config types that gap_fit would take apart, or that no frame can have."""
    for name in names:
        check_name("config_type", name, where, in_settings=True)


class _Descriptor(Model):
    """A term of the potential; it stands for one descriptor of gap_fit per pair, triplet or centre of the elements."""

    kind: str
    cutoff: Length = Field(description="Å")
    delta: Positive = Field(description="eV, how much of the energy (per descriptor) the term accounts for")
    n_sparse: SparseCount | dict[str, SparseCount] = Field(
        description="representative points of each pair, triplet or centre; a number, or numbers by config type"
    )

    @field_validator("n_sparse")
    @classmethod
    def _sparse(cls, value: int | dict[str, int]) -> int | dict[str, int]:
        if isinstance(value, dict):
            if not value:
                raise ValueError("n_sparse: give a number, or at least one config type with its number")
            _check_names(value, "n_sparse")
        return value

    def sparse(self) -> str:
        """Return the number of sparse points as gap_fit wants it."""
        if isinstance(self.n_sparse, dict):
            return "config_type_n_sparse={" + ":".join(f"{name}:{n}" for name, n in self.n_sparse.items()) + "}"
        return f"n_sparse={self.n_sparse}"

    @property
    def most_sparse(self) -> int:
        """Number of sparse points of one expanded descriptor, if it has as many instances."""
        return sum(self.n_sparse.values()) if isinstance(self.n_sparse, dict) else self.n_sparse

    def species(self, elements: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the pairs, triplets (centre first) or centres that the term is for, in the order of atomic numbers."""
        raise NotImplementedError

    def commands(self, elements: Sequence[str]) -> list[str]:
        """Return the descriptors as gap_fit wants them, one for each of ``species``."""
        raise NotImplementedError


def _list(numbers: str) -> str:
    """Return several numbers as one value within ``gap={…}``, of which gap_fit takes off one pair of braces."""
    return f"{{{{{numbers}}}}}" if " " in numbers else f"{{{numbers}}}"


def _ordered(elements: Iterable[str]) -> list[str]:
    return sorted(elements, key=atomic_numbers.__getitem__)


class _FewBody(_Descriptor):
    """A squared-exponential kernel on the distances of a few atoms."""

    theta_uniform: Length = Field(1.0, description="length scale of the kernel, Å")
    only: list[list[str]] | None = Field(
        None, min_length=1, description="these pairs or triplets (centre first) instead of all, e.g. with cutoffs of their own"
    )

    @field_validator("only")
    @classmethod
    def _known(cls, value: list[list[str]] | None) -> list[list[str]] | None:
        for symbol in (symbol for group in value or () for symbol in group):
            if not atomic_numbers.get(symbol):
                raise ValueError(f"only: {shown(symbol, 40)!r} is not a chemical element")
        return value

    def _checked(self, elements: Sequence[str], all_of_them: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        if self.only is None:
            return all_of_them
        chosen = [tuple([*group[:-2], *_ordered(group[-2:])]) for group in self.only]
        unknown = [group for group in chosen if group not in all_of_them]
        if unknown:
            known = ", ".join("-".join(group) for group in all_of_them)
            raise ValueError(f"{self.kind}: no {'-'.join(unknown[0])} among the elements {' '.join(elements)}; there are {known}")
        return chosen

    def _numbers(self, group: tuple[str, ...]) -> str:
        keys = ("Z", "Z1", "Z2")[-len(group) :]
        return " ".join(f"{key}={atomic_numbers[symbol]}" for key, symbol in zip(keys, group, strict=True))

    def commands(self, elements: Sequence[str]) -> list[str]:
        """Return one descriptor for each pair or triplet."""
        return [
            f"{self.kind} cutoff={self.cutoff:g} covariance_type=ard_se theta_uniform={self.theta_uniform:g} "
            f"{self.sparse()} delta={self.delta:g} sparse_method=uniform add_species=F {self._numbers(group)}"
            for group in self.species(elements)
        ]


class Distance2b(_FewBody):
    """Pair term: squared-exponential kernel on distances."""

    kind: Literal["distance_2b"] = "distance_2b"
    delta: Positive = 1.0
    n_sparse: SparseCount | dict[str, SparseCount] = 20

    def species(self, elements: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the pairs."""
        return self._checked(elements, list(combinations_with_replacement(_ordered(elements), 2)))


class Angle3b(_FewBody):
    """Triplet term: squared-exponential kernel on symmetrised distances."""

    kind: Literal["angle_3b"] = "angle_3b"
    delta: Positive = 0.5
    n_sparse: SparseCount | dict[str, SparseCount] = 100

    def species(self, elements: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the triplets, the centre first."""
        known = _ordered(elements)
        return self._checked(elements, [(z, *pair) for z in known for pair in combinations_with_replacement(known, 2)])


class _ManyBody(_Descriptor):
    """A polynomial kernel on a vector of expansion coefficients of the neighbour density."""

    delta: Positive = 1.0
    n_sparse: SparseCount | dict[str, SparseCount] = 300
    n_max: Order = 8
    l_max: Order = 6
    atom_sigma: Length = Field(0.5, description="width of the neighbour density, Å")
    zeta: Order = 4
    cutoff_transition_width: Length = Field(1.0, description="Å")
    sparse_method: Literal["cur_points", "random"] = "cur_points"

    @model_validator(mode="after")
    def _widths(self) -> _ManyBody:
        if self.cutoff_transition_width >= self.cutoff:
            raise ValueError(
                f"cutoff_transition_width ({self.cutoff_transition_width:g} Å) must be smaller than cutoff ({self.cutoff:g} Å)"
            )
        return self

    def species(self, elements: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the centres."""
        return [(symbol,) for symbol in _ordered(elements)]


class Soap(_ManyBody):
    """Many-body term: smooth overlap of atomic positions (Bartók, Kondor, Csányi, PRB 87, 184115)."""

    kind: Literal["soap"] = "soap"

    def commands(self, elements: Sequence[str]) -> list[str]:
        """Return one descriptor for every element as centre."""
        numbers = " ".join(str(atomic_numbers[s]) for s in _ordered(elements))
        return [
            f"soap cutoff={self.cutoff:g} cutoff_transition_width={self.cutoff_transition_width:g} "
            f"n_max={self.n_max} l_max={self.l_max} atom_sigma={self.atom_sigma:g} zeta={self.zeta} "
            f"delta={self.delta:g} {self.sparse()} sparse_method={self.sparse_method} "
            f"covariance_type=dot_product add_species=F n_species={len(elements)} Z={atomic_numbers[centre]} "
            f"species_Z={_list(numbers)}"
            for (centre,) in self.species(elements)
        ]


class SoapTurbo(_ManyBody):
    """Many-body term in the separable basis of Caro (PRB 100, 024112), several times cheaper than SOAP."""

    kind: Literal["soap_turbo"] = "soap_turbo"
    delta: Positive = 0.5
    l_max: Order = 4
    cutoff_transition_width: Length = Field(0.7, description="Å")
    atom_sigma_t: Length | None = Field(None, description="width of the neighbour density across, Å; default: atom_sigma")
    scaling: PositiveOrZero = Field(0.0, description="how the widths grow with the distance; 0: not")
    central_weight: PositiveOrZero = 1.0
    radial_enhancement: Literal[0, 1, 2] = 1

    def commands(self, elements: Sequence[str]) -> list[str]:
        """Return one descriptor for every element as centre."""
        n = len(elements)

        def each(value: float) -> str:
            return _list(" ".join([f"{value:g}"] * n))

        numbers = " ".join(str(atomic_numbers[s]) for s in _ordered(elements))
        # Only the trivial compression of a single species is made for one element.
        compress = "compress_mode=trivial " if n == 1 else ""
        across = self.atom_sigma if self.atom_sigma_t is None else self.atom_sigma_t
        return [
            f"soap_turbo l_max={self.l_max} alpha_max={each(self.n_max)} atom_sigma_r={each(self.atom_sigma)} "
            f"atom_sigma_t={each(across)} atom_sigma_r_scaling={each(self.scaling)} atom_sigma_t_scaling={each(self.scaling)} "
            f"zeta={self.zeta} rcut_hard={self.cutoff:g} rcut_soft={self.cutoff - self.cutoff_transition_width:g} "
            f"basis=poly3gauss scaling_mode=polynomial amplitude_scaling={each(1)} n_species={n} species_Z={_list(numbers)} "
            f"central_index={index} radial_enhancement={self.radial_enhancement} {compress}"
            f"central_weight={each(self.central_weight)} delta={self.delta:g} f0=0.0 "
            f"covariance_type=dot_product sparse_method={self.sparse_method} {self.sparse()} add_species=F"
            for index in range(1, n + 1)
        ]


Descriptor = Annotated[Distance2b | Angle3b | Soap | SoapTurbo, Field(discriminator="kind")]


class GapSettings(BaseFit):
    """Everything gap_fit is told about a fit but the data and the seed."""

    family: Literal["gap"] = "gap"
    descriptors: list[Descriptor] = Field(min_length=1)
    sigma: Sigma = Field(description="of all frames that nothing below is for")
    config_type_sigma: dict[str, Sigma] = Field(default_factory=dict)
    regularisation: list[Rule] = Field(default_factory=list, description="sigmas of single frames, before those of their kind")
    sparse_jitter: Positive = 1e-8

    @field_validator("config_type_sigma")
    @classmethod
    def _names(cls, value: dict[str, Sigma]) -> dict[str, Sigma]:
        _check_names(value, "config_type_sigma")
        if len(value) > MAX_CONFIG_TYPES:
            raise ValueError(
                f"config_type_sigma has {len(value)} entries, gap_fit reads at most {MAX_CONFIG_TYPES}; "
                "give the rest under regularisation, as constant sigmas of config types"
            )
        return value

    @property
    def cutoff(self) -> float:
        """Largest cutoff, Å."""
        return max(d.cutoff for d in self.descriptors)

    @property
    def reach(self) -> float:
        """Largest cutoff, Å."""
        return self.cutoff

    def check_elements(self, elements: Sequence[str]) -> None:
        """Check that pairs and triplets are of these elements.

        :raises ValueError: naming the one that is not.
        """
        self.expanded(elements)

    def expanded(self, elements: Sequence[str]) -> list[tuple[Descriptor, tuple[str, ...]]]:
        """Return the descriptors of gap_fit in their order: the term each belongs to, and its pair, triplet or centre."""
        return [(term, group) for term in self.descriptors for group in term.species(elements)]

    def command(self, training: str, output: str, seed: int, e0: dict[str, float]) -> str:
        """Return the text of gap_fit's ``config_file``.

        :param seed: of the choice of sparse points; positive, since gap_fit takes −1 as "draw one".
        :param e0: energy of the isolated atom of every element, eV.
        :raises ValueError: if the seed is not positive, a term names elements that are not there, or a line is too long.
        """
        if seed <= 0:
            raise ValueError(f"gap_fit needs a positive seed, got {seed}")
        lines = [
            f"at_file={training}",
            # One line each: of a line beyond about a thousand characters, gap_fit makes an xml file that it fails to write.
            "gap={" + " :\n".join(c for d in self.descriptors for c in d.commands(sorted(e0))) + "}",
            "default_sigma={" + " ".join(f"{x:g}" for x in self.sigma.numbers()) + "}",
            "energy_parameter_name=REF_energy",
            "force_parameter_name=REF_forces",
            "virial_parameter_name=REF_virial",
            "config_type_parameter_name=config_type",
            "e0={" + ":".join(f"{symbol}:{value:.10f}" for symbol, value in sorted(e0.items())) + "}",
            f"sparse_jitter={self.sparse_jitter:g}",
            "do_copy_at_file=F",
            f"rnd_seed={seed}",
            f"gp_file={output}",
        ]
        if self.config_type_sigma:
            entries = [
                ":".join([name, *(f"{x:g}" for x in sigma.numbers())]) for name, sigma in sorted(self.config_type_sigma.items())
            ]
            lines.append("config_type_sigma={" + ":".join(entries) + "}")
        text = "\n".join(lines) + "\n"
        longest = max(text.splitlines(), key=len)
        if len(longest) > MAX_LINE:
            raise ValueError(
                f"gap_fit cannot keep a line of {len(longest)} characters: {longest[:60]}…; shorten the names of config types, "
                "or give their sigmas under regularisation, as constant sigmas"
            )
        return text
