"""Structures of AiiDA to frames and back."""

import re

import numpy as np
import pytest
from aiida.orm import CalcFunctionNode, QueryBuilder, StructureData, load_node
from aiida.orm.nodes.data.structure import Kind, Site
from ase import Atoms
from ase.build import bulk

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.structure_functions import frame_of, names_for
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import FrameError


def structure(atoms, label=""):
    node = StructureData(ase=atoms)
    node.label = label
    return node.store()


@pytest.fixture
def salt():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.1, seed=3)
    return structure(atoms, "salt"), atoms


def made(text, kind="dataset"):
    return load_node(int(re.search(rf"^{kind} <(\d+)>", text, re.MULTILINE)[1]))


def test_there_and_back(call, salt):
    """Every atom in its place and order, through two calcfunctions."""
    node, atoms = salt
    other = structure(bulk("Si"))
    dataset = made(call("dataset", "from-structures", node.pk, other.uuid, "--label", "mine"))
    assert dataset.label == "mine"
    assert [a.info["frame_id"] for a in dataset.get_frames()] == ["salt", f"Si-{other.uuid[:8]}"]
    frame = dataset.get_frame("salt")
    assert frame.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert np.allclose(frame.positions, atoms.positions, atol=1e-8)
    assert np.allclose(frame.cell.array, atoms.cell.array, atol=1e-10)
    assert frame.info["config_type"] == "crystal"
    assert not fr.is_labelled(frame)
    assert dataset.creator.process_label == "structures_to_frames"
    assert frame.info["origin"] == dataset.creator.uuid
    assert {link.node.uuid for link in dataset.creator.base.links.get_incoming(node_class=StructureData)} == {
        node.uuid,
        other.uuid,
    }
    text = call("dataset", "structure", dataset.pk, "salt")
    again = made(text, "structure")
    assert "salt: Cl4Na4, 8 sites" in text
    assert again.label == "salt"
    assert again.creator.inputs.frames.uuid == dataset.uuid
    ase = again.get_ase()
    assert ase.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert fr.structure_key(ase) == fr.structure_key(frame)
    assert ase.pbc.all()


def test_names():
    """By labels that are alone, made readable by all; else with a part of the uuid."""
    nodes = [structure(bulk("Cu"), label) for label in ("a", "b", "b", 'x="1"', "")]
    names = [name for name, _ in names_for(nodes).values()]
    assert names == ["a", f"b-{nodes[1].uuid[:8]}", f"b-{nodes[2].uuid[:8]}", "x=_1", f"Cu-{nodes[4].uuid[:8]}"]
    with pytest.raises(FrameError, match="one of the structures is there twice"):
        names_for([nodes[0], nodes[0]])


def partly():
    node = StructureData(cell=[[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])
    node.append_kind(Kind(symbols=["Cu", "Au"], weights=[0.5, 0.5], name="mix"))
    node.append_site(Site(kind_name="mix", position=(0, 0, 0)))
    return node


def vacant():
    node = StructureData(cell=[[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])
    node.append_atom(position=(0, 0, 0), symbols="Cu", weights=0.9)
    return node


def with_spins():
    node = StructureData(cell=[[2.87, 0, 0], [0, 2.87, 0], [0, 0, 2.87]])
    node.append_atom(position=(0, 0, 0), symbols="Fe", name="Fe1")
    node.append_atom(position=(1.435, 1.435, 1.435), symbols="Fe", name="Fe2")
    return node


def slab():
    return StructureData(ase=Atoms("Cu", cell=[3.0, 3.0, 20.0], pbc=(True, True, False)))


def doubled():
    return StructureData(ase=Atoms("Cu2", [(0, 0, 0), (0, 0, 0.02)], cell=[3.0] * 3, pbc=True))


def unknown():
    node = StructureData(cell=[[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])
    node.append_atom(position=(0, 0, 0), symbols="X")
    return node


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partly, "has sites that are occupied in part, expected full ones; the strategy occupancy fills them"),
        (vacant, "has sites that are occupied in part"),
        (with_spins, r"has several kinds of Fe \(Fe1, Fe2\), which a frame cannot hold; --merge-kinds"),
        (slab, r"is not periodic in all directions \(pbc T T F\).*put it in a box"),
        (doubled, "has two atoms at one place"),
        (unknown, "has an atom of unknown element"),
    ],
)
def test_what_a_frame_cannot_hold(call, make, message):
    """Is said before anything is stored, with the pk."""
    node = make().store()
    before = QueryBuilder().append(CalcFunctionNode).count(), QueryBuilder().append(Dataset).count()
    assert re.search(rf"structure <{node.pk}>: {message}", call("dataset", "from-structures", node.pk, ok=False))
    assert (QueryBuilder().append(CalcFunctionNode).count(), QueryBuilder().append(Dataset).count()) == before


def test_kinds_are_merged_if_so_asked(call):
    node = with_spins().store()
    (frame,) = made(call("dataset", "from-structures", node.pk, "--merge-kinds")).get_frames()
    assert frame.get_chemical_symbols() == ["Fe", "Fe"]


def test_isolated_atoms(call):
    """One atom in a large box is one if it is called so; in a small cell it is not."""
    small, large = structure(Atoms("Si", cell=[3.0] * 3, pbc=True)), structure(Atoms("Si", cell=[12.0] * 3, pbc=True))
    assert fr.is_isolated_atom(frame_of(large, "atom", "isolated_atom"))
    assert not fr.is_isolated_atom(frame_of(small, "sc"))
    text = call("dataset", "from-structures", small.pk, "--config-type", "isolated_atom", ok=False)
    assert f"structure <{small.pk}>: config_type isolated_atom, but the atom is 3.00 Å from its own image" in text


def test_nodes_and_frames_that_are_none(call, salt):
    dataset = made(call("dataset", "from-structures", salt[0].pk))
    assert "is a Dataset, expected a StructureData" in call("dataset", "from-structures", dataset.pk, ok=False)
    assert f"dataset <{dataset.pk}> has no frame sugar" in call("dataset", "structure", dataset.pk, "sugar", ok=False)
    assert "call it 'a_b'" in call("dataset", "from-structures", salt[0].pk, "--config-type", "a{b", ok=False)
