"""The cheap steps of comparing campaigns as calcfunctions: the common test, rows of parts, what is told of campaigns and files.

Links per process cost quadratically: campaigns are gathered one by one, and those in shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Dict
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis import testset
from aiida_gaprss.analysis.errors import errors
from aiida_gaprss.analysis.minima import symmetry
from aiida_gaprss.analysis.side_by_side import Relaxed, SideBySideSettings, of_campaign, of_file, of_lowest
from aiida_gaprss.analysis.zero import EnergyZero
from aiida_gaprss.calculations.common import frames_of, named
from aiida_gaprss.campaign.stages import SEARCH
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.runners.status import ENDED

#: Names of inputs: of a part of a campaign (``c03_g02``), and before what a potential made of the test, and of the lowest.
EVALUATED, RELAXED = "evaluated", "relaxed"
#: Who has made given crystals.
CRYSTALS = "crystals"


def of_part(campaign: str, tag: str) -> str:
    """Return the name of an input that is of a part of a campaign."""
    return f"{campaign}_{tag}"


@calcfunction
def low_frames(settings: Dict, **labels: Dataset) -> Dataset:
    """Return the labelled frames of parts of a campaign that may be low enough for the test, named after campaign and part.

    :param labels: by :func:`of_part`.
    """
    model = SideBySideSettings(**settings.get_dict())
    frames = [
        atoms
        for name, node in sorted(labels.items())
        for atoms in testset.gathered(node.get_frames(), *name.split("_", maxsplit=1))
    ]
    return _dataset(testset.within(frames, model.window), labels, "low frames of a campaign")


@calcfunction
def low_frames_together(settings: Dict, **shards: Dataset) -> Dataset:
    """Return the frames of several campaigns that may be low enough for the test."""
    frames = testset.within(frames_of(shards), SideBySideSettings(**settings.get_dict()).window)
    return _dataset(frames, shards, "low frames of campaigns")


def _dataset(frames: Sequence[Atoms], of: Mapping[str, Dataset], what: str) -> Dataset:
    level = next(node for _, node in sorted(of.items())).level
    return named(Dataset(frames, level_of_theory=level), what)


@calcfunction
def common_test(settings: Dict, **shards: Dataset) -> dict[str, Any]:
    """Return the test that all campaigns have in common: low frames, each structure once, and the lowest structures, bare.

    With them go facts: of every frame its height above the hull and who has made it and its copies; the names of the lowest
    structures; by campaign the parts that have labelled the ground state.
    """
    model = SideBySideSettings(**settings.get_dict())
    low = testset.within(frames_of(shards), model.window)
    zero, groups = EnergyZero(low), testset.once(low)
    ordered = testset.lowest(low, zero, model.lowest, (model.force, model.pressure))
    told = {
        str(group[0].info["frame_id"]): {
            "height": zero.above(group[0]),
            "makers": [list(vars(testset.maker_of(atoms)).values()) for atoms in group],
        }
        for group in groups
    }
    facts = {
        "frames": told,
        "energies": zero.words,
        "lowest": [_told(atoms, zero) for atoms in ordered],
        "known": testset.known_by(low, ordered[0], model.known_within) if ordered else {},
    }
    return {
        "frames": _dataset([group[0] for group in groups], shards, "common test of campaigns"),
        "lowest": named(Dataset([_bare(atoms) for atoms in ordered], level_of_theory="unlabelled"), "lowest structures"),
        "facts": named(Dict(facts), "facts of a common test"),
    }


def _told(atoms: Atoms, zero: EnergyZero) -> dict[str, Any]:
    """Return what is told of one of the lowest structures; energies in eV/atom."""
    number, symbol, primitive = symmetry(atoms)
    told = {"frame_id": atoms.info["frame_id"], "from": atoms.info["parent"], "formula": atoms.get_chemical_formula()}
    told |= {"space_group": number, "symbol": symbol, "primitive_atoms": primitive, "height": zero.above(atoms)}
    return told | {"energy": fr.energy(atoms) / len(atoms)}  # type: ignore[operator]  # it has a label


def _bare(atoms: Atoms) -> Atoms:
    """Return a structure as it is relaxed: without labels and pressure."""
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    bare.info.update(frame_id=atoms.info["frame_id"], config_type=atoms.info["config_type"])
    return bare


@calcfunction
def rows_of_parts(settings: Dict, lowest: Dataset, facts: Dict, campaign: Dict, **made: Dataset) -> Dict:
    """Return a row for each of some parts of a campaign: what its potential makes of the common test.

    :param campaign: ``key`` and ``parts``.
    :param made: ``evaluated_g02``, ``relaxed_g02``, … as far as there are such.
    """
    model, told = SideBySideSettings(**settings.get_dict()), facts.get_dict()
    structures = {atoms.info["frame_id"]: atoms for atoms in lowest.get_frames()}
    key = campaign["key"]
    rows = []
    for part in campaign["parts"]:
        tag = part["tag"]
        frames = _frames(made, EVALUATED, tag)
        held = of_lowest(_relaxed(told, structures, _frames(made, RELAXED, tag)), model.tie)
        known = sorted(set(part["trained"]) & set(told["known"].get(key, ())))
        row = {name: part.get(name) for name in ("tag", "labels", "relaxations", "converged", "given_up", "uuid")}
        rows.append({"campaign": key, **row, "known": bool(known), **held, **_errors(key, part, told, frames, model)})
    return named(Dict({"rows": rows}), "rows of a campaign")


def _frames(made: Mapping[str, Dataset], kind: str, tag: str) -> list[Atoms]:
    name = f"{kind}_{tag}"
    return made[name].get_frames() if name in made else []


def _relaxed(told: Mapping[str, Any], structures: Mapping[str, Atoms], frames: Sequence[Atoms]) -> list[Relaxed]:
    """Return what a potential has made of the lowest structures, in their order."""
    ends = {atoms.info["parent"]: atoms for atoms in frames if atoms.info.get("relax_status") in ENDED}
    out = []
    for one in told["lowest"]:
        name, end = one["frame_id"], ends.get(one["frame_id"])
        predicted = fr.energy(end, fr.PREDICTION) if end is not None else None
        error = predicted / len(end) - one["energy"] if end is not None and predicted is not None else None
        same = end is not None and testset.is_structure(end, structures[name])
        out.append(Relaxed(name, one["height"], error, same))
    return out


def _errors(
    key: str, part: Mapping[str, Any], told: Mapping[str, Any], frames: Sequence[Atoms], model: SideBySideSettings
) -> dict[str, Any]:
    """Return errors on all frames of the test, and on those that the potential has not seen, if they are enough."""
    makers = {name: [testset.Maker(*maker) for maker in one["makers"]] for name, one in told["frames"].items()}
    trained = (set(part["trained"]), set(part["left_out"]))
    unseen = [atoms for atoms in frames if not testset.is_seen(makers[atoms.info["frame_id"]], key, *trained)]
    enough = unseen if len(unseen) >= model.enough else []
    return {**_rmse(frames), "unseen": {"frames": len(unseen), **{k: v for k, v in _rmse(enough).items() if k != "frames"}}}


def _rmse(frames: Sequence[Atoms]) -> dict[str, Any]:
    """Return root mean square errors: meV/atom, eV/Å."""
    found = errors(frames)
    return {"frames": len(frames), "energy_rmse": found.energy.rmse, "forces_rmse": found.forces.rmse}


@calcfunction
def rows_together(**rows: Dict) -> Dict:
    """Return the rows of several campaigns."""
    return named(Dict({"rows": [row for _, node in sorted(rows.items()) for row in node["rows"]]}), "rows of campaigns")


@calcfunction
def campaigns_side_by_side(settings: Dict, campaigns: Dict, facts: Dict, rows: Dict) -> Dict:
    """Return all rows, and what is told of each campaign and of all seeds of a file; one that failed counts for no file."""
    model, told = SideBySideSettings(**settings.get_dict()), facts.get_dict()
    out: list[dict[str, Any]] = []
    for one in campaigns["campaigns"]:
        mine = [row for row in rows["rows"] if row["campaign"] == one["key"]]
        about = {key: one[key] for key in ("key", "name", "file", "seed", "uuid", "failure")}
        checks = one["labels"] + one["checks"] if SEARCH in told["known"].get(one["key"], ()) else None
        out.append({**about, **(of_campaign(mine, model, checks) if mine else {}), "rows": mine})
    done = [one for one in out if one["rows"] and not one["failure"]]
    files = {file: of_file([one for one in done if one["file"] == file]) for file in dict.fromkeys(one["file"] for one in done)}
    test = {"frames": len(told["frames"]), "window": model.window, "energies": told["energies"], "lowest": told["lowest"]}
    return named(Dict({"campaigns": out, "files": files, "test": test}), "campaigns side by side")
