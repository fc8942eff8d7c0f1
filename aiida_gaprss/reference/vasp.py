"""Labels from VASP through aiida-vasp's ``VaspWorkChain``."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiida.common.exceptions import AiidaException
from aiida.engine import PortNamespace
from aiida.orm import Bool, Dict, Str, StructureData
from aiida.plugins import WorkflowFactory
from ase import Atoms
from pydantic import Field

from aiida_gaprss.io import vasprun
from aiida_gaprss.io.common import Step
from aiida_gaprss.io.vasp import TAGS, level_of_tags
from aiida_gaprss.reference import common, flat, plugins
from aiida_gaprss.reference.base import Program
from aiida_gaprss.reference.settings import PlaneWaveSettings
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.settings.model import Label, Line

#: What isolated atoms share with the cells.
BASIS = ("encut", "prec", "gga", "metagga", "ivdw", "luse_vdw", "addgrid")

NAME = "VASP"
PROGRAM = Program("vasp.vasp", "register it with verdi code create core.code.installed, plugin vasp.vasp", pattern=r"vasp\.\w+")
PLUGINS = (plugins.Plugin("aiida-vasp", "aiida-vasp>=5.1", ("aiida_vasp.assistant.parameters", "aiida_vasp.data.potcar")),)
OUTPUTS = ("misc", "structure")

#: kB in GPa.
GPA_PER_KB = 0.1

#: The same for every label: one ionic step, with forces and the whole stress tensor.
SET_HERE: dict[str, Any] = {"nsw": 0, "ibrion": -1, "isif": 2}

#: Settings of the plugin: energies that are read; the structure, for its symbols; and no monitor, which would cut the output of
#: a program that talks much.
PLUGIN_SETTINGS: dict[str, Any] = {
    "parser_settings": {"energy_type": ["energy_free", "energy_extrapolated"], "omit_structure": False},
    "no_default_monitors": True,
}

#: Of a bundle. The POTCAR, which may not be passed on, is put together where VASP runs, and does not come back.
BUNDLE_STDOUT, BUNDLE_OUTPUT = "stdout.txt", "vasprun.xml"
BUNDLE_KEEP = ("INCAR", "POSCAR", "KPOINTS", "OUTCAR", BUNDLE_OUTPUT, BUNDLE_STDOUT, "stderr.txt")

#: Tags with one value per atom or per species, or that otherwise fit one cell only.
_OF_ONE_CELL = re.compile(
    r"magmom|ldaul|ldauu|ldauj|rwigs|ropt|pomass|zval|vca|eatom|ferwe|ferdo|nelect|nbands|nupdown|m_constr|quad_efg"
    r"|ng[xyz]f?|langevin_gamma|dipol"
)

#: Tags that do not decide the value of a label: what is set here, ways to the same self-consistent density, what is written, and
#: how the work is shared out.
_NOT_THE_LEVEL = re.compile(
    r"nsw|ibrion|isif|ediffg|potim|nfree|smass"
    r"|algo|ialgo|nelm|nelmin|nelmdl|amix|bmix|amin|amix_mag|bmix_mag|imix|maxmix|mixpre|inimix|mremove|wc|time|ldiag|weimin|nrmm"
    r"|istart|icharg|iniwav|nbands|lmaxmix"
    r"|npar|ncore|kpar|nsim|lplane|lscalu|lscalapack|lscaaware|lasync|lmono|kblock|nblock|nblk|turbo|ncore_in_image1"
    r"|system|nwrite|lwave|lcharg|lvtot|lvhar|lelf|laechg|lorbit|lpard|nedos|emin|emax|lh5"
)


class VaspReference(PlaneWaveSettings):
    """Labels from VASP through aiida-vasp."""

    code: Label = Field(description="label of the VASP code, e.g. vasp@cluster")
    potential_family: Line = Field(description="label of the family of potentials in aiida-vasp")
    potential_mapping: dict[str, Line] = Field(
        default_factory=dict, description="name of the potential per element; default: that of the element"
    )
    parameters: dict[str, Any] = Field(description="INCAR tags, flat")


SETTINGS = VaspReference


def inputs(settings: VaspReference, elements: Sequence[str], folder: Path) -> tuple[dict[str, Any], list[Fault]]:
    """Return the inputs that settings become; what is wrong with them, :func:`missing` tells."""
    mapping = settings.potential_mapping or {symbol: symbol for symbol in elements}
    own = {"potential_family": Str(settings.potential_family), "potential_mapping": Dict(mapping)}
    return {**settings.nodes(), **own}, []


def define(namespace: PortNamespace) -> None:
    """Define the ports."""
    plugins.define_job(namespace, PLUGINS, "VASP.")
    common.port(
        namespace,
        "parameters",
        Dict,
        f"INCAR tags, flat; {', '.join(SET_HERE).upper()} are set here.",
        validator=_validate_parameters,
    )
    common.define_common(namespace, BASIS)
    flat.define_max_iterations(namespace, NAME)
    common.port(namespace, "potential_family", Str, "Label of the family of PAW potentials in aiida-vasp.")
    common.port(namespace, "potential_mapping", Dict, "Name of the potential in the family for each element, e.g. Si: Si.")


def _validate_parameters(node: Any, _: Any) -> str | None:
    return None if node is None else _fault(node.get_dict())


def _fault(parameters: dict[str, Any], isolated: bool = False) -> str | None:
    """Return what is wrong with the parameters of a calculation, or None."""
    given = flat.lower(parameters)
    for key, value in given.items():
        if isinstance(value, dict):
            return f"give INCAR tags flat, not under {key}"
        if not isolated and _OF_ONE_CELL.fullmatch(key):
            return f"{key.upper()} must not be given for all cells: its value fits one of them (isolated_parameters may have it)"
    for key, unit in (("encut", "eV"), ("ediff", "eV")):
        value = given.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            return f"{key.upper()} ({unit}) must be given as a positive number, got {value!r}"
    if given.get("nsw", 0) not in (0,):
        return f"NSW must be 0 or absent: labels are single points, got {given['nsw']!r}"
    if given.get("ibrion", -1) != -1:
        return f"IBRION must be -1 or absent: labels are single points, got {given['ibrion']!r}"
    if given.get("isif", 2) not in range(2, 9):
        return f"ISIF is set to 2 here: with {given['isif']!r} VASP would not calculate the whole stress"
    for key in ("kspacing", "kgamma"):
        if key in given:
            return f"{key.upper()} must not be given: k-points are given by kpoint_spacing"
    for key, value in (("istart", 0), ("icharg", 2)):
        if given.get(key, value) != value:
            return f"{key.upper()} must be {value} or absent: every label is calculated from scratch, got {given[key]!r}"
    if given.get("pstress", 0) != 0:
        return "PSTRESS must not be given: it would be added to the stress"
    return _refused_by_plugin(given)


def _refused_by_plugin(given: dict[str, Any]) -> str | None:
    """Return what aiida-vasp finds wrong with tags, or None; where it cannot be imported it is not asked."""
    if plugins.needed(PLUGINS):
        return None
    from aiida_vasp.assistant.parameters import ParametersMassage

    try:
        ParametersMassage({"incar": given})
    except ValueError as exception:
        return str(exception)
    return None


def _level(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what decides the value of a label."""
    given = flat.lower(parameters)
    return {key: given[key] for key in sorted(given) if not _NOT_THE_LEVEL.fullmatch(key)}


