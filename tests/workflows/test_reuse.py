"""Labels that are in the profile already are found, and taken only where they are proven to be what a calculation would give."""

import numpy as np
import pytest
from aiida.orm import Dict, Log, QueryBuilder
from ase import Atoms
from ase.build import bulk

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.label_functions import labels_to_take
from aiida_gaprss.data.dataset import Dataset, fingerprint, fingerprints
from aiida_gaprss.levels import Level
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.reuse import datasets_with_labels


def silver(n, seed, name="ag"):
    """Cells that no other test labels: ``seed`` is one of its own for each test."""
    frames = []
    for number in range(n):
        atoms = bulk("Ag", a=4.1 + 0.001 * seed, cubic=True)
        atoms.rattle(0.05, seed=1000 * seed + number)
        atoms.info.update(frame_id=f"{name}-{number}", config_type="fcc")
        frames.append(atoms)
    return frames


@pytest.fixture
def label(run, python_code):
    """Label frames with an EMT; return them, the numbers of frames in its jobs, and the node."""

    def label(frames, settings=None, **inputs):
        ase = {"code": python_code, "settings": Dict({"calculator": "emt", **(settings or {})})}
        dataset = frames if isinstance(frames, Dataset) else Dataset(frames)
        outputs, node = run(LabelWorkChain, frames=dataset, ase=ase, **inputs)
        assert node.is_finished_ok, node.exit_message
        sizes = [job.inputs.frames.n_frames for job in node.called if job.process_label == "LabelCalculation"]
        return outputs["frames"], sizes, node

    return label


def jobs(node):
    return [job for job in node.called if job.process_label == "LabelCalculation"]


def said(node):
    return [log.message for log in Log.collection.get_logs_for(node)]


def labels(dataset):
    """What a label is, with the calculation that it is from."""
    keys = ("REF_energy", "label_uuid", "label_status", "REF_virial")
    return [[str(a.info[key]) for key in keys] + [a.arrays["REF_forces"].tolist()] for a in dataset.get_frames()]


def test_a_second_request_submits_nothing(label):
    first, sizes, node = label(silver(3, 1))
    assert sizes == [3]
    again, sizes, second = label(silver(3, 1, "other"))
    assert sizes == []
    assert labels(again) == labels(first), "the same labels, of the same calculation"
    assert [a.info["frame_id"] for a in again.get_frames()] == ["other-0", "other-1", "other-2"]
    (job,) = jobs(node)
    (settle,) = [child for child in second.called if child.process_label == "settle_labels"]
    assert settle.inputs[f"found_{job.outputs.frames.pk}"].uuid == job.outputs.frames.uuid, "seen in the provenance graph"
    assert any(f"3 of 3 frames are labelled already, in datasets <{job.outputs.frames.pk}>" in text for text in said(second))


def test_switched_off(label):
    frames = [*silver(2, 2), silver(1, 2, "copy")[0]]
    first, *_ = label(frames[:2])
    again, sizes, _ = label(frames, reuse=False)
    assert sizes == [3]
    assert not {row[1] for row in labels(again)} & {row[1] for row in labels(first)}


def test_one_changed_frame(label):
    label(silver(10, 3))
    frames = silver(10, 3)
    frames[4].positions[0, 0] += 1e-7
    frames[6].positions[0, 0] += 1e-10  # less than a dataset keeps
    changed, sizes, _ = label(frames)
    assert sizes == [1]
    assert [a.info["frame_id"] for a in changed.get_frames()] == [a.info["frame_id"] for a in frames], "in order"


@pytest.mark.parametrize(
    "settings",
    [
        {"arguments": {"asap_cutoff": True}, "level_of_theory": "EMT"},
        {"arguments": {}, "level_of_theory": "EMT, another one"},
        {"calculator": "ase.calculators.emt.EMT", "level_of_theory": "EMT"},
    ],
    ids=["arguments", "level", "calculator"],
)
def test_other_settings_are_labelled_anew(label, settings):
    seed = 40 + len(str(settings))
    label(silver(2, seed), {"level_of_theory": "EMT"})
    _, sizes, _ = label(silver(2, seed), settings)
    assert sizes == [2]
    _, sizes, _ = label(silver(2, seed), {"arguments": {}, "level_of_theory": "EMT"})
    assert sizes == [], "no arguments are no arguments"


def test_labels_that_a_user_says_are_of_this_level(label):
    """A dataset that came in with the line of the calculator proves nothing, though its frames name a job that was right."""
    done, *_ = label(silver(2, 5), {"arguments": {"asap_cutoff": True}, "level_of_theory": "EMT five"})
    Dataset(done.get_frames(), level_of_theory="EMT five").store()
    _, sizes, _ = label(silver(2, 5), {"level_of_theory": "EMT five"})
    assert sizes == [2]


def test_copies_are_labelled_once(label):
    frames = [*silver(3, 6), *silver(2, 6, "copy")]
    done, sizes, node = label(frames)
    assert sizes == [3]
    rows = labels(done)
    assert [a.info["frame_id"] for a in done.get_frames()] == ["ag-0", "ag-1", "ag-2", "copy-0", "copy-1"]
    assert rows[3:] == rows[:2]
    assert rows[0] != rows[1]
    assert any("0 absurd frames, 2 copies of others" in text for text in said(node))


