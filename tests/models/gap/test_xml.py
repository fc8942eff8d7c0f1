"""The xml of a GAP as a stranger may have written it."""

import os
import re

import numpy as np
import pytest
from ase.build import bulk
from fuzzing import cost
from helpers import tiny_gap

from aiida_gaprss.data.folder import read_potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.families import family_of
from aiida_gaprss.models.gap.xml import MOST_ELEMENTS


def told(folder, xml="gap.xml"):
    return read_potential(folder, xml, family_of("gap"))[0]


def replaced(old, new):
    """Return an edit of the xml that must find what it replaces."""

    def edit(text):
        assert old in text, old
        return text.replace(old, new)

    return edit


def test_what_it_tells(tmp_path):
    attributes, files = read_potential(tiny_gap(tmp_path), "gap.xml", family_of("gap"))
    assert list(files) == ["gap.xml", "gap.xml.sparseX.GAP_tiny1"]
    assert attributes["elements"] == ["Cu"]
    assert attributes["e0"] == {"Cu": -1.5}
    assert attributes["cutoff"] == 4.5
    assert attributes["n_sparse"] == [3]
    assert attributes["gap_version"] == 1525123159
    assert attributes["init_args"] == "Potential xml_label=GAP_tiny"
    assert "terms" not in attributes


SPARSE = 'sparseX_filename="gap.xml.sparseX.GAP_tiny1"'
DESCRIPTOR = "distance_2b cutoff=4.5"
TINY_DESCRIPTOR = f"{DESCRIPTOR} covariance_type=ard_se theta_uniform=1.0 n_sparse=3 delta=1.0 Z1=29 Z2=29"
PERMUTATION = '<permutation i="1">1  </permutation>'

