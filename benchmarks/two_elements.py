"""Searches of two elements, with the convex hull they find: python benchmarks/two_elements.py [FOLDER] [--generations 5].

Copper and gold with ASE's EMT, from nothing: the hull of the search beside ordered alloys that are known, relaxed with EMT
itself. With GAPRSS_DATA, also lithium and copper: the frames of a published search (VASP) are imported, and the campaign begins
with these, labelled anew with what stands in for DFT: a Lennard-Jones potential with the size and cohesion of the two metals.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import time
from pathlib import Path
from typing import Any

from common import load_temporary_profile

#: Å³ per atom around those of the elements, and Å.
SEEDS = {
    "CuAu": {
        "volume_per_atom": {"Cu": [9.0, 18.0], "Au": [13.0, 25.0]},
        "min_separation": {"Cu-Cu": 2.1, "Au-Cu": 2.2, "Au-Au": 2.4},
    },
    "LiCu": {
        "volume_per_atom": {"Li": [14.0, 28.0], "Cu": [9.0, 18.0]},
        "min_separation": {"Cu-Cu": 2.15, "Cu-Li": 2.35, "Li-Li": 2.6},
    },
}


def settings(elements: str, generations: int) -> dict[str, Any]:
    """Return what is changed of the recipe ``quick``."""
    first, second = elements[:2], elements[2:]
    seed = {**SEEDS[elements], "n_atoms": [1, 2, 3, 4, 6, 8], "n_operations": [1, 2, 3, 4, 6, 8, 12, 16, 24, 48]}

    def generation(width: float) -> dict[str, Any]:
        rules = [{"by": "lowest", "n": 10}, {"by": "farthest", "n": 10}, {"by": "farthest", "of": "snapshots", "n": 6}]
        return {
            "cells": {"random": 80},
            "hull_bias": 0.1,
            "pressure": {"width_GPa": width},
            "relax": {"max_steps": 60, "snapshot_steps": [5]},
            "select": {"rules": rules if width else rules[:2]},
        }

    return {
        "formula": {first: 1, second: 1},
        "seeds": {"random": {**seed, "formula": {first: [0, 8], second: [0, 8]}}},
        "initial": {"random": 70},
        "generations": [generation(25.0)] * (generations - 1) + [generation(0.0)],
        "fit": {
            "descriptors": [
                {"kind": "distance_2b", "cutoff": 5.5, "n_sparse": 20, "delta": 1.0},
                {"kind": "soap_turbo", "cutoff": 5.0, "n_max": 6, "l_max": 4, "atom_sigma": 0.5, "n_sparse": 250, "delta": 0.3},
            ],
            "regularisation": [{"kind": "hull", "low": 0.001, "high": 0.05, "width": 1.0, "forces": 30.0, "virial": 10.0}],
        },
        "search": {
            "cells": {"random": 150},
            "again": 20,
            "window": 0.2,
            "report": 15,
            "label": 10,
            "relax": {"max_steps": 120, "snapshot_steps": [], "fmax": 0.02},
        },
    }


def run(name: str, content: dict[str, Any], folder: Path) -> Any:
    """Run a campaign, write its report, and return its node."""
    from aiida.engine import run_get_node
    from ruamel.yaml import YAML

    from aiida_gaprss.campaign.file import check_campaign
    from aiida_gaprss.campaign.inputs import builder_inputs
    from aiida_gaprss.report.collect import collect
    from aiida_gaprss.report.write import write_report
    from aiida_gaprss.workflows.rss import RssWorkChain

    text = io.StringIO()
    YAML(typ="safe").dump({"name": name, "protocol": "quick", **content}, text)
    started = time.perf_counter()
    _, node = run_get_node(RssWorkChain, **builder_inputs(check_campaign(text.getvalue(), Path("campaign.yaml"))))
    labels = sum(labelled.n_frames for labelled in node.outputs.labels.values()) if "labels" in node.outputs else 0
    print(
        f"{name}: {node.exit_message or 'finished'}; {labels} labels, {(time.perf_counter() - started) / 60:.1f} min", flush=True
    )
    write_report(collect(node), folder / name)
    return node


def tell_hull(node: Any) -> Any:
    """Print the stable phases among everything that the reference has labelled, and return the hull."""
    from aiida_gaprss import frames as fr
    from aiida_gaprss.analysis.hull import Hull, phase_name
    from aiida_gaprss.analysis.minima import symmetry

    sets = [*node.outputs.labels.values(), node.outputs.minima_frames]
    hull = Hull([a for frames in sets for a in frames.get_frames() if fr.is_labelled(a)])
    for atoms in hull.stable:
        _, symbol, _ = symmetry(atoms)
        energy = 1000 * hull.formation_energy(atoms)
        print(f"  on the hull: {phase_name(atoms):8s} {symbol:10s} formation energy {energy:+7.1f} meV/atom")
    errors = [m for m in node.outputs.minima["minima"] if m["ref_energy"] is not None]
    rms = (sum((m["predicted_energy"] - m["ref_energy"]) ** 2 for m in errors) / len(errors)) ** 0.5
    print(f"  error of the potential at the {len(errors)} lowest minima: {1000 * rms:.1f} meV/atom (root mean square)")
    return hull


def known_alloys(hull: Any) -> None:
    """Print ordered alloys of copper and gold, relaxed with EMT, beside the hull of the search."""
    from ase import Atoms
    from ase.calculators.emt import EMT
    from ase.filters import FrechetCellFilter
    from ase.optimize import LBFGS

    a = 3.8
    corners = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    for name, symbols in {"Cu3Au (L1_2)": "AuCu3", "CuAu (L1_0)": "Au2Cu2", "CuAu3 (L1_2)": "CuAu3"}.items():
        alloy = Atoms(symbols, scaled_positions=corners, cell=[a] * 3, pbc=True)
        alloy.calc = EMT()
        LBFGS(FrechetCellFilter(alloy), logfile=None).run(fmax=1e-3, steps=200)
        energy = alloy.get_potential_energy()
        alloy.calc = None
        alloy.info["REF_energy"] = energy
        formation, above = 1000 * hull.formation_energy(alloy), 1000 * hull.above(alloy)
        print(f"  {name}: {formation:+.1f} meV/atom, {above:+.1f} from the hull of the search")


def pair(first: int, second: int, sigma: float, depth: float) -> str:
    """Return a line of QUIP's Lennard-Jones parameters: size (Å) and four times the depth (eV)."""
    sizes = f'type1="{first}" type2="{second}" sigma="{sigma}" eps6="{depth}" eps12="{depth}"'
    return f'<per_pair_data {sizes} cutoff="6.5" energy_shift="T" linear_force_shift="T" />'


