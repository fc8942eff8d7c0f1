"""Frames from VASP's ``vasprun.xml``."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from aiida_gaprss.io import vasp
from aiida_gaprss.io.common import Output, Step, Wrong, real
from aiida_gaprss.levels import Sampling, sampling_of_mesh
from aiida_gaprss.outside import shown

#: Of a vasprun.xml, what is large and not needed.
_HEAVY = {"eigenvalues", "dos", "projected", "dielectricfunction", "eigenvalues_kpoints_opt"}

#: Elements of a vasprun.xml within each other, at most: VASP's have ten.
_DEEPEST = 32

#: Sum of forces (eV/Å) that is told: vasprun.xml does not say what VASP has taken away of it.
_NET_FORCE = 0.05


def recognises(head: str) -> bool:
    """Tell whether a file that begins like this is a vasprun.xml."""
    return "<modeling>" in head and re.search(r'name="program"[^>]*>\s*vasp', head) is not None


def read(text: str) -> Output:
    """Return the ionic steps of a ``vasprun.xml``, also of one that was cut off."""
    output = Output()
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        output.refused.append((None, "it declares xml entities or a document type, which VASP does not"))
        return output
    try:
        root, finished = _parse(text)
    except Wrong as exception:
        output.refused.append((None, str(exception)))
        return output
    calculations = [] if root is None else root.findall("calculation")
    if root is None or root.find("structure[@name='initialpos']") is None or root.find("parameters") is None:
        output.refused.append((None, "the run ended before it began to compute"))
        return output
    incomplete = not finished and bool(calculations) and calculations[-1].get("complete") != "yes"
    calculations = calculations[:-1] if incomplete else calculations
    settings = _settings(root)
    problem = vasp.why_unreadable(settings)
    if problem is None and "" in _symbols(root):
        problem = "its list of atoms cannot be read"
    if problem:
        output.refused.append((None, problem))
        return output
    for number, calculation in enumerate(calculations):
        first = root.find("structure[@name='initialpos']") if number == 0 else None
        output.steps.append(_step(calculation, _symbols(root), settings, first))
    if incomplete:
        output.refuse_next("incomplete: the run ends during this step")
    elif not output.steps:
        output.refused.append((None, "no ionic step in it"))
    vasp.finish(output, finished and root.find("structure[@name='finalpos']") is not None)
    readable = [step for step in output.steps if len(step.atoms)]
    if readable:
        output.levels.append(vasp.level_of_tags(settings, _pseudopotentials(root), _sampling(root, readable[0].atoms)))
    return output


def _step(
    calculation: ElementTree.Element, symbols: list[str], settings: dict[str, str], first: ElementTree.Element | None
) -> Step:
    """Return one ionic step, in which every table has a row for every atom.

    :param first: the structure that the run began with, if this is its first step.
    """
    try:
        structure = calculation.find("structure")
        cell, positions = _structure(structure, len(symbols))
        atoms = Atoms(symbols, cell=cell, scaled_positions=positions, pbc=True)
        if first is not None:
            begin = _structure(first, len(symbols))
            if max(np.abs(cell - begin[0]).max(), vasp.apart(positions - begin[1])) > 1e-6:
                raise Wrong("its first structure is not that of its first step")
        rows = calculation.find("varray[@name='forces']")
        forces = None if rows is None else _rows(rows, len(symbols), "forces")
        rows = calculation.find("varray[@name='stress']")
        stress = None if rows is None or not vasp.whole_stress(settings) else _rows(rows, 3, "stress")
        if stress is not None and np.abs(stress - stress.T).max() > 1e-4:
            raise Wrong("its stress is not symmetric")
        energy = _energy(calculation, settings, atoms.get_volume())
        net = 0.0 if forces is None else float(np.abs(forces.sum(axis=0)).max())
        problem = vasp.why_unconverged(len(calculation.findall("scstep")), settings)
    except Wrong as exception:
        return Step(Atoms(), None, problem=str(exception))
    notes = [f"its forces sum to {net:.2g} eV/Å, expected 0"] if net > _NET_FORCE else []
    return Step(atoms, energy, forces, None if stress is None else -stress * vasp.KBAR, problem, notes)


def _structure(structure: ElementTree.Element | None, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cell (Å) and fractional positions; the reciprocal cell and the volume tell if a number is wrong.

    :raises Wrong: if a row is missing or cannot be read.
    """
    if structure is None:
        raise Wrong("it has no structure")
    cell = _rows(structure.find("crystal/varray[@name='basis']"), 3, "cell")
    reciprocal = structure.find("crystal/varray[@name='rec_basis']")
    volume = structure.findtext("crystal/i[@name='volume']")
    if reciprocal is not None:
        vasp.check_reciprocal(cell, _rows(reciprocal, 3, "reciprocal cell"))
    if volume is not None and not abs(real(volume.strip()) - abs(np.linalg.det(cell))) < 1e-3:
        raise Wrong(f"its cell has {abs(np.linalg.det(cell)):.4f} Å³, but the file says {shown(volume.strip())} Å³")
    return cell, _rows(structure.find("varray[@name='positions']"), n_atoms, "positions")


