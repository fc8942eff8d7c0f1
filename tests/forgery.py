"""Archives taken apart, changed, and put together again as if they were whole."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import zipfile

from aiida_gaprss.sharing.archive import CARD, CARD_JSON, CRATE, DATABASE

DATASET = "node_type LIKE 'data.gaprss.dataset%'"
PROCESS = "node_type LIKE 'process.%'"


class Forgery:
    """An archive taken apart, to be put together again as if it were whole."""

    def __init__(self, path, folder):
        with zipfile.ZipFile(path) as whole:
            self.parts = {entry.filename: whole.read(entry) for entry in whole.infolist()}
        self.folder, self.extra = folder, []

    def sql(self, *commands):
        """Change the database."""
        database = self.folder / DATABASE
        database.write_bytes(self.parts[DATABASE])
        connection = sqlite3.connect(database)
        for command in commands:
            connection.execute(*([command] if isinstance(command, str) else command))
        connection.commit()
        connection.close()
        self.parts[DATABASE] = database.read_bytes()
        return self

    def rows(self, query):
        database = self.folder / "look.sqlite3"
        database.write_bytes(self.parts[DATABASE])
        return sqlite3.connect(database).execute(query).fetchall()

    def attributes(self, where, **new):
        """Change attributes of the first such node."""
        pk, old = self.rows(f"SELECT id, attributes FROM db_dbnode WHERE {where} LIMIT 1")[0]
        return self.sql(("UPDATE db_dbnode SET attributes = ? WHERE id = ?", (json.dumps({**json.loads(old), **new}), pk)))

    def file(self, where, name, edit):
        """Change the content of a file, of all nodes that have it, with the key that belongs to it."""
        (content,) = self.rows(f"SELECT repository_metadata FROM db_dbnode WHERE {where} LIMIT 1")[0]
        tree = json.loads(content)["o"]
        key = tree[name if name in tree else next(key for key in tree if re.fullmatch(name, key))]["k"]
        new = edit(self.parts.pop(f"repo/{key}"))
        fresh = hashlib.sha256(new).hexdigest()
        self.parts[f"repo/{fresh}"] = new
        return self.sql(("UPDATE db_dbnode SET repository_metadata = replace(repository_metadata, ?, ?)", (key, fresh)))

    def sign(self):
        """Let the card and the metadata belong to what is there now."""
        card, crate = json.loads(self.parts[CARD_JSON]), json.loads(self.parts[CRATE])
        count = {"nodes": "db_dbnode", "links": "db_dblink"}
        for name, table in count.items():
            card["contents"][name] = self.rows(f"SELECT count(*) FROM {table}")[0][0]
        card["contents"]["files"] = sum(name.startswith("repo/") for name in self.parts)
        card["contents"]["database"]["sha256"] = hashlib.sha256(self.parts[DATABASE]).hexdigest()
        self.parts[CARD_JSON] = json.dumps(card).encode()
        return self.sign_cards(crate)

    def sign_cards(self, crate=None):
        crate = crate or json.loads(self.parts[CRATE])
        for entity in crate["@graph"]:
            if entity["@id"] in (CARD, CARD_JSON):
                entity["sha256"] = hashlib.sha256(self.parts[entity["@id"]]).hexdigest()
        self.parts[CRATE] = json.dumps(crate).encode()
        return self

    def card(self, **new):
        self.parts[CARD_JSON] = json.dumps({**json.loads(self.parts[CARD_JSON]), **new}).encode()
        return self.sign_cards()

    def write(self):
        target = self.folder / "forged.aiida"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as forged:
            for name, content in [*self.parts.items(), *self.extra]:
                forged.writestr(name, content)
        return target
