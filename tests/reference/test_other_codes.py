"""A DFT code that another package adds: its ports, its part of a campaign file, its labels."""

import re
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import Bool
from aiida.plugins.entry_point import eps
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from helpers import label

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.bundle import BundleCalculation
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.lanes import BundleLaneWorkChain, LabelLaneWorkChain
from aiida_gaprss.workflows.rss import RssWorkChain

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
GROUP = '[project.entry-points."aiida_gaprss.references"]'


def block_of(language, word):
    """The block of the page in a language that has a word."""
    return next(block for block in re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S) if word in block)


@pytest.fixture
def install(other_package, monkeypatch):
    """Install a package; ports and AiiDA's entry points are looked at anew, as by a Python that begins after it."""

    def install(name, text, entries):
        other_package(name, text, entries)
        eps.cache_clear()

    processes = (BundleCalculation, LabelLaneWorkChain, BundleLaneWorkChain, LabelWorkChain, RssWorkChain)
    for process in processes:
        process.spec()
    for process in processes:
        monkeypatch.delattr(process, "_spec")
    yield install
    eps.cache_clear()


@pytest.fixture
def emt(install, code_here, python_code):
    """The package of the page, and its code."""
    install("my_emt", block_of("python", "my_emt.py"), block_of("toml", "my_emt"))
    return code_here("emt", python_code.filepath_executable, "my_emt")


@pytest.fixture
def alloy():
    """Two orders of species, compressed or not, and an isolated atom."""
    frames = [bulk("Cu", a=3.7, cubic=True), bulk("Au", a=4.1, cubic=True), Atoms("Cu", cell=[12.0] * 3, pbc=True)]
    frames[0].symbols, frames[1].symbols = ["Au", "Cu", "Au", "Cu"], ["Cu", "Au", "Au", "Pd"]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=number)
        atoms.info.update(frame_id=f"f{number}", config_type="isolated_atom" if number == 2 else "alloy")
    return frames


@pytest.fixture
def campaign_of(campaign_text, tmp_path):
    """Check the small campaign with another reference and formula."""

    def campaign_of(reference, formula="{Cu: 1}"):
        start, end = campaign_text.index("reference:"), campaign_text.index("settings:")
        text = campaign_text[:start] + reference + campaign_text[end:].replace("{Si: 1}", formula)
        return check_campaign(text, tmp_path / "a.yaml")

    return campaign_of


