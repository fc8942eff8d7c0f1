"""Phonons of a crystal by finite displacements.

The defaults are those of J. George, G. Hautier, A. P. Bartók, G. Csányi and V. L. Deringer, J. Chem. Phys. 153, 044104 (2020):
supercells of the primitive cell whose lattice vectors are at least 15 Å, displacements of 0.01 Å that symmetry does not make
equal, 51 points on each segment of the path of Setyawan and Curtarolo.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from ase import Atoms
from phonopy import Phonopy
from phonopy import load as load_phonopy
from pydantic import Field

from aiida_gaprss import frames as fr
from aiida_gaprss.properties import harmonic
from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError, value_of
from aiida_gaprss.properties.polar import Polar
from aiida_gaprss.properties.quasi import Quasi, scaled
from aiida_gaprss.properties.standard import Convention, Segment, Standard, standard_of, turned_onto
from aiida_gaprss.runners.conductivity import (
    SYMMETRY,
    UnsolvableError,
    ase_atoms,
    check_same,
    diagonal,
    forces_allowed,
    forces_of,
    frame,
    phonopy_atoms,
)
from aiida_gaprss.settings.model import Count, Integer, Length, Positive, PositiveOrZero

Diagonal: TypeAlias = tuple[Count, Count, Count]
Row: TypeAlias = tuple[Integer, Integer, Integer]

#: Lattice vectors of a supercell that are tried, Å, for what would be long enough.
LONGEST = 200

#: The part that is the supercell as it is.
UNDISPLACED = "supercell"

GEORGE = "George et al., J. Chem. Phys. 153, 044104 (2020)"
ALLEN = "Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022)"


class Phonons(Property):
    """Phonon bands, density of states and imaginary modes.

    Frames: supercells with one atom displaced, and the supercell as it is where symmetry allows forces in it, which are
    subtracted. ``result`` gives what :mod:`~aiida_gaprss.properties.harmonic` makes of them.
    """

    kind: Literal["phonons"] = "phonons"
    cell: Literal["primitive", "conventional"] = Field("primitive", description="standard cell of which supercells are made")
    length_A: Length = Field(15.0, description="every lattice vector of the supercell is at least so long")
    supercell: Diagonal | tuple[Row, Row, Row] | None = Field(None, description="repetitions, or a matrix, instead of a length")
    displacement_A: Positive = 0.01
    symmetry_A: Length = Field(0.01, description="tolerance of the symmetry of the crystal")
    path: Convention = Field("setyawan", description="path of the bands: setyawan (pymatgen) or seekpath")
    points: Annotated[Count, Field(ge=2)] = Field(51, description="on each segment of the path, both ends counted")
    mesh: Diagonal = Field((12, 12, 12), description="points in the Brillouin zone, of the primitive cell, around Γ")
    pitch_THz: Positive = Field(0.05, description="of the density of states")
    imaginary_THz: PositiveOrZero = Field(0.1, description="a mode below minus this is imaginary")
    temperatures_K: tuple[PositiveOrZero, ...] = Field((0.0, 300.0, 600.0, 900.0), description="of the thermal properties")
    polar: Polar | None = Field(None, description="Born charges and dielectric tensor, for the non-analytical term")
    qha: Quasi | None = Field(None, description="volumes and temperatures of the quasi-harmonic approximation, if wanted")
    allow_small: bool = Field(False, description="take supercells in which an atom sees another and its image")

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "rms_path_THz": Limits(0.2, 0.5, "THz", f"potentials fitted for phonons have 0.1–0.2: {GEORGE}; below 0.5: {ALLEN}"),
        "rms_mesh_THz": Limits(0.2, 0.5, "THz", "as along the path"),
        "max_error_THz": Limits(0.8, 1.6, "THz", f"0.8 is called a notable difference at Γ in clathrate silicon: {GEORGE}"),
        "false_imaginary": Limits(0, 0, "", "a stable crystal would fall apart"),
        "missed_imaginary": Limits(0, 0, "", "an unstable crystal would live"),
        "imaginary_modes": Limits(0, 0, "", "without a reference: a known crystal is stable"),
        "expansion_300K_error": Limits(0.1, 0.3, "", "functionals of DFT differ by a tenth and more from each other"),
        "acoustic_at_gamma_THz": Limits(0.01, 0.1, "THz", "zero where forces do not change with a shift of all atoms"),
    }

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong, also a supercell in which atoms see a displaced atom and its image.

        Within the cutoff of no atom there may be two images of the displaced one: the forces of both would count for one. That
        is so where the shortest lattice vector is twice the cutoff.
        """
        try:
            cell = self._cell(self.standard(crystal))
        except PropertyError as error:
            return [str(error)]
        return [] if self.allow_small else too_small(cell, self.matrix(cell), self.cell, reach)

    def standard(self, crystal: Atoms) -> Standard:
        """Return the standard cells of a crystal, and the path.

        :raises PropertyError: if it has none.
        """
        return standard_of(crystal, self.symmetry_A, self.path)

    def matrix(self, cell: Atoms) -> np.ndarray:
        """Return the matrix that makes the supercell of a cell, shape (3, 3)."""
        if self.supercell is None:
            return diagonal(cell, self.length_A)
        return np.diag(self.supercell) if np.ndim(self.supercell) == 1 else np.array(self.supercell)

    def _planned(self, standard: Standard, matrix: np.ndarray | None = None) -> Phonopy:
        """Return phonopy with displacements for a crystal; without forces yet.

        :param matrix: that makes the supercell, if it is not that of this cell.
        :raises PropertyError: if the crystal has no supercell as it is set.
        """
        cell = self._cell(standard)
        matrix = self.matrix(cell) if matrix is None else matrix
        primitive = np.eye(3) if self.cell == "primitive" else standard.to_primitive
        try:
            found = Phonopy(phonopy_atoms(cell), matrix, primitive_matrix=primitive, symprec=SYMMETRY, log_level=0)
        except (RuntimeError, ValueError) as error:
            raise PropertyError(f"supercell {_words(matrix)}: {error}") from error
        found.generate_displacements(distance=self.displacement_A)
        return found

    def _cell(self, standard: Standard) -> Atoms:
        return standard.primitive if self.cell == "primitive" else standard.conventional

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the supercells with displaced atoms; for the quasi-harmonic approximation cells of other volumes, and theirs.

        :raises PropertyError: if the crystal is not periodic in all directions, or has no supercell as it is set.
        """
        standard = self.standard(crystal)
        out = _frames(self._planned(standard))
        for cell, found in self._volumes(standard):
            out += [cell, *_frames(found, f"{cell.info['part']}_")]
        return out

    def _volumes(self, standard: Standard) -> list[tuple[Atoms, Phonopy]]:
        """Return the primitive cells of other volumes, and phonopy with displacements for each, in the same supercell."""
        matrix = self.matrix(self._cell(standard))
        out = []
        for factor in self.qha.volumes if self.qha is not None else ():
            other = scaled(standard, factor)
            other.primitive.info["part"] = f"volume_{factor:g}"
            out.append((other.primitive, self._planned(other, matrix)))
        return out

    def phonon(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> Phonopy:
        """Return phonopy with force constants that are symmetric, for whatever else it can do.

        :raises PropertyError: if forces are missing, or frames are not those of the plan.
        """
        found = self._planned(self.standard(crystal))
        with refusals():
            self._take(found, done[: len(_frames(found))], prefix)
        self._finish(found, crystal)
        return found

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return bands, mesh, density of states, thermal properties, and what is imaginary of them.

        :raises PropertyError: see :meth:`phonon`.
        """
        standard = self.standard(crystal)
        found = self._planned(standard)
        own = len(done) if self.qha is None else len(_frames(found))
        with refusals():
            residual = self._take(found, done[:own], prefix)
            qha = {} if self.qha is None else self._expansion(crystal, standard, done[own:], prefix)
        return {**self._told(found, crystal, standard.path), "residual_force_eV/A": residual, **qha}

    def _expansion(self, crystal: Atoms, standard: Standard, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return what the quasi-harmonic approximation gives, or why it gives nothing."""
        assert self.qha is not None
        phonons, energies, unstable, rest = [], [], [], list(done)
        for (cell, found), factor in zip(self._volumes(standard), self.qha.volumes, strict=True):
            energies.append(_energy_of(cell, rest[:1], prefix))
            number = len(_frames(found))
            self._take(found, rest[1 : number + 1], prefix)
            self._finish(found, crystal)
            rest = rest[number + 1 :]
            if harmonic.imaginary(harmonic.mesh(found, self.mesh), self.imaginary_THz):
                unstable.append(f"{factor:g}")
            phonons.append(found)
        if unstable:
            return {"qha": None, "qha_why_not": f"there are imaginary modes at the volumes {', '.join(unstable)}"}
        return {"qha": self.qha.solved(phonons, energies)}

    def result_of(self, phonopy_yaml: str) -> dict[str, Any]:
        """Return the same of displacements with forces, or force constants, that phonopy has written, ``phonopy.yaml``.

        :param phonopy_yaml: its text.
        :raises PropertyError: if its primitive cell is not the standard one of the path.
        """
        found = load_phonopy(io.StringIO(phonopy_yaml), is_nac=False, symmetrize_fc=False, log_level=0)
        crystal = ase_atoms(found.primitive)
        standard = self.standard(crystal)
        if not np.allclose(_metric(crystal), _metric(standard.primitive), rtol=1e-3, atol=1e-3):
            raise PropertyError(f"the primitive cell of the phonopy.yaml is not the standard one of the path ({self.path})")
        return self._told(found, crystal, standard.path)

    def _take(self, found: Phonopy, done: Sequence[Atoms], prefix: str) -> float:
        """Make force constants of the forces; return the largest force on an atom in its place, eV/Å."""
        frames = _frames(found)
        if len(frames) != len(done):
            raise PropertyError(f"there are {len(done)} frames, expected the {len(frames)} of the plan")
        forces = np.array([forces_of(*both, prefix) for both in zip(frames, done, strict=True)])
        displaced = len(found.supercells_with_displacements or [])
        residual = forces[displaced] if len(forces) > displaced else np.zeros_like(forces[0])
        found.produce_force_constants(
            forces=forces[:displaced] - residual, calculate_full_force_constants=False, show_drift=False
        )
        return float(np.linalg.norm(residual, axis=1).max())

    def _finish(self, found: Phonopy, crystal: Atoms) -> None:
        """Symmetrise force constants, and add the non-analytical term."""
        found.symmetrize_force_constants(show_drift=False)
        if self.polar is not None:
            turn = partial(turned_onto, crystal, ase_atoms(found.primitive), 5 * self.symmetry_A)
            found.nac_params = self.polar.parameters(crystal, turn)

    def _told(self, found: Phonopy, crystal: Atoms, path: Sequence[Segment]) -> dict[str, Any]:
        acoustic = np.abs(harmonic.at_gamma(found)[:3]).max()
        self._finish(found, crystal)
        bands, mesh = harmonic.bands(found, path, self.points), harmonic.mesh(found, self.mesh)
        imaginary = {"path": harmonic.imaginary(bands, self.imaginary_THz), "mesh": harmonic.imaginary(mesh, self.imaginary_THz)}
        stable = not any(imaginary.values())
        return {
            "path": {"convention": self.path, **bands},
            "mesh": mesh,
            "dos": harmonic.density_of_states(found, self.pitch_THz),
            "thermal": harmonic.thermal(found, self.temperatures_K) if stable and self.temperatures_K else None,
            "imaginary_modes": imaginary,
            "stable": stable,
            "smallest_THz": float(min(np.min(bands["frequencies_THz"]), np.min(mesh["frequencies_THz"]))),
            "largest_THz": float(max(np.max(bands["frequencies_THz"]), np.max(mesh["frequencies_THz"]))),
            "acoustic_at_gamma_THz": float(acoustic),
            "supercell": np.asarray(found.supercell_matrix).tolist(),
            "cell_A": np.round(found.primitive.cell, fr.DECIMALS).tolist(),
        }

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return errors against a reference; without one, how many modes are imaginary.

        What cannot be compared has no score; :meth:`incomparable` says why. Paths are the same whose segments have the same
        names: where their ends depend on the shape of the cell, each is at its own.
        """
        out = {"acoustic_at_gamma_THz": result["acoustic_at_gamma_THz"]}
        if reference is None:
            return out | {"imaginary_modes": float(sum(result["imaginary_modes"].values()))}
        largest = []
        for part in ("path", "mesh"):
            if harmonic.why_not(result[part], reference[part]) is None:
                out[f"rms_{part}_THz"], most = harmonic.differences(result[part], reference[part])
                largest.append(most)
        out |= {"max_error_THz": max(largest)} if largest else {}
        ours, theirs = (_at(one.get("qha"), 300.0) for one in (result, reference))
        out |= {"expansion_300K_error": ours / theirs - 1} if ours and theirs else {}
        out["false_imaginary"] = float(reference["stable"] and not result["stable"])
        out["missed_imaginary"] = float(result["stable"] and not reference["stable"])
        return out

    def incomparable(self, result: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, str]:
        """Return why there is no error along the path, or over the mesh."""
        found = {part: harmonic.why_not(result[part], reference[part]) for part in ("path", "mesh")}
        return {part: why for part, why in found.items() if why is not None}

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return bands, with the names of the ends of the segments, and the density of states."""
        path, dos = result["path"], result["dos"]
        branches = np.transpose(path["frequencies_THz"]).tolist()
        out = {
            "bands": Curve(path["distance_1/A"], branches, "wave vector", "frequency (THz)", ticks=_ticks(path)),
            "dos": Curve(dos["frequency_THz"], [dos["states_per_THz"]], "frequency (THz)", "states per THz and cell"),
        }
        if result.get("qha"):
            qha, x, y = result["qha"], "temperature (K)", "thermal expansion (1e-6/K)"
            out["expansion"] = Curve(qha["temperatures_K"], [qha["thermal_expansion_1e-6/K"]], x, y)
        return out


def _at(qha: Mapping[str, Any] | None, temperature: float) -> float | None:
    """Return the thermal expansion at a temperature that is among those calculated, or None."""
    if not qha or temperature not in qha["temperatures_K"]:
        return None
    return float(qha["thermal_expansion_1e-6/K"][qha["temperatures_K"].index(temperature)])


def _ticks(path: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Return the places of the ends of segments; where one begins elsewhere than the last one ended, both names."""
    places, segments, points = path["distance_1/A"], path["segments"], path["points"]
    out = [(places[0], segments[0][0])]
    for number, (_, last) in enumerate(segments, start=1):
        following = segments[number][0] if number < len(segments) else last
        out.append((places[number * points - 1], last if following == last else f"{last}|{following}"))
    return out


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the script of the conductivity says of frames into what a property says."""
    try:
        yield
    except UnsolvableError as error:
        raise PropertyError(str(error)) from error


def _frames(found: Phonopy, name: str = "") -> list[Atoms]:
    """Return the displaced supercells, and the supercell itself where symmetry allows forces in it.

    :param name: what their parts begin with.
    """
    displaced = found.supercells_with_displacements or []
    out = [frame(cell, f"{name}displacement_{number}") for number, cell in enumerate(displaced, start=1)]
    return [*out, frame(found.supercell, f"{name}{UNDISPLACED}")] if forces_allowed(found.symmetry) else out


def _energy_of(cell: Atoms, done: Sequence[Atoms], prefix: str) -> float:
    """Return the energy of the cell of another volume, eV."""
    if not done:
        raise PropertyError(f"frame {cell.info['part']} of the plan is missing")
    check_same(cell, done[0])
    return float(value_of(done[0], "energy", prefix))


def too_small(cell: Atoms, matrix: np.ndarray, name: str, reach: float) -> list[str]:
    """Return the fault of a supercell in which an atom sees a displaced atom and its image, with a length that is enough.

    :param name: what the cell is called; ``reach``: cutoff of the potential, Å.
    """
    shortest = fr.image_distance(_repeated(cell, matrix))
    if shortest >= 2 * reach:
        return []
    return [
        f"supercell {_words(matrix)} of the {name} cell: a displaced atom is {shortest:.2f} Å from its image, "
        f"expected at least {2 * reach:.2f} Å, twice the cutoff of {reach:.2f} Å, so that no atom sees both; "
        f"set length_A: {_long_enough(cell, 2 * reach):g}, or allow_small: true"
    ]


def _long_enough(cell: Atoms, distance: float) -> float:
    """Return a length of lattice vectors, Å, with which images are at least so far apart."""
    lengths = np.arange(math.ceil(distance), LONGEST, dtype=float)
    return next((float(one) for one in lengths if fr.image_distance(_repeated(cell, diagonal(cell, one))) >= distance), LONGEST)


def _repeated(cell: Atoms, matrix: np.ndarray) -> Atoms:
    return Atoms(cell=matrix @ cell.cell.array, pbc=True)


def _metric(atoms: Atoms) -> np.ndarray:
    return np.asarray(atoms.cell.array @ atoms.cell.array.T)


def _words(matrix: np.ndarray) -> str:
    if np.count_nonzero(matrix) == 3 and np.diag(matrix).all():
        return "×".join(str(n) for n in np.diag(matrix))
    return str(matrix.tolist())