def test_copies_of_a_frame_that_fails(label):
    frames = [*silver(4, 7), silver(1, 7, "copy")[0]]
    for atoms in (frames[0], frames[4]):
        atoms.symbols[0] = "Si"
    done, sizes, _ = label(frames, max_failed_fraction=0.5)
    assert sizes == [4]
    status = [a.info["label_status"] for a in done.get_frames()]
    assert status[1:4] == ["ok"] * 3
    assert status[0] == status[4]
    assert "No EMT-potential for Si" in status[4]
    _, sizes, _ = label(frames, max_failed_fraction=0.5)
    assert sizes == [1], "what failed is tried again"


def test_an_atom_in_vacuum_is_not_a_crystal_of_the_same_box(label):
    atom, crystal, dimer = (Atoms(symbols, cell=[12.008] * 3, pbc=True) for symbols in ("Ag", "Ag", "Ag2"))
    dimer.positions[1, 0] = 2.4
    for atoms, kind in ((atom, "isolated_atom"), (crystal, "random"), (dimer, "dimer")):
        atoms.info.update(frame_id=f"one-{kind}", config_type=kind)
    _, sizes, _ = label([atom, dimer])
    assert sizes == [2]
    both, sizes, _ = label([atom, crystal, dimer])
    assert sizes == [1]
    assert ["REF_virial" in a.info for a in both.get_frames()] == [False, True, False]


def test_indices_that_are_missing_or_spoilt(label):
    """They are made anew; those of other elements are left alone."""
    label(silver(2, 9))
    nodes = QueryBuilder().append(Dataset, filters={"attributes.level_of_theory": "ASE emt {}"}).all(flat=True)
    before = {node.pk: node.base.extras.get(Dataset.INDEX) for node in nodes}
    for number, node in enumerate(nodes):
        if number % 2:
            node.base.extras.delete(Dataset.INDEX)
        else:
            node.base.extras.set(Dataset.INDEX, ["odd", 1])
    _, sizes, _ = label(silver(2, 9))
    assert sizes == []
    for node in nodes:
        there = node.base.extras.get(Dataset.INDEX, None)
        assert (there == before[node.pk]) == ("Ag" in node.elements and node.base.attributes.get("energies") > 0)


def test_an_index_that_lies(label):
    """It costs a look at the file; what is true is found all the same."""
    done, *_ = label(silver(3, 10))
    _, _, node = label(silver(1, 11))
    (job,) = jobs(node)
    truth = job.outputs.frames.base.extras.get(Dataset.INDEX)
    job.outputs.frames.base.extras.set(Dataset.INDEX, "".join(map(fingerprint, silver(4, 10))))
    again, sizes, _ = label(silver(4, 10))
    assert sizes == [1]
    assert labels(again)[:3] == labels(done)
    assert job.outputs.frames.base.extras.get(Dataset.INDEX) == truth


class TwiceSettledWorkChain(LabelWorkChain):
    """Does the first step twice, as when a worker ends before it has told that it has done so."""

    def settle(self):
        super().settle()
        super().settle()


def test_a_step_that_is_done_again(run, python_code, label):
    label(silver(2, 15))
    ase = {"code": python_code, "settings": Dict({"calculator": "emt"})}
    outputs, node = run(TwiceSettledWorkChain, frames=Dataset(silver(3, 15)), ase=ase)
    assert [a.info["label_status"] for a in outputs["frames"].get_frames()] == ["ok"] * 3
    (job,) = jobs(node)
    assert job.inputs.frames.n_frames == 1


def test_few_datasets_are_linked(label, python_code):
    """Those that cover the most; of equals the oldest."""
    frames = silver(6, 12)
    for part in (frames[:2], frames[2:4], frames):
        label(part, reuse=False)
    inputs = {"ase": {"code": python_code, "settings": Dict({"calculator": "emt"})}}
    (found,) = datasets_with_labels(Dataset(frames), inputs)
    assert found.n_frames == 6
    known = datasets_with_labels(Dataset(frames[:2]), inputs)
    assert [len(node.get_frames()) for node in known] == [2]
    assert datasets_with_labels(Dataset(frames), inputs, known=[found]) == []


def test_the_index_is_no_part_of_the_hash():
    frames = silver(2, 13)
    fr.set_labels(frames[0], 1.0, np.zeros((4, 3)))
    one, other = Dataset(frames), Dataset(frames)
    assert fingerprints(one.base.extras.get(Dataset.INDEX)) == [fingerprint(frames[0])], "labelled ones only"
    other.base.extras.delete(Dataset.INDEX)
    assert one.store().base.caching.get_hash() == other.store().base.caching.get_hash()
    assert fingerprint(one.get_frames()[0]) == fingerprint(frames[0]), "as they are read"


def test_labels_to_take():
    """Not those of an attempt at another level, nor those of which an import lacks the virial."""
    frames = silver(4, 14)
    for number, atoms in enumerate(frames):
        fr.set_labels(atoms, 1.0, np.zeros((4, 3)), np.zeros(9) if number != 3 else None)
        atoms.info["label_attempt"] = (1, 2, 3, 1)[number]
    retried = {"retried at another level": str({"attempt 3": "{'other_level': True, 'smearing': 'mp'}"})}
    taken = labels_to_take(Dataset(frames, level_of_theory=Level("CASTEP", settings=retried)))
    assert [a.info["frame_id"] for a in taken.values()] == ["ag-0", "ag-1"]
