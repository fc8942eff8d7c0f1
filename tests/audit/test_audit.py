"""The audit on right labels and on corrupted ones: classical ones made here, and published ones where they are installed."""

import audit_frames
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from audit_frames import (
    CORRUPTIONS,
    HA_PER_BOHR,
    altered,
    energy_plus,
    forces_times,
    labelled,
    named,
    pulay,
    virial_times,
)

from aiida_gaprss.audit import CHECKS, Audit, AuditSettings, Check, audit
from aiida_gaprss.audit.descriptors import Basis, basis_for, neighbours
from aiida_gaprss.audit.evidence import examine
from aiida_gaprss.audit.mistakes import MISTAKES
from aiida_gaprss.audit.model import least_absolute
from aiida_gaprss.audit.paths import find_paths
from aiida_gaprss.frames import set_labels
from aiida_gaprss.io.extxyz import Keys, import_frames


@pytest.fixture(scope="session")
def copper():
    return audit_frames.copper()


@pytest.fixture(scope="session")
def copper_gold():
    return audit_frames.copper_gold()


def verdicts(result):
    return {check.name: check.verdict for check in result.checks}


def test_right_labels_are_sound(copper, copper_gold):
    for frames in (copper, copper_gold):
        result = audit({"made here": frames})
        assert result.verdict == "sound", result.as_dict()
        judged = {name: verdict for name, verdict in verdicts(result).items() if name != "level of theory"}
        assert set(judged.values()) == {"ok"}
        assert result.exit_status(strict=True) == 0
        assert tuple(verdicts(result)) == CHECKS


#: Those that a mistake of the same kind stands for: another factor, or all frames instead of a part.
ALIKE = ("virial from kbar", "virial from kbar in a part", "GPa for virial", "forces sign in a part")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.full if n in ALIKE else ()) for n in CORRUPTIONS])
def test_corrupted_labels(copper_gold, name):
    fraction, change, finder, words = CORRUPTIONS[name]
    frames, changed = altered(copper_gold, fraction, change)
    result = audit({"made here": frames}, skip=("labels", "isolated atoms", "duplicates", "geometry", "outliers"))
    check = result.check(finder)
    assert check.verdict == "fault", verdicts(result)
    assert any(words in sentence for sentence in check.found), check.found
    assert result.exit_status() == 2
    if fraction < 0.5:
        assert set(check.frames) <= changed
        assert len(check.frames) > 0.6 * len(changed)
    others = {other.name for other in result.checks if other.verdict == "fault"} - {finder}
    assert not others, {other: result.check(other).found for other in others}


def test_forces_wrong_in_a_half(copper_gold):
    """Which half cannot be told, nor if it is the forces that are wrong or the model: a warning."""
    frames, _ = altered(copper_gold, 0.5, forces_times(1 / HA_PER_BOHR))
    result = audit({"made here": frames}, skip=("outliers",))
    assert result.verdict == "warning"
    assert "wrong in many frames?" in result.check("forces").found[0]


def test_two_mistakes_at_once(copper):
    frames, _ = altered(copper, 1, virial_times(-1))
    frames, _ = altered(frames, 1, forces_times(1 / HA_PER_BOHR))
    result = audit({"made here": frames})
    assert "in Ha/bohr" in result.check("forces").found[0]
    assert "sign reversed" in result.check("virials").found[0]


def test_pulay_stress(copper_gold):
    frames, _ = altered(copper_gold, 1, pulay)
    check = audit({"made here": frames}).check("virials")
    assert check.verdict == "fault"
    assert "Pulay stress" in check.found[0]
    assert check.numbers["isotropic_excess"]["Cu"] == pytest.approx(-6.0, abs=0.5)
    assert abs(check.numbers["isotropic_excess"]["Au"]) < 0.5


def test_shift_per_element_is_told(copper_gold):
    frames, changed = altered(copper_gold, 0.15, energy_plus({"Cu": 1300.0, "Au": 3000.0}))
    check = audit({"made here": frames}).check("energy zero")
    assert check.numbers["shift"]["Cu"] == pytest.approx(1300, abs=2)
    assert check.numbers["shift"]["Au"] == pytest.approx(3000, abs=2)
    assert set(check.frames) == changed


