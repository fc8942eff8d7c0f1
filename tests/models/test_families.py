"""Families of models: found by name, settings with their places, one of another package from the documentation."""

import re
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import Dict
from ase import Atoms
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from helpers import label
from pydantic import BaseModel, ValidationError

from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.models.families import FitSettings, expand, family_of, fit_settings, names
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.models.pair.settings import PairSettings
from aiida_gaprss.settings.model import in_words
from aiida_gaprss.settings.plugins import KindError
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.workflows.fit import FitWorkChain
from aiida_gaprss.workflows.generation import _in_words

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture
def of_page(other_package):
    """Install the family of the page, as it stands there."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    family, program = (next(b for b in blocks if b.startswith(f'"""{name}"""')) for name in ("my_family.py", "my_morse.py"))
    entries = re.search(r'^\[project.entry-points."aiida_gaprss.families"\]\n.*?(?=```)', PAGE, flags=re.S | re.M)[0]
    other_package("my_morse", program, "")
    other_package("my_family", family, entries)
    yield
    family_of.cache_clear()


class Part(BaseModel):
    fit: FitSettings


def test_settings_are_those_of_the_family():
    assert names() == ["gap", "pair"]
    pair = Part(fit={"family": "pair", "cutoff": 5.0})
    assert isinstance(pair.fit, PairSettings)
    assert pair.model_dump()["fit"]["cutoff"] == 5.0, "all keys are dumped, not only those of every family"
    gap = fit_settings(**expand({"protocol": "fast"}, ["Si"]))
    assert isinstance(gap, GapSettings)
    assert Part(fit=gap).fit is gap


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ({"family": "spline"}, "fit.family: family is 'spline', expected one of gap, pair"),
        ({"family": "pair", "cutof": 5.0}, "fit.cutof: unknown key"),
        ({"family": "pair", "e0": {"Xx": 1.0}}, "fit.e0: .*'Xx' is no element"),
        ({"family": "pair", "powers": [1, 2000]}, "fit.powers.1: .*less than or equal to 50"),
        ({"family": "pair", "cutoff": 200.0}, "fit.cutoff: .*less than or equal to 30"),
        ({"descriptors": [{"kind": "soap"}]}, "fit.descriptors.0.soap.cutoff: missing"),
        ("pair", "fit: expected keys and values"),
    ],
)
def test_faults_have_their_place(fit, message):
    with pytest.raises(ValidationError) as error:
        Part(fit=fit)
    assert re.search(message, in_words(error.value))


def test_protocols_are_of_the_family():
    with pytest.raises(ValueError, match="the family pair has no protocols"):
        expand({"family": "pair", "protocol": "fast"}, ["Si"])
    assert expand({"family": "pair", "cutoff": "2 b"}, ["Si"])["cutoff"] == 4.4


@pytest.mark.parametrize(
    ("fits", "place", "message"),
    [
        ("fit: {family: spline}", "settings.fit.family", "expected one of gap, pair"),
        ("fit: {family: pair, protocol: fast}", "settings.fit.protocol", "the family pair has no protocols"),
        ("fit: {family: pair, descriptors: []}", "settings.fit.descriptors", "unknown key"),
        ("fit: {family: pair, cutoff: 15.5}", "settings.isolated_atom_box", "must exceed the cutoff"),
        ("final_fit: {family: pair, switch: 9.0}", "settings.final_fit", "switch: 9 Å, expected less than the cutoff"),
    ],
)
def test_faults_in_a_campaign_file(fits, place, message, tmp_path):
    text = f"settings:\n  formula: {{Si: 1}}\n  {fits}\nreference: {{ase: {{calculator: emt}}}}\n"
    with pytest.raises(ConfigError) as error:
        check_campaign(text, tmp_path / "a.yaml")
    faults = {fault.where: fault.message for fault in error.value.faults}
    assert message in faults[place], faults


def test_a_campaign_of_another_family_takes_nothing_over(tmp_path):
    text = "settings:\n  formula: {Si: 1}\n  fit: {family: pair}\nreference: {ase: {calculator: emt}}\n"
    settings = check_campaign(text, tmp_path / "a.yaml").settings
    assert [fit.family for fit in settings.fits] == ["pair", "pair"], "the tight GAP of the protocol goes, too"
    text = text.replace("reference", "  final_fit: {protocol: fast}\nreference")
    settings = check_campaign(text, tmp_path / "a.yaml").settings
    assert [fit.family for fit in settings.fits] == ["pair", "gap"]


def test_variances_are_not_asked_of_those_that_have_none(tmp_path):
    text = """\
settings:
  formula: {Si: 1}
  seeds: {random: {n_atoms: [2]}}
  initial: {random: 3}
  generations: [{cells: {random: 3}, select: {rules: [{by: variance, n: 1}]}}]
  fit: {family: pair}
  search: null
