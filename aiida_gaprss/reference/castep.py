"""Labels from CASTEP through aiida-castep's ``CastepBaseWorkChain``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiida.common import AttributeDict
from aiida.engine import PortNamespace
from aiida.orm import Bool, Dict, KpointsData, StructureData
from aiida.plugins import WorkflowFactory
from ase import Atoms
from pydantic import Field

from aiida_gaprss.io import castep as castep_file
from aiida_gaprss.io.common import Step
from aiida_gaprss.levels import NOT_TOLD, PSEUDOPOTENTIAL, Level
from aiida_gaprss.reference import common, flat, plugins
from aiida_gaprss.reference.base import Program
from aiida_gaprss.reference.settings import PseudosSettings, of_element
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.settings.model import Label, Line

#: What isolated atoms share with the cells.
BASIS = ("cut_off_energy", "basis_precision", "fine_grid_scale", "grid_scale", "xc_functional")

NAME = "CASTEP"
PROGRAM = Program(
    "castep.castep", "register it with verdi code create core.code.installed, plugin castep.castep", pattern=r"castep\.\w+"
)
PLUGINS = (
    plugins.Plugin(
        "aiida-castep",
        "aiida-castep>=2",
        tuple(f"aiida_castep.{name}" for name in ("calculations.helper", "calculations.inpgen", "calculations.tools")),
        "it needs numpy below 2, so Python 3.10 or 3.11",
    ),
)
OUTPUTS = ("output_parameters", "output_array")

#: Of a bundle: CASTEP writes its output to a file named after the seed, errors to files of their own.
BUNDLE_SEED = "aiida"
BUNDLE_STDOUT, BUNDLE_OUTPUT = "stdout.txt", f"{BUNDLE_SEED}.castep"
BUNDLE_KEEP = (f"{BUNDLE_SEED}.cell", f"{BUNDLE_SEED}.param", BUNDLE_OUTPUT, "*.err", BUNDLE_STDOUT, "stderr.txt")

#: The same for every label. With ``calculate_stress``, CASTEP's own choice would be to correct for the finite basis: three SCF
#: runs at different cut-offs, of which the plugin returns the last energy, not the corrected one.
SET_HERE: dict[str, Any] = {"task": "singlepoint", "calculate_stress": True, "finite_basis_corr": 0}

#: How the values of ``SET_HERE`` may be written by those who give them nevertheless.
_SAME = {"task": ("singlepoint", "single_point"), "finite_basis_corr": ("none", "0")}

#: Keywords that something else sets, or that would break what is promised of a label; keywords and reason.
_REFUSED: tuple[tuple[str, str], ...] = (
    (r"param|cell", "give CASTEP keywords flat, those of the param and of the cell file together"),
    (r"continuation|reuse", "every label is calculated from scratch"),
    (r"(energy|force|pressure|length)_unit", "the output is read in eV, eV/Å and GPa"),
    (r"kpoints?_.*|bs_kpoint.*", "k-points are given by kpoint_spacing"),
    (r"lattice_.*|positions_.*", "cell and positions are those of the frame"),
    (r"species_pot", "pseudopotentials are given by pseudos"),
    (r"snap_to_symmetry", "atoms would be moved: the labels would belong to another structure"),
    (r"fix_all_ions|ionic_constraints|nonlinear_constraints", "forces would be those of constrained atoms"),
)

#: Numbers that fit one cell only.
_OF_ONE_CELL = {"nelectrons", "nup", "ndown", "nbands"}

#: Parameters that do not decide the value of a label: what is set here, ways to the same self-consistent density, what is
#: written, and how the work is shared out.
_NOT_THE_LEVEL = re.compile(
    r"task|calculate_.*|finite_basis_corr|sedc_apply|sedc_scheme"
    r"|max_scf_cycles|mix.*|nextra_bands|perc_extra_bands|nbands|num_occ_cycles|max_cg_steps|max_sd_steps"
    r"|elec_restore_file|elec_dump_file|rand_seed"
    r"|iprint|write_.*|comment|popn_.*|pdos_.*|print_.*|stop|run_time|backup_interval|num_backup_iter|num_dump_cycles"
    r"|opt_strategy.*|page_.*|data_distribution|num_farms.*|num_proc_in_smp.*|max_memory|symmetry_generate"
)

_UNITS = {"unit_energy": "eV", "unit_force": "eV/A", "unit_pressure": "GPa"}

_FORCES = re.compile(r"^ \*+ (?:Symmetrised )?Forces \*+ *$")
_ATOM = re.compile(r"^ \* +([A-Z][a-z]?)\S* +\d+( +\S+){3} \*")


class CastepReference(PseudosSettings):
    """Labels from CASTEP through aiida-castep."""

    FILES = (".usp", ".uspcc", ".recpot")

    code: Label = Field(description="label of the CASTEP code, e.g. castep@cluster")
    pseudos: dict[str, Line] | Line = Field(
        description="per element an on-the-fly string, a library (C19) or a usp or recpot file; or the label of a family"
    )
    parameters: dict[str, Any] = Field(description="keywords of the param and cell files, flat")


SETTINGS = CastepReference


def inputs(settings: CastepReference, elements: Sequence[str], folder: Path) -> tuple[dict[str, Any], list[Fault]]:
    """Return the inputs that settings become, and what is wrong with them in this profile."""
    if lack := plugins.needed(PLUGINS):
        return settings.nodes(), [Fault((), lack)]
    pseudos, faults = settings.pseudo_nodes(_family, _pseudo, elements, folder)
    return {**settings.nodes(), "pseudos": pseudos}, faults


def _family(label: str, elements: tuple[str, ...]) -> dict[str, Any]:
    """Return the pseudopotentials of a family as the plugin chooses them: a library serves elements without one of their own."""
    from aiida_castep.data import get_pseudos_from_structure

    structure = StructureData()
    for number, symbol in enumerate(elements):
        structure.append_atom(position=(0.0, 0.0, float(number)), symbols=symbol)
    return dict(get_pseudos_from_structure(structure, label))


def _pseudo(symbol: str, text: str, folder: Path) -> Any:
    """Return the node of a pseudopotential file, of a library (C19), or of a string that generates one."""
    from aiida_castep.data.otfg import OTFGData
    from aiida_castep.data.usp import UspData
    from aiida_castep.data.utils import split_otfg_entry

    if text.lower().endswith(CastepReference.FILES):
        path = (folder / text).resolve()
        return of_element(UspData.get_or_create(path, element=symbol, use_first=True)[0], symbol, path.name)
    element, string = split_otfg_entry(text)
    if element == "LIBRARY":
        return OTFGData.get_or_create(string, use_first=True)[0]
    if element not in (None, symbol):
        raise ValueError(f"{text!r} is a pseudopotential of {element}, not of {symbol}")
    return OTFGData.get_or_create(f"{symbol} {string}", use_first=True)[0]


def define(namespace: PortNamespace) -> None:
    """Define the ports."""
    plugins.define_job(namespace, PLUGINS, "CASTEP.")
    common.port(
        namespace,
        "parameters",
        Dict,
        f"Keywords of the param and cell files, flat; {', '.join(SET_HERE)} are set here.",
        validator=_validate_parameters,
    )
    common.define_common(namespace, BASIS)
    flat.define_max_iterations(namespace, NAME)
    common.define_pseudos(namespace, "Pseudopotential (OTFGData, UspData or UpfData) of each element.")


def _validate_parameters(node: Any, _: Any) -> str | None:
    return None if node is None else _fault(node.get_dict())


def _fault(parameters: dict[str, Any], isolated: bool = False) -> str | None:
    """Return what is wrong with the parameters of a calculation, or None."""
    given = flat.lower(parameters)
    for key in given:
        for pattern, reason in _REFUSED:
            if re.fullmatch(pattern, key):
                return f"{key} must not be given: {reason}"
        if not isolated and key in _OF_ONE_CELL:
            return f"{key} must not be given for all cells: its value fits one of them (isolated_parameters may have it)"
    for key, value in SET_HERE.items():
        if key in given and not (flat.is_true(given[key]) if value is True else str(given[key]).strip().lower() in _SAME[key]):
            return f"{key} is set to {value} here, got {given[key]!r}"
    cutoff = given.get("cut_off_energy")
    if "cut_off_energy" in given and not (isinstance(cutoff, int | float) and not isinstance(cutoff, bool) and cutoff > 0):
        return f"cut_off_energy must be a positive number (eV), got {cutoff!r}"
    if "cut_off_energy" not in given and "basis_precision" not in given:
        return "cut_off_energy (eV) or basis_precision must be given"
    if flat.is_true(given.get("sedc_apply")) or str(given.get("sedc_scheme", "none")).strip().lower() != "none":
        return "dispersion corrections (sedc_*) are not supported: aiida-castep returns the energy without the correction"
    if flat.is_true(given.get("write_none")) or ("write_bands" in given and not flat.is_true(given["write_bands"])):
        return "the bands file must be written: aiida-castep wants its content (write_none, write_bands)"
    return _refused_by_plugin(given)


def _refused_by_plugin(given: dict[str, Any]) -> str | None:
    """Return what aiida-castep finds wrong with keywords, or None; where it cannot be imported it is not asked."""
    if plugins.needed(PLUGINS):
        return None
    from aiida_castep.calculations.tools import flat_input_param_validator

    message: str | None = flat_input_param_validator(given)
    return message


def _level(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what decides the value of a label."""
    level = {key: value for key, value in sorted(flat.lower(parameters).items()) if not _NOT_THE_LEVEL.fullmatch(key)}
    for key in ("elec_method", "metals_method"):  # density mixing and EDFT come to the same; "none" means fixed occupancies
        if str(level.get(key)).strip().lower() in ("dm", "edft"):
            del level[key]
    return level


