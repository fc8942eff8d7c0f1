"""Inputs that went wrong once, as they are: what is said of them now. Other tests have inputs of their own for each kind."""

import os
from pathlib import Path

import pytest

from aiida_gaprss.audit import audit
from aiida_gaprss.audit.placeholders import find_placeholders
from aiida_gaprss.campaign.file import load_campaign
from aiida_gaprss.io.extxyz import Keys, import_frames
from aiida_gaprss.io.outputs import read_outputs
from aiida_gaprss.strategies.airss_file import parse_seed

DFT = Keys(energy="dft_energy", forces="dft_forces")
WITH_VIRIAL = Keys(energy="dft_energy", forces="dft_forces", virial="dft_virial")


@pytest.fixture(scope="session")
def cases():
    """Folder of the inputs, which is not part of the package."""
    folder = os.environ.get("GAPRSS_CASES")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set GAPRSS_CASES to the folder of inputs that went wrong once to run this test")
    return Path(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("yaml/bigint", "line 1, seed: a number of 5000 characters"),
        ("yaml/binary", "line 7, name: the tag !!binary is not known"),
        ("yaml/crash_1", "min_separation: Input should be less than or equal to 1000 (got 1e+300)"),
        ("yaml/crash_2", "pseudos.B: String should have at most 1000 characters"),
        ("yaml/deep", "line 10, reference.ase.arguments: more than 24 lists and mappings within each other"),
        ("yaml/dup", "line 9, seed: seed is given twice, first in line 1"),
        ("yaml/intkey", "line 7: expected a word as key (got 1)"),
        ("yaml/latin1", "line 7: has the byte 0xe9, which is no UTF-8"),
        ("yaml/laughs", "line 14, reference.ase.arguments: more than 10000 values"),
        ("yaml/laughs_map", "line 19, options.fit.a7: more than 10000 values"),
        ("yaml/listkey", "line 7: expected a word as key (got [1, 2])"),
        ("yaml/merge", "line 7: << takes over the keys of a mapping"),
        ("yaml/nul", "line 8: has the character '\\x00'"),
        ("yaml/omap", "line 7, options.fit: the tag !!omap is not known"),
        ("yaml/optbad", "4 errors"),
        ("yaml/osystem", "line 9, reference.ase.calculator: os.system is no calculator"),
        ("yaml/proto", "line 2, protocol: unknown protocol"),
        ("yaml/pyobj", "line 7, reference: the tag !!python/object/apply:os.system is not known"),
        ("yaml/recursive", "line 10, reference.ase.arguments.a: *x contains itself"),
        ("yaml/seedfile", "line 6, settings.seeds.random: the seed has no atoms"),
        ("yaml/setk", "line 7, options.fit: the tag !!set is not known"),
        ("yaml/unknown_tag", "line 8, reference.ase: the tag !foo is not known"),
        ("airss/camp", "line 6, settings.seeds.random: line 3: '0 3', expected three numbers"),
        ("airss/camp2", "line 7, settings.seeds.random: line 3: '0', expected three numbers"),
    ],
)
def test_campaign_files(cases, name, said):
    with pytest.raises(ValueError) as info:  # noqa: PT011  the words are compared below
        load_campaign(cases / f"{name}.yaml")
    assert said in str(info.value)


def test_campaign_files_that_are_right(cases):
    assert load_campaign(cases / "yaml" / "date.yaml").config.name == "2001-99-99"
    assert load_campaign(cases / "yaml" / "prepend.yaml").config.options.fit.prepend_text == "touch pwned_opt"


