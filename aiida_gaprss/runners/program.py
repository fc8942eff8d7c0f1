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
from status import STOPPED

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
        folder, packed = (Path(self.settings[key].format(index=atoms.info["index"])) for key in ("folder", "packed"))
        if said := said_in(packed):  # by a job that was stopped before it could say so
            return said, [result(atoms, packed)]
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
                return STOPPED, []
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        last = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()[-1:]
        said = "ok" if status == 0 else f"ended with status {status}" + "".join(f": {line}" for line in last)
        self.pack(packed, folder, said)
        shutil.rmtree(folder)
        return said, [result(atoms, packed)]

    def pack(self, path: Path, folder: Path, said: str) -> None:
        """Pack the files that are kept; the archive is there when it is whole."""
        new = path.with_suffix(".new")
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = said.encode()[:60_000]
            for pattern in self.settings["keep"]:
                for file in sorted(folder.glob(pattern)):
                    if file.is_file() and file.stat().st_size <= LARGEST:
                        archive.write(file, file.name)
        new.rename(path)


def said_in(path: Path) -> str:
    """Return what is said of a frame that has been packed, or nothing."""
    if not path.is_file():
        return ""
    with zipfile.ZipFile(path) as archive:
        return archive.comment.decode(errors="replace")


def result(atoms: Atoms, path: Path) -> Atoms:
    """Return the frame with the digest of its archive."""
    out = stripped(atoms)
    out.info = {"packed": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"}
    return out


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
