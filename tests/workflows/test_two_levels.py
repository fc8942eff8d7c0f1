"""Two levels of theory by the work chains: Stillinger-Weber silicon is cheap, Tersoff silicon dear."""

import numpy as np
import pytest
from aiida.orm import Dict, Int
from ase import Atoms
from ase.build import bulk
from helpers import FIT, label

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.level_functions import label_differences, level_of_potential, sum_of_potentials
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import Difference, Level, difference
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.sharing.card import card
from aiida_gaprss.sharing.card_text import text
from aiida_gaprss.workflows.delta import DeltaWorkChain
from aiida_gaprss.workflows.relabel import RelabelWorkChain

CHEAP, DEAR = "Stillinger-Weber", "Tersoff"


@pytest.fixture(scope="module")
def crystals():
    """The isolated atom, and silicon strained and displaced."""
    rng = np.random.default_rng(4)
    frames = [Atoms("Si", cell=[12.0] * 3, pbc=True)]
    for _ in range(16):
        atoms = bulk("Si", a=5.431)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        frames.append(atoms)
    for number, atoms in enumerate(frames):
        atoms.info = {"frame_id": f"si-{number:02d}", "config_type": "displaced" if number else "isolated_atom"}
    return frames


@pytest.fixture
def labelled(crystals, sw, tersoff):
    """Return crystals with the labels of a level, made without the package's own runner."""

    def labelled(level, numbers=range(17), ending=""):
        frames = [crystals[number].copy() for number in numbers]
        for atoms in frames:
            atoms.info["frame_id"] += ending
            label(atoms, {CHEAP: sw, DEAR: tersoff}[level])
        return Dataset(frames, level_of_theory=level).store()

    return labelled


@pytest.fixture
def relabel(run, python_code, tersoff_settings):
    def relabel(datasets, database=None, **settings):
        return run(
            RelabelWorkChain,
            datasets=datasets,
            settings=Dict(settings),
            label={"ase": {"code": python_code, "settings": Dict(tersoff_settings)}, "reuse": False},
            **({"database": database} if database else {}),
        )

    return relabel


@pytest.fixture
def delta(run, gap_fit_code, python_code):
    def delta(potential, differences, settings=None, **more):
        return run(
            DeltaWorkChain,
            potential=potential,
            datasets={"d": differences},
            settings=Dict(SMALL if settings is None else settings),
            seed=Int(1),
            fit={"code": gap_fit_code, "python": python_code},
            **more,
        )

    return delta


#: A fit of a second: the sigmas and δ are left to the differences.
SMALL = {"descriptors": [{"kind": "distance_2b", "cutoff": 4.0, "n_sparse": 8, "delta": 0.2}]}


def test_frames_are_labelled_anew(relabel, labelled, tersoff):
    cheap = labelled(CHEAP)
    outputs, node = relabel({"d": cheap}, max_labels=6, choose="farthest")
    assert node.is_finished_ok, node.exit_message
    assert outputs["results"].get_dict() == {"given": 17, "chosen": 6, "labelled": 6}
    frames = outputs["labels"].get_frames()
    assert outputs["labels"].level_of_theory == DEAR
    assert [fr.is_isolated_atom(atoms) for atoms in frames] == [True] + [False] * 5
    before = {atoms.info["frame_id"]: atoms for atoms in cheap.get_frames()}
    for atoms in frames:
        assert atoms.info["frame_id"] == f"{atoms.info['parent']}-again"
        assert fr.structure_key(atoms) == fr.structure_key(before[atoms.info["parent"]])
        again = atoms.copy()
        fr.drop_labels(again)
        label(again, tersoff)
        assert atoms.info["REF_energy"] == pytest.approx(again.info["REF_energy"], abs=1e-6)
    more, _ = relabel({"d": cheap}, {"known": outputs["labels"]}, max_labels=4)
    assert not {a.info["parent"] for a in more["labels"].get_frames()} & {a.info["parent"] for a in frames}


def test_the_lowest_are_labelled(relabel, labelled):
    cheap = labelled(CHEAP)
    outputs, _ = relabel({"d": cheap}, max_labels=4, choose="lowest")
    energies = {a.info["frame_id"]: a.info["REF_energy"] for a in cheap.get_frames() if not fr.is_isolated_atom(a)}
    lowest = set(sorted(energies, key=energies.get)[:3])
    assert {atoms.info["parent"] for atoms in outputs["labels"].get_frames()} == {"si-00", *lowest}