def test_too_few_frames_are_not_judged(copper):
    result = audit({"made here": copper[:20]})
    assert {verdicts(result)[name] for name in ("energy zero", "energy unit", "forces", "virials")} == {"not judged"}
    assert "19 frames are too few" in result.check("forces").found[0]


def test_energies_alone(copper):
    frames = [atoms.copy() for atoms in copper]
    for atoms in frames:
        atoms.info.pop("REF_virial", None)
        del atoms.arrays["REF_forces"]
    result = audit({"made here": frames})
    assert result.check("forces").verdict == result.check("energy unit").verdict == "not judged"
    assert result.check("energy zero").verdict == "ok"
    shifted, changed = altered(frames, 0.1, energy_plus(-300.0))
    check = audit({"made here": shifted}).check("energy zero")
    assert check.verdict == "fault"
    assert set(check.frames) == changed


def test_more_frames_than_the_model_is_fitted_to(copper):
    frames, changed = altered(copper, 0.2, forces_times(-1))
    result = audit({"made here": frames}, settings=AuditSettings(fit_atoms=200))
    evidence = examine(frames, 200)
    assert evidence.n_fitted < len(evidence.judged) == 40
    check = result.check("forces")
    assert check.verdict == "fault"
    assert set(check.frames) <= changed
    assert len(check.frames) > 0.6 * len(changed)


# --- single checks ---


def findings(frames, name, **options):
    return audit({"made here": frames}, skip=[c for c in CHECKS if c != name], **options).check(name)


def test_missing_labels(copper):
    frames = [atoms.copy() for atoms in copper]
    del frames[3].info["REF_virial"]
    del frames[4].arrays["REF_forces"]
    for key in ("REF_energy", "REF_virial"):
        del frames[5].info[key]
        del frames[6].info[key]
    frames[5].info["label_status"] = "failed: not converged"
    check = findings(frames, "labels")
    assert check.verdict == "warning"
    assert check.found == [
        "1 frames without label, most of them for: failed: not converged",
        "1 frames without energy, for no reason given",
        "no forces in 1 of 38 frames: 1 random",
        "no virials in 1 of 38 frames: 1 random",
    ]
    assert check.frames == [frames[i].info["frame_id"] for i in (5, 6, 4, 3)]


def test_label_of_a_calculation_that_failed(copper):
    frames = [atoms.copy() for atoms in copper]
    for atoms in frames:
        atoms.info["label_status"] = "ok"
    assert findings(frames, "labels").verdict == "ok"
    frames[7].info["label_status"] = "failed: SCF not converged"
    check = findings(frames, "labels")
    assert check.verdict == "fault"
    assert "SCF not converged" in check.found[0]
    assert check.frames == [frames[7].info["frame_id"]]


def test_isolated_atoms(copper_gold):
    assert findings(copper_gold, "isolated atoms").verdict == "ok"
    check = findings(copper_gold[1:], "isolated atoms")
    assert check.verdict == "warning"
    assert "no labelled isolated atom of Cu" in check.found[0]
    assert not check.frames

    unmarked = [atoms.copy() for atoms in copper_gold]
    unmarked[0].info["config_type"] = "random"
    assert findings(unmarked, "isolated atoms").frames == ["atom-Cu"]
    crystal = bulk("Cu")
    crystal.info.update(frame_id="fcc", config_type="random")
    check = findings([*copper_gold[1:], *labelled([crystal])], "isolated atoms")
    assert check.verdict == "warning"
    assert not check.frames

    twice = [*copper_gold, copper_gold[0].copy()]
    twice[-1].info["frame_id"] = "again"
    assert findings(twice, "isolated atoms").verdict == "warning"
    twice[-1].info["REF_energy"] += 1.5
    check = findings(twice, "isolated atoms")
    assert check.verdict == "fault"
    assert "2 isolated atoms of Cu" in check.found[0]

    for shift, words in ((-30.0, "no frame is bound"), (30.0, "bound by more than 12 eV/atom")):
        wrong = [atoms.copy() for atoms in copper_gold]
        for atoms in wrong[:2]:
            atoms.info["REF_energy"] += shift
        check = findings(wrong, "isolated atoms")
        assert check.verdict == "fault"
        assert words in check.found[0]


