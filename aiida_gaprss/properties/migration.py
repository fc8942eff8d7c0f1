"""Migration of vacancies: the barrier of an atom that hops into a vacancy next to it, by climbing-image NEB.

The saddle point is that of the relaxed path (``runners/neb.py``): E_m = E(saddle) − E(initial). For an element also the
activation energy of diffusion by vacancies, E_a = E_v + E_m with the formation energy E_v = E(N − 1) − (N − 1)/N E(N): Y. Zuo et
al., J. Phys. Chem. A 124, 731 (2020), Table II.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from pydantic import Field

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import Curve, Limits, Property, value_of
from aiida_gaprss.properties.formation import NOTHING, ZUO, worst
from aiida_gaprss.runners.status import CONVERGED
from aiida_gaprss.settings.jobs import NebSettings
from aiida_gaprss.settings.model import AtomCount, Count, Length, Positive
from aiida_gaprss.structures.point_defects import elements_of
from aiida_gaprss.structures.supercells import supercell, too_small
from aiida_gaprss.structures.symmetry import SAME_PLACE, Symmetry


@dataclass(frozen=True)
class Hop:
    """An atom hops to the place of a vacancy.

    :param vacancy: the site that is empty, of the crystal; ``atom``: the site from which the atom comes.
    :param vector: from the vacancy to the atom, Å.
    :param name: has element and sites, and a number where there are several from site to site.
    """

    vacancy: int
    atom: int
    vector: np.ndarray
    name: str = ""

    @property
    def distance(self) -> float:
        """How far it is, Å."""
        return float(np.linalg.norm(self.vector))


class Migration(Property):
    """Hops of atoms into a vacancy next to them, one of each kind that symmetry tells apart.

    Frames: the perfect supercell, relaxed only, and for each hop the supercell with the vacancy. ``result`` gives the barriers in
    both directions, the path, and for an element the activation energy of diffusion. The reference labels the images as the
    potential has them.
    """

    kind: Literal["migration"] = "migration"
    run: ClassVar[str] = "neb"
    length_A: Length = Field(10.0, description="shortest that each vector of the supercell may be, Å")
    repeat: tuple[AtomCount, AtomCount, AtomCount] | None = Field(
        None, description="repetitions of the crystal along its vectors, instead of length_A"
    )
    symmetry_A: Length = Field(0.01, description="to which sites count as equal, Å")
    shell: Positive = Field(
        1.1, ge=1, description="atoms of the element of the vacancy hop from as far as so many times the nearest of them"
    )
    images: Count = Field(5, le=100, description="between the ends of a path")
    fmax: Positive = Field(0.03, description="largest force left on ends and band, eV/Å")
    max_steps: Count = Field(300, description="of the relaxation of each end, and of the band")
    interpolation: Literal["linear", "idpp"] = Field("linear", description="how the first band is made")

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "barrier_error_percent": Limits(10.0, 20.0, "%", f"{ZUO}; twice that"),
        "barrier_error_eV": Limits(
            0.05, 0.15, "eV", "at 600 K, 0.05 eV is a factor of 2.6 in the rate of hops, 0.15 eV one of 18"
        ),
        "activation_error_percent": Limits(10.0, 20.0, "%", f"{ZUO}; twice that"),
        "paths_not_converged": Limits(0, 0, "", "a band that does not converge has no saddle point"),
    }

    def perfect(self, crystal: Atoms) -> Atoms:
        """Return the supercell without defects."""
        return supercell(crystal, self.length_A, self.repeat)

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong with a crystal, also a supercell smaller than twice the cutoff."""
        return super().faults(crystal, reach) or too_small(self.perfect(crystal), reach)

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the perfect supercell, and one with a vacancy for each hop.

        :raises PropertyError: if the crystal is not periodic in all directions.
        """
        settings = {key: getattr(self, key) for key in ("images", "fmax", "max_steps", "interpolation")}
        frames = [self.perfect(crystal)]
        frames[0].info = {"part": "perfect", "task": settings}
        for hop in hops(crystal, self.symmetry_A, self.shell):
            atoms, place = self.perfect(crystal), crystal.positions[hop.vacancy]
            _, distances = find_mic(atoms.positions - place - hop.vector, atoms.cell, True)
            atom = int(distances.argmin())
            del atoms[hop.vacancy]
            task = {**settings, "atom": atom - (atom > hop.vacancy), "to": [float(x) for x in place]}
            atoms.info = {"part": hop.name, "task": task}
            frames.append(atoms)
        return frames

    @staticmethod
    def task_settings(given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of a path."""
        return NebSettings(**given).model_dump()

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return barriers, paths (Å, eV), and for an element energies of formation and activation (eV).

        :raises PropertyError: if an image has no energy.
        """
        images: dict[str, list[Atoms]] = {}
        for atoms in done:
            images.setdefault(str(atoms.info["part"]), []).append(atoms)
        bulk = None
        if len(elements_of(crystal)) == 1 and "perfect" in images:
            perfect = images["perfect"][-1]
            bulk = float(value_of(perfect, "energy", prefix)) / len(perfect)
        found = {}
        for hop in hops(crystal, self.symmetry_A, self.shell):
            told = {"element": str(crystal.symbols[hop.vacancy]), "distance_A": hop.distance}
            found[hop.name] = {**told, **_told(images.get(hop.name, []), bulk, prefix)}
        return {"supercell_atoms": len(self.perfect(crystal)), "hops": found}

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return how many paths did not converge, and with a reference the errors of the worst one."""
        found = result["hops"]
        out = {"paths_not_converged": float(sum(one["relax_status"] != CONVERGED for one in found.values()))}
        theirs = (reference or {}).get("hops", {})
        for key, name, relative in (
            ("barrier_eV", "barrier_error_eV", False),
            ("barrier_eV", "barrier_error_percent", True),
            ("activation_energy_eV", "activation_error_percent", True),
        ):
            pairs = [(one[key], theirs.get(hop, {}).get(key)) for hop, one in found.items()]
            errors = [(a - b) * (100 / abs(b) if relative else 1) for a, b in pairs if a is not None and b]
            if errors:
                out[name] = worst(errors)
        return out

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return the energy along each path."""
        return {
            name: Curve(one["path_A"], [one["energies_eV"]], "path (Å)", "energy (eV)")
            for name, one in result["hops"].items()
            if one["path_A"] is not None
        }


def hops(crystal: Atoms, tolerance: float, shell: float) -> list[Hop]:
    """Return one hop of each kind that symmetry tells apart; there and back are one.

    :param tolerance: of the symmetry, Å.
    :param shell: see ``Migration``.
    """
    symmetry = Symmetry(crystal, tolerance)
    out: list[Hop] = []
    for site in symmetry.sites:
        for hop in _from(crystal, site, shell):
            if not any(_same(crystal, symmetry, hop, other) for other in out):
                before = sum((other.vacancy, other.atom) == (site, hop.atom) for other in out)
                name = f"hop_{crystal.symbols[site]}_{site}_{hop.atom}" + (f"_{before + 1}" if before else "")
                out.append(replace(hop, name=name))
    return out


def _from(crystal: Atoms, site: int, shell: float) -> list[Hop]:
    """Return the hops to a site, from the nearest atoms of its element."""
    alike = np.flatnonzero(crystal.numbers == crystal.numbers[site])
    among = crystal[alike]
    farthest = shell * fr.image_distance(among)  # its own images are of its element
    first, second, vectors = neighbor_list("ijD", among, farthest)
    mine = first == np.flatnonzero(alike == site)[0]
    lengths = np.linalg.norm(vectors[mine], axis=1)
    near = lengths <= shell * lengths.min()
    atoms, vectors = alike[second[mine][near]], vectors[mine][near]
    found = [Hop(site, int(atom), vector) for atom, vector in zip(atoms, vectors, strict=True)]
    return sorted(found, key=lambda hop: (hop.atom, round(hop.distance, 2), *np.round(hop.vector, 2)))


def _same(crystal: Atoms, symmetry: Symmetry, hop: Hop, other: Hop) -> bool:
    """Tell whether an operation makes another hop of one, there or back."""
    if abs(hop.distance - other.distance) > SAME_PLACE:
        return False
    start = crystal.positions[other.vacancy]
    ends = symmetry.atoms_at(np.array([start, start + other.vector]))
    place, vectors = crystal.positions[hop.vacancy], symmetry.turned(hop.vector)
    images = np.stack([symmetry.atoms_at(symmetry.images(one)) for one in (place, place + hop.vector)], axis=1)
    there = (images == ends).all(axis=1) & (np.linalg.norm(vectors - other.vector, axis=1) < SAME_PLACE)
    back = (images == ends[::-1]).all(axis=1) & (np.linalg.norm(vectors + other.vector, axis=1) < SAME_PLACE)
    return bool((there | back).any())


def _told(images: Sequence[Atoms], bulk: float | None, prefix: str) -> dict[str, Any]:
    """Return what is found of a path.

    :param bulk: energy per atom of the perfect crystal, eV.
    """
    keys = ("barrier_eV", "barrier_back_eV", "formation_energy_eV", "activation_energy_eV", "path_A", "energies_eV")
    out: dict[str, Any] = dict.fromkeys((*keys, "residual_force_eV_per_A"))
    if len(images) < 3:
        return {**out, "relax_status": NOTHING}
    energies = np.array([float(value_of(image, "energy", prefix)) for image in images])
    saddle = int(energies.argmax())
    out["relax_status"] = str(images[0].info.get("relax_status"))
    out["barrier_eV"] = float(energies[saddle] - energies[0])
    out["barrier_back_eV"] = float(energies[saddle] - energies[-1])
    out["path_A"] = [0.0, *(float(x) for x in np.cumsum([_between(a, b) for a, b in pairwise(images)]))]
    out["energies_eV"] = [float(x) for x in energies - energies[0]]
    out["residual_force_eV_per_A"] = float(np.linalg.norm(value_of(images[saddle], "forces", prefix), axis=1).max())
    if bulk is not None:
        out["formation_energy_eV"] = float(energies[0] - bulk * len(images[0]))
        out["activation_energy_eV"] = out["formation_energy_eV"] + out["barrier_eV"]
    return out


def _between(first: Atoms, second: Atoms) -> float:
    """Return how far one image is from the next, Å, of all coordinates together."""
    vectors, _ = find_mic(second.positions - first.positions, first.cell, True)
    return float(np.linalg.norm(vectors))
