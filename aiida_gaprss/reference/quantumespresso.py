"""Labels and relaxed crystals from Quantum ESPRESSO through aiida-quantumespresso's work chains."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from aiida.engine import PortNamespace
from aiida.orm import Bool, Dict, Float, FolderData, Int, StructureData, load_group
from aiida.plugins import CalculationFactory, WorkflowFactory
from ase import Atoms, units
from pydantic import AfterValidator, Field

from aiida_gaprss.io import espresso
from aiida_gaprss.io.common import Step
from aiida_gaprss.io.espresso_level import FUNCTIONALS
from aiida_gaprss.levels import NOT_TOLD, PSEUDOPOTENTIAL, Level
from aiida_gaprss.outside import shown
from aiida_gaprss.reference import common, plugins
from aiida_gaprss.reference.base import Moved, Program
from aiida_gaprss.reference.settings import PseudosSettings, of_element
from aiida_gaprss.settings.faults import Fault, FaultError
from aiida_gaprss.settings.jobs import ReferenceMdSettings
from aiida_gaprss.settings.model import Label, Line

NAME = "Quantum ESPRESSO"
PROGRAM = Program("quantumespresso.pw", "Debian: apt-get install quantum-espresso; then `aiida-gaprss setup`")
PLUGINS = (
    plugins.Plugin("aiida-quantumespresso", "aiida-quantumespresso>=5.1", ("aiida_quantumespresso.calculations.pw",)),
    plugins.Plugin("aiida-pseudo", "aiida-pseudo>=1.7", ("aiida_pseudo.data.pseudo.upf",)),
)
OUTPUTS = ("output_parameters", "output_trajectory")
RELAXED_OUTPUTS = (*OUTPUTS, "output_structure")

#: What isolated atoms share with the cells.
BASIS = ("ecutwfc", "ecutrho", "ecutfock", "input_dft", "vdw_corr")

#: Of a bundle: input and output of every frame, and what is kept of its folder.
BUNDLE_INPUT, BUNDLE_OUTPUT = "aiida.in", "aiida.out"
BUNDLE_STDOUT = BUNDLE_OUTPUT
BUNDLE_KEEP = (BUNDLE_INPUT, BUNDLE_OUTPUT, "CRASH", "stderr.txt")

#: What pw.x does if nothing is said. The plugin wants it said: else it takes filled bands for too few, and runs pw.x twice.
FIXED: dict[str, Any] = {"SYSTEM": {"occupations": "fixed"}}

#: Of a relaxation: thresholds in Ry, Ry/Bohr and kbar, if the parameters have none. The plugin looks for these namelists.
RELAXATION: dict[str, Any] = {
    "CONTROL": {"etot_conv_thr": 1e-6, "forc_conv_thr": 1e-4},
    "IONS": {"ion_dynamics": "bfgs"},
    "CELL": {"cell_dynamics": "bfgs", "press_conv_thr": 0.1},
}

#: Of a trajectory: each step begins with what the three before it let expect.
EXTRAPOLATION = {"pot_extrapolation": "second_order", "wfc_extrapolation": "second_order"}

#: Of SYSTEM: does not change what is computed.
NOT_THE_LEVEL = {"nbnd", "ibrav", "nat", "ntyp"}


def _namelists(retry: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in retry.items() if key != common.OTHER_LEVEL}
    wrong = {key: value for key, value in given.items() if not isinstance(value, dict)}
    if wrong:
        message = "expected a namelist of pw.x, keys and values (got {})"
        raise FaultError([Fault((key,), message.format(shown(repr(value), 100))) for key, value in wrong.items()])
    return retry


class QuantumEspressoReference(PseudosSettings):
    """Labels from pw.x through aiida-quantumespresso."""

    FILES = ("",)

    code: Label = Field(description="label of the pw.x code, e.g. pw@localhost")
    pseudos: dict[str, Line] | Line = Field(description="UPF file per element, or the label of a pseudopotential family")
    parameters: dict[str, dict[str, Any]] = Field(description="namelists of pw.x; IONS and CELL are for relaxed crystals")
    isolated_parameters: dict[str, dict[str, Any]] | None = Field(None, description="merged into them for isolated atoms")
    retries: list[Annotated[dict[str, Any], AfterValidator(_namelists)]] = Field(
        default_factory=list, description="merged into them, one after another, when a frame has failed"
    )


SETTINGS = QuantumEspressoReference


def inputs(settings: QuantumEspressoReference, elements: Sequence[str], folder: Path) -> tuple[dict[str, Any], list[Fault]]:
    """Return the inputs that settings become, and what is wrong with them in this profile."""
    if lack := plugins.needed(PLUGINS):
        return settings.nodes(), [Fault((), lack)]
    pseudos, faults = settings.pseudo_nodes(_upf_family, _upf, elements, folder)
    return {**settings.nodes(), "pseudos": pseudos}, faults


def _upf_family(label: str, elements: tuple[str, ...]) -> dict[str, Any]:
    return dict(load_group(label).get_pseudos(elements=elements))


def _upf(symbol: str, text: str, folder: Path) -> Any:
    from aiida_pseudo.data.pseudo.upf import UpfData

    path = folder / text
    with path.open("rb") as handle:
        pseudo = UpfData.get_or_create(handle, filename=path.name)
    return of_element(pseudo, symbol, path.name)


def define(namespace: PortNamespace) -> None:
    """Define the ports."""
    plugins.define_job(namespace, PLUGINS, "pw.x.")
    common.port(
        namespace,
        "parameters",
        Dict,
        "Namelists of pw.x; calculation, tprnfor and tstress are set here, IONS and CELL are for relaxed crystals.",
        validator=_validate_parameters,
    )
    common.define_common(namespace, BASIS)
    common.port(
        namespace,
        "max_iterations",
        Int,
        "How often the plugin by itself runs pw.x for one attempt (restarts, weaker mixing); default: the plugin's, 5.",
        required=False,
    )
    common.define_pseudos(namespace, "Pseudopotential (UpfData) of each element.")


def _validate_parameters(node: Any, _: Any) -> str | None:
    if node is None:
        return None
    namelists = {key.upper(): value for key, value in node.get_dict().items()}
    system = {key.lower(): value for key, value in namelists.get("SYSTEM", {}).items()}
    control = {key.lower(): value for key, value in namelists.get("CONTROL", {}).items()}
    if control.get("disk_io") == "none":
        return "CONTROL.disk_io must not be 'none': pw.x would not write the XML file that the plugin reads"
    if not isinstance(system.get("ecutwfc"), int | float):
        return f"SYSTEM.ecutwfc (Ry) must be given as a number, got {system.get('ecutwfc')!r}"
    return None


def missing(inputs: Any, elements: Sequence[str]) -> list[Fault]:
    """Return what the inputs lack to label frames of ``elements``."""
    if lack := plugins.needed(PLUGINS):
        return [Fault((), lack)]
    faults = common.without_pseudos(inputs, elements)
    return faults + common.faults_of_attempts(inputs, lambda parameters, isolated: None, _level)


def level_of_theory(inputs: Any) -> dict[str, Any]:
    """Return cutoffs, smearing, k-point spacing and pseudopotentials."""
    level: dict[str, Any] = {"code": NAME}
    for name, node in (("settings", "parameters"), ("isolated_atoms", "isolated_parameters")):
        if node in inputs:
            level[name] = _level(inputs[node].get_dict())
    content = {
        **level,
        **common.other_levels(inputs),
        "kpoint_spacing": inputs["kpoint_spacing"].value,
        "pseudos": common.pseudo_names(inputs["pseudos"]),
    }
    words, left = _in_words(dict(level["settings"]), inputs["pseudos"])
    return common.in_words(words, content, left, ("conv_thr",))


#: Kinds of smearing in the input of pw.x, and their names in its output.
_SMEARINGS = {
    **dict.fromkeys(("gaussian", "gauss"), "gaussian"),
    **dict.fromkeys(("methfessel-paxton", "m-p", "mp"), "Methfessel-Paxton"),
    **dict.fromkeys(("marzari-vanderbilt", "cold", "m-v", "mv"), "Marzari-Vanderbilt"),
    **dict.fromkeys(("fermi-dirac", "f-d", "fd"), "Fermi-Dirac"),
}
_DISPERSIONS = {
    "grimme-d2": "D2",
    "dft-d": "D2",
    "grimme-d3": "D3",
    "dft-d3": "D3",
    "ts": "TS",
    "ts-vdw": "TS",
    "xdm": "XDM",
    "mbd": "MBD",
}


def _in_words(settings: dict[str, Any], pseudos: Any) -> tuple[Level, dict[str, Any]]:
    """Return what an output would tell of the settings, with the values of pw.x itself where none is given, and the others."""
    cutoff = float(settings.pop("ecutwfc", 0.0))
    density = float(settings.pop("ecutrho", 4 * cutoff))
    occupations = str(settings.pop("occupations", "fixed")).lower()
    kind, width = str(settings.pop("smearing", "gaussian")).lower(), settings.pop("degauss", 0.0)
    smearing = {"smearing": f"{_SMEARINGS.get(kind, kind)} smearing {width:g} Ry", "fixed": "fixed occupancies"}
    spin = {1: "not spin-polarised", 2: "spin-polarised"}.get(settings.pop("nspin", 1), NOT_TOLD)
    spin = "non-collinear spins" if settings.pop("noncolin", False) else spin
    vdw = str(settings.pop("vdw_corr", "none")).lower()
    words = {
        "functional": str(settings.pop("input_dft", "")) or _functional(pseudos),
        "cutoff": f"cutoff {cutoff:g}/{density:g} Ry",
        "smearing": smearing.get(occupations, "tetrahedra" if "tetrahedr" in occupations else occupations),
        "spin": spin + (" with spin-orbit coupling" if settings.pop("lspinorb", False) else ""),
        "dispersion": "no dispersion correction" if vdw == "none" else f"dispersion correction {_DISPERSIONS.get(vdw, vdw)}",
    }
    charge = float(settings.pop("tot_charge", 0.0))
    words |= {"charge": f"charge {charge:+g}"} if charge else {}
    names = {symbol: re.sub(r" (\w{8})$", r" (md5 \1)", name) for symbol, name in common.pseudo_names(pseudos).items()}
    return Level(NAME, settings=words, elements={PSEUDOPOTENTIAL: names}), settings


def _functional(pseudos: Any) -> str:
    """Return the functional that the pseudopotentials were made for, which pw.x takes."""
    found = set()
    for node in pseudos.values():
        content = node.get_content(mode="rb").decode(errors="replace") if "filename" in node.base.attributes.all else ""
        match = re.search(r'functional="\s*([^"]*?)\s*"', content)
        name = " ".join(match[1].replace("-", " ").split()) if match else NOT_TOLD
        found.add(FUNCTIONALS.get(name, name))
    return found.pop() if len(found) == 1 else NOT_TOLD


def _level(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that decide the value of a label."""
    namelists = {key.upper(): value for key, value in parameters.items()}
    level = {key.lower(): value for key, value in namelists.get("SYSTEM", {}).items() if key.lower() not in NOT_THE_LEVEL}
    electrons = {key.lower(): value for key, value in namelists.get("ELECTRONS", {}).items()}
    return level | {key: electrons[key] for key in ("conv_thr",) if key in electrons}