def test_levels_of_theory(copper):
    sources = {"a": copper[:20], "b": copper[20:]}
    others = [name for name in CHECKS if name != "level of theory"]

    def check(levels, **options):
        return audit(sources, levels, skip=others, **options).check("level of theory")

    assert check({"a": "PBE 500 eV", "b": "PBE 500 eV"}).verdict == "ok"
    two = {"a": "PBE 500 eV", "b": "SCAN"}
    assert check(two).verdict == "fault"
    assert check(two).found == ["2 levels: PBE 500 eV (a); SCAN (b)"]
    assert check(two, mixed_levels=True).verdict == "warning"
    assert check({"a": "PBE 500 eV", "b": None}).verdict == "not judged"
    assert check({"a": None, "b": "unknown"}).verdict == "not judged"


def test_outliers(copper):
    assert findings(copper, "outliers").verdict == "ok"
    frames = [atoms.copy() for atoms in copper]
    frames[3].arrays["REF_forces"][0] = (60.0, 0, 0)
    frames[4].info["REF_energy"] += 25.0 * len(frames[4])
    frames[5].info["REF_energy"] -= 300.0 * len(frames[5])
    check = findings(frames, "outliers")
    assert check.verdict == "warning"
    assert check.frames == [frames[i].info["frame_id"] for i in (5, 4, 3)]
    wide = AuditSettings(max_force=100.0, max_energy=100.0)
    assert findings(frames, "outliers", settings=wide).frames == [frames[5].info["frame_id"]]


def test_geometry(copper):
    frames = [atoms.copy() for atoms in copper]
    frames[2].positions[1] = frames[2].positions[0] + (0.4, 0, 0)
    frames[3].set_cell(frames[3].cell * 0.5, scale_atoms=True)
    check = findings(frames, "geometry")
    assert check.verdict == "fault"
    assert check.frames[0] == frames[2].info["frame_id"]
    assert frames[3].info["frame_id"] in check.frames
    assert "Cu and Cu 0.4 Å apart, 0.15 of the sum" in check.found[0]
    assert findings(frames[:2], "geometry").verdict == "ok"


def test_net_force(copper):
    frames = [atoms.copy() for atoms in copper]
    frames[4].arrays["REF_forces"][0] += (0.0, 3.0, 0.0)
    check = findings(frames, "net force")
    assert check.verdict == "warning"
    assert check.frames == [frames[4].info["frame_id"]]
    for atoms in frames[5:10]:
        atoms.arrays["REF_forces"][:, 2] += 4.0
    assert findings(frames, "net force").verdict == "fault"


def test_one_energy_off_its_path():
    """A series of strained and shaken cells with one energy that is not converged."""
    rng = np.random.default_rng(5)
    frames = []
    for _ in range(30):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.01, rng=rng)
        frames.append(atoms)
    labelled(named(frames))
    result = audit({"made here": frames}, skip=("isolated atoms",))
    assert result.verdict == "sound", result.as_dict()
    assert result.check("virials").numbers["slope"] == pytest.approx(1.0, abs=0.02)
    frames[11].info["REF_energy"] += 0.5
    check = audit({"made here": frames}).check("energy zero")
    assert check.verdict == "fault"
    assert check.frames == ["cell-011"]
    assert check.numbers["single_frames"]["cell-011"] == pytest.approx(0.125, rel=0.1)


def test_names_are_unique_across_sources(copper):
    result = audit({"a": copper, "b": [copper[3].copy()]}, skip=[c for c in CHECKS if c != "duplicates"])
    assert set(result.check("duplicates").frames) == {"a: cell-002", "b: cell-002"}


