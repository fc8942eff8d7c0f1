"""References: the programs that label frames. The only modules that know a DFT plugin.

A module here offers

* ``define(namespace)``: the input ports of one frame-by-frame reference;
* ``level_of_theory(inputs)``: one line that names code, functional and settings;
* ``submission(inputs, structure, isolated)``: process class and inputs that label one structure;
* ``OUTPUTS``: the output nodes that hold the labels;
* ``labels(outputs)``: energy (eV, force-consistent), forces (eV/Å) and ASE stress (eV/Å³) from these nodes.
"""

from __future__ import annotations

from types import ModuleType

from aiida_gaprss.reference import quantumespresso

#: References that label one frame per process, by the name of their input namespace.
PER_FRAME: dict[str, ModuleType] = {"quantumespresso": quantumespresso}
