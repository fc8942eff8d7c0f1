"""Reports of whole, partial and empty campaigns, drawn from Lennard-Jones frames."""

import csv
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from aiida_gaprss.analysis.convergence import StopSettings
from aiida_gaprss.analysis.errors import errors
from aiida_gaprss.analysis.hull import above_hull
from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.analysis.numbers import duration, number, significant, space_group
from aiida_gaprss.frames import dumps, set_labels, virial_from_stress
from aiida_gaprss.report.figures import energy_boxes, energy_volume, error_by_generation, hull, progress
from aiida_gaprss.report.fit_figures import parity
from aiida_gaprss.report.folder import FolderError
from aiida_gaprss.report.record import CampaignRecord, Counts, Failure, GenerationRecord
from aiida_gaprss.report.tables import generation_rows
from aiida_gaprss.report.text import generations_table, minima_table, plain
from aiida_gaprss.report.write import write_report

FIGURES = {"energy_volume", "energy_boxes"}
ERRORS = {f"error_{q}" for q in ("energy", "forces", "virial")}
PROGRESS = {"progress_new_error"}  # of the other measures there is one number, which is no course
PARITIES = {f"parity_{q}" for q in ("energy", "forces", "virial")}


def label(atoms: Atoms, epsilon: float, prefix: str) -> None:
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    copy.calc = LennardJones(sigma=2.6, epsilon=epsilon, rc=6.0)
    virial = virial_from_stress(copy.get_stress(), copy.get_volume())
    set_labels(atoms, copy.get_potential_energy(), copy.get_forces(), virial, prefix)


def make_frames(generation: int, n: int, predicted: bool) -> list[Atoms]:
    rng = np.random.default_rng(generation)
    frames = []
    for i in range(n):
        atoms = bulk("Cu", ("fcc", "hcp")[i % 2], a=2.9 if i % 2 else 4.1) * (2, 1, 1)
        atoms.rattle(0.3 / (generation + 1), rng=rng)
        atoms.set_cell(atoms.cell * rng.normal(1, 0.05), scale_atoms=True)
        atoms.info = {"frame_id": f"g{generation}-{i}", "generation": generation, "config_type": ("rss_a", "rss_b")[i % 3 == 0]}
        if generation:
            atoms.info["relax_status"] = "converged"
        label(atoms, 0.40, "REF")
        if predicted:
            label(atoms, 0.44, "PRED")
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def record() -> CampaignRecord:
    generations = []
    for index in range(3):
        frames = make_frames(index, 12, predicted=index > 0)
        counts = Counts(20, 18, {"converged": 18, "collapsed": 2}, 30, {"lowest": 13}, {"absurd": 17}, 13, 12, 1)
        generations.append(
            GenerationRecord(
                f"g{index:02d}",
                frames,
                counts,
                {"energy_rmse": 30.0 / (index + 1), "energy_mae": 20.0, "forces_rmse": 0.1},
                f"uuid-{index}",
                {"seed": 0.5, "label": 100.0, "fit": 4000.0},
            )
        )
    final = [a.copy() for g in generations for a in g.frames]
    isolated = Atoms("Cu", cell=[15, 15, 15], pbc=True, info={"config_type": "isolated_atom", "frame_id": "atom"})
    for atoms in [*final, isolated]:
        label(atoms, 0.40, "REF")
        label(atoms, 0.41, "PRED")
    crystals = [bulk("Cu", "fcc", a=4.1), bulk("Cu", "hcp", a=3.1), bulk("Cu", "fcc", a=4.1) * (2, 1, 1)]
    for i, atoms in enumerate(crystals):
        atoms.info = {"frame_id": f"m{i}", "relax_status": "max_steps" if i == 1 else "converged"}
        label(atoms, 0.41, "PRED")
    label(crystals[0], 0.40, "REF")
    return CampaignRecord(
        title="Copper <by> search",
        uuid="1234-abcd",
        label="Cu-s1-ab12",
        seed=1,
        formula="Cu",
        reference="Lennard-Jones",
        protocol="quick",
        versions={"aiida-gaprss": "0.1.0"},
        state="finished",
        generations=generations,
        final_frames=[*final, isolated],
        final_potential="5678",
        minima=unique_minima(crystals),
        failures=[Failure("g0-13", "SCF not converged"), Failure("g1-13", "SCF not converged")],
    )


