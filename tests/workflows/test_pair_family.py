"""A second family through everything that the first one goes through: fit, evaluation, relaxation, a campaign, files."""

import json
import re

import numpy as np
import pytest
from aiida.orm import Bool, Dict, Float, Int, Log, Str
from ase.build import bulk
from helpers import FIT

from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.folder import family_of_file
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.families import fit_settings
from aiida_gaprss.models.pair.fit import fit_pairs
from aiida_gaprss.report.collect import collect
from aiida_gaprss.runners.pair import PairPotential
from aiida_gaprss.runners.status import ON_THE_WAY
from aiida_gaprss.sharing.card import card, export
from aiida_gaprss.sharing.card_text import text
from aiida_gaprss.workflows.committee import CommitteeWorkChain
from aiida_gaprss.workflows.fit import FitWorkChain
from aiida_gaprss.workflows.rss import RssWorkChain

SETTINGS = {"family": "pair", "cutoff": 4.5}


def reports(node):
    return "\n".join(log.message for log in Log.collection.get_logs_for(node))


@pytest.fixture
def fitted(run, python_code, dataset, remembered):
    """The node of a fit by the work chain, made once."""
    from aiida.orm import load_node

    if "pair" not in remembered:
        builder = FitWorkChain.get_builder_from_protocol(
            {"silicon": dataset}, None, SETTINGS, code=python_code, python=python_code, seed=2, test_fraction=Float(0.2)
        )
        _, node = run(builder)
        assert node.is_finished_ok, node.exit_message
        remembered["pair"] = node.uuid
    return load_node(remembered["pair"])


def test_a_fit(fitted, silicon_frames):
    """The job finds what the same equations give in this process, and says how far pairs go."""
    potential, results = fitted.outputs.potential, fitted.outputs.results.get_dict()
    assert potential.base.attributes.get("family") == "pair"
    assert potential.elements == ["Si"]
    assert potential.files == ["pair.json"]
    held = {a.info["frame_id"] for a in fitted.outputs.test_predictions.get_frames()}
    known = [a for a in silicon_frames if a.info["frame_id"] not in held]
    mine = fit_pairs(known, fit_settings(**SETTINGS))
    theirs = json.loads(potential.base.repository.get_object_content("pair.json"))
    r = np.linspace(theirs["pairs"][0]["shortest_A"], 4.5, 50)
    curves = [PairPotential(content=content).curve("Si", "Si", r)[0] for content in (theirs, mine.content)]
    assert np.abs(curves[0] - curves[1]).max() < 1e-4 * np.ptp(curves[0]), "what the job reads is rounded"
    assert results["eta_2body"] == pytest.approx(mine.eta, abs=1e-4)
    assert results["errors"]["energy"]["rmse"] == pytest.approx(mine.errors.energy.rmse, rel=1e-4)
    assert results["counts"]["energies"] == len(known)
    assert results["forecast"] is None
    assert results["measured"] is None or results["measured"]["memory_MB"] > 10
    assert fitted.outputs.test_results["errors"]["energy"]["mae"] > 0


def test_evaluated_and_relaxed(run, fitted, python_code, silicon_frames):
    """As the calculator does it without jobs."""
    frames, node = Dataset(silicon_frames[1:4]), fitted.outputs.potential
    outputs, job = run(
        EvaluateCalculation, code=python_code, potential=node, frames=frames, settings=Dict({"local_energies": True})
    )
    assert job.is_finished_ok, job.exit_message
    calculator = node.calculator()
    for atoms in outputs["frames"].get_frames():
        work = atoms.copy()
        work.calc = calculator
        assert atoms.info["PRED_energy"] == pytest.approx(work.get_potential_energy(), abs=1e-6)
        assert np.allclose(atoms.arrays["PRED_forces"], work.get_forces(), atol=1e-6)
        assert atoms.arrays["PRED_local_energy"].sum() == pytest.approx(atoms.info["PRED_energy"], abs=1e-6)
    outputs, job = run(RelaxCalculation, code=python_code, potential=node, frames=frames, settings=Dict({"max_steps": 20}))
    assert job.is_finished_ok, job.exit_message
    ends = [a for a in outputs["frames"].get_frames() if a.info["relax_status"] != ON_THE_WAY]
    first = {a.info["frame_id"]: a for a in frames.get_frames()}
    for atoms in ends:
        start = first[atoms.info["parent"]].copy()
        start.calc = calculator
        pressure = atoms.info.get("pressure_GPa", 0.0) / 160.21766
        enthalpy = start.get_potential_energy() + pressure * start.get_volume()
        assert atoms.info["PRED_energy"] + pressure * atoms.get_volume() <= enthalpy + 1e-6
    assert len(ends) == 3