def test_use():
    with pytest.raises(ValueError, match="no check 'force'; there are labels, "):
        audit({"a": []}, skip=("force",))
    with pytest.raises(ValueError, match="no frames"):
        audit({"a": []})
    with pytest.raises(ValueError, match="max_force is 0"):
        AuditSettings(max_force=0)
    with pytest.raises(ValueError, match="cohesive_energy"):
        AuditSettings(cohesive_energy=(0.0, -1.0))


def test_verdict_and_exit_status():
    for verdict, overall, status, strict in (
        ("ok", "sound", 0, 0),
        ("not judged", "sound", 0, 0),
        ("warning", "warning", 0, 1),
        ("fault", "fault", 2, 2),
    ):
        check = Check("a")
        check.add("ok", "fine")
        check.add(verdict, "this", ["x"])
        result = Audit([check, Check("b")], 1, AuditSettings())
        assert (result.verdict, result.exit_status(), result.exit_status(strict=True)) == (overall, status, strict)
        assert result.as_dict()["checks"][0]["verdict"] == verdict
        assert check.found[0] == ("fine" if verdict == "ok" else "this")


# --- the parts ---


def test_terms_have_right_derivatives():
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[1] = 79
    atoms.rattle(0.3, seed=1)
    basis = Basis((29, 79), distance=2.6, cutoff=5.2)
    terms = basis.terms(atoms)
    assert terms.energy.shape == (basis.size,)
    h = 1e-4

    def energy(change):
        moved = atoms.copy()
        change(moved)
        return basis.terms(moved).energy

    for atom, axis in ((0, 1), (1, 2), (3, 0)):

        def shift(by, atom=atom, axis=axis):
            def change(moved):
                moved.positions[atom, axis] += by

            return change

        numerical = -(energy(shift(h)) - energy(shift(-h))) / (2 * h)
        assert np.allclose(terms.forces[3 * atom + axis], numerical, rtol=1e-5, atol=1e-4)
    for a, b in ((0, 0), (0, 1), (1, 2)):

        def strain(by, a=a, b=b):
            def change(moved):
                deformation = np.eye(3)
                deformation[a, b] += by
                moved.set_cell(moved.cell.array @ deformation, scale_atoms=True)

            return change

        numerical = -(energy(strain(h)) - energy(strain(-h))) / (2 * h)
        assert np.allclose(terms.virial[3 * a + b], numerical, rtol=1e-5, atol=1e-4)


def test_terms_of_equal_structures():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=2)
    basis = basis_for([atoms])
    assert 2.2 < basis.distance < 3.61 / np.sqrt(2)
    assert basis.cutoff == pytest.approx(2.1 * basis.distance)
    double = atoms.repeat((2, 1, 1))
    assert np.allclose(basis.terms(double).energy, 2 * basis.terms(atoms).energy, rtol=1e-9)
    lonely = Atoms("Cu", cell=[20.0] * 3, pbc=True)
    assert not basis.terms(lonely).energy.any()
    assert basis_for([lonely]) is None


def test_neighbours_include_own_images():
    atoms = Atoms("Cu", cell=[2.5] * 3, pbc=True)
    first, second, distance, vector = neighbours(atoms, 2.6)
    assert len(first) == len(second) == 6
    assert np.allclose(distance, 2.5)
    assert np.allclose(vector.sum(axis=0), 0)


def test_least_absolute_ignores_outliers():
    x = np.linspace(0, 1, 50)[:, None]
    y = 3 * x[:, 0]
    y[:10] += 100
    assert least_absolute(np.c_[x, np.ones(50)], y) == pytest.approx([3.0, 0.0], abs=0.02)


def test_factors_of_mistakes():
    factors = {(m.kind, m.words): float(m.factor(8, 160.0)) for m in MISTAKES}
    assert factors["virial", "a stress in eV/Å³, not a virial, sign of a stress"] == -160.0
    assert factors["virial", "a stress in kbar, not a virial, sign of a virial"] == pytest.approx(160 * 0.1 * units.GPa)
    assert factors["virial", "made from a stress in GPa taken as eV/Å³"] == pytest.approx(units.GPa)
    assert factors["energy", "per atom instead of per cell"] == 8
    assert factors["forces", "in Ha/bohr"] == pytest.approx(51.422, abs=1e-3)
    assert len(factors) == len(MISTAKES)


