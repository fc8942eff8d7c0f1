"""Labels from any ASE calculator, many frames in one job (``gaprss.label``)."""

from __future__ import annotations

from aiida.orm import Dict


def level_of_theory(settings: Dict) -> str:
    """Return the level of theory of the labels in one line.

    :param settings: those of ``gaprss.label`` (``LabelSettings``).
    """
    content = settings.get_dict()
    return str(content.get("level_of_theory") or f"ASE {content['calculator']} {content.get('arguments', {})}")
