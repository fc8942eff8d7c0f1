"""Extended XYZ that was damaged: refused, told in a note, or read with the labels and positions it had."""

import re

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from fuzzing import Tally, damaged
from helpers import label

from aiida_gaprss import frames as fr
from aiida_gaprss.io.extxyz import Keys, export_frames, import_frames

KEYS = Keys(energy="dft_energy", forces="dft_forces", virial="dft_virial")
REF = Keys(energy="REF_energy", forces="REF_forces", virial="REF_virial")


def originals(rng):
    frames = []
    for number, kind in enumerate(("bulk", "bulk", "strained crystal", "slab", "bulk")):
        atoms = bulk("Cu", a=3.6, cubic=True)
        atoms.symbols[number % 4] = "Au"
        atoms.positions += rng.normal(0, 0.1, (4, 3))
        label(atoms, EMT())
        atoms.info.update(frame_id=f"f-{number}", config_type=kind)
        frames.append(fr.canonical(atoms))
    return frames


def text_of(frames, keys, path):
    export_frames(frames, path, keys)
    return path.read_text()


#: Ways to write a number that are none, or another one.
NO_NUMBERS = ("nan", "inf", "1e400", "1_0", "0x1f", "T", "******", "1.2.3", "--1", "1e", "1,5", "", "1.0f", "१", "1\u00a02")

#: Ways to write the same number.
SAME = (lambda w: w + "0", lambda w: w + "e0", lambda w: w + "D+00", lambda w: w if w[0] in "+-" else "+" + w)


def _swap(text, pattern, rng, new):
    """Replace one of the matches of a pattern, if there are any left."""
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    match = found[rng.integers(len(found))]
    return text[: match.start()] + new(match[0]) + text[match.end() :]


def _begins(text, number):
    """Return where a frame begins, or where the text ends."""
    starts = [match.start() for match in re.finditer(r"(?m)^\d+$", text)]
    return starts[number] if number < len(starts) else len(text)


def structural(text, rng):
    """Return a change that a person or a program makes, its name, and whether the labels stay what they are."""
    number = r"(?<=[\s\"])-?\d+\.\d+(?=[\s\"])"
    bad = NO_NUMBERS[rng.integers(len(NO_NUMBERS))]
    same = SAME[rng.integers(len(SAME))]
    ways = {
        "no number": lambda: _swap(text, number, rng, lambda _: bad),
        "number in another way": lambda: _swap(text, number, rng, same),
        "word too many": lambda: _swap(text, number, rng, lambda w: f"{w} {w}"),
        "word lost": lambda: _swap(text, number + r"[ \n]", rng, lambda w: w[-1]),
        "blank in a number": lambda: _swap(text, number, rng, lambda w: f"{w[:2]} {w[2:]}"),
        "atoms": lambda: _swap(text, r"(?m)^\d+$", rng, lambda w: str(int(w) + int(rng.choice([-1, 1, 100, -4, 10**11])))),
        "key twice": lambda: _swap(text, r"dft_\w+=", rng, lambda w: f"{w}7 {w}"),
        "key lost": lambda: _swap(text, r"dft_(energy|virial)=", rng, lambda w: "x" + w),
        "other Properties": lambda: _swap(
            text, r"pos:R:3", rng, lambda _: str(rng.choice(["pos:R:2", "pos:R:4", "pos:S:3", "p:R:3"]))
        ),
        "Properties lost": lambda: _swap(text, r"Properties=\S+ ", rng, lambda _: ""),
        "Lattice": lambda: _swap(
            text, r"Lattice=", rng, lambda _: str(rng.choice(["lattice=", 'Lattice="', "cell=", "Lattice"]))
        ),
        "periodic": lambda: _swap(
            text, r'pbc="T T T"', rng, lambda _: str(rng.choice(['pbc="T T F"', "pbc=F", "pbc=T F F", 'pbc="2 1 1"']))
        ),
        "element": lambda: _swap(text, r"(?m)^(Cu|Au) ", rng, lambda _: str(rng.choice(["Xx ", "Cu1 ", "29 ", "cu, ", "X "]))),
        "name": lambda: _swap(
            text, r"config_type=\w+", rng, lambda _: f"config_type={rng.choice(['x{1}', '[/red]', '<b>', 'a/b', '..'])}"
        ),
        "line ends": lambda: text.replace("\n", "\r\n"),
        "tabs": lambda: text.replace("       ", "\t "),
        "byte order mark": lambda: "\ufeff" + text,
        "blank lines": lambda: re.sub(r"(?m)^(\d+)$", r"\n \n\1", text),
        "cut after a frame": lambda: text[: _begins(text, int(rng.integers(1, 5)))],
        "cut": lambda: text[: rng.integers(len(text) + 1)],
    }
    name = list(ways)[rng.integers(len(ways))]
    return name, ways[name]()


