"""What potentials were fitted to, told by graphs that are made by hand."""

import json

import pytest
from aiida.common.links import LinkType
from aiida.orm import CalcFunctionNode, CalcJobNode, List
from ase.build import bulk
from helpers import tiny_gap

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import Difference
from aiida_gaprss.queries import QueryError, calculations_behind, potentials_that_saw
from aiida_gaprss.queries.potentials import FIT


def cell(name, a=3.6, label=None, energy=-12.0):
    atoms = bulk("Cu", a=a, cubic=True)
    atoms.info = {"frame_id": name, "config_type": "random"}
    atoms.info |= {} if energy is None else {"REF_energy": energy}
    atoms.info |= {} if label is None else {"label_uuid": label}
    return atoms


@pytest.fixture
def potential(tmp_path, aiida_profile_clean):
    """A new potential made of the inputs of a process."""
    count = iter(range(100))

    def potential(inputs, process=CalcJobNode, kind=FIT):
        node = process(process_type=kind)
        node.set_process_label("FitCalculation")
        for label, given in inputs.items():
            node.base.links.add_incoming(given if given.is_stored else given.store(), LinkType.INPUT_CALC, label)
        out = Potential(tiny_gap(tmp_path / f"gap-{next(count)}"))
        node.store()
        out.base.links.add_incoming(node, LinkType.CREATE, "potential")
        return out.store()

    return potential


@pytest.fixture
def dft(aiida_profile_clean):
    """Two calculations of a DFT code."""
    nodes = []
    for _ in range(2):
        node = CalcJobNode(process_type="aiida.calculations:castep.castep")
        node.set_process_label("CastepCalculation")
        nodes.append(node.store())
    return nodes


@pytest.fixture
def fitted(dft, potential):
    """A potential whose training set has labels of both, of another profile, of a file, and frames that are not fitted."""
    one, two = dft
    elsewhere = "01234567-89ab-cdef-0123-456789abcdef"
    first = Dataset([cell("a", label=one.uuid), cell("b", 3.7, label=two.uuid), cell("c", 3.8, label=two.uuid)], "CASTEP")
    second = Dataset(
        [cell("d", 3.9, label=elsewhere), cell("e", 4.0), cell("f", 4.1, label="'; no uuid"), cell("g", 4.2, None, None)]
    )
    sparse = Dataset([cell("h", 4.3, label=one.uuid), cell("i", 4.4, None, None)])
    given = {"datasets__first": first, "datasets__second": second, "sparse_frames__more": sparse, "leave_out": List(["c"])}
    return potential(given), elsewhere


def test_calculations_behind_a_potential(fitted, dft):
    node, elsewhere = fitted
    behind = calculations_behind(node)
    assert [one.uuid for one in behind.calculations] == [one.uuid for one in dft]
    assert behind.frames == {dft[0].uuid: ["a"], dft[1].uuid: ["b"], elsewhere: ["d"]}
    assert behind.elsewhere == [elsewhere]
    assert behind.untold == ["e", "f"]


def test_of_an_imported_potential(tmp_path):
    node = Potential(tiny_gap(tmp_path / "gap")).store()
    with pytest.raises(QueryError, match=f"potential <{node.pk}> was imported.*nothing tells what it rests on"):
        calculations_behind(node)


def test_potentials_that_saw_a_frame(fitted, potential):
    node, _ = fitted
    other = potential({"datasets__x": Dataset([cell("other-name", 3.7), cell("y", 5.0)], "VASP")})
    saw = potentials_that_saw("b")
    assert [(one.potential.pk, one.frame_id, one.how) for one in saw] == [
        (node.pk, "b", "fitted"),
        (other.pk, "other-name", "fitted"),
    ]
    assert [(one.how, one.potential.pk) for one in potentials_that_saw("c")] == [("left out", node.pk)]
    assert [(one.how, one.potential.pk) for one in potentials_that_saw("h")] == [("sparse points", node.pk)]
    assert [one.how for one in potentials_that_saw("i")] == ["sparse points"]
    assert potentials_that_saw("g") == [], "it has no label"
    assert [one.frame_id for one in potentials_that_saw(cell("whatever", 5.0))] == ["y"]
    with pytest.raises(QueryError, match="no frame 'z' in this profile"):
        potentials_that_saw("z")