#: What is changed in the xml, and what is said then: place, value, expectation.
REFUSED = {
    "name with dots": (SPARSE, 'sparseX_filename="../secret"', r"sparseX_filename is '\.\./secret', expected a plain file name"),
    "absolute name": (SPARSE, 'sparseX_filename="/etc/passwd"', "sparseX_filename is '/etc/passwd', expected a plain file name"),
    "name with a folder": (SPARSE, 'sparseX_filename="fit/gap"', "sparseX_filename is 'fit/gap', expected a plain file name"),
    "name with a command": (SPARSE, 'sparseX_filename="$(id)"', r"sparseX_filename is '\$\(id\)', expected a plain"),
    "name of an export": (SPARSE, 'sparseX_filename="card.md"', "is 'card.md', which an export writes itself"),
    "name of the xml": (SPARSE, 'sparseX_filename="gap.xml"', "has the name of the xml"),
    "other md5": ('md5sum="', 'md5sum="0', "sparseX_md5sum of .* expected 32 digits"),
    "version too large": (
        "1525123159",
        "99999999999999999999",
        "gap_version is '9+', expected a whole number from 0",
    ),
    "version a word": ("1525123159", "x", "gap_version is 'x', expected a whole number"),
    "e0 of no element": ('Z="29"', 'Z="999"', "Z of <e0> is '999', expected a whole number from 1 to 118"),
    "e0 beside memory": ('Z="29"', 'Z="-29"', "Z of <e0> is '-29'"),
    "e0 no number": ("-1.50000000000000000E+000", "NaN", "value of <e0> of Z = 29 is 'NaN', expected a number"),
    "e0 too large": ("-1.50000000000000000E+000", "1e400", "is '1e400', expected a number"),
    "e0 as python writes it": ("-1.50000000000000000E+000", "1_0.5", "is '1_0.5', expected a number"),
    "e0 for two": ("-1.50000000000000000E+000", "1,2", "is '1,2', expected a number"),
    "n_sparse negative": ('n_sparseX="3"', 'n_sparseX="-3"', "n_sparseX of .* is '-3', expected a whole number from 1"),
    "n_sparse more": ('n_sparseX="3"', 'n_sparseX="4"', "3 different <sparseX>, expected 4"),
    "n_sparse missing": ('n_sparseX="3"', "", "has no n_sparseX"),
    "cutoff": ("cutoff=4.5", "cutoff=5.0.0", "cutoff is '5.0.0', expected a number from"),
    "cutoff negative": ("cutoff=4.5", "cutoff=-4.5", "cutoff is '-4.5'"),
    "cutoff twice": ("cutoff=4.5", "cutoff=4.5 cutoff=5", "has cutoff twice, 4.5 and 5"),
    "species": ("Z1=29", "Z1=2999", "Z1 is '2999', expected a whole number from 0 to 118"),
    "no descriptor": (DESCRIPTOR, "</descriptor><descriptor>", "has 2 <descriptor>, expected one"),
    "empty descriptor": (TINY_DESCRIPTOR, "", "a <descriptor> is empty, expected one such as"),
    "two kinds": (DESCRIPTOR, "distance_2b soap cutoff=4.5", "names a second kind of descriptor, soap"),
    "descriptor that opens files": (DESCRIPTOR, f"{DESCRIPTOR} compress_file=/etc/passwd", "compress_file would open the file"),
    "descriptor that writes files": (DESCRIPTOR, "molecule_lo_d cutoff=4.5", "molecule_lo_d writes files"),
    "label of two lines": (
        'label="GAP_tiny"',
        'label="GAP&#10;shell touch x"',
        r"label of <\w+> is 'GAP\\+nshell touch x', exp",
    ),
    "label with markup": ('label="GAP_tiny"', 'label="&lt;script&gt;"', "label of .* is '<script>', expected letters"),
    "label that closes quotes": ('label="GAP_tiny"', "label='a\" b'", "expected letters, digits"),
    "point beside memory": (
        '<sparseX i="2"',
        '<sparseX i="500000"',
        "'500000', expected a whole number from 1 to 3",
    ),
    "point twice": ('<sparseX i="2"', '<sparseX i="1"', "2 different <sparseX>, expected 3"),
    "weight": ('alpha="-.57318014647468968"', 'alpha="***"', r"alpha of <sparseX> is '\*\*\*', expected a number"),
    "no weight": ('alpha="-.57318014647468968"', "", "has no alpha"),
    "permutation": (PERMUTATION, '<permutation i="0">1</permutation>', "i of <permutation> is '0'"),
    "no permutation": (PERMUTATION, "", "0 different <permutation>, expected 1"),
    "theta": ("<theta>  0.1", "<theta> 1 0.1", "has 2 numbers, expected 1"),
    "theta that is not the one": ("<theta>  0.1", "<theta>  0.2", "<theta> of .* is 0.2.*, and its descriptor says 1.0"),
    "variance": ('signal_variance="1.0', 'signal_variance="2.0', "signal_variance of .* its descriptor says 1.0"),
    "kernel that is not the one": ("covariance_type=ard_se", "covariance_type=pp", "covariance_type of .* its descriptor says 4"),
    "fewer points asked for": ("n_sparse=3", "n_sparse=2", "its descriptor says at most 2"),
    "letters": ("<GAP_data", "é<GAP_data", "line 4 has the byte 0xc3, expected plain letters"),
    "kernel": ('covariance_type="1"', 'covariance_type="3"', "covariance_type of .* is 3, expected 1"),
    "not sparse": ('sparsified="T"', 'sparsified="F"', "sparsified of .* is 'F', expected T"),
    "n_coordinate": ('n_coordinate="1"', 'n_coordinate="2"', "n_coordinate of .* is 2, expected 1"),
    "another label within": ('gpSparse label="GAP_tiny"', 'gpSparse label="other"', "expected the same label"),
    "coordinate that is not found": ('"GAP_tiny1" dimensions', '"other1" dimensions', "expected the label 'GAP_tiny1'"),
    "a coordinate elsewhere": ("<Potential", '<gpCoordinates label="GAP_tiny1"/><Potential', "where it does not belong"),
    "a coordinate in the command line": ("<command_line>", "<command_line><descriptor/>", "where it does not belong"),
    "text within a descriptor": (DESCRIPTOR, f"<x>y</x>{DESCRIPTOR}", "within <descriptor>, which is not known there"),
    "another name space": ("<GAP_tiny>", '<x:e0 xmlns:x="y"/><GAP_tiny>', "not an xml file"),
    "a program": ('init_args="IP GAP', 'init_args="FilePot command=id IP GAP', "expected 'IP GAP label=…'"),
    "a program within": ('init_args="IP GAP', 'init_args="IP GAP FilePot command=id', "has .*FilePot.*command"),
    "a scale": ("label=GAP_tiny", "label=GAP_tiny E_scale=2", "E_scale, which is not kept"),
    "a baseline that is not known": ('init_args="IP GAP', 'init_args="IP KIM', "expected 'IP GAP"),
    "a GAP that is not there": ("label=GAP_tiny", "label=GAP_other", "want the GAP 'GAP_other', and there are 0"),
    "document type": (
        "<GAP_tiny>",
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><GAP_tiny>',
        "line 1 begins a document type",
    ),
    "encoding": ("<GAP_tiny>", "<?xml version='1.0' encoding='utf-7'?><GAP_tiny>", "encoding is 'utf-7', expected UTF-8"),
    "full GP": ("<gpSparse", "<gpFull/><gpSparse", "a full Gaussian process"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    old, new, message = REFUSED[name]
    count = 1 if name in ("document type", "encoding", "another name space") else -1

    def edit(text):
        assert old in text
        return text.replace(old, new, count)

    with pytest.raises(PotentialError, match=message) as refusal:
        told(tiny_gap(tmp_path, edit))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("sparse", "message"),
    [
        ("2.0e+00\n2.5e+00\n3.1e+00\n", "another md5 sum than the xml says .*: it is another file, or damaged"),
        ("2.0e+00\r\n2.5e+00\r\n3.0e+00\r\n", "line ends of Windows.*dos2unix"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 27\n", "pointer of Git LFS.*git lfs pull"),
        ("", "another md5 sum"),
    ],
)
def test_a_sparse_file_that_is_not_the_one(tmp_path, sparse, message):
    folder = tiny_gap(tmp_path, sparse=sparse)
    with pytest.raises(PotentialError, match=rf"gap\.xml: its sparse-point file gap\.xml\.sparseX\.GAP_tiny1 .*{message}"):
        told(folder)


@pytest.mark.parametrize(
    ("sparse", "message"),
    [
        ("2.0\n2.5\n", "has 2 numbers, expected 3"),
        ("2.0\n2.5\n3.0\n3.5\n", "has 4 numbers, expected 3"),
        ("2.0\n2.5\nnan\n", "has 'n', expected numbers"),
        ("2.0\n2.5\n1e400\n", "has '1e400', expected finite numbers"),
        ("2.0\n2.5\n1-2\n", "has what is no number"),
        ("2.0\n2.5\n0x10\n", "has 'x'"),
        ("2.0\r\n2.5\r\n3.0\r\n", "line ends of Windows"),
    ],
)
def test_sparse_files_without_a_sum(tmp_path, sparse, message):
    """As old files have them: QUIP fills up what is missing with whatever is in its memory."""
    edit = lambda text: re.sub(' sparseX_md5sum="[^"]*"', "", text)  # noqa: E731
    assert told(tiny_gap(tmp_path / "good", edit))["n_sparse"] == [3]
    with pytest.raises(PotentialError, match=message):
        told(tiny_gap(tmp_path / "bad", edit, sparse))


def test_files_that_are_none(tmp_path):
    folder = tiny_gap(tmp_path / "a")
    (folder / "gap.xml").unlink()
    os.mkfifo(folder / "gap.xml")
    with pytest.raises(PotentialError, match="is a named pipe"):
        told(folder)
    folder = tiny_gap(tmp_path / "b")
    (folder / "gap.xml.sparseX.GAP_tiny1").unlink()
    (folder / "gap.xml.sparseX.GAP_tiny1").symlink_to("/dev/zero")
    with pytest.raises(PotentialError, match="is a device"):
        told(folder)
    (folder / "gap.xml.sparseX.GAP_tiny1").unlink()
    (folder / "gap.xml.sparseX.GAP_tiny1").write_bytes(b" " * 100_000)
    with pytest.raises(PotentialError, match=r"GAP_tiny1: has 100 kB, expected at most 6\.59 kB"):
        told(folder)
    with (folder / "gap.xml").open("wb") as handle:
        handle.truncate(2**31)
    with pytest.raises(PotentialError, match=r"gap\.xml: has 2\.15 GB, expected at most 268 MB"):
        told(folder)
    (folder / "gap.xml").write_bytes(b"\x1f\x8b0")
    with pytest.raises(PotentialError, match=r"is compressed .* expected it as it is"):
        told(folder)
    (folder / "gap.xml").write_text(" ")
    with pytest.raises(PotentialError, match="is empty"):
        told(folder)
    (folder / "gap.xml").write_bytes(tiny_gap(tmp_path / "c").joinpath("gap.xml").read_text().encode("utf-16-le"))
    with pytest.raises(PotentialError, match="line 1 has the byte 0x00, expected plain letters"):
        told(folder)
    with pytest.raises(PotentialError, match=r"name of the xml is '\.\./b/gap\.xml'"):
        told(folder, "../b/gap.xml")


LAUGHS = '<!DOCTYPE a [<!ENTITY l "lol">' + "".join(
    f'<!ENTITY l{n} "{("&l" + str(n - 1 or "") + ";") * 10}">' for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS + "]><a>&l11;</a>", "document type"),
        ("<a>" * 300_000, "levels, expected a GAP"),
        ("<a>" + "<b/>" * 3_000_000 + "</a>", f"goes on beyond {MOST_ELEMENTS} elements"),
        ("<a><Potential label='" + "x" * 5_000_000 + "'/></a>", "5000000 characters"),
        ("<a b='" + "&#38;" * 2_000_000 + "'/>", "2000000 characters"),
    ],
)
def test_bombs(tmp_path, text, message):
    path = tmp_path / "gap.xml"
    path.write_text(text)
    said, grown = cost(lambda: told(tmp_path))
    assert message in said
    assert grown < 200


