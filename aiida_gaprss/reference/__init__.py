"""References: the programs that label frames. The only modules that know a DFT plugin.

A module here offers

* ``NAME``: of the code, for people;
* ``define(namespace)``: the input ports of one frame-by-frame reference;
* ``missing(inputs, elements)``: what the inputs lack to label frames of these elements, or None;
* ``level_of_theory(inputs)``: everything that decides the value of a label, as a dictionary that begins with ``code``;
* ``submission(inputs, structure, isolated, attempt)``: process class and inputs that label one structure, whose atoms are sorted
  by atomic number; ``isolated`` is said of atoms and dimers in vacuum; attempt 1 is the first retry;
* ``OUTPUTS``: the output nodes that hold the labels;
* ``labels(outputs, symbols)``: energy (eV, force-consistent), forces (eV/Å) and ASE stress (eV/Å³) from these nodes, in the order
  of the sorted structure, whose symbols are given to be compared;

and for bundles, many frames in one job, each in a folder of its own two levels beneath that of the job:

* ``bundle_files(inputs, atoms, parameters, isolated)``: the input files of one sorted frame, as the plugin itself writes them;
* ``bundle_pseudos(inputs)``: files that all frames share, put into the folder ``pseudo`` of the job and not kept;
* ``bundle_command(inputs)``: the shell line that runs the program in the folder of a frame;
* ``BUNDLE_STDOUT``, where its standard output goes; ``BUNDLE_OUTPUT``, the file that holds the labels; ``BUNDLE_KEEP``, all files
  that come back;
* ``read_bundle(text)``: the labelled step in the text of ``BUNDLE_OUTPUT``.

``ase`` is for any ASE calculator: its frames go into one job anyway. What all share is in ``common``, and in ``flat`` for
those whose parameters are one flat mapping. No module imports a plugin before it is asked for: ``plugins`` says which they need,
and what is said where one is missing.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.io.common import Step
from aiida_gaprss.io.placeholders import not_calculated
from aiida_gaprss.levels import Level
from aiida_gaprss.reference import ase, castep, quantumespresso, vasp
from aiida_gaprss.reference.common import level_of_content, sorted_by_number, unsorted

#: References that label one frame per process, by the name of their input namespace.
PER_FRAME: dict[str, ModuleType] = {"quantumespresso": quantumespresso, "castep": castep, "vasp": vasp}


def reference_of(inputs: Any) -> str | None:
    """Return the name of the one reference among the inputs, or None."""
    given = [name for name in ("ase", *PER_FRAME) if inputs.get(name)]
    return given[0] if len(given) == 1 else None


def level_of(inputs: Any) -> Level | str:
    """Return the level of theory of the labels."""
    name = reference_of(inputs)
    assert name is not None
    if name == "ase":
        return ase.level_of_theory(inputs["ase"]["settings"])
    return level_of_content(PER_FRAME[name].level_of_theory(inputs[name]))


def set_labels_of_step(step: Step, atoms: Atoms) -> None:
    """Put the labels of a step, read from an output of the sorted structure of ``atoms``, on ``atoms`` in the order of ``atoms``.

    :raises ValueError: if the step must not be used, lacks a label, or is of other atoms.
    """
    structure, order = sorted_by_number(atoms)
    if step.problem is not None:
        raise ValueError(step.problem)
    if step.atoms.get_chemical_symbols() != structure.get_chemical_symbols():
        raise ValueError(f"sent {structure.symbols}, but the output is of {step.atoms.symbols}")
    if step.energy is None or step.forces is None or (step.stress is None and not fr.is_in_vacuum(atoms)):
        raise ValueError("the output lacks energy, forces or stress")
    _set(atoms, order, step.energy, np.asarray(step.forces), step.stress)


def set_sorted_labels(module: ModuleType, outputs: dict[str, Any], atoms: Atoms) -> None:
    """Put the labels that ``outputs`` hold for the sorted structure of ``atoms`` on ``atoms``, in the order of ``atoms``.

    :raises ValueError: if the outputs hold no valid labels.
    """
    structure, order = sorted_by_number(atoms)
    energy, forces, stress = module.labels(outputs, structure.get_chemical_symbols())
    _set(atoms, order, energy, forces, stress)


def _set(atoms: Atoms, order: np.ndarray, energy: float, forces: np.ndarray, stress: np.ndarray | None) -> None:
    """Put labels of the sorted structure on ``atoms``.

    :raises ValueError: if forces or stress stand for "not calculated".
    """
    stress = None if stress is None or fr.is_in_vacuum(atoms) else np.asarray(stress)
    _, _, notes = not_calculated(Step(sorted_by_number(atoms)[0], energy, forces, stress))
    if notes:
        raise ValueError("; ".join(notes))
    virial = None if stress is None else fr.virial_from_stress(stress, atoms.get_volume())
    fr.set_labels(atoms, energy, unsorted(forces, order), virial)
