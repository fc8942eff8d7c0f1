"""Seeds of AIRSS: what is understood, what is refused, and cells like those of buildcell."""

import itertools
from collections import Counter

import numpy as np
import pytest
import spglib
from ase.cell import Cell
from ase.io import read
from ase.neighborlist import neighbor_list
from scipy.stats import chisquare, ks_2samp

from aiida_gaprss import frames
from aiida_gaprss.strategies.airss_file import parse_seed
from aiida_gaprss.strategies.airss_tags import FOLLOWED, REFUSED
from aiida_gaprss.strategies.seeds import AirssSeed
from aiida_gaprss.structures.building import random_cell, random_cells
from aiida_gaprss.structures.checks import RandomCellError

SILICA = "#VARVOL=12\n#SPECIES=Si%NUM=1,O%NUM=2\n#MINSEP=1.3 Si-O=1.5-1.6 O-O=2.1\n"

LATTICE = "%BLOCK LATTICE_CART\n4 0 0\n0 4 0\n0 0 5\n%ENDBLOCK LATTICE_CART\n"

METHANE = """
%BLOCK LATTICE_CART
4 0 0
0 4 0
0 0 4
%ENDBLOCK LATTICE_CART
%BLOCK POSITIONS_ABS
C  0.00  0.00  0.00 # CH4 % NUM=2
H  0.63  0.63  0.63 # CH4
H -0.63 -0.63  0.63 # CH4
H  0.63 -0.63 -0.63 # CH4
H -0.63  0.63 -0.63 # CH4
%ENDBLOCK POSITIONS_ABS
#NFORM=1
#MINSEP=1.4
#TARGVOL=14-18
"""


def cells(text, n=10, seed=1):
    return random_cells(parse_seed(text), n, seed)


def smallest(atoms):
    return neighbor_list("d", atoms, 4.0).min()


def block(*lines, name="POSITIONS_FRAC"):
    return "\n".join([f"%BLOCK {name}", *lines, f"%ENDBLOCK {name}", ""])


# --- contents ---


def test_species_formula_and_copies():
    for head in ("#SPECIES=Si%NUM=1,O%NUM=2", "#FORMULA=SiO2"):
        made = cells(f"{head}\n#NFORM={{2,4}}\n#VARVOL=20\n#MINSEP=1.2\n", 20)
        assert {atoms.get_chemical_formula() for atoms in made} == {"O4Si2", "O8Si4"}
        # 20 Å³ for one atom of each of the two species listed, ± 5 %.
        volumes = np.array([atoms.get_volume() / len(atoms) for atoms in made])
        assert volumes.min() >= 9.5
        assert volumes.max() <= 10.5


def test_without_nform_there_is_one_copy_per_operation():
    made = cells(SILICA + "#SYMMOPS=2-4\n", 30)
    assert all(len(atoms) == 3 * atoms.info["n_operations"] for atoms in made)
    assert {atoms.info["n_operations"] for atoms in made} == {2, 3, 4}


def test_random_composition():
    made = cells("#VARVOL=30\n#SPECIES=Li,Cu\n#NATOM=2-4\n#NFORM=1\n#MINSEP=2.0\n", 200)
    assert {len(atoms) for atoms in made} == {2, 3, 4}
    assert chisquare(list(Counter(len(atoms) for atoms in made).values())).pvalue > 1e-3
    symbols = Counter(symbol for atoms in made for symbol in atoms.symbols)
    assert chisquare(list(symbols.values())).pvalue > 1e-3
    assert {"Li2", "Cu2", "CuLi"} <= {atoms.get_chemical_formula() for atoms in made}


def test_numbers_of_single_lines():
    text = LATTICE + block("Al 0 0 0 # a % NUM=1-3", "O 0 0 0 # b % NUM={2,4}") + "#NFORM=1\n#TARGVOL=24-30\n#MINSEP=1.5\n"
    made = cells(text, 60)
    counts = {(list(a.symbols).count("Al"), list(a.symbols).count("O")) for a in made}
    assert counts == set(itertools.product((1, 2, 3), (2, 4)))
    volumes = [atoms.get_volume() / len(atoms) for atoms in made]
    assert min(volumes) >= 12
    assert max(volumes) <= 15
    with_total = cells(text + "#NATOM=5\n", 20)
    assert {len(atoms) for atoms in with_total} == {5}


def test_a_lattice_gives_the_volume():
    made = cells(LATTICE + block("Al 0 0 0 # a % NUM=2") + "#NFORM=1\n#MINSEP=2.0\n")
    assert all(0.95 * 160 <= atoms.get_volume() <= 1.05 * 160 for atoms in made)
    abc = block("7.5589 7.5589 9.4486", "90 90 90", name="LATTICE_ABC").replace("\n7", "\nbohr\n7", 1)
    same = cells(abc + block("Al 0 0 0 # a % NUM=2") + "#NFORM=1\n#MINSEP=2.0\n")
    assert [a.get_volume() for a in same] == pytest.approx([a.get_volume() for a in made], rel=1e-4)