def test_a_bomb_of_sums(tmp_path):
    levels = "".join(
        f'<Potential label="p{n}" init_args="Sum init_args_pot1={{xml_label=p{n + 1}}} init_args_pot2={{xml_label=p{n + 1}}}"/>'
        for n in range(40)
    )
    edit = replaced('<Potential label="GAP_tiny" init_args="IP GAP label=GAP_tiny"/>', levels.replace("p0", "GAP_tiny"))
    with pytest.raises(PotentialError, match="nested too deeply"):
        told(tiny_gap(tmp_path, edit))


def test_energies_of_atoms_as_an_attribute(tmp_path, predicted_energy):
    """As older files have them: one number for all elements."""
    edit = lambda text: re.sub(r'<GAP_data do_core="F">.*</GAP_data>', '<GAP_data do_core="F" e0="-0.97"/>', text, flags=re.S)  # noqa: E731
    folder = tiny_gap(tmp_path / "old", edit)
    attributes = told(folder)
    assert attributes["e0"]["Cu"] == -0.97
    assert attributes["elements"] == ["Cu"]
    assert predicted_energy(folder) - predicted_energy(tiny_gap(tmp_path / "new")) == pytest.approx(4 * (1.5 - 0.97))


# --- sums ---


@pytest.fixture
def predicted_energy():
    """Return the energy that quippy gives to four atoms."""
    quippy = pytest.importorskip("quippy.potential")

    def energy(folder, args=None):
        atoms = bulk("Cu", cubic=True, a=3.7)
        atoms.rattle(0.1, seed=1)
        atoms.calc = quippy.Potential(args or told(folder)["init_args"], param_filename=str(folder / "gap.xml"))
        return atoms.get_potential_energy()

    return energy


