"""Jobs that are cut off, cancelled or killed: what the next ones do, and that the end is the same."""

from types import SimpleNamespace

import numpy as np
import pytest
from aiida.orm import ArrayData, Dict, Str
from ase import Atoms

from aiida_gaprss.calculations.join_functions import join_frames, join_vectors
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.report.collect import collect
from aiida_gaprss.report.contents import contents
from aiida_gaprss.runners.status import NOT_REACHED
from aiida_gaprss.workflows.jobs.restart import left_by, tries_next, why_ended
from aiida_gaprss.workflows.rss import RssWorkChain


@pytest.fixture
def mortal_gap_fit(gap_fit_binary, aiida_code_installed, aiida_localhost, tmp_path):
    """A gap_fit that is killed the first time."""
    script = tmp_path / "gap_fit"
    script.write_text(
        f'#!/bin/bash\n[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; kill -KILL $$; }}\nexec {gap_fit_binary} "$@"\n'
    )
    script.chmod(0o755)
    return aiida_code_installed(
        label=f"mortal-{tmp_path.name}",
        computer=aiida_localhost,
        default_calc_job_plugin="gaprss.fit",
        filepath_executable=str(script),
    )


@pytest.mark.full
def test_a_campaign_whose_jobs_are_killed_is_the_same(
    run, campaign, campaign_codes, campaign_text, dying_python, mortal_gap_fit, tmp_path
):
    """Relaxations are killed two times, a fit once; every frame is relaxed once, and the end is the same, byte for byte."""
    text = campaign_text + "options: {relax: {processes: 1}}\n"
    inputs = builder_inputs(check_campaign(text, tmp_path / "tiny.yaml"))
    inputs["relax"]["code"] = dying_python(2, times=2)
    inputs["fit"]["code"] = mortal_gap_fit
    _, node = run(RssWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    made = contents(campaign)
    assert all(made.values()), "labels, relaxed cells, minima"
    assert contents(node) == made
    jobs = [job for job in node.called if job.process_label == "RelaxCalculation"]
    done = [job.outputs.summary["done"] for job in jobs]
    assert len(done) == 3
    assert sum(done) == 6, "none is relaxed twice"
    fits = [job.exit_status for job in node.called_descendants if job.process_label == "FitCalculation"]
    assert fits == [314, 0, 0]
    counts, before = (next(g.counts for g in collect(n).generations if g.tag == "g01") for n in (node, campaign))
    assert (counts.relaxed, counts.relax_status) == (before.relaxed, before.relax_status)


def cells(*names, **info):
    frames = []
    for number, name in enumerate(names):
        atoms = Atoms("Si", cell=[3.0 + number / 10] * 3, pbc=True)
        atoms.info = {"frame_id": name, **info}
        frames.append(atoms)
    return frames


def snapshots(parent, status, *steps):
    frames = cells(*(f"{parent}-s{step}" for step in steps), parent=parent)
    for atoms in frames:
        atoms.info["relax_status"] = "on_the_way"
    frames[-1].info["relax_status"] = status
    return frames


def summary(frames, status, **more):
    counts = {"frames": frames, "done": sum(status.values()), "status": status}
    return Dict({**counts, "wall_s": 1.0, "work_s": 1.0, "cpu_s": 0.5, "processes": 2, **more})


@pytest.mark.usefixtures("aiida_profile")
def test_relaxations_that_were_cut_count_once():
    first = [*snapshots("b", "converged", 0, 7), *snapshots("c", "time_limit", 0, 3)]
    second = [*snapshots("a", "max_steps", 0, 9), *snapshots("c", "converged", 0, 5)]
    joined = join_frames(
        Dataset(cells("a", "b", "c", "d")),
        Str("parent"),
        part_000_frames=Dataset(first),
        part_000_summary=summary(4, {"converged": 1, "time_limit": 1}, left=[0, 3], cut=[2]),
        part_001_frames=Dataset(second),
        part_001_summary=summary(3, {"converged": 1, "max_steps": 1}, left=[2]),
    )
    assert [a.info["frame_id"] for a in joined["frames"].get_frames()] == ["a-s0", "a-s9", "b-s0", "b-s7", "c-s0", "c-s5"]
    told = joined["summary"].get_dict()
    assert told["status"] == {"converged": 2, "max_steps": 1}
    assert (told["frames"], told["done"], told["complete"], told["jobs"], told["wall_s"]) == (4, 3, False, 2, 2.0)


@pytest.mark.usefixtures("aiida_profile")
def test_vectors_of_several_jobs():
    arrays = []
    for rows in ([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0], [np.nan, np.nan]], [[5.0, 6.0], [np.nan, np.nan]]):
        arrays.append(ArrayData())
        arrays[-1].set_array("vectors", np.array(rows))
    joined = join_vectors(
        Dataset(cells("a", "b", "c", "d")),
        part_000_vectors=arrays[0],
        part_000_summary=summary(4, {"ok": 2}, left=[1, 3], missing={"b": NOT_REACHED, "d": NOT_REACHED}),
        part_001_vectors=arrays[1],
        part_001_summary=summary(2, {"ok": 1, "failed": 1}, missing={"d": "failed: why"}),
    )
    assert np.array_equal(joined["vectors"].get_array("vectors"), [[1, 2], [5, 6], [3, 4], [np.nan, np.nan]], equal_nan=True)
    assert joined["summary"]["missing"] == {"d": "failed: why"}


class Links(SimpleNamespace):
    """Inputs or outputs of a job."""

    def __contains__(self, key):
        return hasattr(self, key)


def job(total, said="", label="RelaxCalculation", exit_status=400, **given):
    """A job that has ended, as far as it matters."""
    return SimpleNamespace(
        inputs=Links(frames=SimpleNamespace(n_frames=total)),
        outputs=Links(**({"summary": summary(total, {"converged": 1}, **given)} if given else {})),
        process_label=label,
        exit_status=exit_status,
        is_killed=False,
        get_scheduler_stderr=lambda: said,
        get_detailed_job_info=lambda: None,
    )


@pytest.mark.usefixtures("aiida_profile")
def test_which_jobs_are_followed_by_another():
    cut, nothing, stuck = job(5, left=[3], cut=[1, 4]), job(5), job(3, left=[], cut=[0, 1, 2])
    assert left_by(cut) == [1, 3, 4]
    assert left_by(nothing) == [0, 1, 2, 3, 4]
    assert left_by(stuck) == [], "what fills a job with one frame is not begun anew for ever"
    assert tries_next([cut])
    assert tries_next([nothing, nothing])
    assert not tries_next([nothing, nothing, nothing])
    assert tries_next([nothing, nothing, cut, nothing, nothing]), "something was finished in between"
    assert not tries_next([stuck])
    assert not tries_next([job(5, exit_status=310)]), "every frame failed"
    assert tries_next([job(5, "slurmstepd: error: Detected 1 oom_kill event", exit_status=310)])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***", "kill"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***", "time"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO NODE FAILURE ***", "node"),
        ("slurmstepd: error: Job 7 exceeded memory limit (300 > 200), being killed", "memory"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.", "memory"),
        ("=>> PBS: job killed: walltime 61 exceeded limit 60", "time"),
        ("_aiidasubmit.sh: line 20: 4711 Killed  python batch.py", "kill"),
        ("Note: the following floating-point exceptions are signalling", None),
    ],
)
def test_what_schedulers_say(said, why):
    assert why_ended(job(1, said)) == why