def test_what_it_has_not(run, fitted, python_code, silicon_frames):
    """No variances, no lines of LAMMPS; each is told before anything runs."""
    node = fitted.outputs.potential
    with pytest.raises(ValueError, match=r"settings\.stop_where_unsure: a potential of the family pair has no variances"):
        run(
            RelaxCalculation,
            code=python_code,
            potential=node,
            frames=Dataset(silicon_frames[1:3]),
            settings=Dict({"stop_where_unsure": 0.02}),
        )
    with pytest.raises(ValueError, match="variances: a potential of the family pair has none"):
        run(
            EvaluateCalculation,
            code=python_code,
            potential=node,
            frames=Dataset(silicon_frames[1:3]),
            settings=Dict({"variances": True}),
        )
    assert node.lammps() is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("delta_by_stages", r"delta_by_stages .*: a fit of the family pair has no stages"),
        ("sparse_frames", r"sparse_frames .*: a fit of the family pair chooses no sparse points"),
        ("test_fraction", r"a fraction of 0.01 of 14 frames leaves nothing on one side"),
    ],
)
def test_refused_before_anything_runs(run, python_code, dataset, name, message):
    given = {"delta_by_stages": Bool(True), "sparse_frames": {"more": dataset}, "test_fraction": Float(0.01)}[name]
    inputs = {"fit": {"code": python_code, "python": python_code}, "datasets": {"silicon": dataset}}
    with pytest.raises(ValueError, match=message):
        run(FitWorkChain, **inputs, settings=Dict(SETTINGS), seed=Int(1), **{name: given})


def test_a_committee_of_equal_members(run, python_code, dataset):
    inputs = {"fit": {"code": python_code, "python": python_code}, "datasets": {"silicon": dataset}}
    with pytest.raises(ValueError, match="by: no fit of the family pair depends on a seed"):
        run(CommitteeWorkChain, **inputs, settings=Dict(SETTINGS), seed=Int(1), by=Str("seed"), test_fraction=Float(0.2))


def test_a_file_of_another_name(fitted, tmp_path):
    """It is known by what is in it; and nothing of it is left beside what replaces it."""
    node = fitted.outputs.potential
    path = node.to_folder(tmp_path / "out")
    other = path.rename(path.with_name("silicon.json"))
    assert family_of_file(other).NAME == "pair"
    with pytest.raises(PotentialError, match=r"out holds silicon\.json already"):
        node.to_folder(tmp_path / "out")
    assert "aiida_gaprss.runners.pair.PairPotential(" in node.family.how_to_use(node.facts, str(other))


