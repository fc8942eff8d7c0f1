"""Campaigns on a cluster: SLURM behind SSH, PostgreSQL, RabbitMQ, a daemon. ``examples/cluster/cluster.sh`` starts it here."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def test_the_compute_side_is_installed_once(cluster, profile):
    said = cluster("aiida-gaprss", "setup", "--computer", cluster.folder / "computer.yaml", "--no-check")
    assert "installing" not in said
    assert "gap_fit: " in said


def test_a_campaign_is_the_same_as_here(cluster, campaigns, campaign_text, results_here):
    """Same frames, labels, relaxed cells and minima, byte for byte, as over SQLite and local jobs; the scratch is empty."""
    pk = campaigns.submit(campaign_text)
    assert campaigns.results(pk) == results_here
    said = cluster("aiida-gaprss", "storage", pk)
    assert "50,000 labels like these" in said
    assert "in the scratch" not in said
