"""Run a program in a folder of its own for every frame, and pack what it wrote (uploaded with the job)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ase import Atoms

#: Files larger than this (bytes) are not kept: wave functions, densities.
LARGEST = 20_000_000


class Program:
    """A program; ``settings`` are

    ``command``, a shell line; ``output``, the file of its standard output; ``folders`` by frame id; ``keep``, patterns of file
    names.
    """

    settings: dict[str, Any]

    def setup(self, settings: dict[str, Any]) -> None:
        """Remember the settings."""
        self.settings = settings
        Path("raw").mkdir(exist_ok=True)

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        """Run the program; what it printed is judged where the packed files are read."""
        name = str(atoms.info["frame_id"])
        folder = Path(self.settings["folders"][name])
        if packed := self.packed(name):  # by a job that was stopped before it could say so
            return packed, []
        tidy(folder)
        with (
            open(folder / self.settings["output"], "wb") as output,
            open(folder / "stderr.txt", "wb") as errors,
            # Open MPI keeps one folder for all programs of a user there, which one may remove while another begins.
            TemporaryDirectory(prefix="gaprss-") as temporary,
        ):
            process = subprocess.Popen(
                ["/bin/bash", "-c", self.settings["command"]],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, "TMPDIR": temporary},
                start_new_session=True,
            )
            try:
                status = process.wait(timeout=max(deadline - time.time(), 0.0) if deadline < 1e10 else None)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return "not reached: stopped when the time of the job was up", []
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        last = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()[-1:]
        said = "ok" if status == 0 else f"ended with status {status}" + "".join(f": {line}" for line in last)
        self.pack(name, folder, said)
        shutil.rmtree(folder)
        return said, []

    def packed(self, name: str) -> str:
        """Return what is said of a frame that has been packed, or nothing."""
        path = Path("raw") / f"{name}.zip"
        if not path.is_file():
            return ""
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode()

    def pack(self, name: str, folder: Path, said: str) -> None:
        """Pack the files that are kept into ``raw/<frame id>.zip``, which is there when it is whole."""
        new = Path("raw") / f"{name}.new"
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = said.encode()[:60_000]
            for pattern in self.settings["keep"]:
                for path in sorted(folder.glob(pattern)):
                    if path.is_file() and path.stat().st_size <= LARGEST:
                        archive.write(path, path.name)
        new.rename(Path("raw") / f"{name}.zip")


def tidy(folder: Path) -> None:
    """Remove what a run that was stopped has left beside the input: programs would go on from their old wave functions."""
    begun = folder / ".input"
    if begun.is_file():
        given = begun.read_text().splitlines()
        for path in folder.iterdir():
            if path.name not in given and path != begun:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    else:
        names = "\n".join(path.name for path in folder.iterdir())
        begun.with_suffix(".new").write_text(names)
        begun.with_suffix(".new").rename(begun)


TASK = Program()
