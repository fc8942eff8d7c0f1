"""Draw the cells of strategies for these pages: ``python docs/strategies/pictures.py``."""

from pathlib import Path

import matplotlib
import numpy as np
from ase import Atoms
from ase.build import bulk

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from ase.visualize.plot import plot_atoms
from PIL import Image

from aiida_gaprss.strategies.base import strategy_of

HERE = Path(__file__).parent
BORON = (HERE.parents[1] / "examples" / "beta_boron_321.cif").read_text(encoding="utf-8")


def made(kind: str, crystal: Atoms | None = None, **settings) -> list[Atoms]:
    """Return the frames of a strategy, by default of one crystal."""
    return strategy_of({"kind": kind, **settings}).apply([] if crystal is None else [crystal], {"Si": 1}, 1)


def draw(
    name: str, cells: list[tuple[str, Atoms]], rotation: str, colors: list | None = None, size: float = 2.4, radii: float = 0.45
) -> None:
    """Draw cells beside each other, on one scale."""
    figure, axes = plt.subplots(1, len(cells), figsize=(size * len(cells), size * 1.15))
    for number, ((title, atoms), axis) in enumerate(zip(cells, axes, strict=True)):
        plot_atoms(atoms, axis, rotation=rotation, radii=radii, colors=None if colors is None else colors[number])
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    spans = [max(np.ptp(axis.get_xlim()), np.ptp(axis.get_ylim())) / 2 for axis in axes]
    for axis in axes:
        axis.set_xlim(np.mean(axis.get_xlim()) + np.array([-1, 1]) * max(spans))
        axis.set_ylim(np.mean(axis.get_ylim()) + np.array([-1, 1]) * max(spans))
    figure.tight_layout()
    figure.savefig(HERE / f"{name}.png", dpi=80, bbox_inches="tight")
    plt.close(figure)
    with Image.open(HERE / f"{name}.png") as image:
        few = image.convert("RGB").quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(HERE / f"{name}.png", optimize=True)


def nondiagonal() -> None:
    """The supercells of diamond for 4×4×4, one for each wavevector."""
    frames = made("nondiagonal", bulk("Si"), volumes=[1.0], copies=1, displacement_A=0.1)[1:]
    titles = [atoms.info["parameters"].split(", ")[:2] for atoms in frames]
    draw(
        "nondiagonal", [(f"{q}\n{size}", atoms) for (q, size), atoms in zip(titles, frames, strict=True)], "-80x,25y,5z", size=1.6
    )


def displacements() -> None:
    """One atom displaced, and all of them, ten times as far as by default to be seen."""
    crystal, seen = bulk("Si"), {"supercell": [4, 4, 4], "displacement_A": 0.25}
    perfect, single = made("displacements", crystal, **seen)
    rattled = made("rattled", crystal, volumes=[0.94, 1.06], copies=1, **seen)
    moved = np.linalg.norm(single.positions - perfect.positions, axis=1) > 1e-6
    plain = ["#c8b88a"] * len(perfect)
    colors = [plain, ["#d62728" if yes else color for yes, color in zip(moved, plain, strict=True)], plain, plain]
    titles = ["perfect", "one atom displaced", "rattled, volume 0.94", "rattled, volume 1.06"]
    draw("displacements", list(zip(titles, [perfect, single, *rattled], strict=True)), "-85x,8y", colors)


def strained() -> None:
    """Silicon in three of the modes."""
    frames = made("strained", bulk("Si", cubic=True), supercell=[2, 2, 2], strains=[-0.1, 0.1], modes=[1, 2, 6])
    wanted = [0, 1, 2, 5, 6]
    draw("strained", [(frames[n].info["parameters"], frames[n]) for n in wanted], "0x")


def bain() -> None:
    """The body-centred tetragonal cells from bcc to fcc."""
    cells = []
    for eta in (0.0, 0.5, 1.0):
        (cell, *_) = made("bain", bulk("W"), etas=[eta], volumes=[1.0], copies=1, grid=[1, 1, 1])
        x = 1 - eta + 2 ** (1 / 3) * eta
        edge = (2 * cell.get_volume()) ** (1 / 3)
        box = np.diag([edge / np.sqrt(x), edge / np.sqrt(x), edge * x])
        tetragonal = Atoms("W2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=box, pbc=True).repeat((2, 2, 2))
        cells.append((f"eta {eta:g}, c/a {x**1.5:.3f}", tetragonal))
    draw("bain", cells, "-85x,20y", radii=0.35)


def occupancy() -> None:
    """Three cells of β-boron: full sites grey, others black."""
    frames = made("occupancy", text=BORON, number=3)
    colors = [["#d8d8d8"] * 297 + ["#000000"] * 24 for _ in frames]
    draw(
        "occupancy",
        [(f"occupancy-{n:04d}: 297 + 24", atoms) for n, atoms in enumerate(frames)],
        "-90x,10y",
        colors,
        size=3.2,
        radii=0.5,
    )


def evolutionary() -> None:
    """Two parents, layers of copper and platinum and a rock salt of them, and children of these."""
    layers = bulk("Cu", "fcc", 3.8, cubic=True).repeat((1, 1, 2))
    salt = bulk("CuPt", "rocksalt", 4.78, cubic=True)
    layers.symbols = ["Pt" if round(height / 1.9) % 2 else "Cu" for height in layers.positions[:, 2]]
    for name, atoms in (("layers", layers), ("rock salt", salt)):
        atoms.info["frame_id"] = name
    kind = {"kind": "evolutionary", "n_atoms": [8], "min_separation": 2.1, "volume_per_atom": [11, 18]}
    cells = [("layers", layers), ("rock salt", salt)]
    for operator in ("heredity", "permutation", "strain"):
        shares = {**dict.fromkeys(("heredity", "permutation", "strain"), 0.0), operator: 1.0}
        (child,) = strategy_of({**kind, "shares": shares}).cells_from([layers, salt], {"Cu": 1, "Pt": 1}, 1, 4)
        cells.append((child.info["parameters"].replace(" and ", "\nand "), child))
    draw("evolutionary", [(title, atoms) for title, atoms in cells], "-80x,15y", radii=0.5)


if __name__ == "__main__":
    for picture in (nondiagonal, displacements, strained, bain, occupancy, evolutionary):
        picture()