def test_labels_of_the_code_of_the_page(emt, alloy, run):
    """Those that its calculator gives by itself."""
    given = {"emt": {"code": emt.full_label, "asap_cutoff": True}}
    builder = LabelWorkChain.get_builder_from_protocol(Dataset(alloy), given, codes={"python": "gaprss-python@localhost"})
    outputs, node = run(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs["frames"].level_of_theory == "EMT; asap_cutoff True"
    for ours, frame in zip(outputs["frames"].get_frames(), alloy, strict=True):
        label(frame, EMT(asap_cutoff=True))
        assert ours.info["label_status"] == "ok"
        assert ours.get_chemical_symbols() == frame.get_chemical_symbols()
        assert ours.info["REF_energy"] == pytest.approx(frame.info["REF_energy"], abs=1e-8)
        assert np.allclose(ours.arrays["REF_forces"], frame.arrays["REF_forces"], atol=1e-8)
        assert np.allclose(ours.info.get("REF_virial", 0), frame.info.get("REF_virial", 0), atol=1e-8)


def calculations(node):
    return [process for process in node.called_descendants if process.process_label == "EmtCalculation"]


def test_labels_of_its_that_are_in_the_profile(emt, alloy, run):
    """Its level of theory is a line, which proves nothing; that they were gathered from calculations of these settings does."""
    for number, atoms in enumerate(alloy):
        atoms.set_cell(atoms.cell * (1.01 if number < 2 else 1.02), scale_atoms=True)  # no other test has these
    Dataset(alloy[:1], level_of_theory="EMT; asap_cutoff True").store()
    lie = alloy[0].copy()
    fr.set_labels(lie, 1.0, np.zeros((4, 3)), np.zeros(9))
    Dataset([lie], level_of_theory="EMT; asap_cutoff True").store()
    inputs = {"frames": Dataset(alloy), "emt": {"code": emt, "asap_cutoff": Bool(True)}}
    first, node = run(LabelWorkChain, **inputs)
    assert len(calculations(node)) == 3
    again, node = run(LabelWorkChain, **inputs)
    assert len(calculations(node)) == 0
    assert again["frames"].text() == first["frames"].text(), "the same labels, calculations and order"
    alloy[1].positions[0, 0] += 1e-7
    _, node = run(LabelWorkChain, **{**inputs, "frames": Dataset(alloy)})
    (calculation,) = calculations(node)
    assert calculation.label == "f1"
    _, node = run(LabelWorkChain, **{**inputs, "emt": {"code": emt, "asap_cutoff": Bool(False)}})
    assert len(calculations(node)) == 3
    _, node = run(LabelWorkChain, **inputs, reuse=False)
    assert len(calculations(node)) == 3


def test_a_campaign_with_it(emt, campaign_codes, campaign_of):
    text = block_of("yaml", "emt@localhost")
    inputs = builder_inputs(campaign_of(text))
    assert inputs["label"]["emt"]["code"].pk == emt.pk
    ports = RssWorkChain.spec().inputs
    assert ports.validate(ports.pre_process(ports.serialize(inputs))) is None
    with pytest.raises(ConfigError) as caught:
        campaign_of(text.replace("asap_cutoff: true", "asap_cutof: 3\nbundle: {}"))
    assert [str(fault) for fault in caught.value.faults] == ["line 6, reference.emt.asap_cutof: unknown key"]
    with pytest.raises(ConfigError, match=r"line 7, bundle: emt offers no bundles: it has no BUNDLE_KEEP, "):
        campaign_of(text + "bundle: {}\n")
    with pytest.raises(ConfigError) as caught:
        builder_inputs(campaign_of(text.replace("emt@", "absent@"), "{Si: 1}"))
    code, elements = caught.value.faults[-1], caught.value.faults[0]
    assert (code.where, elements.where, elements.message) == ("reference.emt.code", "reference.emt", "EMT knows no Si")
    assert "register it with verdi code create core.code.installed, plugin my_emt" in code.message


def test_its_ports_refuse(emt):
    inputs = {"code": emt, "asap_cutoff": Bool(True)}
    silicon = Dataset([Atoms("Si", cell=[12.0] * 3, pbc=True, info={"frame_id": "a", "config_type": "b"})])
    ports = LabelWorkChain.spec().inputs
    for more, message in (({}, "emt: EMT knows no Si"), ({"bundle": {"code": emt}}, "emt offers no bundles")):
        given = ports.pre_process({"frames": silicon, "emt": inputs, **more})
        assert message in ports.validate(given).message


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("1 / 0", "my_dft", r"my_dft \(my_dft\) cannot be imported: division by zero"),
        (
            "NAME = 'DFT'",
            "my_dft",
            r"my_dft \(my_dft\) is no reference: it has no OUTPUTS, PROGRAM, .*submission",
        ),
        ("", "vasp", "vasp is both .* and .*; uninstall one of their packages"),
    ],
)
def test_what_is_wrong_with_a_package_is_told_when_asked_for(install, campaign_of, campaign_text, tmp_path, text, name, message):
    install("my_dft", text, f"{GROUP}\n{name} = my_dft")
    with pytest.raises(ConfigError, match=rf"line \d+, reference.{name}: .*{message}"):
        campaign_of(f"reference: {{{name}: {{}}}}\n")
    with pytest.raises(ValueError, match=message):
        LabelWorkChain.get_builder()[name] = {"code": 1}
    assert "castep" in LabelWorkChain.spec().inputs, "the others are there"
    assert check_campaign(campaign_text, tmp_path / "a.yaml").config.reference.name == "ase"


def test_ports_that_cannot_be_defined(emt, install, monkeypatch):
    import my_emt

    monkeypatch.setattr(my_emt, "define", lambda namespace: namespace.nonsense())
    with pytest.raises(ValueError, match="nonsense"):
        LabelWorkChain.get_builder().emt = {"code": emt}
