"""Hide packages from a Python and from those it starts, as if they were not installed: imports and entry points.

Their names stand in the variable GAPRSS_TESTS_WITHOUT, divided by commas. With names in GAPRSS_TESTS_BROKEN, importing a part of
these ends with an error, as of a package that does not fit its numpy.
"""

import importlib.metadata
import os
import sys

HIDDEN, BROKEN = (set(filter(None, os.environ.get(f"GAPRSS_TESTS_{name}", "").split(","))) for name in ("WITHOUT", "BROKEN"))


class Hiding:
    def find_spec(self, name, path=None, target=None):
        package = name.split(".")[0]
        if package in HIDDEN:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        if package in BROKEN and name != package:
            raise AttributeError("`np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.")
        return None


def hide_entry_points(module):
    everything = module.Distribution.discover.__func__

    def discover(cls, **options):
        found = everything(cls, **options)
        return (one for one in found if (one.metadata["Name"] or "").replace("-", "_") not in HIDDEN)

    module.Distribution.discover = classmethod(discover)


if HIDDEN or BROKEN:
    sys.meta_path.insert(0, Hiding())
    hide_entry_points(importlib.metadata)
    try:
        import importlib_metadata
    except ImportError:
        pass
    else:
        hide_entry_points(importlib_metadata)
