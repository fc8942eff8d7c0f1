"""Frames with right labels for the tests of the audit, and what is done to them."""

import numpy as np
from ase import Atoms, units
from ase.calculators.emt import EMT
from helpers import label

from aiida_gaprss.frames import is_isolated_atom
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

HA_PER_BOHR = units.Hartree / units.Bohr


def labelled(frames):
    """Put labels of ASE's EMT on frames."""
    for atoms in frames:
        label(atoms, EMT())
    return frames


def isolated(symbol):
    atoms = Atoms(symbol, cell=[14.0] * 3, pbc=True)
    atoms.info.update(frame_id=f"atom-{symbol}", config_type="isolated_atom")
    return atoms


def named(frames):
    for number, atoms in enumerate(frames):
        atoms.info.update(frame_id=f"cell-{number:03d}", config_type="random")
    return frames


def copper():
    spec = CellSpec({"Cu": 1}, n_atoms=(4, 6, 8), volume_per_atom=(10, 16), min_separation=2.1, n_operations=(1, 2))
    return labelled([isolated("Cu"), *named(random_cells(spec, 40, seed=1))])


def copper_gold():
    cells = []
    for seed, formula in enumerate(({"Cu": 1, "Au": 1}, {"Cu": 3, "Au": 1}, {"Cu": 1, "Au": 3})):
        spec = CellSpec(formula, n_atoms=(4, 8), volume_per_atom=(11, 18), min_separation=2.2)
        cells += random_cells(spec, 20, seed=seed)
    return labelled([isolated("Cu"), isolated("Au"), *named(cells)])


# --- what is done to labels ---


def altered(frames, fraction, change, seed=1):
    """Return copies of which a fraction is changed, isolated atoms apart, and the names of the changed."""
    out = [atoms.copy() for atoms in frames]
    cells = [i for i, atoms in enumerate(out) if not is_isolated_atom(atoms)]
    chosen = np.random.default_rng(seed).permutation(cells)[: round(fraction * len(cells))]
    for i in chosen:
        change(out[i])
    return out, {out[i].info["frame_id"] for i in chosen}


def virial_times(factor):
    def change(atoms):
        if "REF_virial" in atoms.info:
            atoms.info["REF_virial"] = atoms.info["REF_virial"] * (factor(atoms) if callable(factor) else factor)

    return change


def forces_times(factor):
    def change(atoms):
        atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"] * factor

    return change


def energy_times(factor):
    def change(atoms):
        atoms.info["REF_energy"] *= factor(atoms) if callable(factor) else factor

    return change


def energy_plus(per_atom):
    """Shift by so many eV per atom, or by a dictionary of energies per element."""

    def change(atoms):
        each = per_atom if isinstance(per_atom, dict) else dict.fromkeys(atoms.get_chemical_symbols(), per_atom)
        atoms.info["REF_energy"] += sum(each[symbol] for symbol in atoms.get_chemical_symbols())

    return change


def permute_forces(atoms):
    order = np.random.default_rng(len(atoms) + round(1e6 * atoms.cell.volume)).permutation(len(atoms))
    atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"][order]


def turn_forces(atoms):
    atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"][:, [1, 2, 0]]


def mix_shear(atoms):
    """Write xy, yz, xz where yz, xz, xy belong, as VASP orders them."""
    if "REF_virial" in atoms.info:
        v = np.array(atoms.info["REF_virial"]).reshape(3, 3)
        yz, xz, xy = v[1, 2], v[0, 2], v[0, 1]
        v[1, 2] = v[2, 1] = xy
        v[0, 2] = v[2, 0] = yz
        v[0, 1] = v[1, 0] = xz
        atoms.info["REF_virial"] = v.ravel()


def pulay(atoms):
    atoms.info["REF_virial"] = atoms.info["REF_virial"] - 6.0 * atoms.get_chemical_symbols().count("Cu") * np.eye(3).ravel()


#: Name: fraction, change, check that must find it, words it must use.
CORRUPTIONS = {
    "virial sign": (1, virial_times(-1), "virials", "virials are sign reversed"),
    "virial sign in a part": (0.2, virial_times(-1), "virials", "are sign reversed"),
    "virial from GPa": (1, virial_times(1 / units.GPa), "virials", "a stress in GPa taken as eV/Å³"),
    "virial from kbar": (1, virial_times(10 / units.GPa), "virials", "a stress in kbar taken as eV/Å³"),
    "virial from kbar in a part": (0.2, virial_times(10 / units.GPa), "virials", "a stress in kbar taken as eV/Å³"),
    "stress for virial": (1, virial_times(lambda a: -1 / a.get_volume()), "virials", "a stress in eV/Å³, not a virial"),
    "GPa for virial": (1, virial_times(lambda a: -1 / units.GPa / a.get_volume()), "virials", "a stress in GPa, not a virial"),
    "shear order": (1, mix_shear, "virials", "where yz xz xy belong stand xy yz xz"),
    "forces sign": (1, forces_times(-1), "forces", "forces are sign reversed"),
    "forces sign in a part": (0.2, forces_times(-1), "forces", "are sign reversed"),
    "forces in Ha/bohr": (1, forces_times(1 / HA_PER_BOHR), "forces", "forces are in Ha/bohr"),
    "forces in Ha/bohr in a part": (0.2, forces_times(1 / HA_PER_BOHR), "forces", "are in Ha/bohr"),
    "forces in eV/bohr": (1, forces_times(units.Bohr), "forces", "forces are in eV/bohr"),
    "forces permuted": (1, permute_forces, "forces", "of other atoms or frames"),
    "forces permuted in a part": (0.2, permute_forces, "forces", "of other atoms"),
    "forces turned": (1, turn_forces, "forces", "of other atoms or frames"),
    "energies in Ha": (1, energy_times(1 / units.Hartree), "energy unit", "energies are in Ha"),
    "energies per atom": (1, energy_times(lambda a: 1 / len(a)), "energy unit", "per atom instead of per cell"),
    "energies shifted": (0.15, energy_plus(1.0), "energy zero", "are shifted by +"),
    "energies shifted down": (0.15, energy_plus(-0.5), "energy zero", "are shifted by -0."),
    "isolated atoms subtracted": (0.15, energy_plus({"Cu": 1300.0, "Au": 3000.0}), "energy zero", "are shifted by +"),
}


def noisy(frames, level, seed):
    """Return copies with noise: ``level`` eV/atom on energies, ten times that in eV/Å on forces, in eV/atom on virials."""
    rng = np.random.default_rng(seed)
    out = [atoms.copy() for atoms in frames]
    for atoms in out:
        n = len(atoms)
        atoms.info["REF_energy"] += level * n * rng.normal()
        shift = 10 * level * rng.normal(size=(n, 3))
        atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"] + shift - shift.mean(axis=0)
        if "REF_virial" in atoms.info:
            tensor = 10 * level * n * rng.normal(size=(3, 3))
            atoms.info["REF_virial"] = atoms.info["REF_virial"] + ((tensor + tensor.T) / 2).ravel()
    return out