reference: {ase: {calculator: emt}}
"""
    with pytest.raises(ConfigError, match=r"settings.generations.0.select: a potential of the family pair has no variances"):
        check_campaign(text, tmp_path / "a.yaml")
    text = text.replace("{by: variance, n: 1}", "{by: random, n: 1}").replace(
        "{cells: {random: 3}, sel", "{cells: {random: 3}, relax: {stop_where_unsure: 0.02}, sel"
    )
    text = text.replace("search: null", "search: {cells: {random: 3}, relax: {stop_where_unsure: 0.02}}")
    with pytest.raises(ConfigError) as error:
        check_campaign(text, tmp_path / "a.yaml")
    for where in ("generations.0", "search"):
        assert f"settings.{where}.relax.stop_where_unsure: a potential of the family pair has no variances to stop" in str(
            error.value
        )


def test_what_is_missing_elsewhere_hides_nothing(tmp_path):
    text = "settings:\n  formula: {Si: 1}\n  generations: [{cells: {random: 4}, count: 1}]\n  fit: {family: pair}\n"
    with pytest.raises(ConfigError) as error:
        check_campaign(f"{text}reference: {{ase: {{calculator: emt}}}}\n", tmp_path / "a.yaml")
    faults = {fault.where: fault.message for fault in error.value.faults}
    assert faults["settings.generations.0.select"] == "missing"
    assert faults["settings.generations.0.count"] == "unknown key"


def test_errors_of_forces_may_be_missing():
    assert _in_words({"energy": {"rmse": 1.234}, "forces": {"rmse": None}}) == "1.2 meV/atom"
    assert _in_words({"energy": {"rmse": 1.234}, "forces": {"rmse": 0.1}}) == "1.2 meV/atom, 0.100 eV/Å"


def test_a_family_of_another_package(of_page, run, python_code, tmp_path):
    """It finds the parameters that the labels were made with."""
    true = {"epsilon": 0.35, "r0": 2.9, "rho0": 5.0}
    calculator = MorsePotential(**true, rcut1=5.6, rcut2=7.0)
    rng = np.random.default_rng(4)
    frames = [Atoms("Cu", cell=[16.0] * 3, pbc=True)]
    frames[0].info.update(frame_id="atom", config_type="isolated_atom", REF_energy=-1.0)
    for number in range(8):
        atoms = bulk("Cu", cubic=True, a=3.7 + 0.06 * number)
        atoms.rattle(0.1, rng=rng)
        atoms.info.update(frame_id=f"cell-{number}", config_type="crystal")
        label(atoms, calculator)
        atoms.info["REF_energy"] -= len(atoms)
        frames.append(atoms)
    dataset = Dataset(frames, level_of_theory="Morse")
    settings = {"family": "morse", "cutoff": 7.0}
    builder = FitWorkChain.get_builder_from_protocol(
        {"copper": dataset}, None, settings, code=python_code, python=python_code, options={"threads": 1}
    )
    outputs, node = run(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs["results"]["errors"]["energy"]["rmse"] < 1e-3
    told = outputs["potential"].calculator().parameters
    assert {name: told[name] for name in true} == pytest.approx(true, rel=1e-4)
    found, job = run(EvaluateCalculation, code=python_code, potential=outputs["potential"], frames=dataset)
    assert job.is_finished_ok, job.exit_message
    for atoms in found["frames"].get_frames()[1:]:
        assert np.allclose(atoms.arrays["PRED_forces"], atoms.arrays["REF_forces"], atol=1e-3)
    assert outputs["settings"].get_dict()["cutoff"] == 7.0
    text = "settings:\n  formula: {Cu: 1}\n  fit: {family: morse, cutoff: 7.0}\nreference: {ase: {calculator: emt}}\n"
    assert check_campaign(text, tmp_path / "a.yaml").settings.fit.reach == 7.0
    with pytest.raises(ConfigError, match=r"settings.fit.family: family is 'mors', expected one of gap, morse, pair"):
        check_campaign(text.replace("morse", "mors"), tmp_path / "a.yaml")
    with pytest.raises(ValueError, match=r"cutoff: .*greater than 0"):
        run(FitWorkChain, **{**builder._inputs(prune=True), "settings": Dict({**settings, "cutoff": -1})})


def test_a_package_that_is_wrong(other_package):
    other_package("my_family", "1 / 0", '[project.entry-points."aiida_gaprss.families"]\nbroken = "my_family:Broken"')
    with pytest.raises(KindError, match=r"broken \(my_family:Broken\) cannot be imported: division by zero"):
        family_of("broken")
    assert names() == ["gap", "pair"], "the others do not mind"