#: Lennard-Jones lithium (type 1) and copper (2): nearest neighbours and cohesive energies of the metals, and a mixed pair a
#: little deeper than their geometric mean.
LITHIUM_COPPER = (
    '<LJ_params n_types="2" label="default"><per_type_data type="1" atomic_num="3" /><per_type_data type="2" atomic_num="29" />'
    f"{pair(1, 1, 2.79, 0.76)}{pair(1, 2, 2.567, 1.2)}{pair(2, 2, 2.345, 1.6)}</LJ_params>"
)


def lithium_copper(folder: Path, generations: int) -> None:
    """Import published frames, and search from them."""
    from aiida_gaprss.data.dataset import Dataset
    from aiida_gaprss.io.extxyz import Keys

    path = Path(os.environ["GAPRSS_DATA"]) / "licu" / "LiCu_iter0_fitting.xyz"
    keys = Keys(energy="REF_energy", forces="REF_forces")
    frames = Dataset.from_file(path, keys, level_of_theory="VASP").get_frames()
    # The dimers reach down to distances at which a Lennard-Jones potential is beyond all measure.
    kept = [atoms for atoms in frames if atoms.info["config_type"] != "dimer"]
    for number, atoms in enumerate(kept):
        atoms.info["frame_id"] = f"licu-{number:03d}"
    published = Dataset(kept, level_of_theory="VASP").store()
    print(f"LiCu: {published.n_frames} of {len(frames)} frames imported as <{published.pk}>", flush=True)
    arguments = {"args_str": "IP LJ", "param_str": LITHIUM_COPPER}
    content = {
        "reference": {
            "ase": {
                "calculator": "quippy.potential.Potential",
                "arguments": arguments,
                "level_of_theory": "Lennard-Jones lithium and copper (QUIP)",
            }
        },
        "start": {"relabel": [published.pk]},
        "settings": {**settings("LiCu", generations), "initial": {"random": 40}},
    }
    node = run("LiCu", content, folder)
    if node.is_finished_ok:
        tell_hull(node)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("two-elements"))
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--only", choices=("CuAu", "LiCu"), help="one of the two")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    load_temporary_profile()
    logging.getLogger("aiida").setLevel(logging.ERROR)
    if options.only != "LiCu":
        reference = {"ase": {"calculator": "emt", "level_of_theory": "EMT (ASE)"}}
        node = run("CuAu", {"reference": reference, "settings": settings("CuAu", options.generations)}, options.folder)
        if node.is_finished_ok:
            known_alloys(tell_hull(node))
    if options.only != "CuAu" and os.environ.get("GAPRSS_DATA"):
        lithium_copper(options.folder, options.generations)
    elif options.only != "CuAu":
        print("LiCu: skipped, GAPRSS_DATA is not set")


if __name__ == "__main__":
    main()