def test_work_along_a_path_is_exact_for_springs():
    """Two atoms on a spring along x, in cells of several lengths: E = k/2 (x − x0)², F and W by hand."""
    k, rest = 3.0, 2.0
    frames = []
    for number, (length, bond) in enumerate(((10.0, 2.1), (10.0, 1.8), (10.02, 2.15))):
        atoms = Atoms("Cu2", positions=[[1, 1, 1], [1 + bond, 1, 1]], cell=[length, 10, 10], pbc=True)
        force = k * (bond - rest)
        virial = np.zeros((3, 3))
        virial[0, 0] = -force * bond
        set_labels(atoms, 0.5 * k * (bond - rest) ** 2, [[force, 0, 0], [-force, 0, 0]], virial)
        atoms.info["frame_id"] = str(number)
        frames.append(atoms)
    paths = find_paths(frames)
    found = {tuple(pair): (e, w) for pair, e, w in zip(paths.pairs.tolist(), paths.energy, paths.work, strict=True)}
    assert found.keys() == {(0, 1), (0, 2), (1, 2)}
    assert found[0, 1] == pytest.approx(((0.06 - 0.015) / 2,) * 2)
    # A cell that changes as well makes the path slightly curved in x.
    for energy, work in found.values():
        assert work == pytest.approx(energy, abs=2e-4)


def test_net_force_does_no_work(copper):
    """A drift of the forces changes nothing along a path on which the cell as a whole is moved."""
    moved = copper[1].copy()
    moved.positions += (0.1, 0.2, 0.0)
    moved.positions[0] += (0.01, 0, 0)
    frames = labelled([copper[1].copy(), moved])
    before = find_paths(frames).work
    for atoms in frames:
        atoms.arrays["REF_forces"] += 5.0
    assert len(before) == 1
    assert np.allclose(find_paths(frames).work, before)


def test_parts_of_right_labels_have_no_fault(copper, copper_gold):
    """However few frames there are, and however alike: right labels are never called wrong."""
    rng = np.random.default_rng(0)
    for frames in (copper, copper_gold):
        for size in (5, 12, 20, 26):
            start = int(rng.integers(0, len(frames) - size))
            for part in (frames[start : start + size], [frames[i] for i in rng.permutation(len(frames))[:size]]):
                result = audit({"part": part})
                assert result.verdict != "fault", (size, result.as_dict())


def test_zero_energies_and_frames_that_cannot_be_read(copper):
    frames = [atoms.copy() for atoms in copper]
    frames[7].info["REF_energy"] = 0.0
    check = findings(frames, "labels", refused=["frame 3 of x.xyz: energy is nan", "frame 9 of x.xyz: energy is nan"])
    assert check.verdict == "fault"
    assert check.frames == [frames[7].info["frame_id"]]
    assert check.found[:2] == [
        "2 frames cannot be used: frame 3 of x.xyz: energy is nan, and 1 more",
        "1 energies are exactly 0, which no calculation gives",
    ]


# --- published data ---

MLEARN = Keys(energy="dft_energy", forces="dft_force", virial="dft_virial")
WORKFLOW = Keys(energy="REF_energy", forces="REF_forces", stress="REF_stress")
PUBLISHED = {
    "magnesium": ("magnesium_strain/Mg_hcp_500.extxyz.gz", Keys(energy="energy", forces="forces", virial="virial")),
    "silicon": ("mlearn/Si_training.xyz.gz", MLEARN),
    "molybdenum": ("mlearn/Mo_training.xyz.gz", MLEARN),
    "boron": ("boron/random_search_39.xyz", WORKFLOW),
    "lithium-copper": ("licu/LiCu_iter0_fitting.xyz", WORKFLOW),
}

NOT_CONVERGED = [f"LiCu_iter0_fitting-00{n}" for n in (111, 112, 106)]


