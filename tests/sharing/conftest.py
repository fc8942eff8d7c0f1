"""An archive that tests share, and the command."""

import pytest
from click.testing import CliRunner

from aiida_gaprss.cli import cli

TERMS = ("--licence", "CC-BY-4.0", "--author", "Ada Example https://orcid.org/0000-0000-0000-0001", "--cite", "Example 2026")


@pytest.fixture
def call():
    """Call the command within the profile of the tests."""

    def call(*words, ok=True):
        result = CliRunner().invoke(cli, [str(word) for word in words], env={"COLUMNS": "200"})
        message = result.output + ("" if result.exception is None else f"{result.exception}")
        assert (result.exit_code == 0) == ok, message
        return message

    return call


@pytest.fixture
def archive(campaign, call, remembered, tmp_path_factory):
    """The archive of the campaign of the tests, and what `share` said."""
    if remembered.get("archive of") != campaign.uuid:
        path = tmp_path_factory.mktemp("archives") / "silicon.aiida"
        remembered["archive"] = path, call("share", campaign.pk, "-o", path, *TERMS)
        remembered["archive of"] = campaign.uuid
    return remembered["archive"]
