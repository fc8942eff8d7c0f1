"""Hyperparameters of a GAP fit as a typed model, and the gap_fit input made from them."""

from __future__ import annotations

from typing import Annotated, Literal

from ase.data import atomic_numbers, covalent_radii
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from aiida_gaprss.fitting.regularisation import EnergyRegularisation
from aiida_gaprss.validation import Model

#: Targets that gap_fit takes an expected error (sigma) for, in its order.
SIGMA_ORDER = ("energy", "forces", "virial", "hessian")


class _FewBody(Model):
    """A squared-exponential kernel on the distances of a few atoms."""

    kind: str
    cutoff: PositiveFloat
    delta: PositiveFloat
    n_sparse: PositiveInt
    theta_uniform: PositiveFloat = 1.0

    def commands(self, elements: list[str]) -> list[str]:
        """Return the descriptors as gap_fit wants them."""
        return [
            f"{self.kind} cutoff={self.cutoff:g} covariance_type=ard_se theta_uniform={self.theta_uniform:g} "
            f"n_sparse={self.n_sparse} delta={self.delta:g} sparse_method=uniform add_species=T"
        ]


class Distance2b(_FewBody):
    """Pair term: squared-exponential kernel on distances."""

    kind: Literal["distance_2b"] = "distance_2b"
    delta: PositiveFloat = 1.0
    n_sparse: PositiveInt = 20


class Angle3b(_FewBody):
    """Triplet term: squared-exponential kernel on symmetrised distances."""

    kind: Literal["angle_3b"] = "angle_3b"
    delta: PositiveFloat = 0.5
    n_sparse: PositiveInt = 100


class Soap(Model):
    """Many-body term: smooth overlap of atomic positions."""

    kind: Literal["soap"] = "soap"
    cutoff: PositiveFloat
    delta: PositiveFloat = 1.0
    n_sparse: PositiveInt = 300
    n_max: PositiveInt = 8
    l_max: PositiveInt = 6
    atom_sigma: PositiveFloat = 0.5
    zeta: PositiveInt = 4
    cutoff_transition_width: PositiveFloat = 1.0
    sparse_method: Literal["cur_points", "random"] = "cur_points"

    def commands(self, elements: list[str]) -> list[str]:
        """Return the descriptors as gap_fit wants them."""
        return [
            f"soap cutoff={self.cutoff:g} cutoff_transition_width={self.cutoff_transition_width:g} "
            f"n_max={self.n_max} l_max={self.l_max} atom_sigma={self.atom_sigma:g} zeta={self.zeta} "
            f"delta={self.delta:g} n_sparse={self.n_sparse} sparse_method={self.sparse_method} "
            "covariance_type=dot_product add_species=T"
        ]


class SoapTurbo(Model):
    """Many-body term in the separable basis of Caro (PRB 100, 024112), several times cheaper than SOAP."""

    kind: Literal["soap_turbo"] = "soap_turbo"
    cutoff: PositiveFloat
    delta: PositiveFloat = 0.5
    n_sparse: PositiveInt = 300
    n_max: PositiveInt = 8
    l_max: PositiveInt = 4
    atom_sigma: PositiveFloat = 0.5
    zeta: PositiveInt = 4
    cutoff_transition_width: PositiveFloat = 0.7
    sparse_method: Literal["cur_points", "random"] = "cur_points"

    def commands(self, elements: list[str]) -> list[str]:
        """Return one descriptor for every element as centre."""
        n = len(elements)

        def each(value: float) -> str:
            return "{" + " ".join([f"{value:g}"] * n) + "}"

        numbers = " ".join(str(atomic_numbers[s]) for s in elements)
        # Only the trivial compression of a single species is made for one element.
        compress = "compress_mode=trivial " if n == 1 else ""
        return [
            f"soap_turbo l_max={self.l_max} alpha_max={each(self.n_max)} atom_sigma_r={each(self.atom_sigma)} "
            f"atom_sigma_t={each(self.atom_sigma)} atom_sigma_r_scaling={each(0)} atom_sigma_t_scaling={each(0)} "
            f"zeta={self.zeta} rcut_hard={self.cutoff:g} rcut_soft={self.cutoff - self.cutoff_transition_width:g} "
            f"basis=poly3gauss scaling_mode=polynomial amplitude_scaling={each(1)} n_species={n} species_Z={{{numbers}}} "
            f"central_index={index} radial_enhancement=1 {compress}central_weight={each(1)} delta={self.delta:g} f0=0.0 "
            f"covariance_type=dot_product sparse_method={self.sparse_method} n_sparse={self.n_sparse} add_species=F"
            for index in range(1, n + 1)
        ]


Descriptor = Annotated[Distance2b | Angle3b | Soap | SoapTurbo, Field(discriminator="kind")]


class Sigma(Model):
    """Expected errors: energy eV/atom, forces eV/Å, virial eV/atom, as gap_fit's default_sigma (per atom)."""

    energy: PositiveFloat
    forces: PositiveFloat
    virial: PositiveFloat
    hessian: PositiveFloat = 1.0

    def numbers(self) -> list[float]:
        """Return the four numbers in gap_fit's order."""
        return [getattr(self, name) for name in SIGMA_ORDER]


class FitSettings(Model):
    """Everything gap_fit is told about a fit but the data and the seed."""

    descriptors: list[Descriptor] = Field(min_length=1)
    sigma: Sigma
    config_type_sigma: dict[str, Sigma] = Field(default_factory=dict)
    regularisation: EnergyRegularisation | None = Field(None, description="sigmas of single frames, before those of their kind")
    sparse_jitter: PositiveFloat = 1e-8
    mixed_levels: bool = Field(False, description="allow datasets that were labelled at different levels of theory")

    @model_validator(mode="after")
    def _names(self) -> FitSettings:
        for name in self.config_type_sigma:
            if not name or set(name) & set(" :={}"):
                raise ValueError(f"config type {name!r}: gap_fit needs a name without blanks, ':', '=' and braces")
        return self

    @property
    def cutoff(self) -> float:
        """Largest cutoff, Å."""
        return max(d.cutoff for d in self.descriptors)

    def command(self, training: str, output: str, seed: int, e0: dict[str, float]) -> str:
        """Return the text of gap_fit's ``config_file``.

        :param seed: of the choice of sparse points; positive, since gap_fit takes −1 as "draw one".
        :param e0: energy of the isolated atom of every element, eV.
        :raises ValueError: if the seed is not positive.
        """
        if seed <= 0:
            raise ValueError(f"gap_fit needs a positive seed, got {seed}")
        lines = [
            f"at_file={training}",
            "gap={" + " : ".join(c for d in self.descriptors for c in d.commands(sorted(e0))) + "}",
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
        return "\n".join(lines) + "\n"


def bond_length(symbols: list[str]) -> float:
    """Return twice the largest covalent radius (Å; Cordero et al. 2008, as in ASE) among the elements."""
    return 2.0 * max(float(covalent_radii[atomic_numbers[s]]) for s in symbols)