def missing(inputs: Any, elements: Sequence[str]) -> list[Fault]:
    """Return what the inputs lack to label frames of ``elements``."""
    if lack := plugins.needed(PLUGINS):
        return [Fault((), lack)]
    return common.without_pseudos(inputs, elements) + common.faults_of_attempts(inputs, _fault, _level)


def level_of_theory(inputs: Any) -> dict[str, Any]:
    """Return functional, cut-offs, smearing and spin, k-point spacing and pseudopotentials."""
    level: dict[str, Any] = {"code": NAME, "settings": _level(inputs["parameters"].get_dict())}
    if "isolated_parameters" in inputs:
        level["isolated_atoms"] = _level(inputs["isolated_parameters"].get_dict())
    content = {
        **level,
        **common.other_levels(inputs),
        "kpoint_spacing": inputs["kpoint_spacing"].value,
        "pseudos": _pseudo_names(inputs["pseudos"]),
    }
    words, left = _in_words(dict(level["settings"]), inputs["pseudos"])
    return common.in_words(
        words, content, left, ("elec_energy_tol", "elec_eigenvalue_tol", "elec_convergence_win", "fine_grid_scale")
    )


#: Names of functionals in CASTEP's input, and how its output is read.
_FUNCTIONALS = {"LDA": "LDA", "PBE": "PBE", "PBESOL": "PBEsol", "RPBE": "RPBE", "PW91": "PW91"}


