"""Scripts that run on the compute machine: python, ase and quippy only, nothing of this package.

Each job uploads ``batch.py`` and one task beside it, with ``settings.json``, ``input.extxyz`` and what the task needs.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
