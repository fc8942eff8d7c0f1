"""gaprss.describe: SOAP vectors of frames."""

import numpy as np
import pytest
from aiida.orm import Dict, Int
from ase import Atoms
from ase.build import bulk
from helpers import assert_cats

from aiida_gaprss.calculations.describe import DescribeCalculation
from aiida_gaprss.data.dataset import Dataset

SOAP = {"cutoff": 4.0, "n_max": 4, "l_max": 3, "elements": ["Si", "C"]}


def named(atoms, name):
    atoms.info = {"frame_id": name}
    return atoms


@pytest.fixture
def carbides():
    """Cells of silicon and carbon; the first five are the same crystal in other words."""
    rng = np.random.default_rng(2)
    first = bulk("SiC", "zincblende", 4.36, cubic=True)
    first.rattle(0.1, rng=rng)
    turned = first.copy()
    turned.rotate(50, (1, 2, 3), rotate_cell=True)
    moved = first.copy()
    moved.translate([0.3, 0.7, -1.1])
    others = [bulk("Si", "diamond", 5.43), bulk("C", "diamond", 3.57), bulk("SiC", "rocksalt", 4.0)]
    frames = [first, turned, moved, first[rng.permutation(8)], first.repeat((1, 2, 1)), *others]
    return [named(atoms, f"sic-{number}") for number, atoms in enumerate(frames)]


def test_vectors_of_two_elements(run, python_code, carbides):
    outputs, node = run(DescribeCalculation, code=python_code, frames=Dataset(carbides), settings=Dict(SOAP))
    assert node.is_finished_ok, node.exit_message
    assert_cats(node)
    assert set(outputs) & {"vectors", "summary", "frames"} == {"vectors", "summary"}
    vectors = outputs["vectors"].get_array("vectors")
    length = 8 * 9 // 2 * 4 + 1
    assert vectors.shape == (8, 2 * length)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-8)
    np.testing.assert_allclose(vectors[1:5], vectors[[0] * 4], atol=1e-6)
    # The first half is of carbon at the centre, the second of silicon.
    assert (vectors[5, :length] == 0).all()
    assert (vectors[6, length:] == 0).all()
    assert vectors[5] @ vectors[6] == 0
    assert vectors[0] @ vectors[7] < 0.999
    assert outputs["summary"]["missing"] == {}


def test_vectors_are_those_of_quippy(run, python_code, silicon_cells):
    from quippy.descriptors import Descriptor

    outputs, node = run(
        DescribeCalculation, code=python_code, frames=Dataset(silicon_cells), settings=Dict({**SOAP, "elements": ["Si"]})
    )
    assert node.is_finished_ok, node.exit_message
    text = "soap cutoff=4.0 cutoff_transition_width=1.0 n_max=4 l_max=3 atom_sigma=0.5 n_species=1 Z=14 species_Z={14}"
    descriptor = Descriptor(text)
    for row, atoms in zip(outputs["vectors"].get_array("vectors"), silicon_cells, strict=True):
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        atomic = np.array(descriptor.calc(bare)["data"])
        np.testing.assert_allclose((atomic**2).sum(axis=1), 1, atol=1e-9)  # k(x, x) = 1 for every atom
        np.testing.assert_allclose(row, atomic.mean(axis=0) / np.linalg.norm(atomic.mean(axis=0)), atol=1e-9)


def test_a_frame_that_cannot_be_described(run, python_code, carbides, aiida_code_installed, aiida_localhost, tmp_path):
    """A descriptor that fails for one frame, as by a fault of the program."""
    (tmp_path / "sitecustomize.py").write_text(
        """
import quippy.descriptors as module

class Descriptor(module.Descriptor):
    def calc(self, atoms):
        if len(atoms) == 16:
            raise RuntimeError("no basis")
        return super().calc(atoms)

module.Descriptor = Descriptor
"""
    )
    options = {"prepend_text": f"export PYTHONPATH={tmp_path}"}
    outputs, node = run(
        DescribeCalculation, code=python_code, frames=Dataset(carbides), settings=Dict(SOAP), metadata={"options": options}
    )
    assert node.is_finished_ok, node.exit_message
    vectors = outputs["vectors"].get_array("vectors")
    assert np.flatnonzero(np.isnan(vectors).any(axis=1)).tolist() == [4]
    assert np.isnan(vectors[4]).all()
    assert outputs["summary"]["missing"] == {"sic-4": "failed: RuntimeError: no basis"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**SOAP, "elements": ["C"]}, "elements are C, but the frames contain Si"),
        ({**SOAP, "elements": ["C", "Xy"]}, "elements: 'Xy' is not a chemical element"),
        ({**SOAP, "elements": ["C", "Si", "C"]}, "elements: an element is named twice"),
        ({"cutoff": 4.0}, "elements: missing"),
        ({**SOAP, "nmax": 4}, "nmax: unknown key"),
    ],
)
def test_settings_are_checked_before(run, python_code, carbides, settings, message):
    with pytest.raises(ValueError, match=message):
        run(DescribeCalculation, code=python_code, frames=Dataset(carbides), settings=Dict(settings))


def test_frames_selected_by_their_vectors(run, python_code, carbides, campaign_text, tmp_path):
    """The calcfunction of the campaign with the vectors of candidates and database."""
    from aiida_gaprss.calculations.rss_functions import select_frames
    from aiida_gaprss.campaign.file import check_campaign

    settings = check_campaign(campaign_text, tmp_path / "a.yaml").settings.model_dump()
    rules = [{"by": "cur", "n": 3, "known_variance": 1.0}]
    settings["generations"][0]["select"] = {"tolerance": 0.0, "rules": rules, "vectors": {"cutoff": 4.0}}
    settings["filter"]["volume_per_atom"] = (1.0, 100.0)
    for atoms in carbides:
        atoms.info.update(PRED_energy=-1.0, relax_status="converged")
    sets = [Dataset(carbides), Dataset(carbides[6:7]), Dataset(carbides[7:])]
    vectors = [run(DescribeCalculation, code=python_code, frames=d, settings=Dict(SOAP))[0]["vectors"] for d in sets]
    inputs = dict(candidates=sets[0], settings=Dict(settings), generation=Int(1), seed=Int(1))
    known = {"g00": sets[1], "g00_vectors": vectors[1], "g01": sets[2], "g01_vectors": vectors[2]}
    chosen = select_frames(**inputs, vectors=vectors[0], **known)
    report = chosen["report"].get_dict()
    names = {a.info["frame_id"] for a in chosen["frames"].get_frames()}
    assert names == {"sic-0", "sic-5"}, report
    with pytest.raises(ValueError, match="vectors: the candidates have none"):
        select_frames(**inputs, **known)
