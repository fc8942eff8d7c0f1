"""Scripts that run on the compute machine: python, ase and quippy only, nothing of this package.

Each job uploads the shared scripts and one task beside them, with ``settings.json``, ``input.extxyz`` and what the task needs.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

#: What travels with every task.
SHARED = ("batch", "direct", "common", "distances", "identity", "status")

#: Tasks that another one makes use of, and that travel with it.
USED = {"neb": ("relax",), "md": ("states",)}


def scripts_of(task: str) -> tuple[str, ...]:
    """Return the names of all scripts that travel with a task, itself the last."""
    return (*SHARED, *USED.get(task, ()), task)


def task_of(name: str) -> Any:
    """Return a task for use in this process, without settings and calculator.

    On the compute machine scripts import each other by their bare names, which here may be those of other modules: they are lent
    for the import only.
    """
    full = f"{__name__}.{name}"
    if full not in sys.modules:
        scripts = [script for script in scripts_of(name)[:-1] if script != "batch"]
        before = {script: sys.modules.get(script) for script in scripts}
        try:
            for script in scripts:
                sys.modules[script] = import_module(f"{__name__}.{script}")
            import_module(full)
        finally:
            for shared, module in before.items():
                if module is None:
                    sys.modules.pop(shared, None)
                else:
                    sys.modules[shared] = module
    return type(sys.modules[full].TASK)()
