"""Crystals that the reference relaxes itself: ASE calculators, potentials, programs one by one."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from aiida.orm import CalcJobNode, Dict, Float, Int, List
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa
from helpers import silicon_and_carbon
from scipy.optimize import minimize_scalar

from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.cli.environment import PW_PREPEND
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.properties.elastic import Elastic
from aiida_gaprss.properties.suite import suite_of
from aiida_gaprss.report.validation import record_of
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.relax_crystals import RelaxCrystalsWorkChain
from aiida_gaprss.workflows.validate import ValidateWorkChain

ELASTIC = {"properties": {"elastic": None}, "geometry": "given", "reference_geometry": "relaxed"}

#: Diamond, stretched by 2 %.
STRETCHED = 5.431 * 1.02


def crystals(**named):
    for name, atoms in named.items():
        atoms.info = {"frame_id": name}
    return Dataset(list(named.values()), level_of_theory="unlabelled")


@pytest.fixture
def inputs(potential, python_code):
    def inputs(suite=ELASTIC, **more):
        given = {"crystals": crystals(diamond=bulk("Si", "diamond", STRETCHED)), "jobs": {"code": python_code}}
        return {"settings": Dict(suite_of(suite).model_dump()), "potentials": {"small": potential}, **given, **more}

    return inputs


@pytest.fixture
def by_sw(python_code, sw_settings):
    return {"ase": {"code": python_code, "settings": Dict(sw_settings)}}


def lattice_parameter(calculator):
    """Of diamond, where the energy is lowest (Å)."""

    def energy(a):
        atoms = bulk("Si", "diamond", a)
        atoms.calc = calculator
        return atoms.get_potential_energy()

    return minimize_scalar(energy, bracket=(5.3, 5.5), options={"xtol": 1e-7}).x


def test_an_ase_calculator_relaxes(run, inputs, by_sw, sw):
    """Its elastic constants are those where its energy is lowest; a crystal that it cannot relax is told, and as given."""
    both = crystals(diamond=bulk("Si", "diamond", STRETCHED), dense=bulk("Si", "fcc", 1.4))
    _, node = run(ValidateWorkChain, **inputs(label=by_sw, crystals=both))
    assert node.is_finished_ok, node.exit_message
    relaxed, dense = node.outputs.crystals.reference.get_frames()
    a = lattice_parameter(sw)
    assert 2 * relaxed.cell.array.max() == pytest.approx(a, abs=1e-4)
    assert relaxed.info["relax_status"] == "converged"
    assert dense.info["relax_status"] == "as given: no step was made (collapsed)"
    assert np.allclose(dense.cell, bulk("Si", "fcc", 1.4).cell)
    found = node.outputs.reference["diamond"]["elastic"]["C_GPa"]
    assert np.allclose(found, Elastic().compute(sw, bulk("Si", "diamond", a))["C_GPa"], atol=0.05)
    assert not np.allclose(found, Elastic().compute(sw, bulk("Si", "diamond", STRETCHED))["C_GPa"], atol=5)
    assert "small" not in node.outputs.crystals, "potentials take the crystals as given"
    record = record_of(node)["reference_crystals"]
    assert abs(record["diamond"]["pressure_GPa"]) < 0.01
    assert record["dense"]["status"] == "as given: no step was made (collapsed)"
    json.dumps(record)
    (job,) = [one for one in node.called if isinstance(one, CalcJobNode) and one.process_label == "RelaxCalculation"]
    assert "potential" not in job.inputs
    assert job.inputs.calculator.uuid == by_sw["ase"]["settings"].uuid


def test_a_potential_as_reference_relaxes(run, inputs, potential):
    """The same potential on both sides: what it relaxes, it relaxes to the same."""
    suite = {**ELASTIC, "geometry": "relaxed"}
    _, node = run(ValidateWorkChain, **inputs(suite, reference_potential=potential))
    assert node.is_finished_ok, node.exit_message
    mine, other = (node.outputs.crystals[name].get_frames()[0] for name in ("small", "reference"))
    assert np.allclose(mine.cell, other.cell, atol=1e-8)
    assert abs(mine.get_volume() / bulk("Si", "diamond", STRETCHED).get_volume() - 1) > 0.01
    found = node.outputs.reference["diamond"]["elastic"]["C_GPa"]
    assert np.allclose(node.outputs.results.small["diamond"]["elastic"]["C_GPa"], found, atol=1e-6)


def test_a_potential_as_reference_takes_crystals_as_given(run, inputs, potential):
    """Unless it is told to relax them."""
    suite = {**ELASTIC, "geometry": "relaxed", "reference_geometry": "given"}
    _, node = run(ValidateWorkChain, **inputs(suite, reference_potential=potential))
    assert node.is_finished_ok, node.exit_message
    assert set(node.outputs.crystals) == {"small"}
    assert record_of(node)["reference_crystals"] == {}


def test_a_reference_that_cannot_is_refused(inputs, code_here, python_code):
    code = code_here("castep-none", python_code.filepath_executable, "castep.castep")
    reference = {"code": code, "parameters": Dict({"cut_off_energy": 300}), "kpoint_spacing": Float(0.05), "pseudos": {}}
    ports = ValidateWorkChain.spec().inputs
    error = ports.validate(ports.pre_process(inputs(label={"castep": reference})))
    assert "reference_geometry is relaxed, but castep relaxes no crystals" in error.message
    assert error.message.count("references that do: ase, quantumespresso") == 1


# --- the job ---


def test_relaxations_by_a_calculator(run, python_code):
    """Those of ASE's own filter and optimiser."""
    frame = bulk("Cu", a=3.7, cubic=True)
    frame.symbols[0] = "Au"
    frame.rattle(0.03, seed=1)
    frame.info["frame_id"] = "alloy"
    settings = Dict({"fmax": 1e-4, "max_steps": 200, "snapshot_steps": []})
    emt = Dict({"calculator": "emt"})
    outputs, node = run(RelaxCalculation, code=python_code, calculator=emt, frames=Dataset([frame]), settings=settings)
    assert node.is_finished_ok, node.exit_message
    (ours,) = outputs["frames"].get_frames()
    theirs = frame.copy()
    theirs.calc = EMT()
    BFGS(FrechetCellFilter(theirs), logfile=None).run(fmax=1e-5, steps=300)
    assert ours.info["PRED_energy"] == pytest.approx(theirs.get_potential_energy(), abs=1e-6)
    assert ours.get_volume() == pytest.approx(theirs.get_volume(), rel=1e-4)
    assert ours.info["parent"] == "alloy"
    assert "potential" not in ours.info


