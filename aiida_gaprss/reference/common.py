"""What the references share: ports, order of atoms, k-points, shared nodes, settings of isolated atoms and of retries."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from aiida.common.exceptions import NotExistent
from aiida.engine import PortNamespace
from aiida.engine.processes.ports import InputPort
from aiida.orm import AbstractCode, Data, Dict, Float, KpointsData, List, load_node
from ase import Atoms

from aiida_gaprss.io.common import Output, Step
from aiida_gaprss.levels import OUR_SETTINGS, RETRIED, Level, exactly
from aiida_gaprss.settings.faults import Fault, Place

#: eV/Å³ in GPa.
GPA_PER_EV_A3 = 160.2176634


#: Key of a retry that is allowed to change the level of theory.
OTHER_LEVEL = "other_level"


def sorted_by_number(atoms: Atoms) -> tuple[Atoms, np.ndarray]:
    """Return the bare structure with atoms in ascending atomic number, and the order: ``atoms[order]`` is what is returned.

    All codes get their cells like this. CASTEP sorts species so by itself, and aiida-castep 2.0.1 loses track of it: forces of
    cells in any other order come back on the wrong atoms. VASP would write one block per change of species. The sort is stable.
    """
    order = np.argsort(atoms.numbers, kind="stable")
    return Atoms(atoms.numbers[order], atoms.positions[order], cell=atoms.cell, pbc=True), order


def unsorted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return per-atom ``values`` of the sorted structure in the order of the frame."""
    out = np.empty_like(values)
    out[order] = values
    return out


def kpoint_mesh(cell: np.ndarray, spacing: float) -> list[int]:
    """Return the divisions of a Γ-centred mesh: the smallest with neighbouring points at most ``spacing`` apart.

    :param cell: lattice vectors as rows, Å, shape (3, 3).
    :param spacing: 1/Å **without** the factor 2π, as CASTEP's ``kpoints_mp_spacing`` has it.
    """
    node = KpointsData()
    node.set_cell(np.asarray(cell))
    node.set_kpoints_mesh_from_density(2 * math.pi * spacing)
    return [int(n) for n in node.get_kpoints_mesh()[0]]


def kpoints(cell: np.ndarray, spacing: float, isolated: bool) -> KpointsData:
    """Return a node, not stored, with the mesh of ``cell``; an isolated atom gets the Γ point."""
    node = KpointsData()
    node.set_kpoints_mesh([1, 1, 1] if isolated else kpoint_mesh(cell, spacing))
    return node


#: uuid of the shared node by its class and content, as far as this process has met it.
_shared: dict[tuple[str, str], str] = {}


def shared(node: Any) -> Any:
    """Return the stored node of the same content that no process made: thousands of labels share few nodes."""
    key = (type(node).__name__, json.dumps([node.label, node.base.attributes.all], sort_keys=True))
    try:
        return load_node(_shared[key])
    except (KeyError, NotExistent):
        node.store()
        same = [other for other in node.base.caching.get_all_same_nodes() if other.creator is None and other.label == node.label]
        first = min(same, key=lambda other: other.pk, default=node)
        _shared[key] = first.uuid
        return first


def port(namespace: PortNamespace, name: str, valid_type: Any, help_text: str, required: bool = True, **options: Any) -> None:
    """Add an input port."""
    namespace[name] = InputPort(name, valid_type=valid_type, required=required, help=help_text, **options)


def define_job(namespace: PortNamespace, help_text: str, validator: Callable[[Any, Any], str | None] | None = None) -> None:
    """Add the ports that every reference has: its program, whose validator may refuse it, and the options of jobs."""
    port(namespace, "code", AbstractCode, help_text, validator=validator)
    port(namespace, "options", Dict, "Options of the scheduler job.", required=False)


