"""The inputs that every fit and every search has, from what people say: codes by name, settings as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.orm import AbstractCode, Dict, Int

from aiida_gaprss.campaign.codes import code_of
from aiida_gaprss.campaign.search import DiagnosticSearchSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.computer import fit_options, job_options
from aiida_gaprss.structures.compositions import text

#: A code, or its name, pk or uuid; None for the one of this machine.
Code = AbstractCode | str | None


def fit_inputs(
    datasets: Mapping[str, Dataset],
    settings: Mapping[str, Any],
    gap_fit: Code = None,
    python: Code = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Return the inputs of ``FitWorkChain``.

    :param settings: ``FitSettings``, or a protocol and what is to be changed in it.
    :param options: of the job; those of the computer are added.
    :raises CodeError: if there is no such code.
    """
    code = code_of("gap_fit", gap_fit)
    job = fit_options(code, dict(options or {}))
    return {
        "fit": {"code": code, "python": code_of("python", python), "metadata": {"options": job}},
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
