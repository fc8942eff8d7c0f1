import numpy as np
import pytest
from ase import Atoms
from helpers import label

from aiida_gaprss.analysis.hull import HullError, above_hull
from aiida_gaprss.models.gap.log import expected_counts, read_log
from aiida_gaprss.models.regularisation import (
    ARRAY_SIGMAS,
    INFO_SIGMAS,
    ComponentWise,
    Constant,
    ForceProportional,
    HullDistance,
    regularise,
    sigma_ranges,
)

FIT = {
    "descriptors": [
        {"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 10},
        {"kind": "soap", "cutoff": 4.5, "n_max": 4, "l_max": 3, "n_sparse": 20, "delta": 0.5},
    ],
    "sigma": {"energy": 0.005, "forces": 0.05, "virial": 0.05},
}
ALL = (*INFO_SIGMAS, *ARRAY_SIGMAS)


@pytest.fixture
def alloys(alloy_frames):
    return [atoms.copy() for atoms in alloy_frames]


# --- the hull ---


def test_hull_of_one_element_is_the_lowest_energy(copies):
    energies = np.array([a.info["REF_energy"] / len(a) for a in copies])
    heights = above_hull(copies)
    assert np.isnan(heights[0]), "the isolated atom is no phase"
    assert np.allclose(heights[1:], energies[1:] - energies[1:].min(), atol=1e-12)


def test_hull_of_two_elements(alloys):
    """Against the lower envelope of all lines between two frames."""
    cells = alloys[2:]
    x = np.array([np.mean(a.numbers == 79) for a in cells])
    energies = np.array([a.info["REF_energy"] / len(a) for a in cells])
    expected = []
    for here, energy in zip(x, energies, strict=True):
        best = energies[x == here].min()
        for i in np.flatnonzero(x < here):
            for j in np.flatnonzero(x > here):
                best = min(best, energies[i] + (energies[j] - energies[i]) * (here - x[i]) / (x[j] - x[i]))
        expected.append(energy - best)
    heights = above_hull(alloys)
    assert np.isnan(heights[:2]).all()
    assert np.allclose(heights[2:], expected, atol=1e-9)
    assert np.count_nonzero(heights[2:] < 1e-9) >= 2


def test_an_element_without_frames_of_its_own(alloys):
    mixed = [a for a in alloys if len(set(a.get_chemical_symbols())) == 2]
    with pytest.raises(HullError, match="neither a labelled frame of Au, Cu alone nor its isolated atom"):
        above_hull(mixed)
    heights = above_hull([*alloys[:2], *mixed])
    assert np.isnan(heights[:2]).all()
    assert (heights[2:] >= 0).all()


# --- what is written ---


def test_sigmas_grow_with_the_distance_and_with_the_root_of_the_number_of_atoms(copies):
    regularise(copies, [HullDistance(low=0.002, high=0.2, width=1.0, forces=10, virial=5)])
    assert "energy_sigma" not in copies[0].info, "the isolated atom keeps the sigma of its kind"
    cells = copies[1:]
    energies = np.array([a.info["REF_energy"] / len(a) for a in cells])
    per_atom = np.array([a.info["energy_sigma"] / np.sqrt(len(a)) for a in cells])
    x = np.clip(energies - energies.min(), 0, 1)
    assert np.allclose(per_atom, 0.002 * 100**x)
    assert per_atom[energies.argmin()] == pytest.approx(0.002)
    assert np.allclose([a.info["force_sigma"] for a in cells], 10 * per_atom)
    assert np.allclose([a.info["virial_sigma"] / np.sqrt(len(a)) for a in cells], 5 * per_atom)


def test_sigmas_in_proportion_to_forces_and_virials(alloys):
    rules = [
        ForceProportional(config_types=["alloy"], f=0.1, min_force=0.3, energy=0.001),
        ComponentWise(force_factor=0.2, force_floor=0.05, virial_factor=0.01, virial_floor=0.02),
    ]
    regularise(alloys, rules)
    for atoms in alloys[2:]:
        forces = atoms.arrays["REF_forces"]
        if atoms.info["config_type"] == "alloy":
            size = np.sqrt((forces**2).sum(axis=1))
            assert np.allclose(atoms.arrays["force_atom_sigma"], np.where(size > 0.3, 0.1 * size, 0.03))
            assert atoms.info["energy_sigma"] == pytest.approx(0.001 * np.sqrt(len(atoms)))
            assert not {"virial_sigma", "virial_component_sigma"} & set(atoms.info)
        else:
            assert np.allclose(atoms.arrays["force_component_sigma"], np.clip(0.2 * abs(forces), 0.05, None))
            virial = np.abs(atoms.info["REF_virial"])
            assert np.allclose(atoms.info["virial_component_sigma"], np.clip(0.01 * virial, 0.02 * np.sqrt(len(atoms)), None))
    ranges = sigma_ranges(alloys)
    assert ranges["force_atom_sigma"]["values"] == sum(len(a) for a in alloys if a.info["config_type"] == "alloy")
    assert ranges["force_atom_sigma"]["lowest"] == pytest.approx(0.03)
    assert ranges["force_component_sigma"]["lowest"] == pytest.approx(0.05)


def test_a_kind_that_is_not_there(alloys):
    with pytest.raises(
        ValueError, match=r"regularisation\[1\]: no frames of config type liquid; there are alloy, isolated_atom, other"
    ):
        regularise(alloys, [HullDistance(), ForceProportional(config_types=["liquid"])])


# --- what gap_fit makes of it ---


def predictions(folder, frames, evaluated):
    from quippy.potential import Potential

    return evaluated(frames, Potential(param_filename=str(folder / "gap.xml")))


def test_gap_fit_reads_them(copies, fit_with_binary, evaluated):
    regularise(copies, [HullDistance(low=0.0005, high=0.5, width=1.0)])
    settings = {**FIT, "config_type_sigma": {"isolated_atom": {"energy": 0.0001, "forces": 0.01, "virial": 1.0}}}
    folder, text = fit_with_binary(copies, settings, keep=ALL)
    log = read_log(text)
    expected = expected_counts(copies)
    assert {key: log.counts[key] for key in expected} == expected
    assert log.counts["energy_sigma"] == len(copies) - 1
    found = predictions(folder, copies, evaluated)
    error = np.array([abs(p[0] - a.info["REF_energy"]) / len(a) for p, a in zip(found, copies, strict=True)])
    tight = np.array([a.info.get("energy_sigma", 1) / np.sqrt(len(a)) < 0.01 for a in copies])
    assert tight.any()
    assert error[tight].mean() < error[~tight][1:].mean()


def test_the_root_of_the_number_of_atoms_is_that_of_gap_fit(alloys, fit_with_binary, evaluated):
    """Sigmas of the default, of config types, and of single frames: cells of 4 and 8 atoms, three fits, the same potential."""
    sizes = {len(a) for a in alloys}
    assert sizes == {1, 4, 8}
    kinds = {kind: {"energy": 0.005, "forces": 0.05, "virial": 0.05} for kind in ("alloy", "other", "isolated_atom")}
    loose = {"energy": 1.0, "forces": 1.0, "virial": 1.0}
    by_default, _ = fit_with_binary(alloys, FIT)
    by_kind, _ = fit_with_binary(alloys, {**FIT, "sigma": loose, "config_type_sigma": kinds})
    every = ["alloy", "other", "isolated_atom"]
    regularise(alloys, [Constant(config_types=every, sigma=FIT["sigma"])])
    by_frame, text = fit_with_binary(alloys, {**FIT, "sigma": loose}, keep=ALL)
    assert read_log(text).abort is None
    assert read_log(text).counts["virial_sigma"] == len(alloys) - 2
    without_root = [a.copy() for a in alloys]
    for atoms in without_root:
        atoms.info["energy_sigma"] = 0.005
    wrong, _ = fit_with_binary(without_root, {**FIT, "sigma": loose}, keep=ALL)
    first, *others, last = (predictions(folder, alloys, evaluated) for folder in (by_default, by_kind, by_frame, wrong))
    energies = np.array([e for e, _, _ in first])
    for other in others:
        assert np.allclose([e for e, _, _ in other], energies, atol=1e-6)
        for (_, forces, virial), (_, theirs, its) in zip(first, other, strict=True):
            assert np.allclose(forces, theirs, atol=1e-6)
            assert np.allclose(virial, its, atol=1e-6)
    assert np.abs(np.array([e for e, _, _ in last]) - energies).max() > 1e-5, "without the root it would be another potential"


def test_sigmas_of_atoms_and_components_are_used(alloys, fit_with_binary, evaluated):
    rules = [ForceProportional(config_types=["alloy"], f=0.01), ComponentWise(config_types=["other"])]
    regularise(alloys, rules)
    settings = {**FIT, "sigma": {"energy": 0.01, "forces": 1.0, "virial": 1.0}}
    folder, text = fit_with_binary(alloys, settings, keep=ALL)
    assert read_log(text).abort is None
    counts = read_log(text).counts
    kinds = [a.info["config_type"] for a in alloys]
    assert counts["force_atom_sigma"] == sum(len(a) for a in alloys if a.info["config_type"] == "alloy")
    assert counts["force_component_sigma"] == 3 * sum(len(a) for a in alloys if a.info["config_type"] == "other")
    assert counts["virial_component_sigma"] == 9 * kinds.count("other")
    plain, _ = fit_with_binary(alloys, settings)

    def rms(folder):
        found = predictions(folder, alloys, evaluated)
        return np.sqrt(
            np.mean(np.concatenate([((p[1] - a.arrays["REF_forces"]) ** 2).ravel() for p, a in zip(found, alloys, strict=True)]))
        )

    assert rms(folder) < 0.5 * rms(plain), "forces that are expected to be exact are fitted closer"


# --- phonons ---


@pytest.fixture(scope="module")
def diamond():
    """phonopy's single displacements of 0.01 Å in supercells of diamond."""
    from ase.build import bulk
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    def diamond(repeat, scale=1.0):
        unit = bulk("Si", a=5.4309 * scale)
        cell = PhonopyAtoms(["Si", "Si"], cell=unit.cell.array, scaled_positions=unit.get_scaled_positions())
        crystal = Phonopy(cell, np.diag([repeat] * 3), log_level=0)
        crystal.generate_displacements(distance=0.01)
        return crystal

    return diamond


def as_frame(cell, calculator, number):
    """Return a cell of phonopy with labels."""
    atoms = Atoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=True)
    atoms.info.update(frame_id=f"phonon-{number}", config_type="displaced")
    label(atoms, calculator)
    return atoms


