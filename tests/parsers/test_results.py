"""What jobs wrote is compared with the frames that were sent: what is damaged is told, left out, and nobody else's."""

import json

import pytest
from jobs import EMT, KINDS, MD, content, extended, job

from aiida_gaprss.calculations.md import states_in, steps_made
from aiida_gaprss.runners import task_of
from aiida_gaprss.runners.identity import sealed
from aiida_gaprss.settings.jobs import MdSettings


@pytest.fixture
def done(aiida_profile, remembered):
    """Return a job of a kind that ended well."""

    def done(kind):
        key = f"job of {kind}"
        if key not in remembered:
            remembered[key] = job(kind)
        return remembered[key]

    return done


def text(lines, seal=True):
    """Return lines as a job writes them, or as they are after something has changed them."""
    rest = [{key: value for key, value in line.items() if key != "sum"} for line in lines]
    return (
        "".join(f"{sealed(line)}\n" for line in rest).encode() if seal else "".join(f"{json.dumps(x)}\n" for x in lines).encode()
    )


def frames_of(line):
    from aiida_gaprss import frames as fr

    return fr.loads(line["frames"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_job_is_read(done, kind, tmp_path):
    code, outputs = done(kind).parse(tmp_path)
    assert code is None
    assert len(content(outputs)) == {"relax": 15, "md": 9, "neb": 18, "buildcell": 4}.get(kind, 7)
    assert outputs["summary"]["complete"]


@pytest.mark.parametrize("kind", ["label", "evaluate", "relax", "md", "describe", "bundle"])
@pytest.mark.parametrize(
    "keys", [("frames",), ("index",), ("index", "frame"), ("index", "frame", "geometry"), ("frames", "status")]
)
def test_results_that_changed_places(done, kind, keys, tmp_path):
    """Of two frames with the same atoms; neither gets what is the other's."""
    lines = done(kind).lines()
    for key in keys:
        lines[1][key], lines[3][key] = lines[3][key], lines[1][key]
    code, outputs = done(kind).parse(tmp_path, text(lines, seal=False))
    assert code.status == 320
    assert "line 2: " in code.message
    assert "line 4: " in code.message
    assert outputs["summary"]["left"] == [1, 3]


def test_results_that_another_reader_of_the_frames_has_made(done, tmp_path):
    """The machine of the job read another structure than we sent."""
    lines = done("label").lines()
    lines[2]["geometry"] = "0" * 32
    code, outputs = done("label").parse(tmp_path, text(lines))
    sent = done("label").lines()[2]["geometry"]
    assert f"line 3: index is 2, whose geometry is '{sent}', but the line is of geometry '{'0' * 32}'" in code.message
    assert outputs["summary"]["left"] == [2]


def changed_frame(change, kind):
    """Return the change of a line that changes its first frame."""

    def edit(line):
        frames = frames_of(line)
        for atoms in frames[:1]:
            change(atoms)
        line["frames"] = extended(*frames)

    return edit, kind


def set_info(key, value):
    return lambda atoms: atoms.info.update({key: value})


FRAMES = [
    (
        *changed_frame(lambda a: a.positions.__setitem__((0, 1), 0.5), "label"),
        r"atom 1 is \(.*, 0.5, .*\) Å, expected .* as it was",
    ),
    (*changed_frame(lambda a: a.set_cell(a.cell * 1.001), "evaluate"), r"cell vector \d is \(.*\) Å, expected"),
    (*changed_frame(lambda a: a.symbols.__setitem__(0, "Au"), "relax"), "atom 1 is Au, expected Cu"),
    (*changed_frame(lambda a: a.__delitem__(0), "label"), "the frame has 3 atoms, expected 4"),
    (*changed_frame(set_info("REF_energy", "low"), "label"), "the frame: REF_energy is 'low', expected numbers"),
    (*changed_frame(lambda a: a.info.pop("REF_energy"), "label"), "REF_energy is null, expected a finite number"),
    (*changed_frame(lambda a: a.arrays.pop("REF_forces"), "label"), "the frame has no REF_forces"),
    (*changed_frame(lambda a: a.arrays.pop("PRED_local_energy"), "evaluate"), "the frame has no PRED_local_energy"),
    (*changed_frame(lambda a: a.info.pop("PRED_virial"), "evaluate"), "the frame has no PRED_virial, expected one"),
    (*changed_frame(set_info("step", 3), "relax"), "step of frame 2 is 2, expected a number above 3"),
    (
        *changed_frame(set_info("relax_status", "converged"), "relax"),
        "relax_status of frame 1 is 'converged', expected 'on_the_way'",
    ),
    (*changed_frame(lambda a: a.symbols.__setitem__(0, "Au"), "neb"), "atom 1 is Au, expected Cu"),
    (*changed_frame(lambda a: a.info.pop("PRED_virial"), "neb"), "the frame has no PRED_virial, expected one"),
    (*changed_frame(set_info("step", 1), "neb"), "step of frame 1 is 1, expected 0"),
    (*changed_frame(set_info("step", False), "neb"), "step of frame 1 is False, expected 0"),
    (
        *changed_frame(set_info("relax_status", "converged"), "neb"),
        "relax_status of frame 1 is 'converged', expected 'max_steps'",
    ),
    (*changed_frame(set_info("vector", [0.5, 0.5]), "describe"), r"vector has 2 values \(float64\), expected \d+ numbers"),
    (*changed_frame(set_info("packed", "sha256:0"), "bundle"), "raw/00001.zip has sha256:.*, expected sha256:0"),
    (lambda line: line.update(frames=2 * line["frames"]), "label", "status is 'ok' and frames are 2; expected one frame"),
    (lambda line: line.update(frames=""), "bundle", "status is 'ok' and frames are 0, expected 1"),
    (lambda line: line.update(frames=line["frames"][:-1]), "label", "frames: the last line has no end"),
    (lambda line: line.update(frames="9" + line["frames"]), "label", "frames: line 1 is '94', expected a number of atoms"),
    (lambda line: line.update(status="ok\x1b[31m"), "label", r"status is 'ok\\\\x1b\[31m' and frames are 1"),
    (lambda line: line.update(status="sleeping"), "relax", "status is 'sleeping' with 3 frames, expected converged, max_steps"),
    (lambda line: line.update(status="max_steps", frames=""), "relax", "status is 'max_steps', but there is no frame"),
    (lambda line: line.update(status="merged"), "neb", "status is 'merged' with 3 frames, expected converged, max_steps"),
    (lambda line: line.update(status="max_steps", frames=""), "neb", "status is 'max_steps', but there is no frame"),
    (lambda line: line.update(seconds=-1), "label", "seconds is -1, expected a number of seconds"),
    (lambda line: line.update(index=7), "label", "index is 7, expected a number from 0 to 6"),
    (*changed_frame(set_info("step", 3), "md"), "step of frame 2 is 2, expected a number of 4 or more"),
    (*changed_frame(set_info("step", "first"), "md"), "step of frame 1 is 'first', expected a number of 0 or more"),
    (*changed_frame(set_info("md_status", "finished"), "md"), "md_status of frame 1 is 'finished', expected 'on_the_way'"),
    (*changed_frame(set_info("temperature_K", -5.0), "md"), "temperature_K of frame 1 is -5, expected nothing below zero"),
    (*changed_frame(lambda a: a.info.pop("time_ps"), "md"), "time_ps is null, expected a finite number"),
    (*changed_frame(lambda a: a.info.pop("PRED_virial"), "md"), "the frame has no PRED_virial, expected one"),
    (
        lambda line: line.update(frames=line["frames"].replace("md_end_step=4", "md_end_step=3")),
        "md",
        "md_end_step of the last frame is 3, expected a number of 4 or more",
    ),
    (
        lambda line: line.update(frames=line["frames"].replace("md_end_step=4", "md_end_step=9")),
        "md",
        "md_end_step is 9, expected 4, the step of the last frame of what is 'finished'",
    ),
    (lambda line: line.update(status="sleeping"), "md", "status is 'sleeping' with 3 frames, expected finished, time_limit"),
    (lambda line: line.update(status="finished", frames=""), "md", "status is 'finished', but there is no frame"),
    (*changed_frame(set_info("seconds", -0.1), "speed"), "seconds is -0.1, expected seconds"),
    (*changed_frame(lambda a: a.info.pop("processor_seconds"), "speed"), "processor_seconds is null, expected a finite number"),
    (*changed_frame(lambda a: a.positions.__setitem__((0, 1), 0.5), "speed"), r"atom 1 is .* as it was sent"),
]


@pytest.mark.parametrize(("edit", "kind", "reason"), FRAMES)
def test_what_cannot_be_of_the_frame(done, edit, kind, reason, tmp_path):
    """Also where the line is whole, as a runner with a fault would write it."""
    lines = done(kind).lines()
    edit(lines[1])
    code, outputs = done(kind).parse(tmp_path, text(lines))
    assert code.status == 320
    with pytest.raises(ValueError, match=f"results.jsonl, line 2: {reason}"):
        raise ValueError(code.message)
    assert outputs["summary"]["left"] == [1]
    assert outputs["summary"]["done"] == 6


def test_any_digit_that_changed(done, tmp_path):
    good = done("label")
    at = good.results.index(b"REF_energy=") + len("REF_energy=") + 3
    digit = b"7" if good.results[at : at + 1] != b"7" else b"8"
    code, outputs = good.parse(tmp_path, good.results[:at] + digit + good.results[at + 1 :])
    assert "line 1: its checksum is not that of what it says: something in it was changed" in code.message
    assert outputs["summary"]["left"] == [0]


def test_a_job_that_was_cut_is_no_damage(done, tmp_path):
    good = done("label")
    files = {name: content for name, content in good.files.items() if name != "summary.json"}
    whole = good.results.splitlines(keepends=True)
    for tail in (whole[3][:-1], whole[3][:40], b"\0" * 100):
        code, outputs = good.parse(tmp_path, b"".join(whole[:3]) + tail, files)
        assert code.status == 400
        assert "after 3 of 7 frames" in code.message
        assert outputs["summary"]["left"] == [3, 4, 5, 6]


def test_lines_that_were_lost_in_a_job_that_ended_well(done, tmp_path):
    good = done("label")
    code, outputs = good.parse(tmp_path, b"".join(good.results.splitlines(keepends=True)[1:]))
    assert code.status == 320
    assert "summary.json: done is 7, but results.jsonl has 6 lines" in code.message
    assert outputs["summary"]["left"] == [0]


def test_a_line_that_is_there_twice(done, tmp_path):
    good = done("label")
    lines = good.results.splitlines(keepends=True)
    code, outputs = good.parse(tmp_path, good.results + lines[2])
    assert "line 8: index is 2, as in line 3; expected every frame once" in code.message
    assert len(content(outputs)) == 7


@pytest.mark.parametrize(
    ("summary", "reason"),
    [
        (b"", "is '', expected JSON"),
        (b"[]", "is '[]', expected an object"),
        (b'{"frames": 7}', "has frames, expected frames, done, processes"),
        (
            b'{"frames": 7, "done": 7, "processes": 1, "wall_s": "x", "python": "3", "complete": true}',
            "wall_s is 'x', expected float",
        ),
        (
            b'{"frames": 7, "done": true, "processes": 1, "wall_s": 1, "python": "3", "complete": true}',
            "done is True, expected int",
        ),
        (b'{"frames": 7, "done": 7, "processes": 1, "wall_s": 1e999, "python": "3", "complete": true}', "wall_s is inf"),
    ],
)
def test_a_damaged_summary(done, summary, reason, tmp_path):
    code, outputs = done("label").parse(tmp_path, files={"summary.json": summary})
    assert code.status == 320
    assert f"summary.json: {reason}" in code.message
    assert len(content(outputs)) == 7
    assert not outputs["summary"]["complete"]


def test_a_bundle_whose_files_did_not_come_back(done, tmp_path):
    good = done("bundle")
    files = {name: good.files["raw/00002.zip" if name == "raw/00001.zip" else name] for name in good.files if "00003" not in name}
    code, outputs = good.parse(tmp_path, files=files)
    assert code.status == 320
    assert "line 2: raw/00001.zip has sha256:" in code.message
    assert "line 4: raw/00003.zip did not come back" in code.message
    assert outputs["summary"]["left"] == [1, 3]


# --- states of trajectories ---


@pytest.fixture
def states(done, tmp_path, monkeypatch):
    """Write the state of the second trajectory of a job that was killed; return its two files."""
    monkeypatch.chdir(tmp_path)
    task, atoms = task_of("md"), done("md").sources[1].copy()
    task.setup({**MdSettings(**MD).model_dump(), **EMT})
    atoms.info["index"] = 1
    assert task.run(atoms, deadline=0.0)[0] == "time_limit"
    return tmp_path / "states" / "00001.json", tmp_path / "states" / "00001.xyz"


def test_states_are_kept_of_what_is_not_finished(done, states, tmp_path):
    code, outputs = done("md").parse(tmp_path, b"", {})
    assert code.status == 300
    assert sorted(outputs["states"].base.repository.list_object_names()) == ["00001.json", "00001.xyz"]
    assert list(states_in(outputs["states"])) == [("cu-0", 1, 1)]
    assert steps_made(outputs["states"]) == 1
    _, outputs = done("md").parse(tmp_path)
    assert "states" not in outputs, "all are finished"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state, _: state.write_text(state.read_text().replace("1", "2", 1)),
        lambda state, _: state.write_text("[]"),
        lambda state, _: state.write_bytes(b"\xff\x00"),
        lambda state, _: state.unlink(),
        lambda state, _: state.rename(state.with_name("00002.json")),
        lambda state, _: state.write_text(sealed({**json.loads(state.read_text()), "positions": [[0.0] * 3]})),
        lambda state, _: state.write_text(sealed({**json.loads(state.read_text()), "step": True})),
        lambda state, _: state.write_text(sealed({**json.loads(state.read_text()), "bytes": "all"})),
        lambda _, snapshots: snapshots.write_text(snapshots.read_text().replace("Cu", "Ag")),
        lambda _, snapshots: snapshots.write_text("1\n\n"),
        lambda _, snapshots: snapshots.write_bytes(b"\xff" * 5000),
    ],
)
def test_states_that_are_none(done, states, tmp_path, spoil):
    """As if nothing were there: the trajectory begins anew."""
    spoil(*states)
    code, outputs = done("md").parse(tmp_path, b"", {})
    assert code.status == 300
    assert "states" not in outputs
