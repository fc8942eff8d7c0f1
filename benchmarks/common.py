"""What the benchmarks share: a temporary profile, a code, a potential."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

FOLDER = Path(tempfile.mkdtemp(prefix="gaprss-benchmark-"))


def stillinger_weber() -> dict:
    """Return the label settings of the demo's reference."""
    from aiida_gaprss.campaign.file import load_campaign

    example = Path(__file__).parent.parent / "aiida_gaprss" / "examples" / "silicon_sw.yaml"
    reference = load_campaign(example).config.reference.ase
    assert reference is not None
    return reference.model_dump()


def silicon_cells(n: int, n_atoms: tuple[int, ...], seed: int = 1) -> list:
    """Return random silicon cells."""
    from aiida_gaprss.structures.random_cells import CellSpec, random_cells

    return random_cells(CellSpec({"Si": 1}, n_atoms, (15.0, 28.0), 2.0, (1, 2, 4)), n, seed)


def gap_fit() -> str:
    """Return the path of the gap_fit of this environment."""
    import quippy

    return str(Path(quippy.__file__).parent / "gap_fit")


def label(frames: list, calculator: Any) -> list:
    """Put the labels of an ASE calculator on frames, and return them; an isolated atom has no virial."""
    from ase import Atoms

    from aiida_gaprss import frames as fr

    for atoms in frames:
        work = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
        energy, forces = work.get_potential_energy(), work.get_forces()
        virial = None if fr.is_isolated_atom(atoms) else fr.virial_from_stress(work.get_stress(), work.get_volume())
        fr.set_labels(atoms, energy, forces, virial)
    return frames


def labelled_silicon(cells: list) -> list:
    """Return the cells with Stillinger-Weber labels, after the isolated atom."""
    import quippy
    from ase import Atoms

    frames = [Atoms("Si", cell=[15.0] * 3, pbc=True), *cells]
    for number, atoms in enumerate(frames):
        atoms.info.update(config_type="random" if number else "isolated_atom", frame_id=f"cell-{number}")
    return label(frames, quippy.potential.Potential(**stillinger_weber()["arguments"]))


def fit_silicon() -> Path:
    """Fit a GAP to 60 random cells of Stillinger-Weber silicon; return its xml."""
    from ase.io import write

    from aiida_gaprss.models.gap.settings import GapSettings

    frames = labelled_silicon(silicon_cells(60, (2, 4, 6, 8)))
    write(FOLDER / "train.xyz", frames, format="extxyz", write_results=False)
    fit = GapSettings(
        descriptors=[
            {"kind": "distance_2b", "cutoff": 5.0},
            {"kind": "soap_turbo", "cutoff": 4.5, "n_sparse": 200},
        ],
        sigma={"energy": 0.01, "forces": 0.1, "virial": 0.1},
    )
    (FOLDER / "gap_fit.in").write_text(fit.command("train.xyz", "gap.xml", 1, {"Si": 0.0}), encoding="utf-8")
    subprocess.run([gap_fit(), "config_file=gap_fit.in"], cwd=FOLDER, check=True, capture_output=True)
    return FOLDER / "gap.xml"


def load_temporary_profile() -> None:
    """Make an AiiDA profile in a temporary folder and register the codes of this environment."""
    os.environ["AIIDA_PATH"] = str(FOLDER)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    from aiida_gaprss.cli.environment import load_or_make_profile, set_up_codes

    load_or_make_profile()
    set_up_codes(None, None, None)


def fitted(frames: list, settings: Any, calculator: Any) -> Any:
    """Return the calculator of a GAP fitted to the frames and an isolated atom, all labelled by a calculator."""
    from ase import Atoms
    from quippy.potential import Potential

    from aiida_gaprss.io.extxyz import extxyz_text
    from aiida_gaprss.models.families import family_of
    from aiida_gaprss.models.training import join

    atom = Atoms(frames[0].symbols[:1], cell=[15.0] * 3, pbc=True, info={"config_type": "isolated_atom", "frame_id": "atom"})
    copies = [atoms.copy() for atoms in frames]
    for number, atoms in enumerate(copies):
        atoms.info["frame_id"] = f"frame-{number}"
    training = join([label([atom, *copies], calculator)])
    folder, family = Path(tempfile.mkdtemp(prefix="fit-", dir=FOLDER)), family_of("gap")
    family.prepare(training, settings)
    job = family.job(training, settings, 1, "train.extxyz")
    for name, text in {"train.extxyz": extxyz_text(training), **job.files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    subprocess.run([gap_fit(), *job.argv], cwd=folder, env=environment, check=True, capture_output=True)
    return Potential(param_filename=str(folder / family.MAIN))
