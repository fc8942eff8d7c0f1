"""Damaged potentials: refused, or what they give is the same but for digits that nothing else tells."""

import json
import os
import re

import numpy as np
import pytest
from ase.build import bulk
from fuzzing import WORDS, Tally, damaged
from helpers import tiny_gap

from aiida_gaprss.data.folder import read_potential
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.families import family_of
from aiida_gaprss.sharing.card import ORIGIN, card, read_card
from aiida_gaprss.sharing.card_text import text, to_json

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")


def gap_in(folder):
    return read_potential(folder, "gap.xml", family_of("gap"))


@pytest.fixture
def energy():
    """Return what quippy says of four atoms, in a process of its own; None if that process died."""
    quippy = pytest.importorskip("quippy.potential")

    def energy(folder):
        init_args = gap_in(folder)[0]["init_args"]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            said = "died"
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                atoms = bulk("Cu", cubic=True, a=3.7)
                atoms.rattle(0.1, seed=1)
                atoms.calc = quippy.Potential(init_args, param_filename=str(folder / "gap.xml"))
                said = f"{atoms.get_potential_energy():.9f}"
            except RuntimeError as exception:
                said = f"refused: {exception}"[:80]
            finally:
                os.write(writer, said.encode(errors="replace"))
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            said = stream.read()
        os.waitpid(child, 0)
        return said or None

    return energy


def skeleton(content):
    """Return the text of an xml without its numbers."""
    return "".join(NUMBER.sub("#", content.decode(errors="replace")).split())


def structural(data, rng):
    """Return damage that knows the xml: an attribute or element gone, twice, elsewhere, or with another value."""
    content = data.decode()
    attributes = [m for m in re.finditer(r' ([\w]+)="([^"]*)"', content)]
    elements = [m for m in re.finditer(r"<(\w+)[^<>]*(?:/>|>[^<]*</\1>)", content)]
    one, other = (attributes[i] for i in rng.integers(len(attributes), size=2))
    element, place = (elements[i] for i in rng.integers(len(elements), size=2))
    word = WORDS[rng.integers(len(WORDS))].decode()
    ways = {
        "attribute_lost": (one.start(), one.end(), ""),
        "attribute_twice": (one.end(), one.end(), one[0]),
        "attribute_moved": (one.start(), one.end(), other[0]),
        "value": (one.start(2), one.end(2), word),
        "value_of_another": (one.start(2), one.end(2), other[2]),
        "value_longer": (one.start(2), one.end(2), one[2] * int(rng.integers(2, 60))),
        "element_lost": (element.start(), element.end(), ""),
        "element_twice": (element.end(), element.end(), element[0]),
        "element_moved": (place.start(), place.start(), element[0]),
    }
    name = list(ways)[rng.integers(len(ways))]
    start, end, new = ways[name]
    return name, (content[:start] + new + content[end:]).encode()


def no_sum(content):
    return re.sub(' sparseX_md5sum="[^"]*"', "", content)


def inline(content):
    """Put the sparse points into the xml."""
    content = re.sub(' sparseX_(?:md5sum|filename)="[^"]*"', "", content)
    for i, value in enumerate(("2.0", "2.5", "3.0"), start=1):
        content = re.sub(rf'(<sparseX i="{i}"[^/]*)/>', rf"\1>{value}</sparseX>", content)
    return content


EDITS = {"as it is": str, "without md5 sum": no_sum, "points inside": inline}


def test_fuzz_files(tmp_path, energy, times):
    tally = Tally("potentials", allowed=(PotentialError,))
    rng = np.random.default_rng(5)
    folders = {name: tiny_gap(tmp_path / name, edit) for name, edit in EDITS.items()}
    right = {name: energy(folder) for name, folder in folders.items()}
    assert len(set(right.values())) == 1, right
    original = {name: {p.name: p.read_bytes() for p in folder.iterdir()} for name, folder in folders.items()}
    for number in range(times(500)):
        kind = list(EDITS)[number % len(EDITS)]
        folder = folders[kind]
        file = "gap.xml" if number % 5 or kind == "points inside" else "gap.xml.sparseX.GAP_tiny1"
        before = original[kind][file]
        way, after = (structural if file == "gap.xml" and number % 2 else damaged)(before, rng)
        (folder / file).write_bytes(after)
        name = f"{number} {kind} {file} {way}"
        if tally.attempt(name, lambda folder=folder: gap_in(folder)) is not None and after != before:
            said = energy(folder)
            if said is None or said == "died":
                tally.fault("exceptions", name, "quippy died of it")
            elif said != right[kind] and not said.startswith("refused") and skeleton(after) != skeleton(before):
                tally.fault("changed", name, f"{right[kind]} became {said}")
            tally.counts["other digits"] += said != right[kind]
        (folder / file).write_bytes(before)
    tally.check()


#: What an attribute of an imported node may hold.
JUNK = (
    None,
    True,
    -1,
    1e300,
    float("inf"),
    "",
    "\x1b[31m",
    "../../a.py",
    "<script>",
    [],
    ["../x"],
    [[]],
    {},
    {"a": {}},
    "9" * 999,
)


def test_fuzz_attributes(tmp_path, times):
    """Of nodes that never passed the constructor, as in an imported archive."""
    tally = Tally("attributes of potentials", allowed=(PotentialError,))
    rng = np.random.default_rng(6)
    folder = tiny_gap(tmp_path)
    names = [*Potential(folder).base.attributes.all, ORIGIN]
    free = {"sigma", "embedded", ORIGIN}
    for number in range(times(150)):
        node = Potential(folder)
        name, junk = names[rng.integers(len(names))], JUNK[rng.integers(len(JUNK))]
        before = node.base.attributes.get(name, None)
        try:
            node.base.attributes.set(name, junk)
        except Exception:  # what no database takes
            continue
        label = f"{number} {name} {junk!r}"
        shown = tally.attempt(label, lambda node=node: (text(card(node)), to_json(card(node))))
        if shown is not None and before != junk and name not in free:
            tally.fault("changed", label, "believed")
        if shown is not None and any("\x1b" in page or "<script>" in page for page in shown[:1]):
            tally.fault("changed", label, "shown as it is")
    tally.check()


def test_fuzz_cards(tmp_path, times):
    """Cards beside an imported potential."""
    tally = Tally("cards of potentials", allowed=(PotentialError,))
    rng = np.random.default_rng(7)
    node = Potential(tiny_gap(tmp_path / "gap"))
    content = card(node)
    content["training_data"] = {
        "datasets": [],
        "levels_of_theory": ["PBE"],
        "config_types": {"a": 1},
        **dict.fromkeys(("frames", "atoms", "energies", "force_components", "virial_components"), 3),
    }
    card_of = to_json(content).encode()
    path = tmp_path / "card.json"
    for number in range(times(250)):
        way, after = damaged(card_of, rng)
        path.write_bytes(after)
        label = f"{number} {way}"
        told = tally.attempt(label, lambda: read_card(path, node))
        if told is not None:
            node.base.attributes.set(ORIGIN, told)
            tally.attempt(f"{label} shown", lambda: json.loads(to_json(card(node))) and text(card(node)))
    tally.check()