def spline(tag, first, second, values, of, more=""):
    points = "".join(f'<point {first}="{x:.6f}" {second}="{of(x):.10f}"/>' for x in values)
    return f'<{tag} num_points="{len(values)}"{more}>{points}</{tag}>'


DISTANCES = np.linspace(0.5, 4.6, 40)
GLUE = (
    '<Glue_params n_types="1" label="glue"><per_type_data type="1" atomic_num="29">'
    + spline("density", "a", "rho", DISTANCES, lambda r: np.exp(-r), ' density_y1="0.0" density_yn="0.0"')
    + spline("potential_density", "rho", "E", np.linspace(0, 10, 12), lambda rho: -np.sqrt(rho))
    + '</per_type_data><per_pair_data type1="1" type2="1">'
    + spline("potential_pair", "r", "E", DISTANCES, lambda r: np.exp(-2 * r))
    + "</per_pair_data></Glue_params>"
)
LJ = (
    '<LJ_params n_types="1" label="lj"><per_type_data type="1" atomic_num="29"/><per_pair_data type1="1" type2="1" sigma="2.0" '
    'eps6="0.1" eps12="0.1" cutoff="4.8" energy_shift="T" linear_force_shift="T"/></LJ_params>'
)
MORSE = '<Morse_params n_types="1"><pair atnum_i="29" atnum_j="29" r0="2.3" D="0.5" alpha="1.2" cutoff="4.7"/></Morse_params>'
BORN_MAYER = (
    '<BornMayer_params n_types="1" label="bm"><per_type_data type="1" atomic_num="29"/><per_pair_data atnum_i="29" atnum_j="29" '
    'A="100." b="3." c="0.1" cutoff="4.0" energy_shift="T" linear_force_shift="T"/></BornMayer_params>'
)
BASELINES = {
    "IP Glue": (GLUE, "Glue glue", 4.6),
    "IP LJ label=lj": (LJ, "LJ lj", 4.8),
    "IP Morse": (MORSE, "Morse", 4.7),
    "IP BornMayer label=bm": (BORN_MAYER, "BornMayer bm", 4.5),
    "IP ZBL cutoff=3.0 cutoff_width=0.5": ("", "ZBL, cutoff 3 Å", 4.5),
}