def _rows(table: ElementTree.Element | None, n_rows: int, what: str) -> np.ndarray:
    """Return the numbers of a table, shape (n_rows, 3).

    :raises Wrong: if a row is missing or too many, or is not three numbers.
    """
    rows = [] if table is None else [(row.text or "").split() for row in table.findall("v")]
    if len(rows) != n_rows:
        raise Wrong(f"its {what} {'has' if what.endswith('cell') else 'have'} {len(rows)} rows, expected {n_rows}")
    return vasp.numbers(rows, 3, what)


def _energy(calculation: ElementTree.Element, settings: dict[str, str], volume: float) -> float:
    """Return the free energy (eV): that of the ionic step, which with PSTRESS is an enthalpy, and the same as in its SCF.

    :raises Wrong: if there is none, or the two differ.
    """
    text = calculation.findtext("energy/i[@name='e_fr_energy']")
    if text is None:
        raise Wrong("no free energy in it")
    energy = real(text.strip())
    pressure = real(settings.get("PSTRESS", "0"))
    energy -= pressure * vasp.KBAR * volume
    last = calculation.findall("scstep")[-1:]
    of_scf = last[0].findtext("energy/i[@name='e_fr_energy']") if last else None
    vasp.check_energy(energy, of_scf, settings, 1e-6 * abs(pressure) * volume)
    return energy


def _parse(text: str) -> tuple[ElementTree.Element | None, bool]:
    """Return the tree without what is large, as far as it goes, and whether that is to the end.

    :raises Wrong: if it is nested deeper than VASP's.
    """
    root, depth = None, 0
    try:
        for event, element in ElementTree.iterparse(io.BytesIO(text.encode()), events=("start", "end")):
            depth += 1 if event == "start" else -1
            if depth > _DEEPEST:
                raise Wrong(f"its xml has more than {_DEEPEST} elements within each other, which VASP's has not")
            if root is None:
                root = element
            if event == "end" and element.tag in _HEAVY:
                element.clear()
            elif event == "end" and element.tag == "calculation":
                element.set("complete", "yes")
    except (ElementTree.ParseError, LookupError):  # the latter for an encoding that there is not
        return root, False
    return root, True


def _settings(root: ElementTree.Element) -> dict[str, str]:
    settings: dict[str, str] = {}
    for branch in ("incar", "parameters"):
        for element in [*root.iterfind(f"{branch}//i"), *root.iterfind(f"{branch}//v")]:
            settings[str(element.get("name")).upper()] = " ".join((element.text or "").split())
    settings["ENCUT"] = settings.get("ENMAX", settings.get("ENCUT", ""))
    settings["VERSION"] = (root.findtext("generator/i[@name='version']") or "").strip()
    settings["NKPTS"] = str(len(root.findall("kpoints/varray[@name='kpointlist']/v")))
    rows = _types(root)
    settings["VALENCE"] = str(sum(real(row[0]) * real(row[3]) for row in rows))
    settings["SPECIES"] = " ".join(row[1] for row in rows)
    settings["MOMENTS"] = settings.get("MAGMOM", "")
    settings["ATOMS"] = " ".join(_symbols(root))
    return settings


def _types(root: ElementTree.Element) -> list[list[str]]:
    """Return of each species: number of atoms, element, mass, valence, pseudopotential."""
    rows = root.iterfind("atominfo/array[@name='atomtypes']/set/rc")
    return [[" ".join((cell.text or "").split()) for cell in row][:5] + [""] * (5 - len(row)) for row in rows]


def _symbols(root: ElementTree.Element) -> list[str]:
    """Return the elements of the atoms; ``[""]`` if the lists of atoms and of species, and their numbers, do not agree."""
    rows = root.iterfind("atominfo/array[@name='atoms']/set/rc")
    atoms = [(row.findtext("c") or "").strip() for row in rows]
    types = [symbol for row in _types(root) for symbol in [row[1]] * (int(row[0]) if row[0].isdigit() else 0)]
    announced = (root.findtext("atominfo/atoms") or "").strip()
    sound = bool(atoms) and atoms == types and announced == str(len(atoms)) and set(atoms) <= set(chemical_symbols[1:])
    return atoms if sound else [""]


def _pseudopotentials(root: ElementTree.Element) -> dict[str, str]:
    return vasp.pseudopotentials_by_element((row[1], row[4]) for row in _types(root))


def _sampling(root: ElementTree.Element, atoms: Atoms) -> Sampling | None:
    """Return the sampling: of the mesh that was asked for, else of the k-points."""
    divisions = (root.findtext("kpoints/generation/v[@name='divisions']") or "").split()
    if len(divisions) == 3 and all(map(str.isdigit, divisions)):
        return sampling_of_mesh(atoms.cell.array, map(int, divisions), atoms.get_scaled_positions())
    points = [(row.text or "").split() for row in root.findall("kpoints/varray[@name='kpointlist']/v")]
    return vasp.sampling_of_points(points, atoms)
