"""What decides the value of a label, and what must not differ within one dataset: for all codes alike."""

import pytest
import recorded
from aiida.engine import PortNamespace
from aiida.orm import Dict, Float, List

from aiida_gaprss.io import castep as castep_file
from aiida_gaprss.io import espresso as pw_file
from aiida_gaprss.io import vasprun
from aiida_gaprss.io.vasp import level_of_tags
from aiida_gaprss.levels import Level, difference, line_of
from aiida_gaprss.reference import castep, common, reference_named
from aiida_gaprss.reference import quantumespresso as qe

PARAMETERS = {"SYSTEM": {"ecutwfc": 30.0, "degauss": 0.02, "nbnd": 20}, "ELECTRONS": {"conv_thr": 1e-8, "mixing_beta": 0.4}}


@pytest.fixture
def inputs(aiida_profile):
    def inputs(retries=(), isolated=None, parameters=PARAMETERS):
        out = {"parameters": Dict(parameters), "kpoint_spacing": Float(0.05), "pseudos": {}}
        if retries:
            out["retries"] = List(list(retries))
        if isolated:
            out["isolated_parameters"] = Dict(isolated)
        return out

    return inputs


def level(given):
    return common.one_line(qe.level_of_theory(given))


def test_mixing_and_bands_are_not_the_level(inputs):
    other = {"system": {"ECUTWFC": 30.0, "degauss": 0.02}, "ELECTRONS": {"conv_thr": 1e-8, "mixing_beta": 0.1}}
    assert level(inputs(parameters=other)) == level(inputs())
    for changed in ({"ecutwfc": 40.0, "degauss": 0.02}, {"ecutwfc": 30.0, "degauss": 0.01}):
        assert level(inputs(parameters={"SYSTEM": changed, "ELECTRONS": {"conv_thr": 1e-8}})) != level(inputs())


def test_a_retry_that_changes_the_level(inputs):
    assert qe.missing(inputs(retries=[{"electrons": {"mixing_beta": 0.1}}]), []) == []
    (fault,) = qe.missing(inputs(retries=[{"electrons": {"mixing_beta": 0.1}}, {"SYSTEM": {"degauss": 0.05}}]), [])
    assert fault.place == ("retries", 1)
    assert fault.message.startswith("degauss would change the level of theory")
    allowed = inputs(retries=[{"SYSTEM": {"degauss": 0.05}, "other_level": True}])
    assert qe.missing(allowed, []) == []
    assert "other_level" not in common.parameters_of(allowed, False, 1)
    assert common.parameters_of(allowed, False, 1)["SYSTEM"]["degauss"] == 0.05
    assert "attempt 2" in level(allowed)
    assert level(allowed) != level(inputs()), "labels of such a dataset may be of two levels, and its name says so"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("quantumespresso", {"SYSTEM": {"ecutWFC": 20.0}}), ("castep", {"CUT_OFF_ENERGY": 300}), ("vasp", {"encut": 300})],
)
def test_isolated_atoms_have_the_basis_of_the_cells(name, wrong, aiida_profile):
    namespace = PortNamespace("test")
    reference_named(name).define(namespace)
    check = namespace["isolated_parameters"].validator
    assert "isolated atoms must have the basis" in check(Dict(wrong), None)
    assert check(Dict({"SYSTEM": {"degauss": 0.001}, "spin": 1}), None) is None


# --- our own labels and outputs of the same theory ---


def own(content):
    return common.level_of_content(content)


def test_the_line_is_what_it_was():
    """Datasets that were stored before are compared by their line."""
    content = {"code": "X", "settings": {"a": 1}, "kpoint_spacing": 0.05, "pseudos": {"Si": "y"}}
    level = common.level_of_content(common.in_words(Level("X"), content, {}))
    assert line_of(level) == common.one_line(content) == common.level_of_content(content) == "X; a 1; kpoint spacing 0.05; Si y"
    assert difference({"old": common.one_line(content), "new": level}) is None