# --- separations and symmetry ---


def test_separations_of_pairs_and_ranges():
    closest = {"O-Si": [], "O-O": [], "Si-Si": []}
    for atoms in cells(SILICA + "#NFORM=2-4\n", 40):
        symbols = atoms.get_chemical_symbols()
        for i, j, d in zip(*neighbor_list("ijd", atoms, 3.0), strict=True):
            closest["-".join(sorted((symbols[i], symbols[j])))].append(d)
    assert min(closest["O-O"]) >= 2.1 - 1e-6
    assert min(closest["O-Si"]) >= 1.5 - 1e-6
    assert min(closest["Si-Si"]) >= 1.3 - 1e-6
    assert min(closest["O-Si"]) < 1.53


def test_slack_lets_what_does_not_fit_come_closer():
    text = "#TARGVOL=4.1-4.2\n#SPECIES=B%NUM=7\n#NFORM=1\n#MINSEP=1.75\n"
    atoms = random_cell(parse_seed(text + "#SLACK=0.25\n"), 1, draws=8, trials=5)
    assert 0.75 * 1.75 - 1e-6 <= smallest(atoms) < 1.75
    with pytest.raises(RandomCellError, match=r"kept MINSEP .*B-B.* in 40 trials"):
        random_cell(parse_seed(text), 1, draws=8, trials=5)
    with pytest.raises(RandomCellError, match=r"line 5: #SLACK=2, expected a number from 0 to 0.9"):
        parse_seed(text + "#SLACK=2\n")


def operations(atoms, symprec=1e-4):
    return len(spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec)["rotations"])


def test_symmetry_by_number_of_group_and_approximate():
    for atoms in cells(SILICA + "#NFORM=4\n#SYMMNO=14,19-20\n", 12):
        assert atoms.info["space_group"] in (14, 19, 20)
        assert operations(atoms) >= atoms.info["n_operations"] == 4
    # Broken, but by not more than a tenth of MINSEP (1.3 Å) and the push after it.
    for atoms in cells(SILICA + "#NFORM=4\n#SYMMOPS=~4\n", 12):
        assert atoms.info["n_operations"] == 1
        assert operations(atoms) < 4
    assert np.mean([operations(atoms, 0.5) >= 4 for atoms in cells(SILICA + "#NFORM=4\n#SYMMOPS=~4\n", 12)]) > 0.5


def test_shape():
    def shapes(extra):
        made = cells(f"#VARVOL=16\n#SPECIES=Al%NUM=4\n#NFORM=1\n#MINSEP=1.5\n{extra}\n", 60)
        lengths = np.array([atoms.cell.lengths() for atoms in made])
        flat = np.array([atoms.get_volume() / atoms.cell.lengths().prod() for atoms in made])
        return (lengths.max(axis=1) / lengths.min(axis=1)).max(), flat.min()

    assert 2.5 < shapes("")[0] <= 4.0
    assert shapes("#CONS=0.8")[0] <= 1.2 / 0.8
    assert shapes("#ACONS=0.9\n#NOCOMPACT")[1] >= 0.9
    reduced = cells("#VARVOL=16\n#SPECIES=Al%NUM=4\n#NFORM=1\n#MINSEP=1.5\n#COMPACT", 5)
    for atoms in reduced:
        assert sorted(Cell(spglib.niggli_reduce(atoms.cell.array)).lengths()) == pytest.approx(sorted(atoms.cell.lengths()))


# --- given cells and positions ---


def test_positions_and_cells_that_are_varied():
    positions = block("Al 0 0 0 # a % FIX", "Al 0.5 0.5 0.5 # b % POSAMP=0.3")
    for amplitude in (0.0, 0.05):
        made = cells(LATTICE + positions + f"#CELLAMP={amplitude}\n#MINSEP=2.0\n", 200)
        for atoms in made:
            assert atoms.get_scaled_positions()[0] == pytest.approx(0, abs=1e-8)
            shift = atoms.positions[1] - np.full(3, 0.5) @ atoms.cell.array
            assert np.linalg.norm(shift) <= 0.3 + 1e-6
        strain = np.array([np.linalg.inv(np.diag([4.0, 4.0, 5.0])) @ atoms.cell.array - np.eye(3) for atoms in made])
        assert np.abs(strain - strain.transpose(0, 2, 1)).max() < 1e-9
        assert np.abs(strain).max() <= amplitude + 1e-9
        assert np.abs(strain).max() >= 0.9 * amplitude
        assert np.abs(strain[:, 0, 1]).max() <= amplitude / 2 + 1e-9
    fixed = LATTICE.replace("0 0 5\n", "0 0 5\n#FIX\n") + positions + "#MINSEP=2.0\n"
    assert all((atoms.cell.array == np.diag([4, 4, 5])).all() for atoms in cells(fixed, 3))