def test_relabellings_that_make_no_sense(relabel, labelled):
    cheap, dear = labelled(CHEAP), labelled(DEAR, [0, *range(1, 17)])
    for settings, database, message in (
        ({"max_labels": 1}, None, "max_labels: 1, but isolated atoms and dimers, .* are 1 already.* expected more than 1"),
        ({}, {"all": dear}, "the others are labelled already"),
        ({"max_labels": 3}, {"wrong": cheap}, "database.wrong, .*, is at another level of theory"),
        ({"choose": "highest"}, None, "choose"),
    ):
        with pytest.raises(ValueError, match=message):
            relabel({"d": cheap}, database, **settings)
    bare = Dataset([fr.canonical(a) for a in _unlabelled(cheap)], level_of_theory="unlabelled")
    with pytest.raises(ValueError, match="lowest, but no frame has an energy"):
        relabel({"d": bare}, max_labels=3, choose="lowest")


def _unlabelled(node):
    for atoms in node.get_frames():
        fr.drop_labels(atoms)
        yield atoms


def test_a_sum_is_the_sum(delta, labelled, potential, tersoff, evaluated, crystals):
    differences = label_differences(labelled(DEAR, range(9), "-again"), cheap=labelled(CHEAP))
    assert differences.level == Difference.of(DEAR, CHEAP)
    test = labelled(DEAR, range(9, 17))
    outputs, node = delta(potential, differences, test={"t": test})
    assert node.is_finished_ok, node.exit_message
    settings = outputs["settings"].get_dict()
    assert settings["sigma"]["energy"] == pytest.approx(0.02 * _deviation(differences), rel=0.01)
    both = [node_.calculator() for node_ in (potential, outputs["difference"])]
    frames = [*crystals[1:4], bulk("Si", a=5.5, cubic=True)]
    frames[-1].rattle(0.1, seed=3)
    parts = [evaluated(frames, calculator) for calculator in both]
    for one, two, whole in zip(*parts, evaluated(frames, outputs["potential"].calculator()), strict=True):
        for first, second, together in zip(one, two, whole, strict=True):
            assert np.asarray(first) + second == pytest.approx(together, abs=1e-8)
    _forces_are_derivatives(outputs["potential"].calculator(), frames[-1])
    assert outputs["potential"].base.attributes.get("e0") == {
        "Si": pytest.approx(sum(p.base.attributes.get("e0")["Si"] for p in (potential, outputs["difference"])), abs=1e-9)
    }
    errors = outputs["test_results"].get_dict()["errors"]
    assert outputs["test_results"]["frames"] == 8
    predicted = [atoms.info["PRED_energy"] for atoms in outputs["test_predictions"].get_frames()]
    direct = evaluated(test.get_frames(), outputs["potential"].calculator())
    assert predicted == pytest.approx([energy for energy, _, _ in direct], abs=1e-6)
    assert errors["energy"]["rmse"] > 0
    assert level_of_potential(outputs["potential"]) == DEAR
    assert level_of_potential(outputs["difference"]) == Difference.of(DEAR, CHEAP)
    told = text(card(outputs["potential"]))
    assert "a sum of 2: GAP" in told
    assert f"difference: {DEAR} minus {CHEAP}" in told
    assert "8 frames" in told or "| all | 8 |" in told


def _deviation(node):
    return np.std([atoms.info["REF_energy"] / len(atoms) for atoms in node.get_frames()[1:]])


def _forces_are_derivatives(calculator, atoms, step=1e-4):
    """Compare forces and stress with differences of energies."""
    work = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
    forces, stress = work.get_forces(), work.get_stress(voigt=False)
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            moved = work.copy()
            moved.calc = calculator
            moved.positions[2, axis] += sign * step
            energies.append(moved.get_potential_energy())
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[2, axis], abs=1e-4)
    energies = []
    for sign in (1, -1):
        strained = work.copy()
        strained.calc = calculator
        strained.set_cell(work.cell.array @ (np.eye(3) + sign * step * np.diag([1.0, 0, 0])), scale_atoms=True)
        energies.append(strained.get_potential_energy())
    assert (energies[0] - energies[1]) / (2 * step) / work.get_volume() == pytest.approx(stress[0, 0], abs=1e-5)


def test_what_cannot_be_subtracted(labelled, alloy_frames):
    cheap, dear = labelled(CHEAP), labelled(DEAR, range(5), "-again")
    made = label_differences(dear, cheap=cheap)
    alloy = Dataset(alloy_frames, level_of_theory="EMT").store()
    bare = Dataset(list(_unlabelled(cheap)), level_of_theory="unlabelled").store()
    for one, others, message in (
        (cheap, {"c": cheap}, "are at the same level of theory .*: their differences would be noise"),
        (dear, {"c": alloy}, "dear frames are of Si, the cheap ones of Au, Cu; expected the same elements"),
        (dear, {"c": bare}, "has no labels: nothing can be subtracted"),
        (made, {"c": cheap}, "has differences of labels already"),
        (dear, {"c": made}, "has differences of labels already"),
        (dear, {"c": cheap, "other": alloy}, "the cheap datasets are of several levels of theory"),
    ):
        with pytest.raises(ValueError, match=message):
            label_differences(one, **others)


