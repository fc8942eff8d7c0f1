"""The card of a potential against the nodes it was made from."""

import json
import re

import numpy as np
import pytest
from aiida.engine import ToContext, WorkChain, calcfunction
from aiida.orm import Dict, Int, load_node
from helpers import FIT, tiny_gap

from aiida_gaprss.calculations.fit import FitCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.gap.words import descriptor
from aiida_gaprss.models.regularisation import HullDistance
from aiida_gaprss.sharing.card import ORIGIN, card, export, read_card, readable_here
from aiida_gaprss.sharing.card_text import text, to_json

STATISTICS = {"mae": 1.5, "rmse": 2.25, "largest": 4.0, "values": 3, "frames": 3, "missing": 0}
TEST_RESULTS = {
    "errors": {"frames": 3, **dict.fromkeys(("energy", "forces", "virial"), STATISTICS)},
    "errors_by_config_type": {"held_back": {"frames": 3, **dict.fromkeys(("energy", "forces", "virial"), STATISTICS)}},
}


@calcfunction
def held_back(potential):
    return Dict(TEST_RESULTS)


class FitTwiceAndTest(WorkChain):
    """Two fits with different seeds; the second one is returned, with errors on held-back frames."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.expose_inputs(FitCalculation, namespace="fit")
        spec.outline(cls.fit, cls.fit_again, cls.finish)
        spec.output("potential", valid_type=Potential)
        spec.output("test_results", valid_type=Dict)

    def fit(self):
        return ToContext(first=self.submit(FitCalculation, **self.exposed_inputs(FitCalculation, namespace="fit")))

    def fit_again(self):
        inputs = self.exposed_inputs(FitCalculation, namespace="fit")
        inputs["seed"] = Int(inputs["seed"].value + 1)
        return ToContext(second=self.submit(FitCalculation, **inputs))

    def finish(self):
        potential = self.ctx.second.outputs.potential
        self.out("potential", potential)
        self.out("test_results", held_back(potential))


@pytest.fixture
def chain(run, gap_fit_code, python_code, silicon_frames, remembered):
    """The node of the work chain above, on two datasets; it runs once."""
    if "fit twice" not in remembered:
        datasets = {
            "atoms": Dataset(silicon_frames[:1], level_of_theory="Stillinger-Weber"),
            "cells": Dataset(silicon_frames[1:], level_of_theory="Stillinger-Weber"),
        }
        datasets["cells"].label = "cells | of the test"
        fit = {"code": gap_fit_code, "python": python_code, "datasets": datasets, "settings": Dict(FIT), "seed": Int(5)}
        _, node = run(FitTwiceAndTest, fit=fit)
        assert node.is_finished_ok, node.exit_message
        remembered["fit twice"] = node.uuid
    return load_node(remembered["fit twice"])


def test_a_fit(chain, silicon_frames):
    potential = chain.outputs.potential
    fit = potential.creator
    content = card(potential)
    assert content["potential"]["uuid"] == potential.uuid
    assert content["potential"]["elements"] == ["Si"]
    assert content["potential"]["e0_eV"] == {"Si": pytest.approx(silicon_frames[0].info["REF_energy"])}
    assert content["potential"]["sparse_points"] == 30
    assert content["potential"]["gap_version"] == potential.base.attributes.get("gap_version")
    assert content["seed"] == 6

    data = content["training_data"]
    nodes = fit.inputs.datasets
    assert [(d["name"], d["uuid"]) for d in data["datasets"]] == [(name, nodes[name].uuid) for name in ("atoms", "cells")]
    assert [d["frames"] for d in data["datasets"]] == [1, len(silicon_frames) - 1]
    assert data["datasets"][1]["label"] == "cells | of the test"
    assert data["levels_of_theory"] == ["Stillinger-Weber"]
    natoms = sum(map(len, silicon_frames))
    assert (data["frames"], data["atoms"]) == (len(silicon_frames), natoms)
    assert (data["energies"], data["force_components"], data["virial_components"]) == (
        len(silicon_frames),
        3 * natoms,
        6 * (len(silicon_frames) - 1),
    )

    results = fit.outputs.results.get_dict()
    assert content["training_errors"] == {"all": results["errors"], "by_config_type": results["errors_by_config_type"]}
    assert content["sigma"]["default"]["energy"] == FIT["sigma"]["energy"]
    assert content["sigma"]["by_config_type"]["isolated_atom"]["forces"] == 0.01
    made = content["made_by"]
    assert (made["process"], made["uuid"]) == ("FitCalculation", fit.uuid)
    assert [c["uuid"] for c in made["called_by"]] == [chain.uuid]
    assert made["gap_fit"] == results["gap_fit"]
    assert made["campaign"] is None


def test_test_errors_belong_to_the_potential_that_is_returned(chain):
    content = card(chain.outputs.potential)
    assert content["test_errors"]["all"] == TEST_RESULTS["errors"]
    assert list(content["test_errors"]["by_config_type"]) == ["held_back"]
    assert content["test_errors"]["found_by"]["uuid"] == chain.uuid
    (other,) = [
        c.outputs.potential for c in chain.called if "potential" in c.outputs and c.outputs.potential != chain.outputs.potential
    ]
    assert card(other)["test_errors"] is None
    assert card(other)["seed"] == 5
    assert "none: the process that made it tested no such frames" in text(card(other))


def rows(markdown, heading):
    """Return the cells of the table under a heading."""
    section = markdown.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_text(chain):
    potential = chain.outputs.potential
    content = card(potential)
    markdown = text(content)
    head, rule, *errors = rows(markdown, "Errors on the training set")
    assert len({len(row) for row in (head, rule, *errors)}) == 1, "one width"
    assert [row[0] for row in errors] == ["all", "isolated_atom", "random"]
    found = content["training_errors"]["all"]
    assert float(errors[0][head.index("energy RMSE, meV/atom")]) == pytest.approx(found["energy"]["rmse"], rel=1e-2)
    assert float(errors[0][head.index("forces MAE, eV/Å")]) == pytest.approx(found["forces"]["mae"], rel=1e-2)
    assert errors[1][head.index("virial RMSE, meV/atom")] == "–", "an isolated atom has none"
    assert rows(markdown, "Errors on frames that were held back (test)")[2][:4] == ["all", "3", "2.25", "1.50"]
    datasets = rows(markdown, "Data")
    assert {len(row) for row in datasets} == {7}
    assert datasets[3][2] == r"cells \| of the test"
    assert "distance of two atoms; Si–Si; cutoff 4.5 Å" in markdown
    assert "centre Si, neighbours Si; cutoff 4.5 Å, smoothed over the last 1 Å, n_max 4, l_max 3, atom σ 0.5 Å" in markdown
    assert "ζ 4, δ 0.5 eV; dot product kernel; 20 sparse points (cur_points)" in markdown
    assert "- isolated_atom: energy 0.0001 eV/atom, forces 0.01 eV/Å" in markdown
    assert f"content hash (SHA-256) {content['potential']['content_hash']}" in markdown
    assert f"called by FitTwiceAndTest <{chain.pk}> {chain.uuid}" in markdown
    assert "- seed: 6" in markdown


def test_regularisation_is_told(run, gap_fit_code, dataset):
    rules = [
        {"kind": "force_proportional", "config_types": ["random"], "f": 0.02},
        {"kind": "hull", "low": 0.003},
    ]
    settings = {**FIT, "regularisation": rules}
    outputs, node = run(FitCalculation, code=gap_fit_code, datasets={"all": dataset}, settings=Dict(settings), seed=Int(1))
    assert node.is_finished_ok, node.exit_message
    content = card(outputs["potential"])
    assert content["sigma"]["regularisation"][1] == HullDistance(low=0.003).model_dump()
    assert "of random, before those of their kind: forces of an atom 0.02 times the force on it, at least 0.0002 eV/Å" in text(
        content
    )
    assert "of the other single frames" in text(content)
    assert "energy 0.003 eV/atom on the convex hull, growing to 0.05 eV/atom for 1.5 eV/atom and more above it" in text(content)
    assert "forces (eV/Å) 20 times and virials (eV/atom) 5 times as large" in text(content)
    assert content["training_errors"] is None, "this fit had no python to evaluate the potential"
    assert "## Errors on the training set\n\nnot known\n" in text(content)


def test_a_campaign(campaign):
    potential = campaign.outputs.potential
    made = card(potential)["made_by"]
    assert made["campaign"]["uuid"] == campaign.uuid
    assert (made["campaign"]["name"], made["campaign"]["seed"], made["campaign"]["formula"]) == ("tiny", 11, {"Si": 1})
    datasets = {d["name"]: d["uuid"] for d in card(potential)["training_data"]["datasets"]}
    assert datasets == {name: campaign.outputs.labels[name].uuid for name in ("g00", "g01")}
    assert "campaign tiny, seed 11" in text(card(potential))
    first = card(campaign.outputs.potentials.g00)
    assert [d["name"] for d in first["training_data"]["datasets"]] == ["g00"]


def test_an_imported_potential_says_what_its_xml_says(potential):
    potential.store()
    content = card(potential)
    assert content["made_by"] is None
    assert content["training_data"] is None
    assert content["training_errors"] is None
    assert content["seed"] is None
    assert content["sigma"] == {
        "default": {"energy": 0.005, "forces": 0.05, "virial": 0.05, "hessian": 1.0},
        "by_config_type": {"isolated_atom": {"energy": 0.0001, "forces": 0.01, "virial": 1.0, "hessian": 1.0}},
        "regularisation": [],
    }
    markdown = text(content)
    assert "imported: nothing in this profile made it" in markdown
    assert "(test)\n\nnot known\n" in markdown
    assert "not known to this profile: the potential was imported" in markdown
    assert "at_file=train.extxyz gap={distance_2b cutoff=4.5" in markdown


def test_export_writes_the_card(potential, tmp_path):
    path = export(potential.store(), tmp_path / "out")
    assert json.loads((path.parent / "card.json").read_text()) == json.loads(to_json(card(potential)))
    assert (path.parent / "card.md").read_text() == text(card(potential))
    assert (path.parent / "lammps.txt").is_file()
    again = Potential(path.parent)
    assert again.base.attributes.get("content_hash") == card(potential)["potential"]["content_hash"]


def test_a_card_travels_with_the_files(chain, tmp_path):
    potential = chain.outputs.potential
    path = export(potential, tmp_path)
    imported = Potential(tmp_path)
    imported.base.attributes.set(ORIGIN, read_card(tmp_path / "card.json", imported))
    imported.store()
    original, told = card(potential), card(imported)
    for key in ("training_data", "training_errors", "test_errors", "seed", "made_by", "sigma", "descriptors"):
        assert told[key] == original[key]
    assert told["imported"]
    assert told["potential"]["uuid"] == imported.uuid
    markdown = text(told)
    assert "imported with its card: nodes and times are those of the profile where it was made" in markdown
    assert f"called by FitTwiceAndTest <{chain.pk}> {chain.uuid}" in markdown
    again = export(imported, tmp_path / "again")
    assert read_card(again.with_name("card.json"), imported) == read_card(tmp_path / "card.json", imported)

    content = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**content, "potential": {**content["potential"], "content_hash": "abc"}}))
    with pytest.raises(PotentialError, match=r"card\.json is the card of another potential \(its content hash is abc\)"):
        read_card(tmp_path / "card.json", imported)
    del content["sigma"]
    for wrong in ("no json", "[]", "{}", json.dumps(content)):
        (tmp_path / "card.json").write_text(wrong)
        with pytest.raises(PotentialError, match=r"card\.json is not the card of a potential"):
            read_card(tmp_path / "card.json", imported)
    assert path.is_file()


@pytest.mark.parametrize(
    ("line", "species", "cutoff", "words"),
    [
        (
            "distance_2b cutoff=5.0 covariance_type=ard_se theta_uniform=1.2 delta=3 Z1=14 Z2=6",
            ["C", "Si"],
            5.0,
            "pair term: distance of two atoms; Si–C; cutoff 5.0 Å, length scale θ 1.2 Å, δ 3 eV; squared exponential kernel; "
            "7 sparse points",
        ),
        (
            "angle_3b cutoff=3.5 covariance_type=ard_se Z=14 Z1=6 Z2=8",
            ["C", "O", "Si"],
            3.5,
            "triplet term: symmetrised distances of three atoms; C–Si–O (centre Si); cutoff 3.5 Å; squared exponential kernel; "
            "7 sparse points",
        ),
        (
            "soap l_max=8 n_max=8 atom_sigma=0.5 zeta=4 cutoff=5.0 covariance_type=dot_product",
            [],
            5.0,
            "many-body term: smooth overlap of atomic positions (SOAP); all species alike; cutoff 5.0 Å, n_max 8, l_max 8, "
            "atom σ 0.5 Å, ζ 4; dot product kernel; 7 sparse points",
        ),
        (
            "soap_turbo l_max=4 alpha_max={8 8} rcut_hard=5 rcut_soft=4.3 species_Z={6 14} central_index=2 delta=0.5",
            ["C", "Si"],
            5.0,
            "many-body term: SOAP in the separable basis of Caro (soap_turbo); centre Si, neighbours C Si; cutoff 5 Å, "
            "smoothed from 4.3 Å, n_max 8, l_max 4, δ 0.5 eV; 7 sparse points",
        ),
        (
            "general_dimer cutoff=6 signature={{8 1 1}} delta=0.1",
            [],
            6.0,
            "general_dimer; all species alike; cutoff 6 Å, δ 0.1 eV; 7 sparse points",
        ),
    ],
)
def test_descriptors_in_words(line, species, cutoff, words):
    found = descriptor(line, 7)
    assert found["words"] == words
    assert found["species"] == species
    assert found["cutoff_A"] == cutoff
    assert found["parameters"]["delta" if "delta" in line else "cutoff"] in line


def test_readable_here(potential, potential_folder, tmp_path):
    here = readable_here(potential)
    assert here["readable"]
    assert re.fullmatch(r"quippy-ase \d+\.\d+\.\d+.*", here["reader"])
    for name in potential.files:
        (tmp_path / name).write_bytes((potential_folder / name).read_bytes())
    newer = re.sub(r'gap_version="\d+"', 'gap_version="1999999999"', (tmp_path / "gap.xml").read_text())
    (tmp_path / "gap.xml").write_text(newer)
    here = readable_here(Potential(tmp_path))
    assert not here["readable"]
    assert "GAP version 1999999999 (2033-05-18) or newer" in here["reason"]


# --- a published potential ---


def test_the_published_molybdenum_potential(data):
    """Zuo et al., J. Phys. Chem. A 124, 731 (2020): values of the GAP example of its repository, which uses LAMMPS."""
    from ase.build import bulk
    from ase.io import read

    from aiida_gaprss.properties.elastic import elastic_constants, relaxed

    folder = data / "mlearn" / "published_Mo_gap"
    node = Potential(folder, "soap.xml").store()
    content = card(node)
    assert content["potential"]["elements"] == ["Mo"]
    assert content["potential"]["e0_eV"] == {"Mo": -0.97}
    assert content["potential"]["files"] == ["soap.xml", "GAPotential.soapparam"]
    assert content["embedded_training_data"] == {"frames": 10, "atoms": 540, "elements": ["Mo"]}
    assert content["sigma"]["default"] == {"energy": 0.0005, "forces": 0.1, "virial": 0.05, "hessian": 0.01}
    assert content["potential"]["needs"].startswith("GAP version 1525123159 (2018-04-30) or newer")

    calculator = load_node(node.pk).calculator()
    cell = read(folder / "test_struct.cif")
    cell.calc = calculator
    assert cell.get_potential_energy() == pytest.approx(-470.22648, abs=1e-5)  # the file of positions has 6 decimals
    assert np.abs(cell.get_forces().sum(axis=0)).max() < 1e-8

    crystal = bulk("Mo", "bcc", 3.15, cubic=True)
    crystal.calc = calculator
    crystal = relaxed(crystal)
    assert crystal.cell.lengths() == pytest.approx([3.0975] * 3, abs=5e-5)
    # C44 is 109.8 to 110.0 here for all strains from 1e-6 to 0.01, and was 108.9 there; refits of its training set with other
    # sparse points scatter from 108.8 to 109.5 (C11 from 824 to 828, C12 from 519 to 522).
    assert elastic_constants(crystal).cubic == pytest.approx((825.97, 520.05, 108.89), abs=1.0)


def test_nothing_acts_in_a_card(tmp_path):
    """Whatever a stranger wrote: no markup, no characters that a terminal acts upon, no way out of the quoted input."""
    strange = "```\n# injected <img src=x onerror=alert(1)> [x](javascript:y) \u202e\u009b31m"
    ascii_of_it = strange.encode("ascii", "ignore").decode()
    folder = tiny_gap(tmp_path, lambda text: text.replace("at_file=train.xyz", ascii_of_it))
    node = Potential(folder)
    node.label = "<script>|`[/red]\x1b[31m"
    content = card(node)
    content["training_data"] = {
        "datasets": [],
        "levels_of_theory": [strange],
        "config_types": {strange: 1},
        **dict.fromkeys(("frames", "atoms", "energies", "force_components", "virial_components"), 3),
    }
    page = text(content)
    head, quoted = page.split("- input of gap_fit:\n\n")
    assert quoted.startswith("````\n"), "more marks than it has itself"
    assert quoted.rstrip().endswith("\n````")
    assert quoted.count("````") == 2
    assert re.findall(r"(?<!\\)[`\[]|(?<!\\)<(?!\w+> )", head) == []
    assert "\\<script\\>" in head
    assert "\\[x\\]" in head
    for written in (page, to_json(content)):
        assert not set(written) & {"\x1b", "\u009b", "\u202e"}
    assert json.loads(to_json(content))["potential"]["label"] == node.label


def test_a_card_of_a_sum_says_so(tmp_path):
    baseline = "Sum init_args_pot1={IP ZBL cutoff=2.0} init_args_pot2={IP GAP label=GAP_tiny}"
    node = Potential(tiny_gap(tmp_path, lambda text: text.replace("IP GAP label=GAP_tiny", baseline)))
    assert "- a sum of 2: ZBL, cutoff 2 Å; GAP GAP_tiny" in text(card(node))
    assert card(node)["potential"]["terms"] == ["ZBL, cutoff 2 Å", "GAP GAP_tiny"]