def with_baseline(args, xml):
    sum_of = f'init_args="Sum init_args_pot1={{{args}}} init_args_pot2={{IP GAP label=GAP_tiny}}"/>{xml}'
    return replaced('init_args="IP GAP label=GAP_tiny"/>', sum_of)


@pytest.mark.parametrize("args", BASELINES)
def test_a_gap_with_a_baseline_is_kept_whole(tmp_path, predicted_energy, args):
    xml, words, cutoff = BASELINES[args]
    folder = tiny_gap(tmp_path, with_baseline(args, xml))
    attributes = told(folder)
    assert attributes["terms"] == [words, "GAP GAP_tiny"]
    assert attributes["cutoff"] == pytest.approx(cutoff)
    assert attributes["elements"] == ["Cu"]
    assert attributes["e0"] == {"Cu": -1.5}
    parts = [predicted_energy(folder, part) for part in (args, "IP GAP label=GAP_tiny")]
    assert abs(parts[0]) > 1e-6
    assert predicted_energy(folder) == pytest.approx(sum(parts), abs=1e-9)


@pytest.mark.parametrize(
    ("args", "xml", "message"),
    [
        (
            "IP Glue",
            GLUE.replace('type2="1"', 'type2="7"'),
            "type2 of <per_pair_data> is '7', expected a whole",
        ),
        ("IP Glue", GLUE.replace('num_points="40"', 'num_points="30"', 1), "num_points of <density> is not 40"),
        ("IP Glue", GLUE.replace('n_types="1"', 'n_types="2"'), "has 1 elements, expected n_types = 2"),
        ("IP Glue", GLUE.replace('E="1', 'E="inf', 1).replace('E="0', 'E="inf', 1), "is 'inf"),
        ("IP LJ label=lj", LJ.replace('"29"', '"14"'), "no element is known to all terms"),
        ("IP LJ label=other", LJ, "want one <LJ_params>, and there are 0"),
        ("IP LJ", LJ + LJ.replace("lj", "lk"), "want one <LJ_params>, and there are 2"),
        ("IP Morse", MORSE.replace('atnum_j="29"', 'atnum_j="30"'), "has 2 elements, expected n_types = 1"),
        ("IP ZBL", "", "cutoff is '', expected a number"),
        ("IP Tersoff", "", "expected 'IP GAP"),
        ("IP LJ label=lj}", LJ, "where a word should begin"),
    ],
)
def test_baselines_that_are_refused(tmp_path, args, xml, message):
    with pytest.raises(PotentialError, match=message):
        told(tiny_gap(tmp_path, with_baseline(args, xml)))