def test_several_structures_of_one_name(potential):
    one, two = (Dataset([cell("same-name", a)]).store() for a in (3.61, 3.62))
    first, second = potential({"datasets__x": one}), potential({"datasets__x": two})
    with pytest.raises(
        QueryError, match=rf"2 structures are called 'same-name': say which, with one of the datasets <{one.pk}>, <{two.pk}>"
    ):
        potentials_that_saw("same-name")
    assert [saw.potential.pk for saw in potentials_that_saw("same-name", one)] == [first.pk]
    assert [saw.potential.pk for saw in potentials_that_saw("same-name", two)] == [second.pk]
    with pytest.raises(QueryError, match=rf"no frame 'z' in dataset <{two.pk}>"):
        potentials_that_saw("z", two)


def test_datasets_of_older_versions_have_no_index(potential):
    old = Dataset([cell("old", 3.63)]).store()
    old.base.extras.delete(Dataset.INDEX)
    node = potential({"datasets__x": old})
    assert [saw.potential.pk for saw in potentials_that_saw("old")] == [node.pk]
    assert Dataset.INDEX not in old.base.extras.all, "a question changes nothing"


def test_sums_and_differences(dft, potential):
    """A sum rests on what both parts rest on; differences of labels on the calculations at both levels."""
    one, two = dft
    dear, cheap = Dataset([cell("x", 3.64, one.uuid)], "dear").store(), Dataset([cell("y", 3.64, two.uuid)], "cheap").store()
    function = CalcFunctionNode()
    function.set_process_label("label_differences")
    for label, node in (("dear", dear), ("cheap", cheap)):
        function.base.links.add_incoming(node, LinkType.INPUT_CALC, label)
    function.store()
    differences = Dataset([cell("x", 3.64, energy=-1.0)], Difference.of("dear", "cheap"))
    differences.base.links.add_incoming(function, LinkType.CREATE, "result")
    differences.store()
    base = potential({"datasets__c": Dataset([cell("z", 3.65, two.uuid)], "cheap")})
    added = potential({"datasets__d": differences})
    whole = potential({"cheap": base, "added": added}, CalcFunctionNode, None)
    assert calculations_behind(added).frames == {one.uuid: ["x"], two.uuid: ["y"]}
    assert calculations_behind(whole).frames == {one.uuid: ["x"], two.uuid: ["z", "y"]}
    assert {saw.potential.pk for saw in potentials_that_saw("z")} == {base.pk, whole.pk}
    assert {saw.potential.pk for saw in potentials_that_saw("x")} == {added.pk, whole.pk}


def test_the_commands(fitted, dft, call):
    node, elsewhere = fitted
    text = call("query", "calculations", node.pk)
    assert "5 labels by 2 calculations of this profile" in text
    assert f"1 calculations are not in this profile: {elsewhere}" in text
    assert "2 labels tell no calculation, as those of files: e, f" in text
    told = json.loads(call("query", "calculations", node.pk, "--json"))
    assert [(one["pk"], one["frames"]) for one in told["calculations"]] == [(dft[0].pk, ["a"]), (dft[1].pk, ["b"])]
    assert told["elsewhere"] == [{"uuid": elsewhere, "frames": ["d"]}]
    dataset = node.creator.inputs.datasets["first"]
    assert "left out" in call("query", "potentials", "c", "--dataset", dataset.pk)
    (one,) = json.loads(call("query", "potentials", "c", "--dataset", dataset.pk, "--json"))
    assert (one["potential_uuid"], one["how"], one["dataset"], one["level_of_theory"]) == (
        node.uuid,
        "left out",
        dataset.pk,
        "CASTEP",
    )
    assert "no frame 'nobody' in this profile" in call("query", "potentials", "nobody", ok=False)
    assert "is a Dataset, expected a potential" in call("query", "calculations", dataset.pk, ok=False)


def test_datasets_of_strangers(potential):
    """One that cannot be read says nothing of a frame, and is named where it would have to."""
    spoilt = Dataset([cell("s", 3.66)])
    spoilt.base.repository.put_object_from_bytes(b"4\nno frame\n", Dataset.FILENAME)
    node = potential({"datasets__s": spoilt})
    other = potential({"datasets__s": Dataset([cell("s", 3.66)])})
    assert [saw.potential.pk for saw in potentials_that_saw("s")] == [other.pk]
    with pytest.raises(QueryError, match=rf"dataset <{spoilt.pk}> cannot be read"):
        calculations_behind(node)
