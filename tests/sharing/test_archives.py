"""An archive of a finished campaign: written, read again, opened in an empty profile, gone on from there."""

import hashlib
import json
import re

import pytest
from helpers import shell_in

from aiida_gaprss.sharing.archive import card_of


@pytest.fixture
def go_on(campaign_text):
    """A campaign file that goes on from another campaign, of a name."""

    def go_on(uuid):
        text = campaign_text.replace("initial: {random: 10}", "initial: {}").replace("name: tiny", "name: further")
        return text[: text.index("  search:")] + f"  search: null\nstart: {{database: [{uuid}]}}\n"

    return go_on


def words_of(text):
    """The words of a history, without pks and the lines of the tree."""
    return re.sub(r"<\d+>", "", text).replace("│", " ").replace("├", " ").replace("└", " ").replace("─", " ").split()


def without_pks(path):
    """The content of a file; of a page without the PKs of its nodes and the commands with them."""
    content = path.read_bytes()
    return re.sub(rb"&lt;\d+&gt;|<code class=.copy.>.*?</code>", b"", content) if path.name == "index.html" else content


@pytest.mark.slow
def test_a_campaign_goes_on_in_an_empty_profile(archive, campaign, call, go_on, tmp_path):
    path, said = archive
    assert re.search(r"silicon.aiida: \d+ kB, \d+ nodes, \d+ files, in \d+\.\d s", said)
    call("report", campaign.pk, "-o", tmp_path / "page there")
    shell = shell_in(tmp_path)
    told = shell("aiida-gaprss", "open", path)
    assert "- licence: CC-BY-4.0" in told
    assert f"- campaign of Si tiny: {campaign.uuid}, finished, seed 11" in told
    number = re.search(r"RssWorkChain <(\d+)> tiny", told)[1]
    assert re.search(r"imported into profile gaprss: \d+ nodes, in \d+\.\d s", told)

    shell("aiida-gaprss", "report", number, "-o", "page here")
    pages = [tmp_path / where for where in ("page there", "page here")]
    assert [file.name for file in sorted(pages[0].iterdir())] == [file.name for file in sorted(pages[1].iterdir())]
    for file in pages[0].iterdir():
        there, here = (without_pks(page / file.name) for page in pages)
        assert there == here, file.name

    frame = campaign.outputs.labels["g01"].get_frames()[0].info["frame_id"]
    history = shell("aiida-gaprss", "trace", frame)
    theirs = [line for line in call("trace", frame, "--campaign", campaign.pk).splitlines() if "ran in" not in line]
    assert "random cell of seed" in history
    assert words_of(history) == words_of("\n".join(theirs))

    shell("aiida-gaprss", "setup")
    (tmp_path / "further.yaml").write_text(go_on(campaign.uuid))
    ran = shell("aiida-gaprss", "run", "further.yaml")
    status = shell("aiida-gaprss", "status")
    assert re.search(r"campaign +further +finished +23 ", status), ran + status


def test_a_library_is_searched(archive, call, tmp_path):
    path, _ = archive
    (tmp_path / "of others").mkdir()
    (tmp_path / "of others" / "silicon.aiida").write_bytes(path.read_bytes())
    (tmp_path / "broken.aiida").write_bytes(b"PK")
    (tmp_path / "notes.txt").write_text("nothing")
    everything = call("library", tmp_path)
    assert re.search(r"of others/silicon.aiida +Si +gap +17 +\(288\) +\(1.78\) +– +Stillinger-Weber", everything)
    assert "not read: broken.aiida: is no archive of AiiDA, or is cut" in everything
    content = json.loads(call("library", tmp_path, "--json"))
    (entry,) = content["potentials"]
    assert entry["errors"]["energy"] == pytest.approx(288, abs=1)
    assert (entry["licence"], entry["tested"]) == ("CC-BY-4.0", False)
    assert list(content["refused"]) == ["broken.aiida"]
    for fits in (["--elements", "Si"], ["--max-energy", "300"], ["--max-forces", "2"], ["weber", "cc-by"]):
        assert "silicon.aiida" in call("library", tmp_path, *fits), fits
    for not_so in (["--elements", "Si O"], ["--max-energy", "200"], ["--property", "phonons"], ["castep"]):
        assert "no such potential" in call("library", tmp_path, *not_so), not_so


def test_an_archive_comes_home(archive, call):
    """Into the profile where it was made: everything is there already, and nothing contradicts it."""
    path, _ = archive
    nodes = card_of(path)["contents"]["nodes"]
    assert f"0 nodes ({nodes} were there already)" in call("open", path)


def test_what_is_there_is_not_replaced(archive, campaign, call):
    path, _ = archive
    before = path.read_bytes()
    assert "is there already: name another file, or write over it" in call("share", campaign.pk, "-o", path, ok=False)
    assert path.read_bytes() == before
    assert [file.name for file in sorted(path.parent.iterdir())] == [
        "silicon-ro-crate-metadata.json",
        "silicon.aiida",
        "silicon.json",
        "silicon.md",
    ]


def test_the_crate_is_read_by_others(archive, tmp_path):
    """By the package of RO-Crate: the archive as a zip file, and what lies beside it."""
    from rocrate.rocrate import ROCrate

    path, _ = archive
    (tmp_path / "crate.zip").write_bytes(path.read_bytes())
    crate = ROCrate(tmp_path / "crate.zip")
    assert crate.license == "https://spdx.org/licenses/CC-BY-4.0"
    assert crate.root_dataset["author"][0]["name"] == "Ada Example"
    assert {"card.md", "card.json", "db.sqlite3", "metadata.json", "repo/"} == {entity.id for entity in crate.data_entities}
    beside = ROCrate(json.loads(path.with_name("silicon-ro-crate-metadata.json").read_text("utf-8")))
    told = beside.dereference("silicon.aiida")
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert int(told["contentSize"]) == path.stat().st_size


@pytest.mark.slow
def test_a_campaign_with_all_parts(looped_campaign, call, tmp_path):
    """A database it began with, a validation, a refinement: the card has them, and a library finds its property."""
    path = tmp_path / "loop.aiida"
    call("share", looped_campaign.pk, "-o", path)
    card = call("open", "--check", path)
    assert "- licence: none was chosen" in card
    assert re.search(r"\| database__\w+ \| 15 \| 15 \|", card)
    assert re.search(r"\| \w+ \| [\w ]+ \| \w+ \| elastic \| \w+ \| [−\d.]+ .* \| (good|look|bad|–) \|", card), card
    content = card_of(path)
    assert list(content["lights"][looped_campaign.outputs.potential.uuid]) == ["elastic"]
    assert {d["name"].split("__")[0] for d in content["data"]} == {"database", "labels"}
    (entry,) = json.loads(call("library", tmp_path, "--json"))["potentials"]
    assert entry["uuid"] == looped_campaign.outputs.potential.uuid
    fits = entry["lights"]["elastic"] in ("good", "look")
    assert ("loop.aiida" in call("library", tmp_path, "--property", "elastic")) == fits
