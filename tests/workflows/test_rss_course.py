"""The course of a campaign: what it may begin with, what is added at its end, and what ends it."""

import json
import sys

import pytest
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.orm import Dict
from ase.build import bulk
from ase.io import write
from ase.neighborlist import neighbor_list
from click.testing import CliRunner

from aiida_gaprss import frames as fr
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.forecast import label_budget
from aiida_gaprss.campaign.inputs import builder_inputs, campaign_name
from aiida_gaprss.cli import cli
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.workflows.rss import RssWorkChain, validate_start


@pytest.fixture
def text(campaign_text):
    """The tiny campaign without its search."""
    return campaign_text[: campaign_text.index("  search:")] + "  search: null\n"


def test_a_campaign_goes_on_from_another_one(run, campaign, campaign_codes, text, tmp_path):
    text = text.replace("initial: {random: 10}", "initial: {}").replace("name: tiny\n", "")
    text = text.replace("  fit:", "  max_generations: 5\n  max_labels: 7\n  fit:") + f"start: {{database: [{campaign.pk}]}}\n"
    checked = check_campaign(text, tmp_path / "a.yaml")
    assert campaign_name(checked) != campaign_name(check_campaign(text.replace(f"[{campaign.pk}]", "[1]"), tmp_path / "a.yaml"))
    _, node = run(RssWorkChain, **builder_inputs(checked))
    assert node.is_finished_ok, node.exit_message
    before = {a.info["frame_id"] for labels in campaign.outputs.labels.values() for a in labels.get_frames()}
    new = [a.info["frame_id"] for labels in node.outputs.labels.values() for a in labels.get_frames()]
    assert "g00" not in node.outputs.labels, "nothing is labelled before the first fit"
    assert not before & set(new)
    assert node.outputs.predictions.n_frames == len(before) + len(new)
    assert len(new) == 7, "the budget"
    assert node.base.extras.get(RssWorkChain.ENDED) == "all 7 labels are spent"
    cells = {tuple(a.cell.array.ravel()) for a in campaign.outputs.relaxed.g01.get_frames() if a.info["step"] == 3}
    again = {tuple(a.cell.array.ravel()) for a in node.outputs.relaxed.g01.get_frames() if a.info["step"] == 3}
    assert not cells & again, "the same seed does not make the same cells again"


@pytest.mark.full
def test_known_crystals_come_last(run, campaign, campaign_codes, text, tmp_path):
    crystal = bulk("Si")
    crystal.info["name"] = "diamond of Si"
    write(tmp_path / "known.extxyz", crystal)
    text = text.replace("  fit:", "  crystals: {number: 3, displacement: 0.1}\n  fit:") + "crystals: [known.extxyz]\n"
    text = text.replace("name: tiny", "name: crystals")
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert node.is_finished_ok, node.exit_message
    frames = node.outputs.labels.crystals.get_frames()
    assert [a.info["frame_id"] for a in frames] == [f"crystals-crystal-diamond-of-Si-{n:04d}" for n in range(4)]
    labelled = sum(labels.n_frames for labels in node.outputs.labels.values())
    assert labelled == label_budget(node.inputs), "what the check of a campaign file says"
    assert all(fr.is_labelled(a) and a.info["config_type"] == "crystal" for a in frames)
    assert frames[0].info["REF_energy"] / 2 == pytest.approx(-4.335, abs=2e-3), "the crystal itself, at ASE's lattice constant"
    for name in ("g00", "g01"):
        seen = node.outputs.potentials[name].creator.inputs.datasets
        assert "crystals" not in seen, "known crystals do not steer the search"
        assert all(a.info["config_type"] != "crystal" for a in node.outputs.labels[name].get_frames())
    assert node.outputs.potential.uuid == node.outputs.potentials.final.uuid
    assert node.outputs.results["config_types"]["crystal"] == 4