def missing(inputs: Any, elements: Sequence[str]) -> list[Fault]:
    """Return what the inputs lack to label frames of ``elements``."""
    if lack := plugins.needed(PLUGINS):
        return [Fault((), lack)]
    family, mapping = inputs["potential_family"].value, inputs["potential_mapping"].get_dict()
    without = sorted(set(elements) - set(mapping))
    faults = [Fault(("potential_mapping",), f"no potential for {', '.join(without)}")] if without else []
    faults += _faults_of_potentials(family, mapping)
    return faults + common.faults_of_attempts(inputs, _fault, _level)


@plugins.needs(PLUGINS)
def _faults_of_potentials(family: str, mapping: dict[str, str]) -> list[Fault]:
    """Return what is wrong with a family, or with the potentials that are to be taken from it."""
    from aiida_vasp.data.potcar import PotcarData

    if PotcarData.get_potcar_group(family) is None:
        message = f"no family {family!r} in this profile; see: aiida-vasp potcar listfamilies"
        return [Fault(("potential_family",), message)]
    messages = []
    for element in sorted(mapping):
        try:
            potential = _pseudopotentials([element], family, mapping)[element]
        except AiidaException as exception:
            messages.append(str(exception))
            continue
        if potential.element != element:
            messages.append(f"{mapping[element]} is a potential of {potential.element}, not of {element}")
    return [Fault(("potential_mapping",), message) for message in messages]


