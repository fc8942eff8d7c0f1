"""Metadata of RO-Crate (https://w3id.org/ro/crate): an archive as catalogues of research data read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocrate.model.person import Person
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from aiida_gaprss.sharing.archive import CARD, CARD_JSON, DATABASE, METADATA, REPOSITORY
from aiida_gaprss.sharing.card_text import to_json

#: Version of RO-Crate that is written: the first one that knows metadata which lie beside a file.
VERSION = "1.2"

#: Where licences are that SPDX names.
_SPDX = "https://spdx.org/licenses/"

_MARKDOWN, _JSON = "text/markdown", "application/json"

#: What there is in an archive.
_INSIDE = {
    CARD: ("the card, for people", _MARKDOWN),
    CARD_JSON: ("the card, for programs", _JSON),
    METADATA: ("version of AiiDA's archive format", _JSON),
    DATABASE: ("nodes and links of the provenance graph", "application/vnd.sqlite3"),
}

_SOFTWARE = {"aiida-gaprss": "https://pypi.org/project/aiida-gaprss/", "aiida-core": "https://www.aiida.net/"}


def inside(content: Mapping[str, Any], sha256: Mapping[str, str]) -> str:
    """Return the metadata of what is in an archive.

    :param sha256: of those parts that have one, by their names.
    """
    crate = _crate(content)
    for name, (description, media) in _INSIDE.items():
        told = {"sha256": sha256[name]} if name in sha256 else {}
        crate.add_file(dest_path=name, properties={"name": description, "encodingFormat": media, **told})
    crate.add_directory(dest_path=REPOSITORY, properties={"name": "files of the nodes, each named by the SHA-256 of its content"})
    return _written(crate)


def beside(content: Mapping[str, Any], archive: Path, beside_it: Mapping[str, str], sha256: str) -> str:
    """Return the metadata of an archive and what lies beside it.

    :param beside_it: names of these files by :data:`CARD` and :data:`CARD_JSON`.
    """
    crate = _crate(content)
    told = {
        "name": content["name"],
        "encodingFormat": "application/zip",
        "contentSize": str(archive.stat().st_size),
        "sha256": sha256,
    }
    crate.add_file(dest_path=archive.name, properties=told)
    for part, name in beside_it.items():
        description, media = _INSIDE[part]
        crate.add_file(dest_path=name, properties={"name": description, "encodingFormat": media})
    return _written(crate)


def _crate(content: Mapping[str, Any]) -> ROCrate:
    crate = ROCrate(version=VERSION)
    crate.name, crate.description = content["name"], content["description"]
    crate.datePublished = content["made"]
    licence = content["licence"]
    crate.license = f"{_SPDX}{licence}" if licence and " " not in licence else licence or "no licence was chosen"
    crate.keywords = ["interatomic potential", "AiiDA", "provenance", *content["elements"]]
    crate.root_dataset["identifier"] = [one["uuid"] for one in content["what"]]
    if content["cite"]:
        crate.root_dataset["citation"] = list(content["cite"])
    authors = [_author(crate, number, name) for number, name in enumerate(content["authors"], start=1)]
    if authors:
        crate.root_dataset["author"] = authors
    crate.root_dataset["mentions"] = [_software(crate, name, number) for name, number in content["by"].items()]
    return crate


def _author(crate: ROCrate, number: int, told: str) -> Any:
    """Return a person; an address at ORCID in what is told is who they are."""
    words = told.split()
    orcid = next((word.strip("<>()") for word in words if "orcid.org/" in word), None)
    name = " ".join(word for word in words if "orcid.org/" not in word)
    return crate.add(Person(crate, orcid or f"#author-{number}", properties={"name": name}))


def _software(crate: ROCrate, name: str, version: str) -> Any:
    properties = {"name": name, "version": version, "url": _SOFTWARE[name]}
    return crate.add(SoftwareApplication(crate, f"#{name}", properties=properties))


def _written(crate: ROCrate) -> str:
    """Return the metadata as JSON; nothing of them is looked up."""
    return to_json(json.loads(json.dumps(crate.metadata.generate())))