@pytest.mark.full
def test_frames_labelled_anew_and_crystals_at_the_start(run, campaign, campaign_codes, text, tmp_path):
    cells = campaign.outputs.labels.g00.get_frames()[1:4]
    for atoms in cells:
        atoms.info["REF_energy"] += 100.0  # another level of theory
    old = Dataset(cells, level_of_theory="another").store()
    write(tmp_path / "diamond.cif", bulk("Si"))
    text = text.replace("  fit:", "  crystals: {number: 2, when: start}\n  fit:").replace("name: tiny", "name: anew")
    text += f"crystals: [diamond.cif]\nstart: {{relabel: [{old.pk}]}}\n"
    text = text.replace(text[text.index("  generations:") : text.index("  crystals:")], "  generations: []\n")
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert node.is_finished_ok, node.exit_message
    frames = {a.info["frame_id"]: a for a in node.outputs.labels.g00.get_frames()}
    for number, atoms in enumerate(cells):
        again = frames[f"anew-again-{number:04d}"]
        assert again.info["REF_energy"] == pytest.approx(atoms.info["REF_energy"] - 100.0, abs=1e-6)
        assert again.info["parent"] == atoms.info["frame_id"]
    assert sum(a.info["config_type"] == "crystal" for a in frames.values()) == 3
    assert "crystals" not in node.outputs.labels


def test_the_search_ends_when_its_thresholds_are_kept(looped_campaign, evaluated):
    node = looped_campaign
    assert node.inputs.settings["max_generations"] == 3
    assert sorted(node.outputs.progress) == ["g01", "g02"]
    assert node.base.extras.get(RssWorkChain.ENDED) == "all thresholds kept for 1 generations"
    row = node.outputs.progress.g02.get_dict()
    labels = {tag: node.outputs.labels[tag].get_frames() for tag in ("g01", "g02")}
    ends = {tag: [a for a in frames if a.info["relax_status"] != "on_the_way"] for tag, frames in labels.items()}
    assert row["labelled_end_points"] == len(ends["g02"])
    errors = [(a.info["PRED_energy"] - a.info["REF_energy"]) / len(a) for a in ends["g02"]]
    assert row["new_error"] ** 2 == pytest.approx(sum(e**2 for e in errors) / len(errors), abs=1e-9)
    # What the evaluation job said is what the potential after the generation says, not that before it.
    before = {a.info["frame_id"]: a.info["PRED_energy"] for a in node.outputs.relaxed.g02.get_frames()}
    job = next(p for p in node.called if p.process_label == "EvaluateCalculation" and p.label.endswith("g02 evaluate"))
    frames = [a for a in job.outputs.frames.get_frames() if a.info["frame_id"] in before]
    assert frames
    after = evaluated(frames, node.outputs.potentials.g02.calculator())
    for atoms, (energy, _, _) in zip(frames, after, strict=True):
        assert atoms.info["PRED_energy"] == pytest.approx(energy, abs=1e-5)
    assert any(abs(a.info["PRED_energy"] - before[a.info["frame_id"]]) > 1e-4 for a in frames), "another potential"


def test_rules_that_need_soap_vectors_and_variances(run, campaign_codes, text, tmp_path):
    rules = "[{by: boltzmann, n: 4, then: {by: cur, n: 2}}, {by: variance, of: all, n: 2}]"
    select = f"{{vectors: {{cutoff: 4.0, n_max: 4, l_max: 2}}, rules: {rules}}}"
    start = text.index("      select:")
    text = f"{text[:start]}      select: {select}\n{text[text.index('  fit:') :]}"
    text = text.replace("  fit:", "  max_generations: 2\n  fit:").replace("name: tiny", "name: examined")
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert node.is_finished_ok, node.exit_message
    jobs = [process.base.links.get_incoming().first().link_label for process in node.called]
    described = [label for label in jobs if "describe" in label]
    assert described == [
        *("g01_describe_candidates", "g01_describe_g00"),
        *("g02_describe_candidates", "g02_describe_g01"),
    ], "every frame of the database once"
    report = node.outputs.selections.g02.get_dict()
    assert set(report["chosen_as"]) == {"boltzmann then cur", "variance of all"}
    uncertain = {
        a.info["frame_id"]: a.arrays["PRED_local_variance"].max()
        for process in node.called
        if process.label.endswith("g02 variances")
        for a in process.outputs.frames.get_frames()
    }
    taken = [name for name, why in report["reasons"].items() if why == "chosen: variance of all"]
    left = [name for name, why in report["reasons"].items() if why.startswith("not needed")]
    assert min(uncertain[name] for name in taken) >= max(uncertain[name] for name in left)