def sum_of_two(folder, wrapper=None):
    """Write the sum of two GAPs: the second has other names, half the weights, and another energy of the atom."""
    first = tiny_gap(folder)
    text = (first / "gap.xml").read_text()
    params = text[text.index("<GAP_params") : text.index("</GAP_tiny>")]
    second = params.replace("GAP_tiny", "GAP_other").replace('alpha="1.5', 'alpha="0.7').replace("-1.50000", "-2.25000")
    (folder / "gap.xml.sparseX.GAP_other1").write_bytes((folder / "gap.xml.sparseX.GAP_tiny1").read_bytes())
    terms = "init_args_pot1={IP GAP label=GAP_tiny} init_args_pot2={IP GAP label=GAP_other}"
    default = f'<Potential label="Sum_pot" init_args="Sum {terms}"/>'
    (folder / "gap.xml").write_text(f"<Sum_pot>\n{default if wrapper is None else wrapper}\n{params}{second}</Sum_pot>\n")
    return folder


def test_a_sum_of_two_gaps_is_kept_whole(tmp_path, predicted_energy):
    folder = sum_of_two(tmp_path)
    attributes, files = read_potential(folder, "gap.xml", family_of("gap"))
    assert set(files) == {"gap.xml", "gap.xml.sparseX.GAP_tiny1", "gap.xml.sparseX.GAP_other1"}
    assert attributes["terms"] == ["GAP GAP_tiny", "GAP GAP_other"]
    assert attributes["n_sparse"] == [3, 3]
    assert attributes["e0"] == {"Cu": -3.75}
    assert attributes["label"] == "Sum_pot"
    parts = [predicted_energy(folder, f"IP GAP label={label}") for label in ("GAP_tiny", "GAP_other")]
    assert predicted_energy(folder) == pytest.approx(sum(parts), abs=1e-9)


def test_a_sum_by_the_labels_of_potentials(tmp_path, predicted_energy):
    wrappers = (
        '<Potential label="Sum_pot" init_args="Sum init_args_pot1={xml_label=one} init_args_pot2={Potential xml_label=two}"/>'
        '<Potential label="one" init_args="IP GAP label=GAP_tiny"/><Potential label="two" init_args="IP GAP label=GAP_other"/>'
    )
    folder = sum_of_two(tmp_path / "a", wrappers)
    assert told(folder)["terms"] == ["GAP GAP_tiny", "GAP GAP_other"]
    assert predicted_energy(folder) == pytest.approx(predicted_energy(sum_of_two(tmp_path / "b")), abs=1e-9)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("", r"holds 2 GAPs and no <Potential> that says whether they are to be added"),
        (
            '<Potential label="Sum_pot" init_args="IP GAP label=GAP_tiny"/>',
            "its potential does not use 'GAP_other'",
        ),
        (
            '<Potential label="a" init_args="IP GAP label=GAP_tiny"/><Potential label="b" init_args="IP GAP label=GAP_other"/>',
            "holds the potentials 'a', 'b', and none has the name of the first tag",
        ),
        ('<Potential label="Sum_pot" init_args="Sum init_args_pot1={IP GAP}"/>', "expected 'IP GAP label="),
        ('<Potential label="Sum_pot" init_args="Potential xml_label=Sum_pot"/>', "nested too deeply"),
    ],
)
def test_more_than_one_gap_that_is_no_sum(tmp_path, wrapper, message):
    with pytest.raises(PotentialError, match=message):
        told(sum_of_two(tmp_path, wrapper))


def test_two_gaps_of_the_same_label(tmp_path):
    """QUIP would take the first one twice."""
    folder = sum_of_two(tmp_path)
    text = (folder / "gap.xml").read_text().replace("GAP_other", "GAP_tiny")
    (folder / "gap.xml").write_text(text)
    with pytest.raises(PotentialError, match="holds 2 <GAP_params> with the label 'GAP_tiny'"):
        told(folder)