@pytest.mark.parametrize(("name", "said"), [("0", "line 3: '0', expected three numbers"), ("1", "#NATOM=999999999")])
def test_airss_seeds(cases, name, said):
    with pytest.raises(ValueError) as info:  # noqa: PT011
        parse_seed((cases / "airss" / f"{name}.cell").read_text())
    assert said in str(info.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xml/abs", "sparseX_filename is '/etc/passwd', expected a plain file name"),
        ("xml/badcut", "cutoff is '5.0.0', expected a number"),
        ("xml/badver", "gap_version is '99999999999999999999', expected a whole number"),
        ("xml/badver2", "gap_version is 'x', expected a whole number"),
        ("xml/badz", "Z of <e0> is '999', expected a whole number"),
        ("xml/badz2", "Z1 is '2999', expected a whole number"),
        ("xml/emptydesc", "a <descriptor> is empty"),
        ("xml/html", "label of <GAP_params> is '<script>"),
        ("xml/label", "label of <GAP_params> is 'GAP"),
        ("xml/nanE", "value of <e0> of Z = 29 is 'NaN', expected a number"),
        ("xml/negn", "is '-3', expected a whole number"),
        ("xml/trav", "sparseX_filename is '../secret.txt', expected a plain file name"),
        ("xml/runner_replaced/pot/gap", "sparseX_filename is '../batch.py', expected a plain file name"),
        ("potential_md5_and_folders/crlf/gap", "has line ends of Windows"),
        ("potential_md5_and_folders/lfs/gap", "is a pointer of Git LFS"),
        ("potential_md5_and_folders/shuffled/gap", "has another md5 sum than the xml says"),
        ("potential_md5_and_folders/withpath/gap", "expected a plain file name"),
    ],
)
@pytest.mark.usefixtures("aiida_profile")
def test_potentials(cases, name, said):
    from aiida_gaprss.data.potential import Potential
    from aiida_gaprss.models.base import PotentialError

    path = cases / f"{name}.xml"
    with pytest.raises(PotentialError) as info:
        Potential(path.parent, path.name)
    assert said in str(info.value)


@pytest.mark.usefixtures("aiida_profile")
def test_a_sum_of_two_is_kept_whole(cases):
    from aiida_gaprss.data.potential import Potential

    node = Potential(cases / "potential_sum_of_two")
    assert len(node.files) == 5
    assert len(node.base.attributes.get("n_sparse")) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xyz/acc_byte_to_space_1", "line 16: has 8 words, expected 7"),
        ("xyz/acc_drop_word_1", "line 3: has 7 words, expected 4"),
        ("xyz/acc_extra_word_1", "line 3: has 8 words, expected 7"),
        ("xyz/acc_insert_space_1", "line 5: has 8 words, expected 7"),
        ("xyz/acc_truncate_1", "the file ends within its last row"),
        ("xyz/acc_word_underscore_1", "Lattice is '1_0.5', expected numbers"),
        ("xyz/crash1", "line 1: announces 4 atoms, 0 rows follow"),
        ("xyz/crash2", "line 19: announces 4 atoms, 0 rows follow"),
        ("xyz/ct", "config_type '<img src=x onerror=alert(1)>': < > cannot be read"),
        ("xyz/ctm", "config_type '[/red]': / cannot be read"),
        ("xyz/fid", "frame_id 'f[/x]': / cannot be read"),
        ("xyz/hang_natoms", "announces 99999999999 atoms, 22 rows follow"),
        ("nonperiodic/molecules", "is not periodic in all directions"),
        ("isolated_is_bulk/iso_is_bulk", "the atom is 2.55 Å from its own image"),
        ("names_gap_fit/apostrophe", 'config_type "it\'s"'),
        ("names_gap_fit/brace", "config_type 'x{1}'"),
        ("names_gap_fit/quote", "config_type 'a\"b'"),
        ("names_gap_fit/types", "config_type 'x{1}'"),
    ],
)
def test_extended_xyz(cases, name, said):
    with pytest.raises(ValueError) as info:  # noqa: PT011
        import_frames(cases / f"{name}.xyz", DFT)
    assert said in str(info.value)


