"""Scripts that run on the compute machine: python, ase and quippy only, nothing of this package.

Each job uploads the shared scripts and one task beside them, with ``settings.json``, ``input.extxyz`` and what the task needs.
"""

from pathlib import Path

FOLDER = Path(__file__).parent

#: What travels with every task.
SHARED = ("batch", "common", "identity", "status")