def frequencies(crystal, calculator):
    """Return the phonon frequencies (THz) on a mesh."""
    crystal.forces = [as_frame(s, calculator, 0).arrays["REF_forces"] for s in crystal.supercells_with_displacements]
    crystal.produce_force_constants()
    crystal.run_mesh([4, 4, 4])
    return crystal.get_mesh_dict()["frequencies"]


@pytest.mark.slow
@pytest.mark.parametrize("some", [(None, 0.01), pytest.param((None, 0.1, 0.01, "component"), marks=pytest.mark.full)])
def test_phonons_are_the_better_the_smaller_f(diamond, sw, fit_with_binary, some):
    """As George et al. found for silicon (2020, figure 4), down to 0.01; and better than with the same sigma for all forces."""
    from quippy.potential import Potential

    atom = Atoms("Si", cell=[12.0] * 3, pbc=True)
    atom.info.update(frame_id="atom", config_type="isolated_atom", REF_energy=0.0)
    cells = [diamond(3, scale) for scale in (0.99, 0.995, 1.0, 1.005, 1.01)]
    supercells = [s for crystal in cells for s in (crystal.supercell, *crystal.supercells_with_displacements)]
    frames = [atom, *(as_frame(cell, sw, number) for number, cell in enumerate(supercells))]
    rng = np.random.default_rng(4)
    for number in range(10):
        moved = cells[2].supercell.copy()
        moved.positions = moved.positions + rng.normal(0, 0.02, (54, 3))
        frames.append(as_frame(moved, sw, 100 + number))
        frames[-1].info["config_type"] = "rattled"
    reference = frequencies(diamond(3), sw)
    errors = {}
    rules = {f: [ForceProportional(config_types=["displaced"], f=f)] for f in (0.1, 0.01)}
    rules |= {None: [], "component": [ComponentWise(config_types=["displaced"], force_factor=0.01, force_floor=1e-4)]}
    for f in some:
        copies = [a.copy() for a in frames]
        regularise(copies, rules[f])
        soap = {"kind": "soap", "cutoff": 4.5, "n_max": 8, "l_max": 6, "n_sparse": 100, "delta": 2.0}
        sigma = {"energy": 0.001, "forces": 0.1, "virial": 0.05}
        folder, text = fit_with_binary(copies, {"descriptors": [soap], "sigma": sigma}, keep=ALL)
        counts = read_log(text).counts
        displaced = sum(len(a) for a in frames if a.info["config_type"] == "displaced")
        assert counts["force_atom_sigma"] == (displaced if f in (0.1, 0.01) else 0)
        assert counts["force_component_sigma"] == (3 * displaced if f == "component" else 0)
        gap = Potential(param_filename=str(folder / "gap.xml"))
        errors[f] = np.sqrt(np.mean((frequencies(diamond(3), gap) - reference) ** 2))
    assert errors[None] < 0.1, "THz"
    assert errors[0.01] < 0.5 * errors[None]
    if len(some) > 2:
        assert errors[0.1] < errors[None]
        assert errors[0.01] < 0.5 * errors[0.1]
        assert errors["component"] < 0.5 * errors[0.1], "the same by component"
