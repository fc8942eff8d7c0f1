"""An archive that tests share, and the command."""

import pytest

TERMS = ("--licence", "CC-BY-4.0", "--author", "Ada Example https://orcid.org/0000-0000-0000-0001", "--cite", "Example 2026")


@pytest.fixture
def archive(campaign, call, remembered, tmp_path_factory):
    """The archive of the campaign of the tests, and what `share` said."""
    if remembered.get("archive of") != campaign.uuid:
        path = tmp_path_factory.mktemp("archives") / "silicon.aiida"
        remembered["archive"] = path, call("share", campaign.pk, "-o", path, *TERMS)
        remembered["archive of"] = campaign.uuid
    return remembered["archive"]