@pytest.mark.full
def test_vectors_of_other_settings_are_not_compared(run, campaign_codes, text, tmp_path):
    generation = (
        "    - {{cells: {{random: 4}}, relax: {{max_steps: 3, snapshot_steps: []}}, "
        "select: {{vectors: {{cutoff: 4.0, n_max: 4, l_max: {l_max}}}, rules: [{{by: cur, n: 1}}]}}}}\n"
    )
    generations = "".join(generation.format(l_max=l_max) for l_max in (2, 1))
    text = text.replace(text[text.index("    - cells:") : text.index("  fit:")], generations).replace("name: tiny", "name: other")
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert node.is_finished_ok, node.exit_message
    jobs = [process.base.links.get_incoming().first().link_label for process in node.called]
    assert [label for label in jobs if label.startswith("g02_describe")] == [
        *("g02_describe_candidates", "g02_describe_g00", "g02_describe_g01")
    ]


def test_a_final_search_that_cannot_be_is_refused_before_the_campaign(run, campaign_codes, campaign_text, tmp_path):
    text = campaign_text.replace("cells: {random: 4}", "cells: {random: 40000}")
    assert text != campaign_text
    inputs = builder_inputs(check_campaign(text, tmp_path / "a.yaml"))
    with pytest.raises(
        ValueError, match=r"the final search: settings.batch: 500 makes 80 jobs of 40000 cells; expected at least 667"
    ):
        run(RssWorkChain, **inputs)


def content(node):
    """What a campaign has made, as text by its name, without the uuids."""
    sets = {f"labels {tag}": node.outputs.labels[tag] for tag in node.outputs.labels}
    sets |= {f"relaxed {tag}": node.outputs.relaxed[tag] for tag in node.outputs.relaxed}
    sets["minima"] = node.outputs.minima_frames
    frames = {name: dataset.get_frames() for name, dataset in sets.items()}
    for atoms in (atoms for frames_ in frames.values() for atoms in frames_):
        for key in ("origin", "potential", "label_uuid"):
            atoms.info.pop(key, None)
    return {name: fr.dumps(frames_) for name, frames_ in frames.items()}


@pytest.mark.full
def test_one_process_and_two_make_the_same_campaign(run, campaign, campaign_codes, campaign_text, tmp_path):
    """The fixture runs with all cores."""
    text = campaign_text + "options: {relax: {processes: 1}, label: {processes: 1}}\n"
    _, again = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert content(again) == content(campaign)
    assert again.outputs.minima.get_dict() == campaign.outputs.minima.get_dict()


@pytest.mark.full
def test_another_seed_makes_another_campaign(run, campaign, campaign_codes, campaign_text, tmp_path):
    text = campaign_text.replace("seed: 11", "seed: 12")
    _, other = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    ours, theirs = content(other), content(campaign)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours)


