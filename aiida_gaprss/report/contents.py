"""What a campaign has made, in a form in which two campaigns can be compared."""

from __future__ import annotations

import json
import re

from aiida.orm import ProcessNode

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def contents(campaign: ProcessNode) -> dict[str, str]:
    """Return all frames and minima of a campaign as text, but for the uuids, which name what made them.

    Campaigns with the same settings and seed have the same contents, byte for byte.

    :return: ``labels``, ``relaxed`` and ``minima``; empty if there are none.
    """
    outputs = campaign.outputs
    out = {"labels": "", "relaxed": "", "minima": ""}
    for name in ("labels", "relaxed"):
        if name in outputs:
            out[name] = "".join(outputs[name][key].text() for key in sorted(outputs[name]))
    if "minima_frames" in outputs:
        out["minima"] = outputs.minima_frames.text() + json.dumps(outputs.minima.get_dict(), sort_keys=True)
    return {name: UUID.sub("UUID", text) for name, text in out.items()}