def test_differences_are_mixed_with_nothing(run, labelled, gap_fit_code):
    from aiida_gaprss.calculations.fit import FitCalculation

    cheap, dear = labelled(CHEAP), labelled(DEAR, range(5), "-again")
    made = label_differences(dear, cheap=cheap)
    with pytest.raises(ValueError, match=r"cannot be fitted together: a has differences of labels .*, b has labels"):
        run(
            FitCalculation,
            code=gap_fit_code,
            datasets={"a": made, "b": cheap},
            settings=Dict({**FIT, "mixed_levels": True}),
            seed=Int(1),
        )


def test_sums_that_make_no_sense(delta, labelled, potential, run, gap_fit_code, tmp_path):
    from aiida_gaprss.calculations.fit import FitCalculation

    cheap, dear = labelled(CHEAP), labelled(DEAR, range(9), "-again")
    made = label_differences(dear, cheap=cheap)
    fitted = run(FitCalculation, code=gap_fit_code, datasets={"a": dear}, settings=Dict({**FIT, **SMALL}), seed=Int(1))[0]
    turbo = [{"kind": "soap_turbo", "cutoff": 4.0, "n_max": 3, "l_max": 2, "n_sparse": 8, "delta": 0.1}]
    for one, differences, more, message in (
        (fitted["potential"], made, {}, f"not of the level that was subtracted: .*{DEAR}.*{CHEAP}"),
        (potential, dear, {}, "has labels, not differences of labels"),
        (potential, made, {"test": {"t": cheap}}, "test.t is at another level of theory than the sum will be"),
        (potential, made, {"test": {"t": dear}}, "test.t: 8 of its frames are fitted, too"),
        (potential, made, {"settings": {"family": "pair", "cutoff": 4.0}}, "family gap, the fit of pair; expected the same"),
    ):
        with pytest.raises(ValueError, match=message):
            delta(one, differences, **more)
    with_turbo = run(
        FitCalculation, code=gap_fit_code, datasets={"a": cheap}, settings=Dict({**FIT, "descriptors": turbo}), seed=Int(1)
    )
    with pytest.raises(ValueError, match="both have soap_turbo, and quippy evaluates only one of two bases rightly"):
        delta(with_turbo[0]["potential"], made, {"descriptors": turbo})
    with pytest.raises(PotentialError, match="cannot be added: both have the file"):
        sum_of_potentials(potential, potential)


def test_a_potential_of_other_elements_is_refused(delta, labelled, fit_with_binary, alloy_frames):
    made = label_differences(labelled(DEAR, range(5), "-again"), cheap=labelled(CHEAP))
    folder, _ = fit_with_binary(alloy_frames, {**FIT, **SMALL})
    with pytest.raises(ValueError, match="the potential knows Au, Cu, the differences are of Si; expected the same"):
        delta(Potential(folder), made)


def test_a_sum_of_a_sum_is_refused_where_quippy_crashes(delta, labelled, potential):
    made = label_differences(labelled(DEAR, range(6), "-again"), cheap=labelled(CHEAP))
    first = delta(potential, made)[0]["potential"]
    dearer = labelled(DEAR, range(6), "-once-more").get_frames()
    top = label_differences(Dataset(dearer, level_of_theory="dearer").store(), cheap=labelled(DEAR, range(6), "-again"))
    with pytest.raises(ValueError, match=r"could not be added: the first is a sum of 2 already \(GAP .*\), and quippy crashes"):
        delta(first, top)


def test_levels_with_parts_are_kept_whole(labelled):
    """Levels of DFT codes come back from the node, and are compared part by part."""
    cheap, dear = labelled(CHEAP), labelled(DEAR, range(5), "-again")
    dft = {name: Level("QE", settings={"cutoff": name}) for name in ("12 Ry", "24 Ry", "48 Ry")}
    of = {name: Dataset(cheap.get_frames(), level_of_theory=level).store() for name, level in dft.items()}
    made = label_differences(Dataset(dear.get_frames(), level_of_theory=dft["24 Ry"]), c=of["12 Ry"])
    other = label_differences(Dataset(dear.get_frames(), level_of_theory=dft["48 Ry"]), c=of["12 Ry"])
    assert made.level.dear == dft["24 Ry"]
    assert "cutoff: 24 Ry, 48 Ry" in difference({"a": made.level, "b": other.level})
    assert "what the labels are" in difference({"a": made.level, "b": dft["24 Ry"]})
