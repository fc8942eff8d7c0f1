"""The inputs that every fit and every search has, from what people say: codes by name, settings as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from aiida.orm import AbstractCode, Data, Dict, Int

from aiida_gaprss.campaign.codes import code_of
from aiida_gaprss.campaign.search import DiagnosticSearchSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.families import family_named, family_of
from aiida_gaprss.outside import shown
from aiida_gaprss.settings.computer import fit_options, job_options
from aiida_gaprss.structures.compositions import text

Node = TypeVar("Node", bound=Data)

#: A code, or its name, pk or uuid; None for the one of this machine.
Code = AbstractCode | str | None


def node_of(kind: type[Node], value: Any, where: str) -> Node:
    """Return a node, if it is one of this kind.

    :raises ValueError: if it is something else.
    """
    if isinstance(value, kind):
        return value
    raise ValueError(f"{where}: expected a {kind.__name__}, got {shown(repr(value), 100)}; a pk or uuid needs load_node(…)")


def named_nodes(kind: type[Node], nodes: Any, where: str) -> dict[str, Node]:
    """Return nodes by their names, if they are such.

    :raises ValueError: if they are something else, or there is none.
    """
    if not isinstance(nodes, Mapping) or not nodes:
        raise ValueError(f"{where}: expected at least one {kind.__name__} by a name, got {shown(repr(nodes), 100)}")
    return {name: node_of(kind, node, f"{where}.{name}") for name, node in nodes.items()}


def fit_inputs(
    datasets: Mapping[str, Dataset],
    settings: Mapping[str, Any],
    code: Code = None,
    python: Code = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Return the inputs of ``FitWorkChain``.

    :param settings: of any family, or a protocol and what is to be changed in it.
    :param code: of the program that fits; default: the one of this machine that goes with the family.
    :param options: of the job; those of the computer are added.
    :raises CodeError: if there is no such code.
    """
    program = code_of(family_of(family_named(settings)).PROGRAM, code)
    job = fit_options(program, dict(options or {}))
    return {
        "fit": {"code": program, "python": code_of("python", python), "metadata": {"options": job}},
        "datasets": dict(datasets),
        "settings": Dict(dict(settings)),
        "seed": Int(seed),
        "metadata": {"label": settings.get("protocol", "fit")},
    }


def search_inputs(
    potential: Potential,
    settings: DiagnosticSearchSettings,
    python: Code = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Return the inputs of ``SearchWorkChain``.

    :param options: of the jobs; those of the computer are added.
    :raises CodeError: if there is no such code.
    """
    code = code_of("python", python)
    return {
        "potential": potential,
        "settings": Dict(settings.model_dump()),
        "seed": Int(seed),
        "relax": {"code": code, "metadata": {"options": job_options(code.computer, dict(options or {}))}},
        "metadata": {"label": text(settings.formula)},
    }
