"""What campaigns leave behind: scratch folders, and bytes in the profile."""

from pathlib import Path

import pytest
from aiida.engine import run_get_node
from aiida.orm import CalcJobNode, Dict, Log, WorkChainNode
from aiida.transports.plugins.local import LocalTransport
from click.testing import CliRunner

from aiida_gaprss.cli import cli
from aiida_gaprss.report.storage import storage_use
from aiida_gaprss.workflows.label import LabelWorkChain


def folders(node: WorkChainNode, failed: bool = True) -> dict[str, Path]:
    """Return the folders of the jobs of a process; of those that failed, which others followed, if they are wanted.

    A busy machine may take a job for one that has ended; the next one does what it left, and its folder stays.
    """
    jobs = [child for child in node.called_descendants if isinstance(child, CalcJobNode)]
    return {f"{job.process_label} {job.pk}": Path(job.get_remote_workdir()) for job in jobs if failed or job.is_finished_ok}


def kept(node: WorkChainNode) -> int:
    """Return how many folders the policy of a campaign keeps: those of jobs that failed."""
    return len(folders(node)) - len(folders(node, failed=False))


@pytest.fixture
def label(python_code, sw_settings, dataset, all_calculated):
    """Label the frames of a dataset, under a policy."""

    def label(policy, settings=sw_settings):
        inputs = {"code": python_code, "settings": Dict(settings)}
        return run_get_node(LabelWorkChain, frames=dataset, ase=inputs, scratch=policy)[1]

    return label


def test_folders_of_a_campaign_are_removed(campaign):
    """The campaign file says nothing of it: finished."""
    found = folders(campaign, failed=False)
    assert {name.split()[0] for name in found} >= {"FitCalculation", "RelaxCalculation", "LabelCalculation"}
    assert [name for name, folder in found.items() if folder.exists()] == []


def test_kept(label):
    found = folders(label("keep"))
    assert found
    assert all(folder.is_dir() for folder in found.values())


@pytest.mark.parametrize(("policy", "left"), [("finished", True), ("all", False)])
def test_folders_of_failed_jobs(label, policy, left):
    node = label(policy, {"calculator": "ase.calculators.no_such.Thing", "level_of_theory": "none"})
    assert node.exit_status == LabelWorkChain.exit_codes.ERROR_NOTHING_LABELLED.status, "their labels of before do not count"
    assert [folder.exists() for folder in folders(node).values()] == [left]


def test_a_connection_that_fails(label, monkeypatch):
    """The labels count, not the folders."""

    def rmtree(self, path):
        raise ConnectionError("gone")

    monkeypatch.setattr(LocalTransport, "rmtree", rmtree)
    node = label("finished")
    assert node.is_finished_ok
    assert all(folder.is_dir() for folder in folders(node).values())
    (report,) = [log.message for log in Log.collection.get_logs_for(node) if "scratch" in log.message]
    assert "1 folders stay in the scratch of localhost: ConnectionError: gone" in report


def test_an_unknown_policy(label):
    with pytest.raises(ValueError, match="expected one of keep, finished, all, got 'burn'"):
        label("burn")


def test_storage_of_a_campaign(campaign):
    """Nodes and files are those that a walk over the provenance graph finds, each once."""
    use = storage_use(campaign)
    assert [stage.stage for stage in use.stages] == ["g00", "g01", "search"]
    assert [stage.labels for stage in use.stages][:2] == [campaign.outputs.labels[tag].n_frames for tag in ("g00", "g01")]
    processes = campaign.called_descendants
    nodes = {node.uuid: node for node in processes}
    for process in processes:
        nodes |= {link.node.uuid: link.node for link in process.base.links.get_outgoing().all()}
        nodes |= {link.node.uuid: link.node for link in process.base.links.get_incoming().all()}
    del nodes[campaign.uuid]
    nodes = {uuid: node for uuid, node in nodes.items() if "code" not in node.node_type}
    files = {}
    for node in nodes.values():
        for root, _, names in node.base.repository.walk():
            for name in names:
                content = node.base.repository.get_object_content(root / name, "rb")
                files[content] = len(content)
    assert sum(stage.bytes for stage in use.stages) == sum(files.values())
    reports = "\n".join(log.message for log in Log.collection.get_logs_for(campaign))
    assert use.scratch_folders == kept(campaign), reports
    labels = sum(stage.labels for stage in use.stages)
    same, _ = use.forecast(labels)
    assert same == sum(stage.bytes for stage in use.stages)
    repository, database = use.forecast(100 * labels)
    assert 90 * same < repository + 100 * use.stages[-1].bytes <= 200 * same
    assert 0 < database < 100 * use.database


def test_storage_command(campaign):
    result = CliRunner().invoke(cli, ["storage", str(campaign.pk)])
    assert result.exit_code == 0, result.output
    assert "50,000 labels like these: repository" in result.output
    assert ("in the scratch of" in result.output) == (kept(campaign) > 0)


def test_predictions_of_the_last_fit_only(campaign):
    fits = [child for child in campaign.called_descendants if child.process_label == "FitCalculation"]
    kept = ["predictions" in fit.outputs for fit in sorted(fits, key=lambda fit: fit.pk)]
    assert kept == [False, True]
    assert all("errors" in fit.outputs.results.get_dict() for fit in fits)