def _single_point(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the namelists of a label: an SCF with forces and stress."""
    namelists = {key.upper(): value for key, value in parameters.items() if key.upper() not in ("IONS", "CELL")}
    return common.merged(common.merged(FIXED, namelists), {"CONTROL": {"calculation": "scf", "tprnfor": True, "tstress": True}})


def _relaxation(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the namelists of a relaxation of cell and atoms at zero pressure."""
    namelists = common.merged({**FIXED, **RELAXATION}, {key.upper(): value for key, value in parameters.items()})
    set_here = {"CONTROL": {"calculation": "vc-relax", "tprnfor": True, "tstress": True}, "CELL": {"press": 0.0}}
    return common.merged(namelists, set_here)


@plugins.needs(PLUGINS)
def submission(inputs: Any, structure: StructureData, isolated: bool, attempt: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return the process class and inputs that label ``structure``; an isolated atom gets the Γ point only."""
    parameters = _single_point(common.parameters_of(inputs, isolated, attempt))
    process_inputs: dict[str, Any] = {
        "pw": {
            "code": inputs["code"],
            "structure": structure,
            "parameters": common.shared(Dict(parameters)),
            "pseudos": {kind.symbol: inputs["pseudos"][kind.symbol] for kind in structure.kinds},
            "metadata": {"options": common.job_options(inputs)},
        },
        "kpoints": common.shared(common.kpoints(np.array(structure.cell), inputs["kpoint_spacing"].value, isolated)),
        "clean_workdir": common.shared(Bool(True)),  # what is kept is in the retrieved files
    }
    if "max_iterations" in inputs:
        process_inputs["max_iterations"] = inputs["max_iterations"]
    if isolated:
        process_inputs["pw"]["settings"] = common.shared(Dict({"gamma_only": True}))
    return WorkflowFactory("quantumespresso.pw.base"), process_inputs


@plugins.needs(PLUGINS)
def relaxation(inputs: Any, structure: StructureData, attempt: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return the process class and inputs that relax a crystal.

    pw.x keeps the plane waves of the cell that it begins with, so that the cell where it ends has a stress in its own basis
    (Pulay). The work chain of the plugin therefore begins again from there, also if that cell has more k-points, until the
    stress of the last SCF, which is of the basis of the relaxed cell, is below the threshold, too.
    """
    base: dict[str, Any] = {
        "pw": {
            "code": inputs["code"],
            "parameters": common.shared(Dict(_relaxation(common.parameters_of(inputs, False, attempt)))),
            "pseudos": {kind.symbol: inputs["pseudos"][kind.symbol] for kind in structure.kinds},
            "metadata": {"options": common.job_options(inputs)},
        },
        "kpoints_distance": common.shared(Float(2 * math.pi * inputs["kpoint_spacing"].value)),
    }
    if "max_iterations" in inputs:
        base["max_iterations"] = inputs["max_iterations"]
    return WorkflowFactory("quantumespresso.pw.relax"), {
        "structure": structure,
        "base_relax": base,
        "clean_workdir": common.shared(Bool(True)),
    }


def relaxed(outputs: dict[str, Any], symbols: list[str]) -> Step:
    """Return the relaxed crystal with energy, forces and stress of the last SCF, as of a single point there.

    :param symbols: of the atoms that were sent, in their order.
    :raises ValueError: as :func:`labels`.
    """
    return Step(outputs["output_structure"].get_ase(), *labels(outputs, symbols))


#: ``ion_temperature`` of each ensemble: nothing but the first velocities, stochastic velocity rescaling (G. Bussi, D. Donadio and
#: M. Parrinello, J. Chem. Phys. 126, 014101, 2007), which samples the canonical ensemble, and Berendsen's.
THERMOSTATS = {"nve": "initial", "nvt_langevin": "svr", "nvt_berendsen": "berendsen"}

#: fs of the unit of time of pw.x, ħ/Ry: twice the atomic one.
RYDBERG_FS = 2e15 * units._aut

#: The file that the plugin lets pw.x write to.
STDOUT = "aiida.out"


def _motion(parameters: dict[str, Any], settings: ReferenceMdSettings, left: int, goes_on: bool) -> dict[str, Any]:
    """Return the namelists of a trajectory; of IONS, what the parameters say is for relaxations."""
    namelists = {key.upper(): value for key, value in parameters.items() if key.upper() not in ("IONS", "CELL")}
    step = settings.timestep_fs / RYDBERG_FS
    ions = {"ion_dynamics": "verlet", "ion_temperature": THERMOSTATS[settings.ensemble], "tempw": settings.temperature_K}
    ions |= {"nraise": max(1, round(1000 * settings.thermostat_ps / settings.timestep_fs)), **EXTRAPOLATION}
    control = {"calculation": "md", "tprnfor": True, "tstress": True, "dt": step, "nstep": left}
    control["restart_mode"] = "restart" if goes_on else "from_scratch"
    set_here = {"CONTROL": control, "SYSTEM": {"nosym": True}, "IONS": ions}
    return common.merged(common.merged(FIXED, namelists), set_here)


@plugins.needs(PLUGINS)
def motion(
    inputs: Any,
    structure: StructureData,
    settings: ReferenceMdSettings,
    left: int,
    before: Any = None,
    attempt: int = 0,
) -> tuple[Any, dict[str, Any]]:
    """Return the process class and inputs that run a trajectory, or the rest of one.

    pw.x draws the first velocities itself, of a seed that cannot be given. Where it stopped by itself when its time was up, it
    goes on with the velocities and the thermostat that it has left; else new ones are drawn at the temperature of the trajectory.
    """
    folder = _left_by(before)
    parameters = _motion(common.parameters_of(inputs, False, attempt), settings, left, folder is not None)
    pw: dict[str, Any] = {
        "code": inputs["code"],
        "structure": structure,
        "parameters": common.shared(Dict(parameters)),
        "pseudos": {kind.symbol: inputs["pseudos"][kind.symbol] for kind in structure.kinds},
        "metadata": {"options": common.job_options(inputs)},
    }
    at_gamma = settings.kpoint_spacing == "gamma"
    spacing = settings.kpoint_spacing if isinstance(settings.kpoint_spacing, float) else inputs["kpoint_spacing"].value
    if at_gamma:
        pw["settings"] = common.shared(Dict({"gamma_only": True}))
    if folder is not None:
        pw["parent_folder"] = folder
    mesh = common.kpoints(np.array(structure.cell), spacing, isolated=at_gamma)
    # Whoever asks goes on where it stops: the work chain of the plugin would make all steps once more.
    once = {"max_iterations": common.shared(Int(1)), "clean_workdir": common.shared(Bool(False))}
    return WorkflowFactory("quantumespresso.pw.base"), {"pw": pw, "kpoints": common.shared(mesh), **once}


def _left_by(before: Any) -> Any:
    """Return the folder of a calculation with which pw.x can go on, as it stopped by itself; else None."""
    calculation: Any = CalculationFactory("quantumespresso.pw")
    if before is None or before.exit_status != calculation.exit_codes.ERROR_OUT_OF_WALLTIME.status:
        return None
    folder = before.outputs.remote_folder
    return None if folder.is_cleaned else folder


def moved(folder: FolderData, symbols: list[str]) -> Moved:
    """Return what pw.x has printed of a trajectory, up to the first step that must not be used.

    :param symbols: of the atoms that were sent, in their order.
    :raises ValueError: if it has printed nothing, or of other atoms.
    """
    if STDOUT not in folder.base.repository.list_object_names():
        raise ValueError("pw.x has printed nothing")
    text = folder.base.repository.get_object_content(STDOUT, "rb").decode("utf-8", errors="replace")
    steps = list(takewhile(lambda step: step.problem is None, espresso.read(text).steps))
    kelvins, end = espresso.temperatures(text), espresso.end_of(text)
    steps = steps[: len(kelvins)]
    for atoms in (*(step.atoms for step in steps), *([end] if end is not None else [])):
        if atoms.get_chemical_symbols() != symbols:
            raise ValueError(f"pw.x was sent {' '.join(symbols)}, but its output is of {' '.join(atoms.get_chemical_symbols())}")
    return Moved(steps, kelvins[: len(steps)], end)


def bundle_command(inputs: Any) -> str:
    """Return the shell line that runs pw.x in the folder of a frame."""
    return f"{shlex.quote(str(inputs['code'].filepath_executable))} -in {BUNDLE_INPUT}"


def bundle_pseudos(inputs: Any) -> dict[str, bytes]:
    """Return the pseudopotential files by name."""
    return common.files_of(inputs["pseudos"])


@plugins.needs(PLUGINS)
def bundle_files(inputs: Any, atoms: Atoms, parameters: dict[str, Any], isolated: bool) -> dict[str, str]:
    """Return the input files of one frame by name: what the plugin itself would write.

    :param atoms: sorted by atomic number.
    """
    calculation: Any = CalculationFactory("quantumespresso.pw")
    text, _ = calculation._generate_pwcp_inputdata(
        Dict(_single_point(parameters)),
        {"GAMMA_ONLY": True} if isolated else {},
        {symbol: inputs["pseudos"][symbol] for symbol in set(atoms.get_chemical_symbols())},
        StructureData(ase=atoms),
        common.kpoints(atoms.cell.array, inputs["kpoint_spacing"].value, isolated),
    )
    return {BUNDLE_INPUT: re.sub(r"pseudo_dir = '[^']*'", "pseudo_dir = '../../pseudo/'", text)}


def read_bundle(text: str) -> Step:
    """Return the one step of the output of pw.x.

    :raises ValueError: with the reason, if it has no complete one.
    """
    return common.step_of(espresso.read(text), "pw.x")


def labels(outputs: dict[str, Any], symbols: list[str]) -> tuple[float, np.ndarray, np.ndarray]:
    """Return energy (eV), forces (eV/Å) and ASE stress (3×3, eV/Å³) of the sorted structure.

    ``energy`` of the plugin is the total energy including −TS of the smearing, the one the forces belong to. The plugin gives the
    stress in GPa with the sign of pw.x (compressed: positive), the opposite of ASE's.

    :param symbols: of the atoms that were sent, in their order.
    :raises ValueError: if a label is missing, the SCF is not converged, or the atoms came back in another order.
    """
    parameters = outputs["output_parameters"].get_dict()
    if parameters.get("energy_units") != "eV" or parameters.get("forces_units", "ev / angstrom").lower() != "ev / angstrom":
        raise ValueError(
            f"units are {parameters.get('energy_units')!r}, {parameters.get('forces_units')!r}, expected eV and eV/Å"
        )
    if parameters.get("convergence_info", {}).get("scf_conv", {}).get("convergence_achieved") is False:
        raise ValueError("the SCF is not converged")
    trajectory = outputs["output_trajectory"]
    names = trajectory.get_arraynames()
    for name in ("forces", "stress"):
        if name not in names:
            raise ValueError(f"pw.x printed no {name}")
    if trajectory.symbols is not None and list(trajectory.symbols) != list(symbols):
        raise ValueError(f"pw.x was sent {' '.join(symbols)}, but its output is of {' '.join(trajectory.symbols)}")
    stress = -trajectory.get_array("stress")[-1] / common.GPA_PER_EV_A3
    return float(parameters["energy"]), trajectory.get_array("forces")[-1], stress


def seconds(outputs: dict[str, Any]) -> float | None:
    """Return how long pw.x ran, s of the wall; None if it does not say."""
    found = outputs["output_parameters"].get_dict().get("wall_time_seconds")
    return float(found) if found else None