@plugins.needs(PLUGINS)
def _pseudopotentials(elements: list[str], family: str, mapping: dict[str, str]) -> dict[str, Any]:
    """Return the node (``PotcarData``) of each element."""
    from aiida_vasp.data.potcar import PotcarData

    return dict(PotcarData.get_potcars_dict(elements, family, mapping))


def level_of_theory(inputs: Any) -> dict[str, Any]:
    """Return cutoff, functional and smearing, k-point spacing and potentials."""
    level: dict[str, Any] = {"code": NAME, "settings": _level(inputs["parameters"].get_dict())}
    if "isolated_parameters" in inputs:
        level["isolated_atoms"] = _level(inputs["isolated_parameters"].get_dict())
    mapping = inputs["potential_mapping"].get_dict()
    pseudopotentials = _pseudopotentials(sorted(mapping), inputs["potential_family"].value, mapping)
    names = {element: f"{node.full_name} {node.sha512[:8]}" for element, node in pseudopotentials.items()}
    content = {**level, **common.other_levels(inputs), "kpoint_spacing": inputs["kpoint_spacing"].value, "potentials": names}
    words = level_of_tags(_tags(level["settings"], list(mapping)), {e: node.title for e, node in pseudopotentials.items()}, None)
    return common.in_words(words, content, _left(level["settings"]), ("ediff",))


#: VASP's own values of the tags that outputs tell.
_DEFAULTS = {"ISMEAR": "1", "SIGMA": "0.2", "PREC": "normal", "ISPIN": "1", "LREAL": "F", "LASPH": "F"}


def _tags(settings: dict[str, Any], elements: list[str]) -> dict[str, str]:
    """Return tags as VASP would print them."""
    given = {key.upper(): str(value)[0] if isinstance(value, bool) else str(value) for key, value in settings.items()}
    return {**_DEFAULTS, **given, "SPECIES": " ".join(elements), "ATOMS": ""}


