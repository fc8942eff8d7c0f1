"""The frames of a dataset: the keys they carry, their checks, and their canonical form as extended XYZ.

A frame is an :class:`ase.Atoms` without a calculator. Labels are stored under names ASE does not turn into a calculator:

* ``info['REF_energy']``: force-consistent total energy of the cell, eV;
* ``arrays['REF_forces']``: eV/Å, shape ``(natoms, 3)``;
* ``info['REF_virial']``: virial = −stress·volume, eV, the nine numbers xx xy xz yx yy yz zx zy zz.

The same three with the prefix ``PRED`` hold what a potential predicts; ``arrays['PRED_local_energy']`` its local energies (eV),
and ``arrays['PRED_local_variance']`` how far the Gaussian process trusts them (eV²).
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from ase.io import iread
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict, read_extxyz, write_extxyz

from aiida_gaprss.outside import shown

REFERENCE = "REF"
PREDICTION = "PRED"
#: The same in datasets and files of versions before 0.2: they are read under the new one.
OLD_PREDICTION = "GAP"

#: Keys of ``Atoms.info`` that are kept in a dataset besides the labels, and what they mean.
INFO_KEYS: dict[str, str] = {
    "frame_id": "stable name of the frame, unique in its dataset",
    "config_type": "kind of configuration, as gap_fit understands it",
    "generation": "generation of the search that made the frame",
    "origin": "uuid of the process that made the frame",
    "parent": "frame_id of the frame it was relaxed from or made of, or with which its trajectory began",
    "parameters": "what its strategy has chosen for the frame, in words",
    "step": "step of the relaxation or trajectory at which it was taken",
    "potential": "uuid of the potential that drove the relaxation or trajectory",
    "seed": "seed of the random generator that made the frame",
    "label_uuid": "uuid of the calculation that labelled the frame",
    "label_status": "ok, or the reason why the frame has no label",
    "label_attempt": "attempt whose settings gave the label, if it was not the first",
    "pressure_GPa": "external pressure during the relaxation, GPa",
    "relax_status": "converged, max_steps, time_limit, or the reason why a relaxation was given up",
    "seconds": "time that energy, forces and stress of the frame take with a potential, s",
    "processor_seconds": "the same as time of the processor",
    "time_ps": "time since the beginning of the trajectory, ps",
    "temperature_K": "temperature of the atoms at that moment, from their kinetic energy, K",
    "md_status": "of the last frame of a trajectory finished, time_limit, or the reason why it was given up; else on_the_way",
    "md_failure": "of the last frame of a trajectory: what its calculator raised in the end",
    "md_end_step": "of the last frame of a trajectory: step at which it ended, which may be a later one than its own",
    "n_operations": "number of symmetry operations imposed on a random cell",
    "space_group": "international number of the space group imposed on a random cell",
}

#: The keys of ``INFO_KEYS`` that are names: always text, though made of digits.
NAMES = ("frame_id", "parent", "config_type")

#: Config types of frames whose box is arbitrary.
IN_VACUUM = ("isolated_atom", "dimer")

#: Keys of a frame that hold of all that is made of it by a relaxation or a trajectory.
INHERITED = ("generation", "seed", "pressure_GPa", "n_operations", "space_group")

#: Characters of names besides letters and digits: QUIP, ASE, file systems and web pages all leave them as they are.
NAME_CHARACTERS = "_ . + - = , : ( ) [ ] ~ @ % # ^"

#: Those that gap_fit takes for its own where a setting names a config type.
SPLITTING = " :="

#: Bytes of the longest name, which with an ending is still the name of a file.
LONGEST_NAME = 200

#: What QUIP's reader of extended XYZ takes for the beginning or end of a value, wherever it stands.
_QUIP_QUOTES = "{}'\""

_QUIP_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?")

#: An atom nearer than this (Å) to its own image is not isolated.
ISOLATED = 6.0

#: No cell has a vector longer than this (Å): a lattice parameter in other units, or a crystal that was never one.
LONGEST_VECTOR = 10_000.0

#: Decimal places of all numbers but the cell: those of positions and per-atom arrays in ASE's extended XYZ. Those of the cell.
DECIMALS, CELL_DECIMALS = 8, 10


class FrameError(ValueError):
    """A frame that must not enter a dataset."""

    def __init__(self, message: str, where: str = "") -> None:
        """Say where it is, if that is not known anyway."""
        super().__init__(f"{where}: {message}" if where else message)


def virial_from_stress(stress: np.ndarray, volume: float) -> np.ndarray:
    """Return the nine-number virial (eV) for an ASE stress (eV/Å³; Voigt 6 or 3×3): ``-stress * volume``."""
    full = np.asarray(stress, dtype=float)
    if full.shape == (6,):
        xx, yy, zz, yz, xz, xy = full
        full = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if full.shape != (3, 3):
        raise FrameError(f"stress must have shape (6,) or (3, 3), got {full.shape}")
    return (-full * volume).reshape(9)


def stress_from_virial(virial: Sequence[float] | np.ndarray, volume: float) -> np.ndarray:
    """Return the 3×3 ASE stress (eV/Å³) for a nine-number virial (eV)."""
    return -np.asarray(virial, dtype=float).reshape(3, 3) / volume


def set_labels(
    atoms: Atoms,
    energy: float | None = None,
    forces: np.ndarray | None = None,
    virial: np.ndarray | None = None,
    prefix: str = REFERENCE,
) -> None:
    """Store labels on ``atoms`` under ``prefix`` (energy in eV, forces in eV/Å, virial in eV)."""
    if energy is not None:
        atoms.info[f"{prefix}_energy"] = float(energy)
    if forces is not None:
        atoms.arrays[f"{prefix}_forces"] = np.array(forces, dtype=float).reshape(len(atoms), 3)
    if virial is not None:
        atoms.info[f"{prefix}_virial"] = np.array(virial, dtype=float).reshape(9)


def drop_labels(atoms: Atoms) -> None:
    """Take all labels off, and what is said of them: those of another reference must not pass for new ones."""
    for key in [name for name in atoms.info if name.startswith((f"{REFERENCE}_", "label_"))]:
        del atoms.info[key]
    atoms.arrays.pop(f"{REFERENCE}_forces", None)


def drop_predictions(atoms: Atoms) -> None:
    """Take off what a potential says of a frame: it must not pass for what another one says."""
    for store in (atoms.info, atoms.arrays):
        for name in [name for name in store if name.startswith(f"{PREDICTION}_")]:
            del store[name]


def take_predictions(atoms: Atoms, source: Atoms) -> None:
    """Give ``atoms`` what a potential says of ``source``, the same structure."""
    for store, other in ((atoms.info, source.info), (atoms.arrays, source.arrays)):
        store.update({key: value for key, value in other.items() if key.startswith(f"{PREDICTION}_")})


def take_labels(atoms: Atoms, source: Atoms) -> None:
    """Give ``atoms`` the reference labels of ``source``, the same structure, with where they come from."""
    for store, other in ((atoms.info, source.info), (atoms.arrays, source.arrays)):
        store.update({key: value for key, value in other.items() if key.startswith(f"{REFERENCE}_")})
    for key in ("label_uuid", "label_status", "label_attempt"):
        if key in source.info:
            atoms.info[key] = source.info[key]


def to_label_again(source: Atoms, frame_id: str) -> Atoms:
    """Return a frame of the same structure, kind and state of relaxation, without labels, and with the other as its parent."""
    out = Atoms(source.numbers, source.positions, cell=source.cell, pbc=True)
    kept = {key: source.info[key] for key in ("config_type", "relax_status") if key in source.info}
    out.info.update(kept, frame_id=frame_id, parent=source.info["frame_id"])
    return out


def energy(atoms: Atoms, prefix: str = REFERENCE) -> float | None:
    """Return the stored energy (eV), or None."""
    return atoms.info.get(f"{prefix}_energy")


def is_labelled(atoms: Atoms) -> bool:
    """Tell whether the frame carries a reference energy."""
    return f"{REFERENCE}_energy" in atoms.info


def structure_key(atoms: Atoms) -> bytes:
    """Return what two frames have in common exactly when species, positions and cell are the same to the digits kept here."""
    cell = np.round(atoms.cell.array, CELL_DECIMALS) + 0.0
    return atoms.numbers.tobytes() + (np.round(atoms.positions, DECIMALS) + 0.0).tobytes() + cell.tobytes()


def label_key(atoms: Atoms) -> bytes:
    """Return what two frames have in common exactly when a reference does the same for both: structure, and whether in vacuum."""
    return structure_key(atoms) + bytes([is_in_vacuum(atoms)])


def is_in_vacuum(atoms: Atoms) -> bool:
    """Tell whether the frame is an isolated atom or a dimer: its box is arbitrary, so that it has no virial, and one k-point."""
    return is_isolated_atom(atoms) or (len(atoms) == 2 and atoms.info.get("config_type") == "dimer")


def is_isolated_atom(atoms: Atoms) -> bool:
    """Tell whether the frame is the isolated atom that gap_fit takes its energy zero from."""
    return len(atoms) == 1 and atoms.info.get("config_type") == "isolated_atom"


def image_distance(atoms: Atoms) -> float:
    """Return how far an atom is from the nearest of its own images, Å."""
    return float(np.linalg.norm(minkowski_reduce(atoms.cell.array)[0], axis=1).min())


def check_isolated(atoms: Atoms, where: str) -> None:
    """Refuse a frame that is called an isolated atom and is none: the one rule for all that comes in or is fitted.

    An isolated atom is one atom, :data:`ISOLATED` or more from all its images.

    :raises FrameError: with the number of atoms, or the distance.
    """
    if atoms.info.get("config_type") != "isolated_atom":
        return
    if len(atoms) != 1:
        raise FrameError(f"config_type isolated_atom, but it has {len(atoms)} atoms", where)
    distance = image_distance(atoms)
    if distance < ISOLATED:
        raise FrameError(
            f"config_type isolated_atom, but the atom is {distance:.2f} Å from its own image, expected at least "
            f"{ISOLATED:g} Å; a crystal with one atom needs another config_type",
            where,
        )


def check_name(kind: str, name: str, where: str, in_settings: bool = False) -> str:
    """Return a name if QUIP, ASE and a file system can all read it: the one rule for names that are asked for.

    A name has letters, digits, :data:`NAME_CHARACTERS` and single blanks within; it begins with a letter, digit, ``_``, ``(`` or
    ``[``, does not end with a full stop, and is not one that a reader takes for another number or for a truth value (``007``,
    ``T``). A config type is no number at all: gap_fit reads the frames, and passes over what was set for it.

    :param kind: what it names: ``frame_id``, ``parent`` or ``config_type``.
    :param in_settings: as it is written in settings of gap_fit, which split at blanks, ``:`` and ``=``, and which are copied into
        its xml, of which QUIP reads ASCII only.
    :raises FrameError: naming the place, the name, the rule, and a name that would do.
    """
    fault = _fault_of_name(name, kind)
    if fault is None and in_settings and not _fits_settings(name):
        fault = "gap_fit needs a name in ASCII without blanks, ':' and '=' here"
    if fault is None:
        return name
    better = plain_name(name, kind, in_settings)
    raise FrameError(f"{kind} {shown(name, 60)!r}: {fault}; call it {better!r}, for example", where)


def plain_name(name: str, otherwise: str = "frame", in_settings: bool = False) -> str:
    """Return a name like this one that :func:`check_name` takes.

    :param otherwise: what it is called if nothing of it is left.
    """
    if _fault_of_name(name, otherwise) is None and (_fits_settings(name) or not in_settings):
        return name
    text = unicodedata.normalize("NFC", name)
    allowed = set(NAME_CHARACTERS) - set(SPLITTING if in_settings else " ")
    letters = [c for c in text if _is_letter(c) and (c.isascii() or not in_settings)]
    text = "".join(c if c in letters or c in allowed or (c == " " and not in_settings) else "_" for c in text)
    text = re.sub("_{2,}", "_", " ".join(text.split())).strip("_. ").lstrip("~@%#^+-=,:)]. ")
    while len(text.encode()) > LONGEST_NAME:
        text = text[:-1].rstrip(". ")
    return next(t for t in (text, f"{text}_", f"{otherwise}_{text}", otherwise) if _fault_of_name(t, otherwise) is None)


def _fits_settings(name: str) -> bool:
    return name.isascii() and not set(name) & set(SPLITTING)


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] == "L" or unicodedata.category(character) == "Nd"


def _fault_of_name(name: str, kind: str) -> str | None:
    """Return why nobody should be asked to read a name, or None."""
    allowed = set(NAME_CHARACTERS)
    wrong = sorted({c for c in name if not (_is_letter(c) or c in allowed or c == " ")})
    if wrong:
        return f"{' '.join(shown(c) for c in wrong)} cannot be read by QUIP, ASE and file systems alike"
    if not name or not (_is_letter(name[0]) or name[0] in "_(["):
        return "a name begins with a letter, a digit, _, ( or ["
    if name != " ".join(name.split()) or name.endswith("."):
        return "a name has single blanks, and no blank or full stop at its end"
    if len(name.encode()) > LONGEST_NAME:
        return f"it has {len(name.encode())} bytes, expected at most {LONGEST_NAME}"
    if unicodedata.normalize("NFC", name) != name:
        return "its accents are written as characters of their own, which file systems change"
    if (again := _read_back(name)) != name:
        return f"it would be read back from the file as {again!r}"
    if kind == "config_type" and _QUIP_NUMBER.fullmatch(name):
        return "gap_fit takes it for a number, and does not use the sigma of this kind"
    return None


def check(atoms: Atoms, where: str = "") -> None:
    """Refuse a frame that would poison a dataset.

    :param where: how to name the frame in the message, e.g. ``"frame 3 of train.xyz"``; default: not at all.
    :raises FrameError: for unknown elements, a missing or flat cell, one that is not periodic in all directions, an isolated
        atom that is none, names that cannot be read again, or anything that is not a finite number.
    """
    if len(atoms) == 0:
        raise FrameError("has no atoms", where)
    if (atoms.numbers <= 0).any():
        raise FrameError("has an atom of unknown element (atomic number 0)", where)
    if not np.isfinite(atoms.cell.array).all():
        raise FrameError("cell has a value that is not a finite number", where)
    if abs(atoms.cell.volume) < 1e-3:
        raise FrameError(f"cell is missing or flat (volume {abs(atoms.cell.volume):.3g} Å³); gap_fit needs a cell", where)
    if (longest := np.abs(atoms.cell.array).max()) > LONGEST_VECTOR:
        raise FrameError(f"cell has a vector of {longest:.3g} Å, expected at most {LONGEST_VECTOR:g} Å", where)
    if not atoms.pbc.all():
        raise FrameError(
            f"is not periodic in all directions (pbc {' '.join('FT'[int(p)] for p in atoms.pbc)}), so that its labels "
            "are not those of a crystal; put it in a box",
            where,
        )
    if not np.isfinite(atoms.positions).all():
        raise FrameError("positions have a value that is not a finite number", where)
    for key in NAMES:
        name = str(atoms.info.get(key, ""))
        again = _read_back(name) if name else name
        if again != name:
            raise FrameError(f"{key} {name!r} would be read back from the file as {again!r}; choose a plain word", where)
        if set(name) & set(_QUIP_QUOTES) or not name.isprintable():
            raise FrameError(
                f"{key} {shown(name)!r} cannot be read by QUIP; call it {plain_name(name, key)!r}, for example",
                where,
            )
    check_isolated(atoms, where)
    for prefix in (REFERENCE, PREDICTION):
        for key, store, size in (
            ("energy", atoms.info, None),
            ("virial", atoms.info, 9),
            ("forces", atoms.arrays, 3 * len(atoms)),
        ):
            name = f"{prefix}_{key}"
            if name not in store:
                continue
            try:
                value = np.asarray(store[name], dtype=float)
            except (TypeError, ValueError) as exception:
                raise FrameError(f"{name} is {store[name]!r}, expected numbers", where) from exception
            if size is not None and value.size != size:
                raise FrameError(f"{name} has {value.size} numbers, expected {size}", where)
            if not np.isfinite(value).all():
                first = value[~np.isfinite(value)].flat[0] if value.ndim else value
                raise FrameError(f"{name} {'contains' if value.ndim else 'is'} {first}, expected finite numbers", where)


def canonical(atoms: Atoms) -> Atoms:
    """Return a copy with only the keys a dataset keeps, in a fixed order and precision, without a calculator."""
    out = Atoms(
        numbers=atoms.numbers,
        positions=np.round(atoms.positions, DECIMALS) + 0.0,
        cell=np.round(atoms.cell.array, CELL_DECIMALS) + 0.0,
        pbc=atoms.pbc,
    )
    for key in INFO_KEYS:
        value = atoms.info.get(key)
        if value is not None:
            value = value.item() if isinstance(value, np.generic) else value
            value = one_line(value) if isinstance(value, str) else value
            if value != "":
                out.info[key] = value
    for prefix in (REFERENCE, PREDICTION):
        if f"{prefix}_energy" in atoms.info:
            out.info[f"{prefix}_energy"] = round(float(atoms.info[f"{prefix}_energy"]), DECIMALS)
        if f"{prefix}_virial" in atoms.info:
            virial = np.asarray(atoms.info[f"{prefix}_virial"], dtype=float).reshape(9)
            out.info[f"{prefix}_virial"] = np.round(virial, DECIMALS) + 0.0
        if f"{prefix}_forces" in atoms.arrays:
            out.arrays[f"{prefix}_forces"] = np.round(atoms.arrays[f"{prefix}_forces"], DECIMALS) + 0.0
        for key in (f"{prefix}_local_energy", f"{prefix}_local_variance"):
            if key in atoms.arrays:
                out.arrays[key] = np.round(atoms.arrays[key], DECIMALS) + 0.0
    return out


def dumps(frames: Iterable[Atoms]) -> str:
    """Return the canonical extended XYZ of ``frames``: the same frames give the same bytes."""
    buffer = io.StringIO()
    for atoms in frames:
        frame = canonical(atoms)
        columns = ["symbols", "positions", *(k for k in frame.arrays if k not in ("numbers", "positions"))]
        write_extxyz(buffer, frame, columns=columns, write_results=False)
    return buffer.getvalue()


def loads(text: str) -> list[Atoms]:
    """Return the frames of an extended XYZ text."""
    if not text.strip():
        return []
    # Not by ase.io.read: to find out what it reads takes it longer than to read a frame.
    return [_restore(atoms) for atoms in read_extxyz(io.StringIO(text), slice(None))]


def load(path: Any) -> list[Atoms]:
    """Return the frames of a canonical extended XYZ file."""
    return [_restore(atoms) for atoms in iread(path, index=":", format="extxyz")]


def one_line(text: str) -> str:
    """Return a text, for example the message of an exception, as it survives the comment line of extended XYZ.

    ASE reads what follows a word that ends with ``=`` as a part of it, and takes what begins with ``_JSON`` for JSON.
    """
    line = " ".join(text.replace("\\", "/").split())
    line = line[1:] if line.startswith("_JSON") else line
    word = line.rstrip("=")
    return line if word == line or " " in line else word and f"{word} {line[len(word) :]}"


def _read_back(name: str) -> str:
    """Return a name as it is read with another key after it."""
    return str(key_val_str_to_dict(key_val_dict_to_str({"name": one_line(name), "next": 1})).get("name", ""))


def _restore(atoms: Atoms) -> Atoms:
    store: dict[str, Any]
    for store in (atoms.info, atoms.arrays):
        for key in [key for key in store if key.startswith(f"{OLD_PREDICTION}_")]:
            store[key.replace(OLD_PREDICTION, PREDICTION, 1)] = store.pop(key)
    for prefix in (REFERENCE, PREDICTION):
        key = f"{prefix}_virial"
        if key in atoms.info:
            atoms.info[key] = np.asarray(atoms.info[key], dtype=float).reshape(9)
    for key in NAMES:
        if key in atoms.info:  # a name made of digits is read as a number
            atoms.info[key] = str(atoms.info[key])
    return atoms


def describe(frames: Sequence[Atoms]) -> dict[str, Any]:
    """Return what a query wants to know of a dataset: counts, elements, config types, labels."""
    return {
        "frames": len(frames),
        "atoms": sum(len(a) for a in frames),
        "elements": sorted({s for a in frames for s in a.get_chemical_symbols()}),
        "config_types": dict(sorted(Counter(str(a.info.get("config_type", "unknown")) for a in frames).items())),
        "energies": sum(is_labelled(a) for a in frames),
        "forces": sum(3 * len(a) for a in frames if f"{REFERENCE}_forces" in a.arrays),
        "virials": sum(f"{REFERENCE}_virial" in a.info for a in frames),
    }