def define_common(namespace: PortNamespace, basis: Collection[str]) -> None:
    """Add the ports that all plane-wave codes have besides their parameters and pseudopotentials.

    :param basis: names (lower case) of the parameters that isolated atoms must share with the cells.
    """

    def same_basis(node: Any, _: Any) -> str | None:
        given = _names(node.get_dict()) & set(basis) if node is not None else set()
        if given:
            names = ", ".join(sorted(given))
            return f"{names}: isolated atoms must have the basis and the functional of the cells, or cohesive energies are wrong"
        return None

    port(
        namespace,
        "kpoint_spacing",
        Float,
        "Largest spacing of k-points, 1/Å, without the factor 2π; the meshes contain Γ.",
        validator=_validate_spacing,
    )
    port(
        namespace,
        "isolated_parameters",
        Dict,
        "Merged into the parameters for isolated atoms, e.g. a narrow smearing or a spin.",
        required=False,
        validator=same_basis,
    )
    port(
        namespace,
        "retries",
        List,
        "A frame that failed is tried again with these, one after another, merged into its parameters, e.g. another mixing.",
        required=False,
        validator=_validate_retries,
    )


def define_pseudos(namespace: PortNamespace, help_text: str) -> None:
    """Add the namespace with one pseudopotential node per element."""
    namespace["pseudos"] = PortNamespace("pseudos", valid_type=Data, dynamic=True, help=help_text)


def _names(parameters: dict[str, Any]) -> set[str]:
    """Return the names of all parameters, also of nested ones, in lower case."""
    return {key.lower() for key in parameters}.union(*(_names(value) for value in parameters.values() if isinstance(value, dict)))


def _validate_spacing(node: Any, _: Any) -> str | None:
    if node is not None and not 0 < node.value < 1:
        return f"kpoint_spacing must lie between 0 and 1 per Å (without 2π), got {node.value}"
    return None


def _validate_retries(node: Any, _: Any) -> str | None:
    for number, item in enumerate(node.get_list() if node is not None else ()):
        if not isinstance(item, dict) or not item:
            return f"retries[{number}] must be a mapping of parameters that differ from the first attempt, got {item!r}"
    return None


def attempts(inputs: Any) -> int:
    """Return how often a frame is tried."""
    return 1 + (len(inputs["retries"].get_list()) if "retries" in inputs else 0)


def parameters_of(inputs: Any, isolated: bool, attempt: int) -> dict[str, Any]:
    """Return the parameters of one attempt (0 is the first), with what is special for isolated atoms."""
    parameters: dict[str, Any] = merged(inputs["parameters"].get_dict(), {})
    if isolated and "isolated_parameters" in inputs:
        parameters = merged(parameters, inputs["isolated_parameters"].get_dict())
    if attempt:
        change = inputs["retries"].get_list()[attempt - 1]
        parameters = merged(parameters, {key: value for key, value in change.items() if key != OTHER_LEVEL})
    return parameters


def other_levels(inputs: Any) -> dict[str, Any]:
    """Return the retries that may change the level of theory, as a part of it: some labels of a dataset may be theirs."""
    retries = inputs["retries"].get_list() if "retries" in inputs else []
    found = {f"attempt {n}": repr(item) for n, item in enumerate(retries, start=2) if item.get(OTHER_LEVEL)}
    return {RETRIED.replace(" ", "_"): found} if found else {}