def test_files_and_card(fitted, tmp_path):
    """Exported, imported, refused when they were changed."""
    node = fitted.outputs.potential
    path = export(node, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["card.json", "card.md", "pair.json"]
    again = Potential(tmp_path / "out", family="pair")
    assert again.base.attributes.get("content_hash") == node.base.attributes.get("content_hash")
    silicon = bulk("Si")
    silicon.calc = PairPotential(str(path))
    energy = silicon.get_potential_energy()
    silicon.calc = node.calculator()
    assert energy == pytest.approx(silicon.get_potential_energy())
    words = text(card(node))
    assert words.startswith("# Pair potential for Si")
    assert "- default: energy 0.01 eV/atom, forces 0.1 eV/Å, virial 0.1 eV/atom" in words
    assert re.search(r"- pair: Si–Si, from \d\.\d+ Å on; 1/r\^k with k = 1, 2, ", words)
    for change, message in (
        (lambda c: c["pairs"].clear(), r"pairs: there are \[\], expected \[\('Si', 'Si'\)\]"),
        (lambda c: c.update(powers=[1]), "has 15 coefficients, expected 1, one of each power"),
        (lambda c: c["e0_eV"].update(Si=float("nan")), "e0_eV.Si: .*finite"),
        (lambda c: c.update(switch_A=9.0), "switch_A: 9, expected less than cutoff_A, 4.5"),
        (lambda c: c.update(more=1), "more: unknown key"),
        (lambda c: c.update(cutoff_A=500.0), "cutoff_A: .*less than or equal to 100"),
        (lambda c: c["powers"].__setitem__(14, 10000), r"powers.14: .*less than or equal to 50"),
        (lambda c: c["pairs"][0].update(shortest_A=100.0), "shortest_A of Si-Si is 100, beyond the cutoff"),
    ):
        content = json.loads(path.read_text())
        change(content)
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / "pair.json").write_text(json.dumps(content))
        with pytest.raises(PotentialError, match=message):
            Potential(tmp_path / "bad", family="pair")
    (tmp_path / "bad" / "pair.json").write_text("{")
    with pytest.raises(PotentialError, match="is no pair potential, expected JSON"):
        Potential(tmp_path / "bad", family="pair")
    with pytest.raises(PotentialError, match="the family is 'spline', expected one of gap, pair"):
        Potential(tmp_path / "out", family="spline")


def test_a_job_that_cannot_fit(run, python_code, dataset):
    settings = Dict({**fit_settings(**SETTINGS).model_dump(), "cutoff": 0.5, "switch": 0.3})
    _, node = run(
        FitWorkChain,
        fit={"code": python_code},
        datasets={"silicon": dataset},
        settings=settings,
        seed=Int(1),
    )
    assert node.exit_status == FitWorkChain.exit_codes.ERROR_FIT.status
    assert "python stopped: ValueError: no two atoms are nearer than the cutoff of 0.5 Å" in node.exit_message


@pytest.mark.slow
def test_a_campaign(run, campaign_codes, campaign_text, tmp_path):
    """From random cells by nothing but pairs; the last fit is a GAP that cannot be done as it is, and is repaired."""
    before = campaign_text[campaign_text.index("  fit: ") : campaign_text.index("  search:")]
    singular = {"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 250, "theta_uniform": 5.0}
    tight = json.dumps({**FIT, "descriptors": [singular], "sparse_jitter": 1e-19})
    fits = f"  fit: {{family: pair, cutoff: 4.5}}\n  final_fit: {tight}\n  test_fraction: 0.2\n"
    given = f"{campaign_text.replace(before, fits)}adapt: true\n"
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(given, tmp_path / "pair.yaml")))
    assert node.is_finished_ok, node.exit_message
    families = {tag: node.outputs.potentials[tag].family.NAME for tag in node.outputs.potentials}
    assert families == {"g00": "pair", "g01": "pair", "final": "gap"}
    final = next(child for child in node.called if child.label.endswith("final_fit"))
    assert "the equations are ill-conditioned: sparse_jitter 1e-19 → " in reports(final)
    assert final.outputs.settings["sparse_jitter"] > 1e-12
    assert "forecast: about " in reports(final)
    assert node.outputs.minima["minima"][0]["predicted_energy"] < 0
    tests = {tag: node.outputs.tests[tag]["frames"] for tag in node.outputs.tests}
    assert set(tests) == {"g00", "g01", "final"}
    assert all(n > 1 for n in tests.values())
    record = collect(node)
    assert [g.tag for g in record.generations] == ["g00", "g01", "search"]
    assert record.generations[0].training_errors["energy_rmse"] > 0