def _left(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of which the readers of outputs make nothing."""
    return {key: value for key, value in settings.items() if key.upper() not in TAGS}


@plugins.needs(PLUGINS)
def submission(inputs: Any, structure: StructureData, isolated: bool, attempt: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return the process class and inputs that label ``structure``; an isolated atom gets the Γ point only.

    Unless told otherwise, the work chain of the plugin tries once: by itself it would repeat an unconverged SCF up to four times,
    each longer than the last. What is to be tried again is given by ``retries``.
    """
    parameters = {**flat.lower(common.parameters_of(inputs, isolated, attempt)), **SET_HERE}
    return WorkflowFactory("vasp.vasp"), {
        "code": inputs["code"],
        "structure": structure,
        "parameters": common.shared(Dict({"incar": parameters})),
        "kpoints": common.shared(common.kpoints(np.array(structure.cell), inputs["kpoint_spacing"].value, isolated)),
        "potential_family": inputs["potential_family"],
        "potential_mapping": inputs["potential_mapping"],
        "settings": common.shared(Dict(PLUGIN_SETTINGS)),
        "calc": {"metadata": {"options": common.job_options(inputs)}},
        "max_iterations": flat.max_iterations(inputs),
        "clean_workdir": common.shared(Bool(True)),  # what is kept is in the retrieved files
        # The plugin's defaults; two nodes fewer for every frame.
        "keep_last_workdir": common.shared(Bool(False)),
        "verbose": common.shared(Bool(False)),
    }


def bundle_command(inputs: Any) -> str:
    """Return the shell lines that run VASP in the folder of a frame, with the POTCAR of its species in their order."""
    program = shlex.quote(str(inputs["code"].filepath_executable))
    return f"for element in $(cat species); do cat ../../pseudo/POTCAR.$element; done > POTCAR\n{program}"


def bundle_pseudos(inputs: Any) -> dict[str, bytes]:
    """Return the POTCAR of each element as ``POTCAR.<symbol>``."""
    mapping = inputs["potential_mapping"].get_dict()
    pseudopotentials = _pseudopotentials(sorted(mapping), inputs["potential_family"].value, mapping)
    return {f"POTCAR.{element}": node.get_content() for element, node in pseudopotentials.items()}


@plugins.needs(PLUGINS)
def bundle_files(inputs: Any, atoms: Atoms, parameters: dict[str, Any], isolated: bool) -> dict[str, str]:
    """Return the input files of one frame by name, written by the plugin, and the order of the species.

    :param atoms: sorted by atomic number.
    """
    from aiida_vasp.assistant.parameters import ParametersMassage
    from aiida_vasp.parsers.content_parsers.incar import IncarParser
    from aiida_vasp.parsers.content_parsers.kpoints import KpointsParser
    from aiida_vasp.parsers.content_parsers.poscar import PoscarParser

    incar = ParametersMassage({"incar": {**flat.lower(parameters), **SET_HERE}}).parameters.incar
    parsers = {
        "INCAR": IncarParser(data=Dict(dict(incar))),
        "POSCAR": PoscarParser(data=StructureData(ase=atoms), precision=10),
        "KPOINTS": KpointsParser(data=common.kpoints(atoms.cell.array, inputs["kpoint_spacing"].value, isolated)),
    }
    files = {"species": " ".join(dict.fromkeys(atoms.get_chemical_symbols())) + "\n"}
    with tempfile.TemporaryDirectory() as folder:
        for name, parser in parsers.items():
            parser.write(str(Path(folder) / name))
            files[name] = (Path(folder) / name).read_text(encoding="utf-8")
    return files


def read_bundle(text: str) -> Step:
    """Return the one step of a vasprun.xml.

    :raises ValueError: with the reason, if it has no complete one.
    """
    return common.step_of(vasprun.read(text), NAME)


def labels(outputs: dict[str, Any], symbols: list[str]) -> tuple[float, np.ndarray, np.ndarray]:
    """Return energy (eV), forces (eV/Å) and ASE stress (3×3, eV/Å³) of the sorted structure.

    The energy is VASP's free energy TOTEN, the one the forces belong to, not the one extrapolated to zero smearing. The stress is
    printed in kB with the sign opposite to ASE's (compressed: positive diagonal).

    :param symbols: of the atoms that were sent, in their order.
    :raises ValueError: if a label is missing, the calculation is not finished or its SCF not converged, or the atoms came back
        in another order.
    """
    misc = outputs["misc"].get_dict()
    status = misc.get("run_status", {})
    if not status.get("finished"):
        raise ValueError("VASP did not come to its end")
    if not status.get("electronic_converged"):
        raise ValueError("the SCF is not converged")
    energy = (misc.get("total_energies") or {}).get("energy_free")
    if energy is None:
        raise ValueError("the free energy (TOTEN) was not read")
    for name in ("forces", "stress"):
        if misc.get(name) is None:
            raise ValueError(f"VASP printed no {name}")
    forces, stress = np.array(misc["forces"]), np.array(misc["stress"])
    structure = outputs["structure"]
    came = [structure.get_kind(site.kind_name).symbol for site in structure.sites]
    if came != list(symbols) or forces.shape != (len(symbols), 3):
        raise ValueError(f"VASP was sent {' '.join(symbols)}, but its {len(forces)} forces are of {' '.join(came)}")
    return float(energy), forces, -stress * GPA_PER_KB / common.GPA_PER_EV_A3


def seconds(outputs: dict[str, Any]) -> float | None:
    """Return how long VASP ran, s of the wall; None if it does not say."""
    found = (outputs["misc"].get_dict().get("run_stats") or {}).get("elapsed_time")
    return float(found) if found else None
