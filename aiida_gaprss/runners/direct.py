"""Calls of quippy without the arguments that it reads anew in each of them (uploaded with the job).

``quippy.potential.Potential`` passes a line of text to QUIP, where three layers one below the other look for forty arguments in
it, before anything is calculated. That takes longer than the energy of a small cell. The lowest layer, ``IP_Calc``, is a routine
of the same library that takes arrays and needs no text; with the atoms of the last call kept, it gives the same numbers to the
last digit. As nobody promises where it finds the potential, a child process tries the way on the first frame: where that ends
with anything but the numbers of the ordinary call, calls stay ordinary.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import time
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

#: What ``IP_Calc`` is asked for; for everything else calls are ordinary.
KNOWN = {"energy", "free_energy", "forces", "stress"}

#: Where a potential of QUIP has the pointers to its one model, in bytes: tight-binding, interatomic potential, and three that ask
#: another program. As gfortran lays out ``Potential_Simple`` in quippy-ase 0.9.14; the trial finds out whether it is so.
POINTERS, KINDS, INTERATOMIC = 184, 5, 1

#: In eV, Å and as a ratio: by less, two calls for the same atoms differ.
ALIKE = 1e-10

#: s after which a trial is given up.
PATIENCE = 60.0

#: Code of gfortran for real numbers in its descriptors of arrays.
REAL = 3


class Dimension(ctypes.Structure):
    """One dimension of an array of gfortran."""

    _fields_ = [("stride", ctypes.c_ssize_t), ("lower", ctypes.c_ssize_t), ("upper", ctypes.c_ssize_t)]


class Descriptor(ctypes.Structure):
    """What gfortran (8 and later) passes for an array of two dimensions whose shape is assumed."""

    _fields_ = [
        ("base", ctypes.c_void_p),
        ("offset", ctypes.c_ssize_t),
        ("element", ctypes.c_size_t),
        ("version", ctypes.c_int),
        ("rank", ctypes.c_int8),
        ("type", ctypes.c_int8),
        ("attribute", ctypes.c_int16),
        ("span", ctypes.c_ssize_t),
        ("dimensions", Dimension * 2),
    ]


def described(array: np.ndarray) -> Descriptor:
    """Return the descriptor of an array of shape ``(n, 3)`` in C's order, which is Fortran's ``(3, n)``."""
    shape = (Dimension * 2)(Dimension(1, 1, 3), Dimension(3, 1, len(array)))
    return Descriptor(array.ctypes.data, -4, array.itemsize, 0, 2, REAL, 0, array.itemsize, shape)


def address(handle: Any) -> int:
    """Return the address that a handle of f90wrap holds."""
    return int(np.asarray(handle, dtype=np.int32)[:2].view(np.int64)[0])


class Unfit(Exception):
    """This potential, or this frame, is not called directly."""


class DirectCall:
    """Energy, forces and virial of a quippy potential of one model, by ``IP_Calc``."""

    def __init__(self, calculator: Any) -> None:
        """:raises Unfit: if the potential is of several models, or is told more than what model it is."""
        import quippy

        self.quippy = quippy
        self.potential = calculator._quip_potential
        if calculator.calc_args or calculator.add_arrays or calculator.add_info:
            raise Unfit("it has arguments of its own")
        self.model = self._model()
        self.call: Any = getattr(ctypes.CDLL(quippy._quippy.__file__), "__ip_module_MOD_ip_calc")
        self.call.restype = None
        self.call.argtypes = [ctypes.c_void_p] * 9 + [ctypes.c_size_t]
        self.cutoff = self.potential.cutoff()
        self.numbers, self.elements = np.zeros(0, int), set[int]()

    def _model(self) -> int:
        """Return the address of the interatomic potential.

        :raises Unfit: if there is none, or not at its place.
        """
        library, handle = self.quippy._quippy, self.potential._handle
        if not library.f90wrap_potential__get__is_simple(handle):
            raise Unfit("it is of several potentials")
        simple = library.f90wrap_potential__get__simple(handle)
        flags = [getattr(library, f"f90wrap_potential__get__do_rescale_{name}")(handle) for name in ("r", "e")]
        names = ("is_wrapper", "little_clusters", "force_using_fd", "virial_using_fd")
        flags += [getattr(library, f"f90wrap_potential_simple__get__{name}")(simple) for name in names]
        if any(flags):
            raise Unfit("it has arguments of its own")
        return _only_pointer(address(simple))

    def __call__(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        """Return energy (eV), forces (eV/Å, shape ``(natoms, 3)``) and virial (eV, shape ``(3, 3)``).

        :raises Unfit: if it has elements that no ordinary call was made for, since QUIP would end the process if it did not know
            them, or if QUIP reports an error.
        """
        self._take(atoms)
        energy, error = ctypes.c_double(), ctypes.c_int()
        forces, virial = np.zeros((len(atoms), 3)), np.zeros((3, 3))
        shape = described(forces)
        places = [ctypes.addressof(shape), virial.ctypes.data, None, None, ctypes.addressof(error)]
        self.call(self.model, self.address, ctypes.addressof(energy), None, *places, 0)
        if error.value:
            raise Unfit(f"QUIP ends with error {error.value}")
        return energy.value, forces, virial.T

    def _take(self, atoms: Atoms) -> None:
        """Bring the atoms to QUIP; those of the same elements in the same order take the place of the last ones."""
        if not np.array_equal(self.numbers, atoms.numbers):
            if not self.elements.issuperset(atoms.numbers):
                raise Unfit("it has new elements")
            self.quip = self.quippy.convert.ase_to_quip(atoms)
            self.numbers, self.address = atoms.numbers.copy(), address(self.quip._handle)
            self.positions, self.periodic = self.quip.pos, self.quip.is_periodic
            if self.cutoff > 0:
                self.quip.set_cutoff(self.cutoff)
        else:
            self.quip.set_lattice(atoms.cell.array.T.copy(), scale_positions=False)
            self.positions[:] = atoms.positions.T
            self.periodic[:] = atoms.pbc
        if self.cutoff > 0:
            self.quip.calc_connect()


def _only_pointer(begin: int) -> int:
    """Return the pointer to the interatomic potential of a simple potential.

    :raises Unfit: if it is not set, or another one is.
    """
    pointers = [*(ctypes.c_void_p * KINDS).from_address(begin + POINTERS)]
    if [number for number, pointer in enumerate(pointers) if pointer] != [INTERATOMIC]:
        raise Unfit("it is of another model, or its parts are not where they are expected")
    return int(pointers[INTERATOMIC])


class Shortcut:
    """Takes the place of ``calculate`` of a quippy potential: direct calls where a trial has shown that they give the same."""

    def __init__(self, calculator: Any) -> None:
        self.calculator, self.ordinary = calculator, calculator.calculate
        self.direct: DirectCall | None = None
        self.tried = False

    def __call__(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] | None = None,
        **arguments: Any,
    ) -> None:
        """Calculate as ASE's calculators do."""
        atoms = self.calculator.atoms if atoms is None else atoms
        if arguments or properties is None or not KNOWN.issuperset(properties) or atoms.has("momenta"):
            self.ordinary(atoms, properties, system_changes, **arguments)
        elif found := self._found(atoms):
            energy, forces, virial = found
            Calculator.calculate(self.calculator, atoms, properties, system_changes)
            self.calculator.results.update(energy=energy, free_energy=energy, forces=forces, stress=stress_of(virial, atoms))
            self.calculator.extra_results = {"config": {"virial": virial}, "atoms": {}}
        else:
            self.ordinary(atoms, properties, system_changes)
            self._try(atoms)

    def evaluate(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        """Return energy (eV), forces (eV/Å) and stress (eV/Å³, six components)."""
        if found := self._found(atoms):
            energy, forces, virial = found
            return energy, forces, stress_of(virial, atoms)
        get = self.calculator.get_property
        return get("free_energy", atoms), get("forces", atoms), get("stress", atoms)

    def _found(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Return what a direct call gives, None if there is to be an ordinary one."""
        if self.direct is None:
            return None
        try:
            return self.direct(atoms)
        except Unfit:
            return None

    def _try(self, atoms: Atoms) -> None:
        """Call directly from now on, if that gives what the ordinary call has given."""
        if self.direct is not None:
            self.direct.elements.update(atoms.numbers)
        if self.tried or not {"energy", "forces", "stress"} <= self.calculator.results.keys():
            return
        self.tried = True
        try:
            direct = DirectCall(self.calculator)
        except (Unfit, AttributeError, ImportError, OSError):
            return
        direct.elements.update(atoms.numbers)
        if ends_well(lambda: is_same(direct(atoms), self.calculator.results, atoms)):
            self.direct = direct


def stress_of(virial: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Return the stress in ASE's sign and order, eV/Å³, of a virial, eV."""
    stress = -virial / atoms.get_volume()
    return np.array([stress[0, 0], stress[1, 1], stress[2, 2], stress[1, 2], stress[0, 2], stress[0, 1]])


def is_same(found: tuple[float, np.ndarray, np.ndarray], results: dict[str, Any], atoms: Atoms) -> bool:
    """Tell whether a direct call has given the numbers of an ordinary one, which two of these give to their last digits only."""
    energy, forces, virial = found
    pairs = ((energy, "energy"), (forces, "forces"), (stress_of(virial, atoms), "stress"))
    return all(np.allclose(value, results[name], rtol=ALIKE, atol=ALIKE) for value, name in pairs)


def ends_well(trial: Any) -> bool:
    """Tell whether ``trial()`` is true in a child process, which may crash or never end."""
    child = os.fork()
    if not child:
        faulthandler.disable()  # a crash here is no news
        code = 1
        try:
            code = 0 if trial() else 1
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return False
        time.sleep(0.001)
    return ended[1] == 0


def hasten(calculator: Any) -> None:
    """Let a quippy potential be called directly, where that gives the same; others stay as they are."""
    kind = type(calculator)
    if (kind.__module__, kind.__name__) == ("quippy.potential", "Potential") and hasattr(os, "fork"):
        calculator.calculate = Shortcut(calculator)


def shortest_way(calculator: Any) -> Any:
    """Return a function of atoms that gives energy, forces and stress without ASE's bookkeeping; None if there is none.

    ASE compares the atoms with those of the last call for every property, which takes longer than a direct call.
    """
    shortcut = getattr(calculator, "calculate", None)
    return shortcut.evaluate if isinstance(shortcut, Shortcut) else None
