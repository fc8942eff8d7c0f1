"""Which frames of two levels are pairs, and what their differences are: properties of random sets, not of one example."""

import numpy as np
import pytest
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.differences import PairError, differences, spread_of

LABELS = {"REF_energy", "REF_virial"}


def random_frames(rng, number, elements=("Si", "C")):
    """Frames of 1 to 4 atoms with all labels, some of them isolated atoms, some dimers, at 8 decimals as datasets keep them."""
    frames = []
    for index in range(number):
        kind = str(rng.choice(["random", "random", "random", "dimer", "isolated_atom"]))
        n = {"dimer": 2, "isolated_atom": 1}.get(kind, int(rng.integers(1, 5)))
        atoms = Atoms(rng.choice(elements, n), rng.uniform(0, 5, (n, 3)), cell=rng.uniform(7, 9, 3), pbc=True)
        atoms.info.update(frame_id=f"f{index}", config_type=kind, parent="somebody", label_uuid="x", label_status="ok")
        relabelled(atoms, rng)
        frames.append(fr.canonical(atoms))
    return frames


def relabelled(atoms, rng):
    """Put other labels on a frame; of isolated atoms those that their element always has."""
    atom = fr.is_isolated_atom(atoms)
    energy = float(atoms.numbers[0]) if atom else float(rng.normal(0, 5) * len(atoms))
    fr.set_labels(atoms, energy, rng.normal(0, 2, (len(atoms), 3)), None if atom else rng.normal(0, 3, 9))
    return atoms


@pytest.mark.parametrize("seed", range(20))
def test_every_pair_is_found_whatever_the_order(seed, times):
    for round_ in range(times(5)):
        rng = np.random.default_rng([seed, round_])
        cheap = random_frames(rng, 12)
        dear = [relabelled(atoms.copy(), rng) for atoms in cheap]
        for atoms in dear:
            atoms.info["REF_energy"] += 0.25 * len(atoms)
            atoms.info["frame_id"] += "-again"
        kept = [atoms for atoms in dear if rng.random() < 0.7] or dear
        lonely = random_frames(np.random.default_rng([seed, round_, 1]), 3)
        for number, atoms in enumerate(lonely):
            atoms.info.update(frame_id=f"lonely{number}", config_type="random")
        shuffled = [cheap[i] for i in rng.permutation(len(cheap))]
        if all(fr.is_isolated_atom(atoms) for atoms in kept):
            continue
        found = differences([*kept, *lonely], shuffled)
        assert [atoms.info["frame_id"] for atoms in found.frames] == [atoms.info["frame_id"] for atoms in kept]
        assert found.alone == [atoms.info["frame_id"] for atoms in lonely]
        by_name = {atoms.info["frame_id"]: atoms for atoms in cheap}
        for one, before in zip(found.frames, kept, strict=True):
            partner = by_name[before.info["frame_id"].removesuffix("-again")]
            assert fr.structure_key(one) == fr.structure_key(before)
            assert one.info["config_type"] == before.info["config_type"]
            assert one.info["parent"] == "somebody"
            assert not {"label_uuid", "label_status"} & set(one.info)
            if fr.is_isolated_atom(before):
                assert one.info["REF_energy"] == pytest.approx(0.25)
                continue
            assert one.info["REF_energy"] + partner.info["REF_energy"] == pytest.approx(before.info["REF_energy"], abs=1e-9)
            for store in ("REF_virial",):
                assert one.info[store] + partner.info[store] == pytest.approx(before.info[store], abs=1e-9)
            together = one.arrays["REF_forces"] + partner.arrays["REF_forces"]
            assert together == pytest.approx(before.arrays["REF_forces"], abs=1e-9)


def test_a_structure_that_moves_by_a_digit_is_another_one(copies):
    moved = [atoms.copy() for atoms in copies]
    for atoms in moved[1:]:
        atoms.positions[0, 0] += 1.1e-8
    with pytest.raises(PairError, match=r"none of the 15 labelled dear frames .* 15 labelled cheap ones"):
        differences(moved, copies)
    moved[3] = copies[3].copy()
    found = differences(moved, copies)
    assert [atoms.info["frame_id"] for atoms in found.frames] == ["atom-Si", copies[3].info["frame_id"]]
    assert len(found.alone) == 13


def test_isolated_atoms_are_pairs_in_boxes_of_any_size(copies):
    dear = [atoms.copy() for atoms in copies]
    dear[0] = Atoms("Si", cell=[20.0] * 3, pbc=True, info=dict(dear[0].info))
    dear[0].info["REF_energy"] = 1.5
    found = differences(dear, copies)
    assert found.frames[0].info["REF_energy"] == pytest.approx(1.5 - copies[0].info["REF_energy"])


def test_labels_that_one_side_lacks_are_left_out(copies):
    dear = [atoms.copy() for atoms in copies]
    del dear[1].arrays["REF_forces"]
    cheap = [atoms.copy() for atoms in copies]
    del cheap[2].info["REF_virial"]
    fr.drop_labels(cheap[4])
    fr.drop_labels(dear[5])
    found = differences(dear, cheap)
    by_name = {atoms.info["frame_id"]: atoms for atoms in found.frames}
    assert found.alone == [copies[4].info["frame_id"]]
    assert copies[5].info["frame_id"] not in by_name
    assert "REF_forces" not in by_name[copies[1].info["frame_id"]].arrays
    assert "REF_virial" in by_name[copies[1].info["frame_id"]].info
    assert "REF_virial" not in by_name[copies[2].info["frame_id"]].info


def test_other_elements_and_contradictions_are_refused(copies, alloy_frames):
    with pytest.raises(PairError, match=r"dear frames are of Au, Cu, the cheap ones of Si; expected the same elements"):
        differences(alloy_frames, copies)
    other = copies[3].copy()
    other.info["frame_id"] = "twice"
    other.info["REF_energy"] += 0.01 * len(other)
    with pytest.raises(PairError, match=r"cell-02 and twice of the cheap level are the same structure, .*0.01 eV/atom"):
        differences(copies, [*copies, other])


def test_the_spread_is_relative_to_isolated_atoms():
    frames = [
        Atoms("Si", cell=[10.0] * 3, pbc=True),
        *(Atoms("Si2", [[0, 0, 0], [2, 2, 2]], cell=[4.0] * 3, pbc=True) for _ in "ab"),
    ]
    for number, atoms in enumerate(frames):
        atoms.info.update(frame_id=str(number), config_type="random" if number else "isolated_atom")
    fr.set_labels(frames[0], 3.0)
    fr.set_labels(frames[1], 6.0 + 2 * 0.3, np.full((2, 3), 0.5), np.full(9, 2.0))
    fr.set_labels(frames[2], 6.0 - 2 * 0.1, np.full((2, 3), -0.5))
    spread = spread_of(frames)
    assert spread.energy == pytest.approx(np.sqrt((0.09 + 0.01) / 2))
    assert spread.deviation == pytest.approx(0.2)
    assert (spread.forces, spread.virial) == (pytest.approx(0.5), pytest.approx(1.0))
    with pytest.raises(PairError, match="nothing tells how large"):
        spread_of(frames[:1])