def _in_words(settings: dict[str, Any], pseudos: Any) -> tuple[Level, dict[str, Any]]:
    """Return what an output would tell of the settings, with CASTEP's own values where none is given, and the others."""
    name = str(settings.pop("xc_functional", "LDA")).upper()
    cutoff = settings.pop("cut_off_energy", None)
    fixed = flat.is_true(settings.pop("fix_occupancy", False)) | any(
        str(settings.pop(key, "dm")).strip().lower() in ("none", "allbands") for key in ("elec_method", "metals_method")
    )
    scheme, width = str(settings.pop("smearing_scheme", "Gaussian")).strip(), settings.pop("smearing_width", 0.2)
    polarised = flat.is_true(settings.pop("spin_polarized", False))
    words = {
        "functional": _FUNCTIONALS.get(name, name),
        "cutoff": f"cutoff {cutoff:g} eV" if cutoff else f"cutoff {NOT_TOLD}",
        "smearing": "fixed occupancies" if fixed else f"{scheme.capitalize()} smearing {_width(width)}",
        "spin": "spin-polarised" if polarised else "not spin-polarised",
        "dispersion": "no dispersion correction",
        "finite basis": "no finite basis correction",
    }
    also = {"standard grid": f"{float(settings.pop('grid_scale', 1.75)):g}"}
    names = {
        symbol: node.base.attributes.get("otfg_entry", None) or node.base.attributes.get("filename", None) or NOT_TOLD
        for symbol, node in pseudos.items()
    }
    return Level("CASTEP", settings=words, elements={PSEUDOPOTENTIAL: names}, also=also), settings