def test_extended_xyz_of_which_only_what_is_named_counts(cases):
    notes = []
    frames = import_frames(cases / "ref_leftover" / "two_labels.xyz", DFT, notes=notes)
    assert sum("REF_energy" in f.info for f in frames) == 18
    assert not any("REF_virial" in f.info for f in frames)
    assert any("18 of 25 frames" in note for note in notes)
    (frame,) = import_frames(cases / "array_in_info" / "info_words.xyz", Keys(energy="energy", forces="forces"))
    assert "origin" not in frame.info
    with pytest.raises(ValueError, match="no key of a label is named"):
        import_frames(cases / "no_keys" / "blank.xyz", Keys())


@pytest.mark.parametrize(
    ("name", "keys", "counts"),
    [
        ("all_zero_virial", WITH_VIRIAL, {"virial": 24}),
        ("third_zero_virial", WITH_VIRIAL, {"virial": 8}),
        ("triangular", WITH_VIRIAL, {"virial": 24}),
        ("all_zero_both", WITH_VIRIAL, {"forces": 24, "virial": 24}),
        ("all_zero_forces", DFT, {"forces": 24}),
    ],
)
def test_placeholders(cases, name, keys, counts):
    frames = import_frames(cases / "zero_virials" / f"{name}.xyz", keys)
    assert {group.label: len(group.reasons) for group in find_placeholders(frames)} == counts
    assert next(c for c in audit({name: frames}, {name: None}).checks if c.name == "labels").verdict == "fault"


def test_right_labels_that_were_called_wrong(cases):
    keys = Keys(energy="REF_energy", virial="REF_virial")
    frames = import_frames(cases / "audit_noise" / "na_relax.xyz", keys, own_keys=True)
    assert not [c for c in audit({"na": frames}, {"na": None}).checks if c.verdict == "fault"]
    frames = import_frames(cases / "two_decorations.xyz", Keys(energy="REF_energy"), own_keys=True)
    assert next(c for c in audit({"two": frames}, {"two": None}).checks if c.name == "duplicates").verdict == "ok"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["castep_atoms_cut/label.castep"], "line 203, of the table of atoms, cannot be read"),
        (["castep_atoms_cut/overflow.castep"], "a position of atom 5 is not a number"),
        (["castep_truncated/dropline_atoms.castep"], "its table of atoms has 7 rows, but the file announces 8 ions"),
        (["castep_truncated/stars_REF_energy_changed.castep"], "its free energy cannot be read"),
        (["castep_truncated/stars_atoms.castep"], "a position of atom 8 is not a number"),
        (["castep_truncated/stars_forces_lost.castep"], "a force on atom 1 is not a number"),
        (["castep_pair_potential/B8_lj.castep"], "its energies are those of a pair potential"),
        (["hubbard_u/u2.out", "hubbard_u/u6.out"], "differ in Hubbard of"),
        (["hubbard_u/OUTCAR_U2.gz", "hubbard_u/OUTCAR_U6.gz"], "differ in Hubbard of"),
        (["hubbard_u/vasprun_U2.xml.gz", "hubbard_u/vasprun_U6.xml.gz"], "differ in Hubbard of"),
    ],
)
def test_outputs(cases, names, said):
    with pytest.raises(ValueError) as info:  # noqa: PT011
        read_outputs([cases / name for name in names])
    assert said in str(info.value)


def test_outputs_of_which_a_part_is_right(cases):
    cut = read_outputs([cases / "castep_truncated" / "line_search_cut.castep.gz"])
    assert len(cut.frames) == 39
    assert "incomplete: the run ends during this step" in str(cut.refused[0])
    assert any("the run was cut off" in note for note in cut.notes)
    twice = read_outputs([cases / "same_run_twice"])
    assert len(twice.frames) == 1
    assert any("its content is that of" in note for note in twice.notes)
    two = read_outputs([cases / "two_pseudos" / "twops.out"])
    assert "B.pz-vbc.UPF (md5 57e6d61f) and B2.UPF (md5 63ab2981)" in two.level_of_theory
