"""``aiida-gaprss dataset import, filter, drop, split, merge, minima`` and ``potential evaluate``, as a user types them."""

import re

import numpy as np
import pytest
from aiida.orm import QueryBuilder, load_node
from ase.build import bulk
from ase.calculators.emt import EMT
from helpers import label

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.io.extxyz import Keys, export_frames

LEVEL = ("--level-of-theory", "EMT")


def made(text):
    """Return the datasets that an output names."""
    return [load_node(int(pk)) for pk in re.findall(r"^dataset <(\d+)>", text, re.MULTILINE)]


def ids(node):
    return [a.info["frame_id"] for a in node.get_frames()]


@pytest.fixture
def alloy(alloy_frames):
    node = Dataset(alloy_frames, level_of_theory="EMT")
    node.label = "alloy"
    return node.store()


def count():
    return QueryBuilder().append(Dataset).count()


# --- import ---


def strained(number=8):
    rng = np.random.default_rng(0)
    frames = []
    for i in range(number):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, rng=rng)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.info = {"frame_id": f"cu-{i}", "config_type": "bulk"}
        label(atoms, EMT())
        frames.append(atoms)
    return frames


def written(path, frames):
    export_frames(frames, path, Keys(energy="e", forces="f", virial="v"))
    return [path, "--energy", "e", "--forces", "f", "--virial", "v", *LEVEL]


def test_labels_that_were_not_calculated(call, tmp_path):
    frames = strained()
    for atoms in frames[:3]:
        atoms.info["REF_virial"] = np.zeros(9)
    frames[5].arrays["REF_forces"][:] = 0
    arguments, before = written(tmp_path / "a.xyz", frames), count()
    text = call("dataset", "import", *arguments, ok=False)
    assert "3 frames with virials that are exactly 0: cu-0 (its virial is exactly 0)" in text
    assert "1 frames with forces that are exactly 0: cu-5" in text
    assert count() == before, "nothing is stored"
    text = call("dataset", "import", *arguments, "--placeholders", "drop")
    assert "8 frames, 32 atoms, 8 energies, 84 force components, 5 virials" in text
    assert "note: dropped: 3 frames with virials that are exactly 0" in text
    text = call("dataset", "import", *arguments, "--placeholders", "keep")
    assert "8 energies, 96 force components, 8 virials" in text
    assert "note: kept: 3 frames" in text


def test_absurd_labels_are_named(call, tmp_path):
    frames = strained()
    frames[2].info["REF_energy"] += 221 * 4
    text = call("dataset", "import", *written(tmp_path / "a.xyz", frames))
    assert re.search(r"note: 1 frames with labels that no fit takes without your word: cu-2 \(energy 221.* limit 50\)", text)


def test_nothing_is_stored_of_a_file_whose_labels_nobody_names(call, tmp_path):
    written(tmp_path / "a.xyz", strained())
    before = count()
    text = call("dataset", "import", tmp_path / "a.xyz", *LEVEL, ok=False)
    assert "no key of a label is named" in text
    assert "say --unlabelled" in text
    assert count() == before
    assert "8 frames, 32 atoms, 0 energies" in call("dataset", "import", tmp_path / "a.xyz", "--unlabelled")


def test_our_own_export_comes_back(call, tmp_path, alloy):
    call("dataset", "export", alloy.pk, tmp_path / "a.xyz")
    assert "is there already; --force writes over it" in call("dataset", "export", alloy.pk, tmp_path / "a.xyz", ok=False)
    call("dataset", "export", alloy.pk, tmp_path / "a.xyz", "--force")
    (again,) = made(call("dataset", "import", tmp_path / "a.xyz", "--own-keys", *LEVEL))
    assert again.text() == alloy.text()


def test_names_are_refused_by_name(call, tmp_path):
    arguments = written(tmp_path / "a.xyz", strained())
    text = call("dataset", "import", *arguments, "--config-type", "x{1}", ok=False)
    assert "--config-type: config_type 'x{1}': { } cannot be read" in text
    assert "call it 'x_1'" in text


def test_show_says_never_tried_of_frames_without_a_label_only(call, alloy):
    frames = alloy.get_frames()
    for atoms in frames[:3]:
        fr.drop_labels(atoms)
    frames[3].info["label_status"] = "ok"
    frames[4].info["label_status"] = "failed: [red]x"
    fr_node = Dataset(frames, level_of_theory="EMT").store()
    text = call("dataset", "show", fr_node.pk)
    counts = re.findall(r"label status +(\d+) (.*)", text)
    assert sorted(counts) == sorted([("25", "labelled"), ("3", "never tried"), ("1", "ok"), ("1", "failed: [red]x")])


def test_markup_in_a_label_is_text(call, alloy):
    alloy.label = "[red]x[/nonsense]"
    assert "[red]x[/nonsense]" in call("dataset", "list")


# --- one dataset of others ---


