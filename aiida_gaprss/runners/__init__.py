"""Scripts that run on the compute machine: python, ase and quippy only, nothing of this package.

Each job uploads the shared scripts and one task beside them, with ``settings.json``, ``input.extxyz`` and what the task needs.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

#: What travels with every task.
SHARED = ("batch", "common", "distances", "identity", "status")


def task_of(name: str) -> Any:
    """Return a task for use in this process, without settings and calculator.

    On the compute machine scripts import each other by their bare names, which here may be those of other modules: they are lent
    for the import only.
    """
    full = f"{__name__}.{name}"
    if full not in sys.modules:
        lent = {shared: import_module(f"{__name__}.{shared}") for shared in SHARED if shared != "batch"}
        before = {shared: sys.modules.get(shared) for shared in lent}
        sys.modules.update(lent)
        try:
            import_module(full)
        finally:
            for shared, module in before.items():
                if module is None:
                    del sys.modules[shared]
                else:
                    sys.modules[shared] = module
    return type(sys.modules[full].TASK)()