@pytest.fixture(scope="session")
def published(data):
    """Published frames by name; of lithium-copper what is sound: no virials, and not the dimers that are not converged."""
    made = {}

    def frames(name):
        if name not in made:
            path, keys = PUBLISHED[name]
            made[name] = import_frames(data / path, keys)
            if name == "lithium-copper":
                made[name] = [a for a in made[name] if a.info["frame_id"] not in NOT_CONVERGED]
                for atoms in made[name]:
                    atoms.info.pop("REF_virial", None)
        return made[name]

    return frames


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.full if n == "silicon" else ()) for n in PUBLISHED])
def test_published_labels(published, name):
    result = audit({name: published(name)})
    assert result.verdict != "fault", result.as_dict()
    assert {c.name for c in result.checks if c.verdict == "warning"} <= {"labels", "isolated atoms", "duplicates"}
    judged = {c.name for c in result.checks if c.verdict == "ok"}
    assert {"energy unit", "forces", "net force"} <= judged
    if name in ("magnesium", "silicon", "molybdenum"):
        assert {"energy zero", "virials"} <= judged
        assert result.check("virials").numbers["slope"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "boron" else pytest.mark.full) for n in PUBLISHED])
def test_parts_of_published_labels(published, name):
    frames = published(name)
    rng = np.random.default_rng(4)
    for size in (12, 20, 24, 30, 40):
        if size < len(frames):
            start = int(rng.integers(0, len(frames) - size))
            for part in (frames[start : start + size], [frames[i] for i in rng.permutation(len(frames))[:size]]):
                assert audit({"part": part}).verdict != "fault", size


def test_flaws_of_the_published_lithium_copper(data):
    """Its virials have a constant of −22 eV per Cu, and three dimers are not converged, one by 560 eV."""
    path, keys = PUBLISHED["lithium-copper"]
    result = audit({"LiCu": import_frames(data / path, keys)})
    assert result.check("virials").verdict == "fault"
    assert result.check("virials").numbers["isotropic_excess"]["Cu"] == pytest.approx(-21.8, abs=0.5)
    assert abs(result.check("virials").numbers["isotropic_excess"]["Li"]) < 0.5
    assert result.check("isolated atoms").frames == ["LiCu_iter0_fitting-00111"]
    assert result.check("energy zero").frames == NOT_CONVERGED
    assert result.check("forces").verdict == "ok"


OF_ALL = (
    "virial sign", "virial from GPa", "virial from kbar", "stress for virial", "shear order", "forces sign", "forces in Ha/bohr",
    "forces turned", "energies in Ha", "energies per atom",
)  # fmt: skip
OF_SOME = ("virial from kbar in a part", "energies shifted", "isolated atoms subtracted")


@pytest.mark.slow
@pytest.mark.parametrize("corruption", [*OF_ALL, *OF_SOME])
@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=pytest.mark.full) for n in ("magnesium", "silicon", "molybdenum")), "boron"]
)
def test_corrupted_published_labels(published, name, corruption):
    fraction, change, finder, words = CORRUPTIONS[corruption]
    if corruption == "isolated atoms subtracted":
        change = energy_plus({"Mg": 1690.0, "Si": 102.0, "Mo": 1900.0, "B": 75.0})
    frames, changed = altered(published(name), fraction, change)
    result = audit({name: frames}, skip=("labels", "isolated atoms", "duplicates", "geometry", "outliers"))
    check = result.check(finder)
    if (name, corruption) in (
        ("boron", "energies shifted"),  # 1 eV/atom is within what 30 random cells differ by
        ("magnesium", "forces in Ha/bohr"),  # these are below a meV/Å, as noise is
    ):
        assert check.verdict == "not judged"
        return
    assert check.verdict == "fault", verdicts(result)
    assert any(words in sentence for sentence in check.found), check.found
    assert [c.name for c in result.checks if c.verdict == "fault"] == [finder]
    if fraction < 1:
        assert set(check.frames) <= changed
        assert len(check.frames) > 0.8 * len(changed)