def test_supercell():
    text = (
        LATTICE
        + block("Al 0 0 0 # a % POSAMP=0", "Cu 0.5 0.5 0.5 # b % POSAMP=0.2")
        + "#CELLAMP=0\n#MINSEP=2.0\n#SUPERCELL=2 1 1"
    )
    for atoms in cells(text, 5):
        assert atoms.get_chemical_formula() == "Al2Cu2"
        assert atoms.cell.lengths() == pytest.approx([8, 4, 5])
        aluminium = atoms.positions[[s == "Al" for s in atoms.symbols]]
        assert sorted(aluminium[:, 0] % 8) == pytest.approx([0, 4], abs=1e-6)
    grown = cells(
        "%BLOCK LATTICE_CART\n4 0 0\n0 4 0\n0 0 4\n%ENDBLOCK LATTICE_CART\n#SPECIES=Al%NUM=4\n#NFORM=1\n#MINSEP=2\n#SUPERCELL=2",
        2,
    )
    assert all(len(atoms) == 32 for atoms in grown)
    assert all(atoms.get_volume() == pytest.approx(4 * 8 * 64, rel=0.051) for atoms in grown)


def test_labels_make_rigid_units():
    for atoms in cells(METHANE + "#SYMMOPS=1-2\n", 20):
        assert len(atoms) == 10
        first, second, distances = neighbor_list("ijd", atoms, 0.63 * np.sqrt(8) + 1e-6)
        inside = first // 5 == second // 5
        for length, number in ((0.63 * np.sqrt(3), 4), (0.63 * np.sqrt(8), 6)):
            like = inside & (np.abs(distances - length) < 1e-6)
            assert (np.bincount(first[like] // 5, minlength=2) == 2 * number).all()
        assert distances[~inside].min(initial=9) >= 1.4 - 1e-6
        assert operations(atoms) >= atoms.info["n_operations"]


def test_angle_of_units():
    text = METHANE.replace("NUM=2", "ANGAMP=10 POSAMP=0").replace("#TARGVOL=14-18", "#CELLAMP=0")
    directions = np.array([[0.63, 0.63, 0.63]]) / (0.63 * np.sqrt(3))
    for atoms in cells(text, 30):
        bond = atoms.get_distance(0, 1, mic=True, vector=True)
        cosine = bond @ directions[0] / np.linalg.norm(bond)
        assert np.degrees(np.arccos(min(cosine, 1))) <= 10 + 1e-3


# --- what is refused ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SILICA + "#MINSEPP=2", "line 4: unknown tag #MINSEPP; known: ACONS"),
        (SILICA + "#COORD=4", "line 4: #COORD is refused: the built-in generator does not follow it"),
        (SILICA + "#SEED=4", "line 4: #SEED is refused: every cell gets its seed"),
        (SILICA + "# SYMMOPS=4", "line 4: a blank before SYMMOPS makes it a remark; write #SYMMOPS"),
        (SILICA + "#some words", "line 4: '#some words' is no tag; comments begin with ##"),
        (SILICA + "#SYMMOPS", "line 4: #SYMMOPS, expected a value"),
        (SILICA + "#COMPACT=1", "line 4: #COMPACT=1, expected no value"),
        (SILICA + "#SYMMOPS=5", "line 4: #SYMMOPS=5, expected some of 1, 2, 3, 4, 6"),
        (SILICA + "#SYMMOPS=4-2", "line 4: #SYMMOPS=4-2, expected whole numbers"),
        (SILICA + "#SYMMNO=1\n#SYMMOPS=1", "line 4: #SYMMNO=1, expected not both"),
        (SILICA + "#NFORM=0", "line 4: #NFORM=0, expected whole numbers above 0"),
        (SILICA + "#VARVOL=3", "line 4: #VARVOL is given twice, first in line 1"),
        (SILICA + "#FORMULA=SiO2", "expected not both SPECIES and FORMULA"),
        (SILICA.replace("1.3 ", "AUTO "), "line 3: #MINSEP=AUTO Si-O=1.5-1.6 O-O=2.1, expected distances: AUTO looks"),
        (SILICA.replace("1.3 ", ""), "line 3: .* expected a distance for Si-Si, too"),
        (SILICA.replace("O-O", "O-H"), "line 3: .* expected pairs of the elements Si, O, not O-H"),
        (SILICA.replace("#VARVOL=12\n", ""), "the seed has no volume"),
        (SILICA.replace("=12", "=12-"), "line 1: #VARVOL=12-, expected numbers above 0"),
        (SILICA.replace("O%NUM=2", "Q%NUM=2"), "line 2: 'Q' is not a chemical element"),
        (SILICA.replace("=12", "=2"), "min_separation: .* cannot be kept"),
        (SILICA + "#POSAMP=1", "line 4: #POSAMP=1, expected a POSITIONS block"),
        ("#VARVOL=12\n#MINSEP=1\n", "the seed has no atoms"),
        ("#VARVOL=12\n#SPECIES=Al\n", "the seed has no #MINSEP"),
        (LATTICE + block("Al 0 0 0 # a % COORD=4") + "#MINSEP=1", "line 7: COORD of an atom is refused"),
        (LATTICE + block("Al 0 0 0 # a % NUMB=4") + "#MINSEP=1", "line 7: unknown tag 'NUMB' of an atom"),
        (LATTICE + block("Al 0 0 # a") + "#MINSEP=1", "line 7: 'Al 0 0', expected an element and three coordinates"),
        (LATTICE + block("Al 0 0 0 # a % FIX") + "#MINSEP=1\n#SYMMOPS=2", "POSAMP is only possible without symmetry"),
        (LATTICE + block("Al 0 0 0 # a") + "#MINSEP=1\n#SYMMOPS=2\n#CELLAMP=0.1", "CELLAMP is only possible without symmetry"),
        (LATTICE + block("Al 0 0 0") + "#MINSEP=1\n#VARVOL=9\n#CELLAMP=0.1", "TARGVOL and VARVOL have no effect"),
        (
            LATTICE.replace("0 0 5\n", "0 0 5\n#CFIX\n") + block("Al 0 0 0") + "#MINSEP=1",
            "line 5: #CFIX is refused: only a whole cell",
        ),
        (METHANE + "#SYMMOPS=3", "no number of rigid units that is a multiple of 3 operations"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, message):
    with pytest.raises(RandomCellError, match=message):
        parse_seed(text)


def test_every_tag_is_either_followed_or_refused():
    assert not set(FOLLOWED) & set(REFUSED)
    for tag in REFUSED:
        with pytest.raises(RandomCellError, match=f"#{tag} is refused"):
            parse_seed(SILICA + f"#{tag}=1")


def test_comments_and_keywords_of_castep_are_passed_over():
    extra = "##SYMMOPS=48\n## words\n# words of CASTEP\n! more\nKPOINTS_MP_SPACING 0.07\nSYMMETRY_GENERATE\n" + block(
        "QC5", name="SPECIES_POT"
    )
    assert frames.dumps(cells(SILICA + extra)) == frames.dumps(cells(SILICA))


def test_a_seed_by_its_text():
    seed = AirssSeed(kind="airss", text=SILICA)
    seed.check({"Si": 1, "O": 2})
    with pytest.raises(RandomCellError, match=r"the element O is not in the formula of the campaign \(Si\)"):
        seed.check({"Si": 1})
    assert seed.smallest_separation({}) == 1.3
    assert seed.volume_range({}) == pytest.approx((5.7, 6.3))
    assert frames.dumps(seed.cells({}, 3, seed=1)) == frames.dumps(cells(SILICA, 3))


# --- against buildcell -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(data):
    return read(data / "random_cells" / "B_rss_300.extxyz.gz", ":")


@pytest.fixture(scope="module")
def ours(data):
    return cells((data / "random_cells" / "B_rss.cell").read_text(), 600)


def shape(atoms):
    lengths = np.sort(Cell(spglib.niggli_reduce(atoms.cell.array)).lengths())
    return [lengths[1] / lengths[0], lengths[2] / lengths[0], atoms.get_volume() / atoms.cell.lengths().prod()]


def test_the_same_seed_gives_cells_as_buildcell_makes_them(ours, theirs):
    for measure in (len, lambda a: a.get_volume() / len(a) / 7.2):
        assert ks_2samp([measure(a) for a in ours], [measure(a) for a in theirs]).pvalue > 0.01
    for index in range(3):
        assert ks_2samp(*(np.round([shape(a)[index] for a in made], 2) for made in (ours, theirs))).pvalue > 0.01, index
    nearest = [smallest(a) for a in ours]
    assert np.median(nearest) == pytest.approx(1.5, abs=2e-3)
    assert np.median([smallest(a) for a in theirs]) == pytest.approx(1.5, abs=1e-3)
    assert min(nearest) >= 1.5 - 1e-6  # so are 95 % of theirs
    assert chisquare([sum(a.info["n_operations"] == n for a in ours) for n in (1, 2, 3, 4, 6, 8)]).pvalue > 1e-3
    for order in (1, 2, 3, 4, 6, 8):
        mine = np.mean([a.info["n_operations"] == order for a in ours])
        assert mine == pytest.approx(np.mean([a.info["symmops"] == order for a in theirs]), abs=0.06)