def _width(value: Any) -> str:
    return f"{value:g} eV" if isinstance(value, int | float) else str(value)


def _pseudo_names(pseudos: Any) -> dict[str, str]:
    """Return of each element the string that generates its pseudopotential, or file name and checksum."""
    names = {symbol: node.base.attributes.get("otfg_entry", None) for symbol, node in sorted(pseudos.items())}
    files = common.pseudo_names({symbol: pseudos[symbol] for symbol in names if names[symbol] is None})
    return {**names, **files}


@plugins.needs(PLUGINS)
def submission(inputs: Any, structure: StructureData, isolated: bool, attempt: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return the process class and inputs that label ``structure``; an isolated atom gets the Γ point only.

    Unless told otherwise, the work chain of the plugin tries once: by itself it would repeat an unconverged SCF up to ten times,
    each half as long again as the last, and its handler of calculations that ran out of time raises. What is to be tried again is
    given by ``retries``.
    """
    parameters = {**flat.lower(common.parameters_of(inputs, isolated, attempt)), **SET_HERE}
    return WorkflowFactory("castep.base"), {
        "calc": {
            "code": inputs["code"],
            "structure": structure,
            "parameters": common.shared(Dict(parameters)),
            "kpoints": common.shared(_kpoints(np.array(structure.cell), inputs["kpoint_spacing"].value, isolated)),
            "pseudos": {kind.symbol: inputs["pseudos"][kind.symbol] for kind in structure.kinds},
        },
        "calc_options": common.shared(Dict(common.job_options(inputs))),
        "max_iterations": flat.max_iterations(inputs),
        "clean_workdir": common.shared(Bool(True)),  # what is kept is in the retrieved files
    }


def bundle_command(inputs: Any) -> str:
    """Return the shell lines that run CASTEP in the folder of a frame, where it wants the pseudopotential files."""
    program = shlex.quote(str(inputs["code"].filepath_executable))
    return f'for file in ../../pseudo/*; do if [ -e "$file" ]; then ln -sf "$file" .; fi; done\n{program} {BUNDLE_SEED}'


def bundle_pseudos(inputs: Any) -> dict[str, bytes]:
    """Return the files of pseudopotentials by name; those that CASTEP generates need none."""
    pseudos = inputs["pseudos"]
    return common.files_of({symbol: pseudos[symbol] for symbol in pseudos if "otfg_entry" not in pseudos[symbol].base.attributes})


@plugins.needs(PLUGINS)
def bundle_files(inputs: Any, atoms: Atoms, parameters: dict[str, Any], isolated: bool) -> dict[str, str]:
    """Return the input files of one frame by name: what the plugin itself would write.

    :param atoms: sorted by atomic number.
    """
    from aiida_castep.calculations.helper import CastepHelper
    from aiida_castep.calculations.inpgen import CastepInputGenerator

    generator = CastepInputGenerator()
    generator.inputs = AttributeDict(
        {
            "structure": StructureData(ase=atoms),
            "parameters": Dict(CastepHelper().check_dict({**flat.lower(parameters), **SET_HERE})),
            "kpoints": _kpoints(atoms.cell.array, inputs["kpoint_spacing"].value, isolated),
            "pseudos": {symbol: inputs["pseudos"][symbol] for symbol in set(atoms.get_chemical_symbols())},
            "metadata": {"options": {"use_kpoints": True}},
        }
    )
    generator.prepare_inputs()
    return {
        f"{BUNDLE_SEED}.cell": generator.cell_file.get_string(),
        f"{BUNDLE_SEED}.param": generator.param_file.get_string(),
    }


def read_bundle(text: str) -> Step:
    """Return the one step of the output of CASTEP.

    :raises ValueError: with the reason, if it has no complete one.
    """
    return common.step_of(castep_file.read(text), NAME)


def _kpoints(cell: np.ndarray, spacing: float, isolated: bool) -> KpointsData:
    """Return a node, not stored, of the mesh that contains Γ.

    CASTEP's own mesh is that of Monkhorst and Pack, u = (2r − n − 1)/2n, which contains Γ only for odd n. For even n it is
    shifted by half a step, 1/2n. The plugin writes the offset of the node as CASTEP's ``kpoints_mp_offset``, a fraction of the
    reciprocal lattice vector, not of the step.
    """
    node = common.kpoints(cell, spacing, isolated)
    divisions = node.get_kpoints_mesh()[0]
    node.set_kpoints_mesh(divisions, offset=[0.0 if n % 2 else -0.5 / n for n in divisions])
    return node


def labels(outputs: dict[str, Any], symbols: list[str]) -> tuple[float, np.ndarray, np.ndarray]:
    """Return energy (eV), forces (eV/Å) and ASE stress (3×3, eV/Å³) of the sorted structure.

    The energy is the free energy E − TS, the one the forces belong to; with fixed occupancies CASTEP prints the total energy
    only, which is then the same. The plugin gives the stress in GPa with the sign of ASE (compressed: negative diagonal). It has
    no symbols for a single point: those of the forces are read from the retrieved output file.

    :param symbols: of the atoms that were sent, in their order.
    :raises ValueError: if a label is missing, the SCF is not converged, or the atoms came back in another order.
    """
    node = outputs["output_array"]
    text = _output_file(node)
    if re.search(r"^ *Dispersion corrected final|corrected for finite basis set *=", text, re.MULTILINE):
        raise ValueError("the energy is corrected for dispersion or the finite basis, which aiida-castep does not read")
    parameters = outputs["output_parameters"].get_dict()
    if "ERROR_SCF_NOT_CONVERGED" in parameters["warnings"]:  # the plugin lets it pass if the program ended in good order
        raise ValueError("the SCF is not converged")

    arrays = {name: node.get_array(name) for name in node.get_arraynames()}
    energies = arrays.get("free_energy", arrays.get("total_energy", ()))
    if len(energies) != 1:
        raise ValueError(f"expected the energy of one SCF in the output, found {len(energies)}")
    stress = arrays.get("stress", arrays.get("symm_stress"))
    if stress is None or "forces" not in arrays:
        raise ValueError(f"CASTEP printed no {'stress' if stress is None else 'unconstrained forces'}")
    wrong = [f"{key} {parameters.get(key)!r}" for key, unit in _UNITS.items() if parameters.get(key) != unit]
    if wrong:
        raise ValueError(f"expected output in {', '.join(_UNITS.values())}, got {', '.join(wrong)}")
    came = _symbols_of_forces(text)
    if came != list(symbols):
        raise ValueError(f"CASTEP was sent {' '.join(symbols)}, but its forces are of {' '.join(came)}")
    return float(energies[0]), np.array(arrays["forces"][-1]), stress[-1] / common.GPA_PER_EV_A3


def _output_file(node: Any) -> str:
    """Return the content of the ``.castep`` file that ``node`` was read from."""
    calculation = node.creator
    return str(calculation.outputs.retrieved.base.repository.get_object_content(calculation.get_option("output_filename")))


def _symbols_of_forces(text: str) -> list[str]:
    """Return the symbols in the last table of forces of a ``.castep`` file, in its order."""
    symbols: list[str] = []
    inside = False
    for line in text.splitlines():
        if _FORCES.match(line):
            symbols, inside = [], True
        elif line.startswith(" ****"):
            inside = False
        elif inside and (match := _ATOM.match(line)):
            symbols.append(match[1])
    return symbols


def seconds(outputs: dict[str, Any]) -> float | None:
    """Return how long CASTEP ran, s of the wall; None if it does not say."""
    found = outputs["output_parameters"].get_dict().get("total_time")
    return float(found) if found else None