CASTEP_PSEUDOS = {"C": "2|1.4|10|12|13|20:21(qc=7)", "Si": "3|1.8|5|6|7|30:31:32"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, None),
        ({"nextra_bands": 9, "elec_energy_tol": 1e-7}, None),
        ({"cut_off_energy": 400.0}, "cutoff"),
        ({"xc_functional": "PBESOL"}, "functional"),
        ({"smearing_width": 0.2}, "smearing"),
        ({"spin_polarized": True}, "spin"),
        ({"hubbard_u": ["x"]}, "other: hubbard_u"),
        ({"grid_scale": 2.0}, "standard grid"),
        ({"kpoint_spacing": 0.05}, "k-point spacing"),
    ],
)
def test_castep_and_its_output(aiida_profile, change, what):
    parameters = {"cut_off_energy": 500.0, "xc_functional": "PBE", "smearing_width": 0.1, **change}
    spacing = parameters.pop("kpoint_spacing", 0.07)
    pseudos = {symbol: Dict({"otfg_entry": string}) for symbol, string in CASTEP_PSEUDOS.items()}
    level = own(castep.level_of_theory({"parameters": Dict(parameters), "kpoint_spacing": Float(spacing), "pseudos": pseudos}))
    header = """ using functional                               : Perdew Burke Ernzerhof
 size of standard grid                          :     1.7500
 treating system as non-spin-polarized
 smearing scheme                                : Gaussian
 smearing width                                 : 0.1000       eV
 DFT+D: Semi-empirical dispersion correction    : off
"""
    files = "\n".join(f"                          {symbol} {string}" for symbol, string in CASTEP_PSEUDOS.items())
    end = "\n\n+---------------- MEMORY"
    text = recorded.SIC_CASTEP.replace("\n " + "*" * 79, "\n" + header + "\n " + "*" * 79, 1)
    mesh = f"\n Files used for pseudopotentials:\n{files}\n\n MP grid size for SCF calculation is  5  5  4"
    output = castep_file.read(text.replace("\n\n+---------------- MEMORY", mesh + end))
    found = difference({"ours": level, "output": output.levels[0]})
    assert (found is None) if what is None else what in found, found


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ({}, None),
        ({"EDIFF": 1e-7, "ALGO": "All"}, None),
        ({"PREC": "Accurate"}, "precision"),
        ({"ENCUT": 400.0}, "cutoff"),
        ({"GGA": "PS"}, "functional"),
        ({"ISPIN": 2}, "spin"),
        ({"LASPH": True}, "aspherical"),
        ({"LREAL": "Auto"}, "projection"),
        ({"IVDW": 12}, "dispersion correction D3-BJ"),
        ({"LDAU": True}, "Hubbard"),
        ({"EFIELD": 0.1}, "electric field"),
        ({"SYMPREC": 1e-3}, "other: symprec"),
    ],
)
def test_vasp_and_its_output(aiida_profile, tags, what):
    from aiida_gaprss.reference import vasp

    titles = {"C": "PAW_PBE C 08Apr2002", "Si": "PAW_PBE Si 05Jan2001"}
    settings = vasp._level({"ENCUT": 500.0, "EDIFF": 1e-6, "ISMEAR": 0, "SIGMA": 0.05, **tags})
    content = {"code": "VASP", "settings": settings, "kpoint_spacing": 0.07, "potentials": titles}
    words = level_of_tags(vasp._tags(settings, ["C", "Si"]), titles, None)
    level = own(common.in_words(words, content, vasp._left(settings), ("ediff",)))
    text = recorded.SIC_VASPRUN.replace(">accura<", ">normal<").replace("1        1        1 </v>", "5  5  4 </v>")
    for title in titles.values():
        text = text.replace("made by hand", title, 1)
    found = difference({"ours": level, "output": vasprun.read(text).levels[0]})
    assert (found is None) if what is None else what in found, found


@pytest.mark.parametrize(
    ("system", "what"),
    [
        ({}, None),
        ({"nbnd": 12}, None),
        ({"ecutrho": 200}, "cutoff"),
        ({"degauss": 0.01}, "smearing"),
        ({"input_dft": "PBESOL"}, "functional"),
        ({"nspin": 2}, "spin"),
        ({"vdw_corr": "grimme-d3"}, "dispersion"),
        ({"tot_charge": 1.0}, "charge"),
        ({"lda_plus_u": True}, "other: lda_plus_u"),
    ],
)
def test_pwx_and_its_output(aiida_profile, boron_pseudo, boron_output, system, what):
    parameters = {"ecutwfc": 20, "ecutrho": 160, "occupations": "smearing", "smearing": "mv", "degauss": 0.02, **system}
    inputs = {"parameters": Dict({"SYSTEM": parameters}), "kpoint_spacing": Float(0.2), "pseudos": {"B": boron_pseudo}}
    found = difference({"ours": own(qe.level_of_theory(inputs)), "output": pw_file.read(boron_output).levels[0]})
    assert (found is None) if what is None else what in found, found


@pytest.fixture
def boron_output():
    from pathlib import Path

    return (Path(__file__).parent / "boron_relax.out").read_text()


@pytest.fixture
def boron_pseudo(boron_output):
    """A file whose name, checksum and functional are those in the output; the rest nobody reads here."""
    import io
    import re

    from aiida_pseudo.data.pseudo.upf import UpfData

    text = '<UPF version="2.0.1"><PP_HEADER element="B" z_valence="3" functional="SLA PW PBX PBC"/></UPF>'
    node = UpfData(io.BytesIO(text.encode()), filename="boron.UPF")
    node.base.attributes.set("md5", re.search(r"MD5 check sum: (\w+)", boron_output)[1])
    return node