def test_a_potential_with_holes_costs_cells_and_no_labels(run, campaign_codes, text, tmp_path):
    """Four dilute cells teach nothing of short distances; under pressure cells fall into the holes."""
    for old, new in {
        "name: tiny": "name: holes",
        "initial: {random: 10}": "initial: {random: 4}",
        "volume_per_atom: [17.0, 24.0]": "volume_per_atom: [30.0, 60.0]",
        "min_separation: 2.1": "min_separation: 2.6",
        "n_operations: [1, 2]": "n_operations: [1]",
        "width_GPa: 10.0": "width_GPa: 1000.0",
        "cells: {random: 6}": "cells: {random: 12}",
        "max_steps: 12": "max_steps: 60",
    }.items():
        assert old in text
        text = text.replace(old, new)
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert node.is_finished_ok, node.exit_message
    (job,) = [process for process in node.called if process.process_label == "RelaxCalculation"]
    status = job.outputs.summary["status"]
    assert sum(status.values()) == 12, "every cell is accounted for"
    assert status.get("collapsed", 0) + status.get("exploded", 0) >= 3
    report = node.outputs.selections.g01.get_dict()
    assert report["rejected"]["absurd"] >= status.get("collapsed", 0)
    assert report["chosen"] + sum(report["rejected"].values()) == report["candidates"] == len(report["reasons"])
    limits = check_campaign(text, tmp_path / "a.yaml").settings.sanity_limits()
    for atoms in node.outputs.labels.g01.get_frames():
        assert fr.is_labelled(atoms)
        assert limits.volume_per_atom[0] <= atoms.get_volume() / len(atoms) <= limits.volume_per_atom[1]
        assert not len(neighbor_list("i", atoms, limits.min_distance))


#: In the place of buildcell: two atoms in a cube, where the #SEED of the seed says.
BUILDCELL = """#!{python}
import random, sys
random.seed(sys.stdin.read())
a = random.uniform(3.3, 3.6)
rows = [" ".join(str(a * (i == j)) for j in range(3)) for i in range(3)]
print("%BLOCK LATTICE_CART", *rows, "%ENDBLOCK LATTICE_CART", sep="\\n")
other = " ".join(str(random.uniform(0.42, 0.58)) for _ in range(3))
print("%BLOCK POSITIONS_FRAC", "Si 0.0 0.0 0.0", "Si " + other, "%ENDBLOCK POSITIONS_FRAC", sep="\\n")
"""


@pytest.fixture
def buildcell_code(aiida_code_installed, aiida_localhost, tmp_path):
    script = tmp_path / "buildcell"
    script.write_text(BUILDCELL.format(python=sys.executable))
    script.chmod(0o755)
    return aiida_code_installed(label=f"buildcell-{tmp_path.name}", computer=aiida_localhost, filepath_executable=str(script))


def test_cells_of_an_airss_seed_by_buildcell(run, campaign_codes, text, tmp_path, buildcell_code):
    seed = "#TARGVOL=20\n#SPECIES=Si%NUM=2\n#MINSEP=2.0\n"
    text = text.replace("name: tiny", "name: built").replace(
        text[text.index("    random:") : text.index("  initial:")], f"    airss: {{kind: airss, text: {json.dumps(seed)}}}\n"
    )
    text = text.replace("{random: 10}", "{airss: 8}").replace("{random: 6}", "{airss: 4}")
    text += f"codes: {{buildcell: {buildcell_code.full_label}}}\n"
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert node.is_finished_ok, node.exit_message
    jobs = [process for process in node.called if process.process_label == "BuildcellCalculation"]
    assert [job.inputs.n.value for job in jobs] == [8, 4]
    cells = [atoms for atoms in node.outputs.labels.g00.get_frames() if not fr.is_isolated_atom(atoms)]
    assert [atoms.info["frame_id"] for atoms in cells] == [f"built-g0-{n:04d}" for n in range(8)]
    assert {atoms.info["origin"] for atoms in cells} == {jobs[0].uuid}
    made = jobs[0].outputs.frames.get_frames()
    assert all((a.positions == b.positions).all() for a, b in zip(cells, made, strict=True))