class Page(HTMLParser):
    """Collects what a page loads and whether its tags are balanced."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.places: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for key, value in attrs if key == "src"]
        self.links += [value for key, value in attrs if key == "href"]
        self.places += [value for key, value in attrs if key == "id" and tag == "section"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read_csv(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_whole_campaign(record, tmp_path):
    page = write_report(record, tmp_path / "deep" / "report")
    folder, text = page.parent, page.read_text(encoding="utf-8")
    assert {p.stem for p in folder.glob("*.png")} == FIGURES | ERRORS | PARITIES | PROGRESS | {"structure_01", "structure_02"}

    parsed = Page(text)
    assert parsed.open == []
    assert len(parsed.sources) == 11
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert parsed.links == [f"#{place}" for place in parsed.places], "the contents have all sections in their order"
    first = ["minima", "unseen", "generations"]
    assert parsed.places[:3] == first
    assert parsed.places[-4:] == ["fits", "lost", "costs", "provenance"]
    assert "Copper &lt;by&gt; search" in text
    assert "load_node(&#39;1234-abcd&#39;).get_builder_restart()" in text
    assert 'class="missing"' not in text
    assert "Fm-3m (225)" in text
    assert 'P6₃/mmc (194) <span class="flag">not converged' in text

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["labelled_frames"] == 36
    assert [m["space_group"] for m in report["minima"]] == [225, 194]
    assert [m["count"] for m in report["minima"]] == [2, 1]
    assert report["failures"][0] == {"frame_id": "g0-13", "reason": "SCF not converged"}

    # a potential with epsilon 10 % too large: errors are a tenth of the energies
    frames = record.generations[1].frames
    expected = 100 * np.sqrt(np.mean([(a.info["REF_energy"] / len(a)) ** 2 for a in frames]))
    generations = read_csv(folder / "generations.csv")
    assert float(generations[1]["new_energy_rmse_meV/atom"]) == pytest.approx(expected, rel=1e-6)
    assert generations[0]["new_energy_rmse_meV/atom"] == ""
    assert generations[0]["rejected_reasons_absurd"] == "17"
    assert generations[0]["relax_status_collapsed"] == "2"
    assert generations[2]["seconds_fit"] == "4000.0"

    rows = read_csv(folder / "errors.csv")
    final = [r for r in rows if r["scope"].startswith("all labelled")]
    assert [r["group"] for r in final] == ["all", "isolated_atom", "rss_a", "rss_b", "initial", "generation 1", "generation 2"]
    assert float(final[0]["forces_rmse_eV/A"]) == pytest.approx(errors(record.final_frames).forces.rmse)
    minima = read_csv(folder / "minima.csv")
    assert minima[0]["volume_A3/atom"] == f"{4.1**3 / 4:.10g}"
    assert minima[1]["E_ref_eV/atom"] == ""


def test_same_record_same_bytes(record, tmp_path):
    first, second = (write_report(record, tmp_path / name).parent for name in "ab")
    names = sorted(p.name for p in first.iterdir())
    assert sorted(p.name for p in second.iterdir()) == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_json_keeps_everything(record):
    text = record.to_json()
    again = CampaignRecord.from_json(text)
    assert again.to_json() == text
    assert dumps(again.final_frames) == dumps(record.final_frames)
    assert list(again.generations[0].seconds) == ["seed", "label", "fit"]
    assert again.minima[0].as_dict() == record.minima[0].as_dict()
    assert CampaignRecord.from_json(CampaignRecord("t", "u").to_json()) == CampaignRecord("t", "u")


def test_empty_campaign(tmp_path):
    page = write_report(CampaignRecord("Nothing yet", "0"), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert Page(text).open == []
    assert not list(tmp_path.glob("*.png"))
    for sentence in ("No generation has begun", "No frame has been labelled", "has not been fitted", "No minima have been"):
        assert sentence in text


def test_first_generation_only(tmp_path):
    frames = make_frames(0, 5, predicted=False)
    record = CampaignRecord("Running", "0", generations=[GenerationRecord("g00", frames)])
    page = write_report(record, tmp_path)
    assert {p.stem for p in tmp_path.glob("*.png")} == FIGURES
    assert "Neither predictions for new frames nor training errors are known yet." in page.read_text(encoding="utf-8")
    assert generation_rows(record)[0]["labelled"] == 5
    # minima found and lost again between two reports of a running campaign leave no stale picture
    (tmp_path / "structure_01.png").write_bytes(b"old")
    (tmp_path / "parity_energy.png").write_bytes(b"old")
    write_report(record, tmp_path)
    assert {p.stem for p in tmp_path.glob("*.png")} == FIGURES


def test_single_label_without_forces(tmp_path):
    atoms = bulk("Cu")
    atoms.info.update(REF_energy=-3.0, PRED_energy=-3.0)
    unlabelled = bulk("Cu")
    record = CampaignRecord(
        "One",
        "0",
        state="failed: out of memory",
        generations=[GenerationRecord("g00", [atoms, unlabelled], training_errors={"energy_rmse": 0.0})],
        final_frames=[atoms],
    )
    page = write_report(record, tmp_path)
    assert {p.stem for p in tmp_path.glob("*.png")} == FIGURES | {"parity_energy"}
    assert 'class="chip failed">failed: out of memory<' in page.read_text(encoding="utf-8")


def test_outliers_are_counted():
    frames = [bulk("Cu", a=a) for a in np.linspace(3.5, 4, 60)]
    for atoms, energy in zip(frames, np.linspace(0, 2, 60), strict=True):
        set_labels(atoms, energy)
    set_labels(frames[30], 1e6)
    record = CampaignRecord("t", "u", generations=[GenerationRecord("g00", frames)])
    axes = energy_volume(record).axes[0]
    assert axes.get_title(loc="right") == "1 of 60 points lie outside"
    assert axes.get_ylim()[1] < 100


def test_boxes_say_the_median(record):
    figure = energy_boxes(record)
    texts = [t.get_text() for t in figure.axes[0].texts]
    lowest = min(a.info["REF_energy"] / len(a) for g in record.generations for a in g.frames)
    members = [a for a in record.generations[0].frames if a.info["config_type"] == "rss_b"]
    median = np.median([a.info["REF_energy"] / len(a) - lowest for a in members])
    assert f"{median:.3f}" in texts
    assert len(texts) == 6 + 1  # two kinds in each of three generations, and the heading


def test_many_points_are_drawn_as_density():
    frame = make_frames(0, 1, predicted=True)[0]
    figure = parity([frame] * (20_001 // (3 * len(frame)) + 1), "forces")
    assert figure.axes[0].collections
    assert parity([], "forces") is None
    assert error_by_generation(CampaignRecord("t", "u"), "energy") is None


def test_terminal_tables(record):
    minima = plain(minima_table(record.minima))
    assert re.search(r"1 +Fm-3m \(225\) +1 +2 +−\d\.\d{4} +−\d\.\d{4} +−71\.\d +17\.23", minima)
    assert re.search(r"2 +P6₃/mmc \(194\) .* – .*not converged", minima)
    generations = plain(generations_table(record))
    assert re.search(r"initial +20 +18 +17 +13 +12 +1 .* 1 h 08 min", generations)
    assert max(len(line) for line in (minima + generations).splitlines()) <= 120


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (59.96, "1 min 00 s"), (185.4, "3 min 05 s"), (3599.7, "1 h 00 min"), (8040, "2 h 14 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_numbers():
    assert [number(-1.25, 1), number(-0.001, 2), number(None), number(7)] == ["−1.2", "0.00", "–", "7"]
    assert [significant(x) for x in (1234.5, 12.345, 0.012345, 0, None)] == ["1234", "12.3", "0.0123", "0", "–"]
    assert space_group("I4_1/amd") == "I4₁/amd"


# --- two elements ---


@pytest.fixture
def alloy(alloy_frames) -> CampaignRecord:
    """Copper and gold by EMT: begun with some frames, three generations nearer and nearer to order, and a known crystal."""
    rng = np.random.default_rng(2)
    generations = [GenerationRecord("database", [a.copy() for a in alloy_frames[2:12]])]
    for index in range(3):
        frames = []
        for n in range(30):
            atoms = bulk("Cu", a=3.6, cubic=True)
            gold = rng.integers(0, 5)
            atoms.symbols = ["Au"] * gold + ["Cu"] * (4 - gold)
            atoms.set_cell(atoms.cell * (1 + 0.12 * gold / 4 + rng.normal(0, 0.05 / (index + 1))), scale_atoms=True)
            atoms.rattle(0.2 / (index + 1) ** 2, rng=rng)
            atoms.info = {"frame_id": f"g{index}-{n}", "config_type": "random"}
            label_with_emt(atoms)
            frames.append(atoms)
        generations.append(GenerationRecord(f"g{index:02d}", frames))
    crystal = Atoms("CuAu", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[2.8, 2.8, 3.7], pbc=True)
    crystal.info = {"frame_id": "L1_0", "config_type": "crystal"}
    label_with_emt(crystal)
    generations.append(GenerationRecord("crystals", [crystal]))
    return CampaignRecord("Copper and gold", "0", formula="CuAu", generations=generations)


def test_two_elements_are_drawn_above_their_hull(alloy, tmp_path):
    text = write_report(alloy, tmp_path / "a").read_text(encoding="utf-8")
    assert "Energies are above the convex hull of all labelled frames." in text
    axes = hull(alloy).axes[0]
    assert axes.get_xlabel() == "Atomic fraction of Au in Cu–Au"
    line = next(line for line in axes.lines if line.get_label() == "convex hull")
    x, y = line.get_data()
    frames = alloy.labelled_frames()
    pure = [min(a.info["REF_energy"] / len(a) for a in frames if set(a.symbols) == {s}) for s in ("Cu", "Au")]
    lowest = min(frames, key=lambda a: formation(a, pure))
    assert [y[0], y[-1], y.min()] == pytest.approx([0, 0, formation(lowest, pure)], abs=1e-9)
    assert (np.diff(np.diff(y) / np.diff(x)) > 0).all(), "convex"
    names = [t.get_text() for t in axes.texts]
    assert names[0] == "Cu"
    assert names[-1] == "Au"
    assert len(names) == len(x)
    assert sum(len(points.get_offsets()) for points in axes.collections) == 101
    summary = json.loads((tmp_path / "a" / "report.json").read_text(encoding="utf-8"))
    assert summary["energies"] == "above the convex hull"
    heights = above_hull(alloy.generations[2].frames + [a for a in frames if a not in alloy.generations[2].frames])[:30]
    assert summary["generations"][2]["median_energy_eV/atom"] == pytest.approx(np.median(heights), abs=1e-9)


def test_the_hull_is_that_of_the_checked_minima_too(alloy):
    """A minimum of the last search below all that was learnt is a phase of the figure."""
    (crystal,) = alloy.generations.pop().frames
    line = next(line for line in hull(alloy).axes[0].lines if line.get_label() == "convex hull")
    below = line.get_ydata().min() - 0.1
    frames = alloy.labelled_frames()
    pure = [min(a.info["REF_energy"] / len(a) for a in frames if set(a.symbols) == {s}) for s in ("Cu", "Au")]
    shift = below - formation(crystal, pure)
    crystal.info["REF_energy"] += len(crystal) * shift
    crystal.info.update(PRED_energy=crystal.info["REF_energy"], relax_status="converged", config_type="minimum", step=1)
    crystal.arrays["PRED_forces"] = crystal.arrays["REF_forces"]
    axes = hull(replace(alloy, minima=unique_minima([crystal]))).axes[0]
    (line,) = (line for line in axes.lines if line.get_label() == "convex hull")
    x, y = line.get_data()
    assert y.min() == pytest.approx(below, abs=1e-9)
    assert x[y.argmin()] == 0.5
    (points,) = (points for points in axes.collections if points.get_label() == "minima of the search (1)")
    assert points.get_offsets()[0].tolist() == pytest.approx([0.5, below], abs=1e-9)


def test_without_a_pure_element_the_page_says_how_energies_compare(alloy, tmp_path):
    for generation in alloy.generations:
        generation.frames = [a for a in generation.frames if len(set(a.symbols)) == 2]
    text = write_report(alloy, tmp_path).read_text(encoding="utf-8")
    assert "there is no convex hull: energies are above the lowest of the same composition" in text
    assert hull(alloy) is None
    assert not (tmp_path / "hull.png").exists()


def formation(atoms: Atoms, pure: list[float]) -> float:
    x = np.mean(atoms.symbols == "Au")
    return atoms.info["REF_energy"] / len(atoms) - (1 - x) * pure[0] - x * pure[1]


def label_with_emt(atoms: Atoms) -> None:
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=EMT())
    set_labels(atoms, copy.get_potential_energy(), copy.get_forces())


# --- what the generations changed ---


def test_progress_and_its_thresholds(record, tmp_path):
    again = CampaignRecord.from_json(record.to_json())
    again.stop = StopSettings(energy_change=0.01, distribution=0.05, discovery=None, new_error=0.2)
    for n, generation in enumerate(again.generations[1:]):
        generation.progress = {"energy_change": 0.1 / 20**n, "distribution": 0.04, "discovery": 0.0, "new_error": None}
        generation.progress |= {"low_minima": 5, "new_minima": 0, "labelled_end_points": 3}
    again.ended = "a user ended them"
    text = write_report(again, tmp_path).read_text(encoding="utf-8")
    assert '<td><span class="flag">100</span></td><td>40.0</td><td>0</td><td>5</td><td>0</td><td>3</td>' in text
    assert "<td>5.00</td><td>40.0</td><td>0</td>" in text
    assert "Why there were no more generations: a user ended them." in text
    assert not (tmp_path / "progress_new_error.png").exists(), "nothing known"
    axes = progress(again, "energy_change").axes[0]
    assert axes.get_yscale() == "log"
    measured, limit = axes.lines
    assert measured.get_ydata() == pytest.approx([100, 5])
    assert limit.get_ydata() == pytest.approx([10, 10])
    assert progress(again, "discovery").axes[0].get_yscale() == "linear", "percent"
    assert len(progress(again, "discovery").axes[0].lines) == 1, "no threshold"
    assert generation_rows(again)[2]["progress"]["energy_change_meV/atom"] == pytest.approx(5)


def test_what_was_begun_with_is_judged_by_no_potential(record):
    record = CampaignRecord.from_json(record.to_json())
    record.generations.insert(0, GenerationRecord("database", make_frames(5, 4, predicted=True)))
    row = generation_rows(record)[0]
    assert (row["name"], row["labelled"], row["new_energy_rmse_meV/atom"], row["progress"]) == ("begun with", 4, None, {})


def test_what_is_of_something_else_is_not_replaced(record, tmp_path):
    for name, content in (("index.html", "mine"), ("structure_07.png", "mine"), ("notes.txt", "mine")):
        (tmp_path / name).write_text(content)
    with pytest.raises(FolderError, match=r"has index.html and 1 more of something else: name another folder"):
        write_report(record, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "notes.txt", "structure_07.png"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}
    write_report(record, tmp_path, force=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "structure_07.png").exists()

    write_report(record, tmp_path)  # an earlier state of the same
    write_report(replace(record, uuid="other"), tmp_path)  # of the same name, that is: settings and seed
    with pytest.raises(FolderError, match="of something else"):
        write_report(replace(record, uuid="third", label="another"), tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", '{"uuid": ["1234-abcd"]}', '{"search": 1}', "[" * 100_000, None])
def test_a_folder_with_a_report_that_cannot_be_read(record, tmp_path, content):
    if content is None:
        os.mkfifo(tmp_path / "report.json")
    else:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(FolderError, match=r"has report\.json of something else"):
        write_report(record, tmp_path)
