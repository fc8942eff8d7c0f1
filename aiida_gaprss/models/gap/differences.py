"""Settings of a GAP of the differences between two levels of theory, in proportion to how large these are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_gaprss.analysis.differences import Spread
from aiida_gaprss.settings.protocols import merged

#: σ of each label as a part of how far the differences are spread, and the least that makes sense: eV/atom, eV/Å, eV/atom.
PARTS = {"energy": (0.02, 1e-4), "forces": (0.1, 1e-3), "virial": (0.1, 1e-3)}

#: Least δ, eV.
LEAST_DELTA = 1e-4


def difference_settings(protocol: dict[str, Any], spread: Spread, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a protocol with δ and sigmas in proportion to the differences, and with changes.

    δ of every term is the root mean square of the difference in energy per atom, as with ``delta_by_stages``: what the prior of
    the Gaussian process, whose mean is zero, expects of an atom. Sigmas are parts of the differences, of their energies
    of the standard deviation, as what is common to all is easily fitted: a fit that leaves that part of them is worth having,
    as the cheap potential carries the rest.
    """
    delta = max(spread.energy, LEAST_DELTA)
    terms = [{**term, "delta": float(f"{delta:.3g}")} for term in protocol["descriptors"]]
    sizes = {"energy": spread.deviation, "forces": spread.forces, "virial": spread.virial}
    sigma = {name: float(f"{max(part * (sizes[name] or 0.0), least):.3g}") for name, (part, least) in PARTS.items()}
    return merged({**protocol, "descriptors": terms, "sigma": sigma}, dict(changes), ("config_type_sigma", "n_sparse", "e0"))