def test_a_user_ends_the_generations(campaign_codes, text, tmp_path):
    text = text.replace("name: tiny", "name: ended").replace("  fit:", "  max_generations: 3\n  fit:")
    runner = get_manager().create_runner(communicator=None)
    process = instantiate_process(runner, RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    said = CliRunner().invoke(cli, ["stop", str(process.node.pk)])
    assert said.exit_code == 0, said.output
    runner.run(process)
    node = process.node
    assert node.is_finished_ok, node.exit_message
    assert sorted(node.outputs.potentials) == ["final", "g00"]
    assert node.outputs.predictions.n_frames == node.outputs.labels.g00.n_frames
    assert node.base.extras.get(RssWorkChain.ENDED) == "a user ended them"
    too_late = CliRunner().invoke(cli, ["stop", str(node.pk)])
    assert too_late.exit_code != 0
    assert "has ended already" in too_late.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  initial: {random: 10}", "  initial: {}", r"line \d+, settings.initial: empty, and start names no dataset"),
        ("seed: 11", "seed: 11\ncrystals: [diamond.cif]", "crystals.0: no such file: .*diamond.cif"),
        ("  fit:", "  crystals: {number: 3}\n  fit:", "settings.crystals: needs files of crystals"),
        ("  fit:", "  max_generations: 0\n  fit:", "settings.max_generations: Input should be greater than 0"),
        ("  fit:", "  crystals: {volume: [1.1, 0.9]}\n  fit:", "settings.crystals.volume: volume is .1.1, 0.9."),
        (
            "seed: 11",
            "seed: 11\nstart: {database: [nothing]}",
            "start.database.0: no dataset, .* 'nothing'",
        ),
    ],
)
def test_bad_beginnings_are_refused_with_their_place(campaign_codes, text, tmp_path, old, new, message):
    assert old in text
    with pytest.raises(ConfigError, match=message):
        builder_inputs(check_campaign(text.replace(old, new, 1), tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"database": {"a": ("Si", False)}}, "database.a has no labels; frames to be labelled go into relabel"),
        ({"database": {"a": ("Ge", True)}}, "database.a contains Ge, which the formula does not"),
        ({"relabel": {"a": ("Ge", False)}}, "relabel.a contains Ge"),
        ({"crystals": ("Si", False)}, "crystals are given, but no settings.crystals"),
    ],
)
def test_bad_inputs_are_refused_by_the_ports(run, campaign_codes, text, tmp_path, more, message):
    def dataset(symbol, labelled):
        atoms = bulk(symbol)
        atoms.info.update(frame_id="one", config_type="crystal")
        if labelled:
            fr.set_labels(atoms, -4.0)
        return Dataset([atoms], level_of_theory="test")

    inputs = builder_inputs(check_campaign(text, tmp_path / "a.yaml"))
    for key, value in more.items():
        inputs[key] = {name: dataset(*what) for name, what in value.items()} if isinstance(value, dict) else dataset(*value)
    with pytest.raises(ValueError, match=message):
        run(RssWorkChain, **inputs)


def test_absurd_labels_of_a_database_are_refused(run, campaign_codes, text, tmp_path, copies):
    copies[4].info["REF_energy"] -= 221 * len(copies[4])
    name = copies[4].info["frame_id"]
    inputs = builder_inputs(check_campaign(text, tmp_path / "a.yaml"))
    inputs["database"] = {"a": Dataset(copies, level_of_theory="test")}
    with pytest.raises(
        ValueError, match=rf"database: 1 frames have labels .*: {name} \(energy 2.* below .*keep_absurd: true in settings.fit"
    ):
        run(RssWorkChain, **inputs)
    settings = inputs["settings"].get_dict()
    settings["fit"]["keep_absurd"] = True
    assert validate_start({**inputs, "settings": Dict(settings)}, set(inputs)) is None


def test_more_generations_than_recipes_is_no_fault_but_fewer_is(campaign_codes, text, tmp_path):
    settings = check_campaign(text, tmp_path / "a.yaml").settings
    twice = settings.model_dump() | {"generations": settings.model_dump()["generations"] * 2, "max_generations": 1}
    with pytest.raises(ValueError, match="max_generations: 1 is less than the 2 generations there are recipes for"):
        type(settings)(**twice)
    assert Dict(settings.model_dump() | {"max_generations": 4})
    longer = type(settings)(**settings.model_dump() | {"max_generations": 4})
    assert longer.recipe(1) == longer.recipe(4)
    assert longer.label_budget() == 11 + 4 * 6
