"""From a checked campaign to the inputs of the work chain."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.orm import AbstractCode, Dict, Float, Int, Str, load_code, load_group

from aiida_gaprss.config import Campaign, ConfigError, Fault

HOW_TO_GET = {
    "gap_fit": "it comes with quippy-ase (pip install quippy-ase); `aiida-gaprss setup` registers it",
    "python": "a python with quippy-ase; `aiida-gaprss setup` registers it",
    "label_python": "a python with ase and the calculator; `aiida-gaprss setup` registers one",
    "pw.x": "Debian: apt-get install quantum-espresso; then `aiida-gaprss setup`",
}


def campaign_name(campaign: Campaign) -> str:
    """Return the name given, or one made of formula, seed and a hash of all settings: the same campaign, the same name."""
    if campaign.config.name:
        return campaign.config.name
    content = json.dumps([campaign.settings.model_dump(), campaign.config.reference.model_dump()], sort_keys=True, default=str)
    return f"{campaign.settings.formula_text}-s{campaign.config.seed}-{hashlib.sha256(content.encode()).hexdigest()[:4]}"


def builder_inputs(campaign: Campaign) -> dict[str, Any]:
    """Return the inputs of ``RssWorkChain``.

    :raises ConfigError: if a code, pseudopotential or group does not exist.
    """
    config = campaign.config
    faults: list[Fault] = []

    def code(label: str, where: tuple[str, ...], what: str) -> AbstractCode | None:
        try:
            return load_code(label)
        except (NotExistent, MultipleObjectsError) as exception:
            message = (
                f"no code {label!r} in this profile; {HOW_TO_GET[what]}" if isinstance(exception, NotExistent) else str(exception)
            )
            faults.append(Fault(campaign.lines.of(where), ".".join(where), message))
            return None

    gap_fit = code(config.codes.gap_fit, ("codes", "gap_fit"), "gap_fit")
    python = code(config.codes.python, ("codes", "python"), "python")
    label: dict[str, Any] = {"max_concurrent": config.max_concurrent, "max_failed_fraction": config.max_failed_fraction}
    if config.reference.ase:
        name = config.codes.label_python or config.codes.python
        label["ase"] = {
            "code": code(name, ("codes", "label_python"), "label_python") if config.codes.label_python else python,
            "settings": Dict(config.reference.ase.model_dump()),
            "metadata": {"options": dict(config.options.label)},
        }
    elif config.reference.quantumespresso:
        espresso = config.reference.quantumespresso
        label["quantumespresso"] = {
            "code": code(espresso.code, ("reference", "quantumespresso", "code"), "pw.x"),
            "parameters": Dict(espresso.parameters),
            "kpoint_spacing": Float(espresso.kpoint_spacing),
            "options": Dict(espresso.options),
            "pseudos": _pseudos(campaign, espresso.pseudos, faults),
        }
        if espresso.isolated_parameters:
            label["quantumespresso"]["isolated_parameters"] = Dict(espresso.isolated_parameters)
    if faults:
        raise ConfigError(str(campaign.path), faults)
    assert gap_fit is not None
    here = gap_fit.computer is not None and gap_fit.computer.hostname == "localhost"
    fit_options = {"threads": os.cpu_count() or 1, **config.options.fit} if here else config.options.fit
    return {
        "settings": Dict(campaign.settings.model_dump()),
        "seed": Int(config.seed),
        "name": Str(campaign_name(campaign)),
        "label": label,
        "fit": {"code": gap_fit, "python": python, "metadata": {"options": fit_options}},
        "relax": {"code": python, "metadata": {"options": dict(config.options.relax)}},
        "metadata": {"label": campaign_name(campaign), "description": f"GAP-RSS, protocol {config.protocol}"},
    }


def _pseudos(campaign: Campaign, given: dict[str, str] | str, faults: list[Fault]) -> dict[str, Any]:
    where = ("reference", "quantumespresso", "pseudos")
    try:
        from aiida_pseudo.data.pseudo.upf import UpfData
    except ImportError:
        message = "Quantum ESPRESSO needs two more packages: pip install 'aiida-gaprss[qe]'"
        faults.append(Fault(campaign.lines.of(where), ".".join(where), message))
        return {}
    if isinstance(given, str):
        try:
            return dict(load_group(given).get_pseudos(elements=tuple(campaign.settings.formula)))
        except (NotExistent, ValueError, AttributeError) as exception:
            faults.append(
                Fault(
                    campaign.lines.of(where),
                    ".".join(where),
                    f"no pseudopotential family {given!r} for these elements: {exception}",
                )
            )
            return {}
    out = {}
    for symbol, name in given.items():
        path = Path(campaign.path).parent / name
        with path.open("rb") as handle:
            out[symbol] = UpfData.get_or_create(handle, filename=path.name)
        if out[symbol].element != symbol:
            message = f"{path.name} is a pseudopotential of {out[symbol].element}, not of {symbol}"
            faults.append(Fault(campaign.lines.of((*where, symbol)), ".".join((*where, symbol)), message))
    return out
