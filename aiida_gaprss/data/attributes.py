"""Attributes of our nodes as fields, with types and meaning, for queries (``Dataset.fields.elements``)."""

from __future__ import annotations

from typing import Any

from aiida.orm.pydantic import OrmMetadataField


def attribute(name: str, description: str) -> Any:
    """Return the field of an attribute; a node of an older version may lack it, and then has None."""

    def value(node: Any) -> Any:
        return node.base.attributes.get(name, None)

    return OrmMetadataField(None, description=description, orm_to_model=value)