def test_filter(call, alloy, alloy_frames):
    (node,) = made(call("dataset", "filter", alloy.pk, "--config-type", "alloy", "--label", "mine"))
    assert ids(node) == [a.info["frame_id"] for a in alloy_frames if a.info["config_type"] == "alloy"]
    assert node.label == "mine"
    assert f"<{alloy.pk}>" in node.description
    assert node.creator.inputs.frames.pk == alloy.pk
    (node,) = made(call("dataset", "filter", alloy.pk, "--elements", "Cu", "--atoms", 4, 4))
    assert {a.get_chemical_formula() for a in node.get_frames()} == {"Cu4"}
    (node,) = made(call("dataset", "filter", alloy.pk, "--max-force", 2.0, "--without", "isolated_atom"))
    strongest = {a.info["frame_id"]: np.linalg.norm(a.arrays["REF_forces"], axis=1).max() for a in alloy_frames[2:]}
    assert set(ids(node)) == {name for name, force in strongest.items() if force <= 2.0}
    (node,) = made(call("dataset", "filter", alloy.pk, "--max-above", 0.02))
    assert {"alloy-00", "alloy-01"} < set(ids(node)), "isolated atoms stay"
    cells = [a for a in alloy_frames if not fr.is_isolated_atom(a)]
    lowest = {}
    for atoms in cells:
        formula = str(atoms.symbols.formula.convert("hill").reduce()[0])
        lowest[formula] = min(lowest.get(formula, np.inf), atoms.info["REF_energy"] / len(atoms))
    for atoms in cells:
        above = atoms.info["REF_energy"] / len(atoms) - lowest[str(atoms.symbols.formula.convert("hill").reduce()[0])]
        assert (atoms.info["frame_id"] in ids(node)) == (above <= 0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give at least one condition"),
        (("--config-type", "liquid"), "no frame is of config type 'liquid'; there are alloy, isolated_atom, other"),
        (("--elements", "Xx"), "'Xx' is no element"),
        (("--atoms", 4, 2), "expected the smaller number first"),
        (("--elements", "Si"), "no frame fulfils these conditions; nothing made"),
        (("--labelled",), "all frames fulfil these conditions; nothing made"),
        (("--max-force", -1), "greater than 0"),
    ],
)
def test_filter_refuses(call, alloy, options, message):
    assert message in call("dataset", "filter", alloy.pk, *options, ok=False)


def test_drop(call, alloy):
    (node,) = made(call("dataset", "drop", alloy.pk, "alloy-03", "alloy-07"))
    assert ids(node) == [name for name in ids(alloy) if name not in ("alloy-03", "alloy-07")]
    assert node.level_of_theory == "EMT"
    assert "has no frame alloy-99" in call("dataset", "drop", alloy.pk, "alloy-99", ok=False)


def test_split_keeps_copies_together(call, alloy_frames):
    frames = [a.copy() for a in alloy_frames]
    for number in range(2, 12):
        turned = frames[number].copy()
        turned.rotate(20, "z", rotate_cell=True)
        turned.info["frame_id"] = f"turned-{number:02d}"
        frames.append(turned)
    source = Dataset(frames, level_of_theory="EMT").store()
    part, rest = made(call("dataset", "split", source.pk, 0.3))
    assert sorted(ids(part) + ids(rest)) == sorted(ids(source))
    assert abs(part.n_frames - 0.3 * (len(frames) - 2)) <= 2
    for number in range(2, 12):
        assert len({name in ids(part) for name in (f"alloy-{number:02d}", f"turned-{number:02d}")}) == 1
    assert {"alloy-00", "alloy-01"} <= set(ids(rest))
    assert part.creator.process_label == "split_frames"
    again, _ = made(call("dataset", "split", source.pk, 0.3))
    assert again.text() == part.text()
    assert "leaves nothing on one side" in call("dataset", "split", source.pk, 0.001, ok=False)


def test_merge(call, alloy, dataset):
    dataset.store()
    assert "give at least two datasets" in call("dataset", "merge", alloy.pk, ok=False)
    text = call("dataset", "merge", alloy.pk, dataset.pk, ok=False)
    assert "different levels of theory" in text
    assert "--mixed-levels merges them" in text
    (node,) = made(call("dataset", "merge", alloy.pk, dataset.pk, "--mixed-levels"))
    assert ids(node) == ids(alloy) + ids(dataset)
    assert "EMT" in node.level_of_theory
    assert "frame ids are in more than one" in call("dataset", "merge", alloy.pk, alloy.pk, ok=False)


def test_minima(call):
    frames = []
    for number, (name, a) in enumerate((("fcc", 3.6), ("bcc", 2.9), ("fcc", 3.7), ("sc", 2.45), ("fcc", 3.6))):
        frames.append(bulk("Cu", name, a=a))
        if number == 4:
            frames[-1] = frames[-1].repeat((2, 1, 1))
        frames[-1].info = {"frame_id": f"{name}-{number}", "config_type": name}
        label(frames[-1], EMT())
    source = Dataset(frames, level_of_theory="EMT").store()
    text = call("dataset", "minima", source.pk, "--window", 1.0)
    (node,) = made(text)
    assert ids(node)[0] == "fcc-0"
    assert len(node.get_frames()) == 4, "the repeated cell is the same structure"
    assert re.search(r"1\s+Fm-3m \(225\)\s+1\s+2\s", text)
    assert node.creator.process_label == "lowest_distinct"
    assert "has no energies of a potential" in call("dataset", "minima", source.pk, "--by", "potential", ok=False)


# --- a potential on a dataset ---


@pytest.mark.slow
def test_evaluate(call, potential, dataset, silicon_frames, campaign_codes):
    fresh = []
    for number, atoms in enumerate(silicon_frames[1:5]):
        fresh.append(atoms.copy())
        fresh[-1].set_cell(atoms.cell.array * 1.01, scale_atoms=True)
        fresh[-1].info.update(frame_id=f"fresh-{number}", config_type="liquid" if number else "solid")
    test = Dataset(fresh, level_of_theory="Stillinger-Weber").store()
    text = call("potential", "evaluate", potential.store().pk, test.pk, "--processes", 1)
    assert "nothing tells at which level of theory" in text
    assert re.search(r"all\s+4\s", text)
    assert re.search(r"liquid\s+3\s", text)
    assert re.search(r"solid\s+1\s", text)
    (predictions,) = [load_node(int(pk)) for pk in re.findall(r"dataset <(\d+)> has the predictions", text)]
    assert all("PRED_energy" in a.info for a in predictions.get_frames())
