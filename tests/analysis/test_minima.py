"""Distinct structures: known crystals in many settings, and cells that must stay apart."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, make_supercell
from crystals import CRYSTALS, MATRICES, other_setting, relaxed

from aiida_gaprss.analysis.minima import MATCHER, symmetry, unique_minima


@pytest.mark.parametrize("number", CRYSTALS)
def test_space_groups(number):
    atoms = make_supercell(CRYSTALS[number], MATRICES[2])
    assert symmetry(atoms)[0] == number
    assert symmetry(atoms)[2] == len(CRYSTALS[number])


def test_settings_are_merged_and_crystals_kept_apart():
    frames = []
    for i, (number, atoms) in enumerate(CRYSTALS.items()):
        for j, matrix in enumerate(MATRICES):
            setting = other_setting(atoms, matrix, seed=10 * i + j)
            frames.append(relaxed(setting, -3.5 + 0.001 * i + 1e-5 * j, f"{number}-{j}"))
    minima = unique_minima(frames[::-1])
    assert [m.space_group for m in minima] == [225, 194, 229, 227]
    assert [m.count for m in minima] == [3, 3, 3, 3]
    assert [m.primitive_atoms for m in minima] == [1, 2, 1, 2]
    assert [m.frame_id for m in minima] == ["225-0", "194-0", "229-0", "227-0"]
    assert [m.rank for m in minima] == [1, 2, 3, 4]
    assert minima[0].symbol == "Fm-3m"
    assert minima[0].volume == pytest.approx(3.6**3 / 4)
    assert minima[3].above_lowest == pytest.approx(0.003)


def test_stackings_are_kept_apart():
    """Equal energies, volumes and neighbour shells: only the arrangement differs (fcc, hcp, dhcp)."""
    a, c = 2.55, 2.55 * np.sqrt(8 / 3) / 2
    places = {"A": (0, 0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}
    frames = []
    for word in ("AB", "ABC", "ABAC", "ACAB", "BCBA"):
        scaled = [(*places[layer], i / len(word)) for i, layer in enumerate(word)]
        cell = [a, a, c * len(word), 90, 90, 120]
        atoms = Atoms("Cu" * len(word), scaled_positions=scaled, cell=cell, pbc=True)
        frames.append(relaxed(atoms, -3.5, word))
    minima = unique_minima(frames)
    assert {m.frame_id: m.count for m in minima} == {"AB": 1, "ABC": 1, "ABAC": 3}
    assert {m.space_group for m in minima} == {194, 225}


def test_volume_is_not_scaled_away():
    frames = [relaxed(bulk("Cu", a=a), -3.5, str(a)) for a in (3.6, 3.7)]
    assert len(unique_minima(frames)) == 2


def test_converged_and_labelled_represents():
    fcc = CRYSTALS[225]
    frames = [
        relaxed(fcc, -3.502, "lowest", status="max_steps"),
        relaxed(fcc, -3.501, "converged"),
        relaxed(fcc, -3.500, "labelled", REF_energy=-3.4),
        relaxed(CRYSTALS[229], -3.4, "open", status="max_steps"),
        relaxed(CRYSTALS[227], -9.0, "lost", status="collapsed"),
        relaxed(CRYSTALS[227], -3.45, "snapshot", status="on_the_way"),
        Atoms("Cu", cell=[9, 9, 9], pbc=True, info={"config_type": "isolated_atom", "PRED_energy": 0.0}),
    ]
    first, second = unique_minima(frames, window=100)
    assert (first.frame_id, first.count, first.converged_count, first.converged) == ("labelled", 3, 2, True)
    assert first.error == pytest.approx(-0.1)
    assert first.above_lowest == 0
    assert (second.frame_id, second.converged, second.relax_status) == ("open", False, "max_steps")
    assert second.ref_energy is None
    assert second.above_lowest == pytest.approx(0.1)


def test_enthalpy_ranks_under_pressure():
    """The denser structure wins at 10 GPa."""
    loose, dense = bulk("Cu", a=4.0), bulk("Cu", a=3.6)
    frames = [relaxed(loose, -3.5, "loose"), relaxed(dense, -3.45, "dense")]
    assert [m.frame_id for m in unique_minima(frames)] == ["loose", "dense"]
    squeezed = [a.copy() for a in frames]
    for atoms in squeezed:
        atoms.info["pressure_GPa"] = 10.0
    minima = unique_minima(squeezed)
    assert [m.frame_id for m in minima] == ["dense", "loose"]
    assert minima[0].predicted_enthalpy == pytest.approx(-3.45 + 10 * units.GPa * 3.6**3 / 4)
    squeezed[0].info["pressure_GPa"] = 1.0
    assert [m.frame_id for m in unique_minima(squeezed)] == ["loose", "dense"]
    assert [m.frame_id for m in unique_minima(squeezed, pressure_GPa=10)] == ["dense", "loose"]


def test_window_and_limit():
    frames = [relaxed(bulk("Cu", a=3.6 + 0.1 * i), -3.5 + 0.01 * i, str(i)) for i in range(10)]
    frames += [relaxed(bulk("Cu", a=3.8), -3.48, "again")]
    assert len(unique_minima(frames, window=0.045)) == 5
    limited = unique_minima(frames, limit=3)
    assert [m.count for m in limited] == [1, 1, 2]
    assert unique_minima(frames, limit=0) == []
    assert unique_minima([]) == []


def test_of_hundreds_of_frames_few_pairs_are_compared(monkeypatch):
    """The comparison of two structures is what takes time; nearly all pairs are told apart before it."""
    compared = []

    class Counting:
        def fit(self, *pair, **given):
            compared.append(pair)
            return MATCHER.fit(*pair, **given)

    monkeypatch.setattr("aiida_gaprss.analysis.minima.MATCHER", Counting())
    rng = np.random.default_rng(1)
    frames = []
    for i in range(300):
        natoms = int(rng.integers(2, 25))
        cell = np.eye(3) * (20 * natoms) ** (1 / 3) + rng.normal(0, 0.3, (3, 3))
        atoms = Atoms("Si" * natoms, scaled_positions=rng.uniform(size=(natoms, 3)), cell=cell, pbc=True)
        frames.append(relaxed(atoms, -5 + 0.3 * rng.uniform(), str(i)))
    minima = unique_minima(frames, limit=None)
    assert len(minima) == 300
    assert len(compared) < 300, "of 44,850 pairs"


def test_minima_are_ranked_by_the_reference_where_it_is_known():
    from dataclasses import replace

    from aiida_gaprss.analysis.minima import ranked_by_reference

    atoms = bulk("Cu")
    atoms.info.update(frame_id="a", PRED_energy=-1.0, relax_status="converged")
    (one,) = unique_minima([atoms])

    def minimum(name, gap, reference, size):
        return replace(one, frame_id=name, predicted_energy=gap, ref_energy=reference, primitive_atoms=size)

    given = [
        minimum("hole", -5.0, -2.0, 2),  # the potential is wrong
        minimum("large", -4.0, -4.0003, 4),
        minimum("small", -3.99, -4.0, 2),  # equal to it by the reference
        minimum("unchecked", -3.9, None, 2),
        minimum("higher", -3.8, -3.99, 1),
    ]
    ranked = ranked_by_reference(given)
    assert [m.frame_id for m in ranked] == ["small", "large", "higher", "hole", "unchecked"]
    assert [m.rank for m in ranked] == [1, 2, 3, 4, 5]