def test_one_thing_drives_relaxations(run, python_code, potential, dataset):
    emt = Dict({"calculator": "emt"})
    with pytest.raises(ValueError, match="give one of potential and calculator, got none"):
        run(RelaxCalculation, code=python_code, frames=dataset)
    with pytest.raises(ValueError, match="give one of potential and calculator, got potential and calculator"):
        run(RelaxCalculation, code=python_code, frames=dataset, potential=potential, calculator=emt)
    with pytest.raises(ValueError, match="'nonsense' is no calculator"):
        run(RelaxCalculation, code=python_code, frames=dataset, calculator=Dict({"calculator": "nonsense"}))


# --- pw.x ---

needs_pw = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="pw.x is not installed (Debian: apt-get install quantum-espresso)"),
    pytest.mark.skipif(importlib.util.find_spec("aiida_quantumespresso") is None, reason="needs pip install 'aiida-gaprss[qe]'"),
]


@pytest.fixture
def espresso(code_here, tmp_path):
    return {
        "code": code_here("pw-real", shutil.which("pw.x"), "quantumespresso.pw", PW_PREPEND),
        "pseudos": silicon_and_carbon(tmp_path),
        "parameters": Dict({"SYSTEM": {"ecutwfc": 20.0}, "ELECTRONS": {"conv_thr": 1e-10}}),
        "kpoint_spacing": Float(0.12),
        "max_iterations": Int(2),
    }


