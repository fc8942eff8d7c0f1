"""Parser of gaprss.relax."""

from __future__ import annotations

from ase import Atoms

from aiida_gaprss.parsers.frames import FramesParser

INHERITED = ("generation", "seed", "pressure_GPa", "n_operations", "space_group")


class RelaxParser(FramesParser):
    """Name each snapshot after its parent and step."""

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the snapshots of one cell."""
        parent = source.info["frame_id"]
        for atoms in results:
            atoms.info.update({key: source.info[key] for key in INHERITED if key in source.info})
            atoms.info["frame_id"] = f"{parent}-s{atoms.info['step']}"
            atoms.info["config_type"] = "minimum" if atoms.info["relax_status"] == "converged" else "snapshot"
            atoms.info["parent"] = parent
            atoms.info["origin"] = self.node.uuid
            atoms.info["potential"] = self.node.inputs.potential.uuid
        return results

    def level_of_theory(self) -> str:
        """Snapshots are not labelled yet."""
        return "unlabelled"