def faults_of_attempts(
    inputs: Any, fault: Callable[[dict[str, Any], bool], str | None], level: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[Fault]:
    """Return what is wrong with the parameters of any attempt, of isolated atoms or of cells; what all attempts share, once.

    A retry that changed the level of theory would put labels of two levels into one dataset.

    :param fault: says what is wrong with a set of parameters, for cells or for isolated atoms, or None.
    :param level: returns those that decide the value of a label.
    """
    found: dict[str, Fault] = {}
    for isolated in (False, True):
        first = level(parameters_of(inputs, isolated, 0))
        for attempt in range(attempts(inputs)):
            place: Place = ("retries", attempt - 1) if attempt else ("isolated_parameters" if isolated else "parameters",)
            parameters = parameters_of(inputs, isolated, attempt)
            message = fault(parameters, isolated) or _other_level(inputs, attempt, first, level(parameters))
            if message:
                found.setdefault(message, Fault(place, message))
    return list(found.values())


def _other_level(inputs: Any, attempt: int, first: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Return which parameters of a retry would change the level of theory, unless it says that it may."""
    changed = sorted(key for key in {*first, *now} if first.get(key) != now.get(key))
    if not changed or (attempt and inputs["retries"].get_list()[attempt - 1].get(OTHER_LEVEL)):
        return None
    return (
        f"{', '.join(changed)} would change the level of theory; "
        f"if labels that need it may have another one, say {OTHER_LEVEL}: true in it"
    )


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``change`` merged in, key by key; names of parameters do not depend on upper or lower case."""
    out = {key: merged(value, {}) if isinstance(value, dict) else value for key, value in base.items()}
    names = {key.lower(): key for key in out}
    for key, value in change.items():
        name = names.get(key.lower(), key)
        inner = out.get(name)
        out[name] = merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return out


def job_options(inputs: Any) -> dict[str, Any]:
    """Return the options of the scheduler job; whether MPI is used is told by the code where it knows."""
    options: dict[str, Any] = inputs["options"].get_dict() if "options" in inputs else {}
    options.setdefault("resources", {"num_machines": 1, "num_mpiprocs_per_machine": 1})
    if inputs["code"].with_mpi is not None:  # the plugins' default would contradict the code
        options.setdefault("withmpi", inputs["code"].with_mpi)
    return options


def step_of(output: Output, program: str) -> Step:
    """Return the one step of the output of a single point.

    :raises ValueError: with the reason, if it has no complete one.
    """
    if not output.steps:
        raise ValueError("; ".join(reason for _, reason in output.refused) or f"{program} printed no result")
    return output.steps[-1]


def without_pseudos(inputs: Any, elements: Collection[str]) -> list[Fault]:
    """Return elements of which the inputs have no pseudopotential."""
    without = sorted(set(elements) - set(inputs.get("pseudos", {})))
    return [Fault(("pseudos",), f"no pseudopotential for {', '.join(without)}")] if without else []


def files_of(nodes: Any) -> dict[str, bytes]:
    """Return the contents of the files of single-file nodes, by file name."""
    return {node.filename: node.get_content(mode="rb") for _, node in sorted(nodes.items())}


def pseudo_names(pseudos: Any) -> dict[str, str]:
    """Return what tells the pseudopotential of each element from another: file name and checksum."""
    out = {}
    for symbol, node in sorted(pseudos.items()):
        checksum = node.base.attributes.get("md5", None) or node.base.repository.hash()
        out[symbol] = f"{node.base.attributes.get('filename', None) or symbol} {checksum[:8]}"
    return out


def level_node(content: dict[str, Any]) -> Dict:
    """Return the node of a level of theory, one in a profile for all frames that were labelled with it."""
    node = Dict(content)
    node.label = "level of theory"
    return shared(node)


#: Key of a level of theory, under which it stands as outputs of the code would tell it.
IN_WORDS = "in_words"


def level_of_content(content: dict[str, Any]) -> Level | str:
    """Return a level of theory that can be compared with those of outputs; of one that was stored before that, its line."""
    line = one_line(content)
    return replace(Level.from_dict(content[IN_WORDS]), text=line) if IN_WORDS in content else line


def in_words(level: Level, content: dict[str, Any], left: dict[str, Any], harmless: Collection[str] = ()) -> dict[str, Any]:
    """Return the content of a level of theory with the level as outputs would tell it.

    :param content: what ``level_of_theory`` of a reference returns.
    :param level: what of it outputs tell, in the same words.
    :param left: settings of which ``level`` says nothing. Outputs would not tell of those named in ``harmless``, such as
        tolerances; the others set it apart from every output.
    """
    rest = {f"other: {key}": str(value) for key, value in left.items() if key not in harmless}
    key = RETRIED.replace(" ", "_")
    rest |= {RETRIED: str(content[key])} if key in content else {}
    also = {**level.also, OUR_SETTINGS: one_line({name: content[name] for name in content if name != "kpoint_spacing"})}
    level = replace(level, settings={**level.settings, **rest}, also=also, sampling=exactly(content["kpoint_spacing"]))
    return {**content, IN_WORDS: level.as_dict()}


def one_line(content: dict[str, Any]) -> str:
    """Return a level of theory in one line: the same content gives the same text."""
    parts = []
    for key, value in content.items():
        if key == IN_WORDS:
            continue
        if isinstance(value, dict):
            text = ", ".join(f"{name} {_text(item)}" for name, item in sorted(value.items()))
            parts.append(text if key in ("settings", "pseudos", "potentials") else f"{key.replace('_', ' ')}: {text}")
        else:
            parts.append(_text(value) if key == "code" else f"{key.replace('_', ' ')} {_text(value)}")
    return "; ".join(part for part in parts if part)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