def pressure(atoms):
    return np.trace(atoms.info["REF_virial"].reshape(3, 3)) / 3 / atoms.get_volume() / GPa


class TestPw:
    pytestmark = needs_pw

    def test_pw_relaxes_to_where_its_single_points_have_no_stress(self, run, espresso):
        """From 2 % off: no stress is left in the basis of the relaxed cell, and the energies are lowest nearby (Pulay)."""
        given = crystals(diamond=bulk("Si", "diamond", STRETCHED))
        outputs, node = run(RelaxCrystalsWorkChain, frames=given, quantumespresso=espresso)
        assert node.is_finished_ok, node.exit_message
        (relaxed,) = outputs["frames"].get_frames()
        assert relaxed.info["relax_status"] == "converged"
        a = 2 * relaxed.cell.array.max()
        cubic = bulk("Si", "diamond", a)
        assert np.allclose(relaxed.cell, cubic.cell, atol=1e-5), "the symmetry is kept"
        assert np.allclose(relaxed.get_scaled_positions(), cubic.get_scaled_positions(), atol=1e-6)
        scales = (1.0, 0.985, 0.995, 1.005, 1.015)
        frames = {f"x{scale}": bulk("Si", "diamond", a * scale) for scale in scales}
        outputs, node = run(LabelWorkChain, frames=crystals(**frames), quantumespresso=espresso, max_concurrent=2)
        assert node.is_finished_ok, node.exit_message
        there, *_ = labelled = outputs["frames"].get_frames()
        assert abs(pressure(there)) < 0.012, "GPa; the threshold is 0.1 kbar, and a tenth of it"
        assert there.info["REF_energy"] == pytest.approx(relaxed.info["REF_energy"], abs=1e-6)
        slope = np.polyfit(scales, [pressure(atoms) for atoms in labelled], 2)
        assert np.roots(slope)[np.abs(np.roots(slope) - 1).argmin()] == pytest.approx(1, abs=2e-4)
        lowest = np.roots(np.polyder(np.polyfit(scales, [atoms.info["REF_energy"] for atoms in labelled], 3)))
        # With 20 Ry the number of plane waves, which the stress keeps and the energies do not, makes 0.2 %.
        assert lowest[np.abs(lowest - 1).argmin()] == pytest.approx(1, abs=4e-3)

    def test_order_retries_and_failures(self, run, espresso):
        """Atoms come back in their order; an attempt that fails is followed by the next; what cannot be relaxed says why."""
        chain = bulk("SiC", "zincblende", 4.4)[[1, 0]]
        chain.positions[0] += 0.05
        hopeless = bulk("Si", "diamond", STRETCHED)
        hopeless.positions[1] = hopeless.positions[0]  # pw.x refuses atoms that overlap
        frames = crystals(carbide=chain, hopeless=hopeless)
        parameters = {"SYSTEM": {"ecutwfc": 24.0}, "ELECTRONS": {"conv_thr": 1e-8, "electron_maxstep": 2}}
        inputs = espresso | {
            "parameters": Dict(parameters),
            "retries": List([{"ELECTRONS": {"electron_maxstep": 60}, "CELL": {"press_conv_thr": 1.0}}]),
            "max_iterations": Int(1),
        }
        limits = {"max_failed_fraction": 1.0, "min_distance_factor": 0.0}
        outputs, _ = run(RelaxCrystalsWorkChain, frames=frames, quantumespresso=inputs, **limits)
        carbide, failed = outputs["frames"].get_frames()
        assert carbide.info["relax_status"] == "converged", carbide.info
        assert carbide.info["label_attempt"] == 2
        assert carbide.get_chemical_symbols() == ["C", "Si"]
        assert carbide.get_distance(0, 1, mic=True) == pytest.approx(
            np.sqrt(3) / 4 * (4 * carbide.get_volume()) ** (1 / 3), rel=0.01
        )
        assert "relax_status" not in failed.info or failed.info["relax_status"] != "converged"
        assert failed.info["label_status"].startswith("failed: ")
