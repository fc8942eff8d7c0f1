"""Run a program in a folder of its own for every frame, and pack what it wrote (uploaded with the job)."""

from __future__ import annotations

import hashlib
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
from common import stripped

#: Files larger than this (bytes) are not kept: wave functions, densities.
LARGEST = 20_000_000


class Program:
    """A program; ``settings`` are

    ``command``, a shell line; ``output``, the file of its standard output; ``folder`` and ``packed``, where a frame's program
    runs and where its files go, by the number of the frame; ``keep``, patterns of file names.
    """

    settings: dict[str, Any]

    def setup(self, settings: dict[str, Any]) -> None:
        """Remember the settings."""
        self.settings = settings
        Path("raw").mkdir(exist_ok=True)

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        """Run the program; what it printed is judged where the packed files are read."""
        folder = Path(self.settings["folder"].format(index=atoms.info["index"]))
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
        out = stripped(atoms)
        out.info = {"packed": self.pack(Path(self.settings["packed"].format(index=atoms.info["index"])), folder)}
        last = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()[-1:]
        shutil.rmtree(folder)
        return ("ok" if status == 0 else f"ended with status {status}" + "".join(f": {line}" for line in last)), [out]

    def pack(self, path: Path, folder: Path) -> str:
        """Pack the files that are kept, and return the digest of the archive."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for pattern in self.settings["keep"]:
                for file in sorted(folder.glob(pattern)):
                    if file.is_file() and file.stat().st_size <= LARGEST:
                        archive.write(file, file.name)
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


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