def changed(frames, before):
    """Return which frame has other labels, positions or cell than any of those before, but for frames without a label."""
    known = {a.info["frame_id"]: a for a in before}
    for atoms in frames:
        source = known.get(atoms.info["frame_id"])
        if source is None:  # its name was damaged; the place in the file tells
            source = next((b for b in before if np.array_equal(b.positions, atoms.positions)), None)
        if source is None:
            return f"{atoms.info['frame_id']}: nothing like it was there"
        if not np.array_equal(source.numbers, atoms.numbers) or not np.array_equal(source.positions, atoms.positions):
            return f"{atoms.info['frame_id']}: another structure"
        if not np.allclose(source.cell.array, atoms.cell.array, rtol=0, atol=1e-9):
            return f"{atoms.info['frame_id']}: another cell"
        for key, store in (("energy", "info"), ("virial", "info"), ("forces", "arrays")):
            old, new = (getattr(a, store).get(f"REF_{key}") for a in (source, atoms))
            if new is not None and not np.array_equal(old, new):
                return f"{atoms.info['frame_id']}: other {key}"
    return None


def missing(frames, before):
    """Tell whether a label or a frame is gone."""

    def count(some):
        return [sum("REF_energy" in a.info for a in some), sum("REF_virial" in a.info for a in some), len(some)]

    return count(frames) != count(before)


def test_structure_aware_changes(tmp_path, times):
    """Nothing is accepted but what was there; what is gone is told."""
    rng, tally = np.random.default_rng(3), Tally("extended XYZ, changes of words")
    before = originals(rng)
    text, path = text_of(before, KEYS, tmp_path / "a.xyz"), tmp_path / "b.xyz"
    for number in range(times(200)):
        name, changed_text = structural(text, rng)
        for _ in range(int(rng.integers(0, 2))):
            again, changed_text = (
                structural(changed_text, rng)
                if changed_text.count("pbc=") == 5 and "dft_virial=" in changed_text
                else ("", changed_text)
            )
            name = f"{name}, {again}" if again else name
        path.write_bytes(changed_text.encode())
        notes = []
        frames = tally.attempt(f"{number} {name}", lambda notes=notes: import_frames(path, KEYS, notes=notes))
        if frames is None:
            continue
        if fault := changed(frames, before):
            tally.fault("changed", f"{number} {name}", fault)
        cut = "cut" in name or "atoms" in name  # a file that ends after a whole frame tells nobody
        if missing(frames, before) and not notes and not cut:
            tally.fault("changed", f"{number} {name}", "something is gone, and nothing was said")
    tally.check()


def test_damaged_bytes(tmp_path, times):
    """What damage no reader can see is a digit, or the case of a letter, in place of another; all else is refused or harmless."""
    rng, tally = np.random.default_rng(4), Tally("extended XYZ, damaged bytes")
    before = originals(rng)
    text, path = text_of(before, KEYS, tmp_path / "a.xyz").encode(), tmp_path / "b.xyz"
    for number in range(times(200)):
        name, data = damaged(text, rng)
        path.write_bytes(data)
        frames = tally.attempt(f"{number} {name}", lambda: import_frames(path, KEYS))
        if frames is None or not (fault := changed(frames, before)):
            continue
        if _same_but_digits(text, data):
            tally.counts["digits"] += 1
        else:
            tally.fault("changed", f"{number} {name}", fault)
    tally.check()


def _same_but_digits(before, after):
    """Tell whether two texts have the same words but for what is written in digits, which nothing else in the file tells."""

    def skeleton(data):
        text = data.decode("utf-8", errors="replace")
        words = re.sub(r"[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?|[+-]?\d+\.", "0", text)
        return re.sub(r"[ \t]+", " ", words).replace('" ', '"')

    if skeleton(before) == skeleton(after):
        return True
    # Whole rows or frames that changed places, or are there twice, are words of the file, too.
    return set(skeleton(after).splitlines()) <= set(skeleton(before).splitlines())


def test_our_own_files(tmp_path, times):
    """Of our own files, too, nothing is taken that was not there."""
    rng, tally = np.random.default_rng(5), Tally("extended XYZ of our own")
    before = originals(rng)
    for number, atoms in enumerate(before):
        atoms.info.update(seed=number, generation=1, origin="uuid", label_status="ok", PRED_energy=1.0)
    text, path = text_of(before, REF, tmp_path / "a.xyz").encode(), tmp_path / "b.xyz"
    for number in range(times(80)):
        name, data = damaged(text, rng)
        path.write_bytes(data)
        frames = tally.attempt(f"{number} {name}", lambda: import_frames(path, Keys(), own_keys=True, box=10.0))
        for atoms in frames or []:
            fr.check(atoms, "it")
            assert fr.dumps(fr.loads(fr.dumps([atoms]))) == fr.dumps([atoms])
    tally.check()
