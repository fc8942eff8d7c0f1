"""Labels from Quantum ESPRESSO through aiida-quantumespresso's ``PwBaseWorkChain``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from aiida.engine import PortNamespace
from aiida.orm import AbstractCode, Bool, Data, Dict, Float, KpointsData, StructureData
from aiida.plugins import WorkflowFactory

NAME = "Quantum ESPRESSO"
OUTPUTS = ("output_parameters", "output_trajectory")
GPA_PER_EV_A3 = 160.2176634


def define(namespace: PortNamespace) -> None:
    """Define the ports."""
    from aiida.engine.processes.ports import InputPort

    def port(name: str, valid_type: Any, required: bool, help_text: str, **options: Any) -> None:
        namespace[name] = InputPort(name, valid_type=valid_type, required=required, help=help_text, **options)

    port("code", AbstractCode, True, "pw.x.")
    port(
        "parameters",
        Dict,
        True,
        "Namelists of pw.x; calculation, tprnfor and tstress are set here.",
        validator=_validate_parameters,
    )
    port("kpoint_spacing", Float, True, "Spacing of k-points, 1/Å, without the factor 2π.", validator=_validate_spacing)
    port("isolated_parameters", Dict, False, "Namelists merged into the parameters for isolated atoms, e.g. a narrow smearing.")
    port("options", Dict, False, "Options of the scheduler job.")
    namespace["pseudos"] = PortNamespace(
        "pseudos", valid_type=Data, dynamic=True, help="Pseudopotential (UpfData) of each element."
    )


def _validate_parameters(node: Any, _: Any) -> str | None:
    if node is None:
        return None
    system = {key.lower(): value for key, value in node.get_dict().get("SYSTEM", {}).items()}
    control = {key.lower(): value for key, value in node.get_dict().get("CONTROL", {}).items()}
    if control.get("disk_io") == "none":
        return "CONTROL.disk_io must not be 'none': pw.x would not write the XML file that the plugin reads"
    if not isinstance(system.get("ecutwfc"), int | float):
        return f"SYSTEM.ecutwfc (Ry) must be given as a number, got {system.get('ecutwfc')!r}"
    return None


def _validate_spacing(node: Any, _: Any) -> str | None:
    if node is not None and not 0 < node.value < 1:
        return f"kpoint_spacing must lie between 0 and 1 per Å (without 2π), got {node.value}"
    return None


def level_of_theory(inputs: Any) -> str:
    """Return one line with cutoffs, smearing, k-point spacing and pseudopotentials."""
    system = {key.lower(): value for key, value in inputs["parameters"].get_dict()["SYSTEM"].items()}
    settings = ", ".join(f"{key} {system[key]}" for key in sorted(system))
    pseudos = ", ".join(
        f"{symbol} md5 {node.base.attributes.get('md5', '?')[:8]}" for symbol, node in sorted(inputs["pseudos"].items())
    )
    return f"{NAME}; {settings}; k-point spacing {inputs['kpoint_spacing'].value:g}/Å; {pseudos}"


def submission(inputs: Any, structure: StructureData, isolated: bool) -> tuple[Any, dict[str, Any]]:
    """Return the process class and inputs that label ``structure``; an isolated atom gets the Γ point only."""
    parameters = {key.upper(): dict(value) for key, value in inputs["parameters"].get_dict().items()}
    if isolated and "isolated_parameters" in inputs:
        for key, value in inputs["isolated_parameters"].get_dict().items():
            parameters.setdefault(key.upper(), {}).update(value)
    control = parameters.setdefault("CONTROL", {})
    control.update({"calculation": "scf", "tprnfor": True, "tstress": True})
    options = inputs["options"].get_dict() if "options" in inputs else {}
    options.setdefault("resources", {"num_machines": 1, "num_mpiprocs_per_machine": 1})
    if inputs["code"].with_mpi is not None:  # the plugin's default would contradict the code
        options.setdefault("withmpi", inputs["code"].with_mpi)
    symbols = {kind.symbol for kind in structure.kinds}
    process_inputs: dict[str, Any] = {
        "pw": {
            "code": inputs["code"],
            "structure": structure,
            "parameters": Dict(parameters),
            "pseudos": {symbol: inputs["pseudos"][symbol] for symbol in symbols},
            "metadata": {"options": options},
        },
        "clean_workdir": Bool(True),  # what is kept is in the retrieved files
    }
    if isolated:
        kpoints = KpointsData()
        kpoints.set_kpoints_mesh([1, 1, 1])
        process_inputs["kpoints"] = kpoints
        process_inputs["pw"]["settings"] = Dict({"gamma_only": True})
    else:
        # The plugin's distance includes 2π.
        process_inputs["kpoints_distance"] = Float(2 * math.pi * inputs["kpoint_spacing"].value)
    return WorkflowFactory("quantumespresso.pw.base"), process_inputs


def labels(outputs: dict[str, Any]) -> tuple[float, np.ndarray, np.ndarray]:
    """Return energy (eV), forces (eV/Å), ASE stress (3×3, eV/Å³).

    ``energy`` of the plugin is the total energy including −TS of the smearing, the one the forces belong to. The plugin gives the
    stress in GPa with the sign of pw.x (compressed: positive), the opposite of ASE's.

    :raises ValueError: if a label is missing or the SCF is not converged.
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
    stress = -trajectory.get_array("stress")[-1] / GPA_PER_EV_A3
    return float(parameters["energy"]), trajectory.get_array("forces")[-1], stress
