"""What a campaign file says of refining: budget, the fit, and what is refused."""

import json
from types import SimpleNamespace

import pytest
from ase.build import bulk

from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.models.families import fit_settings
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.workflows.refine import RefinedWorkChain

STRATEGIES = "strategies: {waves: {kind: nondiagonal}, hot: {kind: md}, shear: {kind: strained, config_type: small}}"


def test_a_strategy_that_makes_nothing_takes_no_other_with_it(campaign):
    """What the minima are is known after the search; of silicon there are no antisites."""
    crystal, told = bulk("Si"), []
    crystal.info["frame_id"] = "minimum"
    refinement = campaign("strategies: {swapped: {kind: antisites}, waves: {kind: nondiagonal}}").refine
    chain = SimpleNamespace(refinement=refinement, seed=lambda _: SimpleNamespace(value=1), report=told.append, stage="refining")
    chain.ctx, chain.inputs = SimpleNamespace(potential=None, refinements=1), SimpleNamespace(label={})
    chain.labels_to_refine = None
    found = RefinedWorkChain.possible(chain, Dataset([crystal], level_of_theory="unlabelled"))
    assert list(found.strategies) == ["waves"]
    (words,) = told
    assert "left out: strategies.swapped: antisites: crystal minimum: antisites need a compound" in words
    refinement = campaign("strategies: {swapped: {kind: antisites}}").refine
    chain.refinement = refinement
    assert RefinedWorkChain.possible(chain, Dataset([crystal], level_of_theory="unlabelled")) is None


@pytest.fixture
def campaign(campaign_text, tmp_path):
    """Check the tiny campaign with more settings."""

    def campaign(more, *replaced):
        text = campaign_text
        for old, new in replaced:
            text = text.replace(old, new)
        return check_campaign(f"{text.rstrip()}\n  refine: {{{more}}}\n", tmp_path / "a.yaml").settings

    return campaign


def test_labels_are_budgeted(campaign, campaign_text, tmp_path):
    before = check_campaign(campaign_text, tmp_path / "b.yaml").settings.label_budget()
    assert campaign(f"max_labels: 30, {STRATEGIES}").label_budget() == before + 30


def test_small_displacements_are_fitted_component_by_component(campaign):
    settings = campaign(STRATEGIES)
    fit = settings.refine.fit_to({"random", "waves", "small", "hot"}, settings.fit)
    assert isinstance(fit, GapSettings)
    first, *rest = fit.regularisation
    assert (first.kind, first.config_types) == ("component", ["small", "waves"])
    assert rest == list(settings.fit.regularisation)
    assert fit.descriptors == settings.fit.descriptors


def test_its_fit_is_like_any_other(campaign):
    """A protocol by name, lengths in bonds (twice 1.11 Å), elements, the box of the isolated atom."""
    named = campaign(f"{STRATEGIES}, fit: {{protocol: zuo2020_Si, sparse_jitter: 1e-9}}").refine.fit
    assert (named.sparse_jitter, named.descriptors[-1].kind) == (1e-9, "soap")

    def two_body(**more):
        term = {"kind": "distance_2b", "cutoff": "2.0 b", "n_sparse": 10, "delta": 1.0, **more}
        return json.dumps({"descriptors": [term], "sigma": {"energy": 0.01, "forces": 0.1, "virial": 0.2}})

    assert campaign(f"{STRATEGIES}, fit: {two_body()}").refine.fit.reach == 4.4
    for more, message in [
        ("{protocol: nobodys}", r"settings\.refine\.fit\.protocol: .*'nobodys'"),
        (two_body(cutoff="9.0 b"), r"must exceed the cutoff \(20\.0 Å\)"),
        (two_body(cutoff=5.0, Z1=6, Z2=6), r"refine\.fit\.descriptors"),
    ]:
        with pytest.raises(ConfigError, match=message):
            campaign(f"{STRATEGIES}, fit: {more}")


def test_fits_that_stay_as_they_are(campaign):
    settings = campaign(f"component: false, {STRATEGIES}")
    assert settings.refine.fit_to({"waves"}, settings.fit) == settings.fit
    settings = campaign(STRATEGIES)
    assert settings.refine.fit_to({"random", "hot"}, settings.fit) == settings.fit, "a rule for frames that there are none of"
    pair = fit_settings(family="pair")
    assert settings.refine.fit_to({"waves"}, pair) == pair


@pytest.mark.parametrize(
    ("more", "replaced", "message"),
    [
        (STRATEGIES, ("  search:", "  search: null\n  unused:"), "unused"),
        ("strategies: {waves: {kind: wave}}", (), r"settings\.refine\.strategies\.waves\.kind: .*expected one of airss"),
        (
            f"choose: variance, {STRATEGIES}",
            ("  final_fit: null", "  final_fit: {family: pair}"),
            r"settings\.refine\.choose: a potential of the family pair has no variances",
        ),
        ("strategies: {}", (), r"settings\.refine\.strategies: "),
        ("strategies: {dimer: {kind: nondiagonal}}", (), "nondiagonal makes no dimer"),
        ("strategies: {a b: {kind: nondiagonal}}", (), "'a b' is no name"),
        (f"lowest: 0, {STRATEGIES}", (), r"settings\.refine\.lowest: .*\(got 0\)"),
        ("strategies: {beta: {kind: occupancy, file: no.cif}}", (), r"settings\.refine\.strategies\.beta\.file: .*no\.cif"),
    ],
)
def test_what_is_refused(campaign, more, replaced, message):
    with pytest.raises(ConfigError, match=message):
        campaign(more, *([replaced] if replaced else []))


def test_without_a_search_there_is_nothing_to_refine(campaign_text, tmp_path):
    text = campaign_text[: campaign_text.index("  search:")] + f"  search: null\n  refine: {{{STRATEGIES}}}\n"
    with pytest.raises(ConfigError, match=r"line \d+, settings\.refine: needs settings\.search"):
        check_campaign(text, tmp_path / "a.yaml")
