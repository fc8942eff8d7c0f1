"""Counts are those of gap_fit's log; memory is that of a real run; nothing here depends on the speed of the machine."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from helpers import label

from aiida_gaprss import frames as fr
from aiida_gaprss.models.gap.forecast import expand, forecast
from aiida_gaprss.models.gap.settings import GapSettings, SoapTurbo
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

SIGMA = {"energy": 0.01, "forces": 0.1, "virial": 0.1}
PAIR = {"kind": "distance_2b", "cutoff": 5.3, "n_sparse": 12}
TRIPLET = {"kind": "angle_3b", "cutoff": 3.2, "n_sparse": 15}
SOAP = {"kind": "soap", "cutoff": 4.1, "n_max": 3, "l_max": 2, "n_sparse": 10}
TURBO = {"kind": "soap_turbo", "cutoff": 4.4, "n_max": 4, "l_max": 3, "n_sparse": 10}


def settings(*descriptors):
    return GapSettings(descriptors=list(descriptors), sigma=SIGMA)


def cells(formula, n, volume, separation, n_atoms=(3, 4, 6), seed=3):
    """Random cells with EMT labels, after the isolated atoms."""
    frames = [Atoms(symbol, cell=[14.0] * 3, pbc=True) for symbol in formula]
    spec = CellSpec(formula=formula, n_atoms=n_atoms, volume_per_atom=volume, min_separation=separation, n_operations=(1, 2))
    frames += random_cells(spec, n, seed=seed)
    for number, atoms in enumerate(frames):
        atoms.info.update(frame_id=f"f{number}", config_type="isolated_atom" if len(atoms) == 1 else "random")
        label(atoms, EMT())
    return frames


def mixed(frames):
    """Take forces or virials from some frames."""
    out = [atoms.copy() for atoms in frames]
    for number, atoms in enumerate(out):
        if number % 3 == 1:
            del atoms.arrays["REF_forces"]
        if number % 4 < 2:
            atoms.info.pop("REF_virial", None)
    return out


@pytest.fixture(scope="module")
def copper():
    return cells({"Cu": 1}, 12, (10.0, 14.0), 2.0)


@pytest.fixture(scope="module")
def alloy():
    return mixed(cells({"Al": 1, "Cu": 2}, 12, (10.0, 16.0), 2.0, (3, 6)))


def assert_counts(size, log):
    """Compare with gap_fit's report of descriptors, its estimate of memory, and its count of targets."""
    counts = [int(n) for n in re.findall(r"^Number of (?:partial derivatives of )?descriptors: +(\d+)", log, re.MULTILINE)]
    assert counts, log[-2000:]
    assert [n for d in size.descriptors for n in (d.n_descriptors, d.n_derivatives)] == counts
    lengths = [int(n) for n in re.findall(r"^Descriptor \d+ :: x (\d+) ", log, re.MULTILINE)]
    assert [d.term.length for d in size.descriptors] == lengths
    targets = re.findall(r"^Number of target (?:energies|forces|virials) .*found: +(\d+)", log, re.MULTILINE)
    assert size.rows == sum(int(n) for n in targets)
    asked, rows = (int(n) for n in re.search(r"^yY (\d+) (\d+) ", log, re.MULTILINE).groups())
    assert size.rows == rows
    assert size.columns <= asked


# --- counts ---


def test_counts_of_one_element(fit_with_binary, silicon_frames):
    frames = mixed(silicon_frames)
    fit = settings(PAIR, TRIPLET, SOAP, TURBO)
    folder, log = fit_with_binary(frames, fit.model_dump())
    assert (folder / "gap.xml").is_file(), log
    size = forecast(frames, fit)
    assert_counts(size, log)
    used = [int(n) for n in re.findall(r'n_sparseX="(\d+)"', (folder / "gap.xml").read_text())]
    assert [d.n_sparse for d in size.descriptors] == used
    assert size.columns == sum(used) == 12 + 15 + 10 + 10


def test_counts_of_two_elements(fit_with_binary, alloy):
    only = {**PAIR, "only": [["Cu", "Al"]], "n_sparse": {"random": 7}}
    fit = settings(PAIR, TRIPLET, SOAP, TURBO, only)
    folder, log = fit_with_binary(alloy, fit.model_dump())
    assert (folder / "gap.xml").is_file(), log
    size = forecast(alloy, fit)
    assert_counts(size, log)
    assert [d.term.name for d in size.descriptors] == [
        "distance_2b Al-Al",
        "distance_2b Al-Cu",
        "distance_2b Cu-Cu",
        "angle_3b Al-Al-Al",
        "angle_3b Al-Al-Cu",
        "angle_3b Al-Cu-Cu",
        "angle_3b Cu-Al-Al",
        "angle_3b Cu-Al-Cu",
        "angle_3b Cu-Cu-Cu",
        "soap Al",
        "soap Cu",
        "soap_turbo Al",
        "soap_turbo Cu",
        "distance_2b Al-Cu",
    ]


def test_counts_of_energies_only(fit_with_binary, copper):
    frames = [atoms.copy() for atoms in copper]
    for atoms in frames:
        del atoms.arrays["REF_forces"]
        atoms.info.pop("REF_virial", None)
    fit = settings(PAIR, SOAP)
    size = forecast(frames, fit)
    assert_counts(size, fit_with_binary(frames, fit.model_dump())[1])
    assert size.rows == len(frames)
    assert [d.n_derivatives for d in size.descriptors] == [0, 0]
    assert size.descriptors[1].n_descriptors == size.atoms == sum(map(len, frames))
    assert "instances" in size.describe()
    assert "derivatives" not in size.describe()


def test_length_of_the_power_spectrum_of_several_species():
    # Lengths that gap_fit reports for n=4, l=3 of one and of two elements.
    turbo = SoapTurbo(cutoff=4.0, n_max=4, l_max=3)
    assert [(t.elements, t.length) for t in expand(turbo, ["Li"])] == [(("Li",), 16)]
    assert [(t.elements, t.length) for t in expand(turbo, ["Li", "Cu"])] == [(("Li",), 144), (("Cu",), 144)]


def test_an_element_that_is_never_a_neighbour(copper):
    frames = [*copper, *cells({"Al": 1}, 0, (10.0, 16.0), 2.0)]
    size = forecast(frames, settings(PAIR, TRIPLET, SOAP))
    counts = {d.term.name: (d.n_descriptors, d.n_sparse) for d in size.descriptors}
    assert counts["distance_2b Al-Cu"] == counts["angle_3b Al-Cu-Cu"] == (0, 0)
    assert counts["soap Al"] == (1, 1)
    assert np.isfinite(size.memory_MB)
    assert np.isfinite(size.cpu_seconds)


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 2, 3), (6, 6, 6)])
def test_counts_do_not_depend_on_the_cell(copper, repeat):
    """A repeated cell has so many times more of everything; the largest goes through the neighbour list for large cells."""
    small = next(atoms for atoms in copper if len(atoms) == 3).copy()
    del small.info["REF_virial"]
    big = small.repeat(repeat)
    big.positions += (3.0, -7.0, 11.0)
    big.positions[1] -= 2 * big.cell[0]  # the same crystal
    fit = settings(PAIR, TRIPLET, SOAP)
    one, many = forecast([small], fit), forecast([big], fit)
    times = int(np.prod(repeat))
    assert [d.n_descriptors for d in many.descriptors] == [times * d.n_descriptors for d in one.descriptors]
    assert [d.n_derivatives for d in many.descriptors] == [times * d.n_derivatives for d in one.descriptors]
    assert many.pairs == times * one.pairs
    assert all(d.n_derivatives for d in one.descriptors)


# --- the model ---


def test_twice_the_frames(copper):
    fit = settings(PAIR, SOAP, TURBO)
    once, twice = forecast(copper, fit), forecast([*copper, *copper], fit)
    for d, e in zip(once.descriptors, twice.descriptors, strict=True):
        assert (e.n_descriptors, e.n_derivatives, e.neighbours) == (2 * d.n_descriptors, 2 * d.n_derivatives, 2 * d.neighbours)
        assert e.largest == d.largest
    assert (twice.rows, twice.columns) == (2 * once.rows, once.columns)
    program = once.coefficients.memory["program"]
    assert 1.8 < (twice.memory_MB - program) / (once.memory_MB - program) <= 2.0
    assert twice.seconds()["covariance"] == pytest.approx(2 * once.seconds()["covariance"])


def test_more_costs_more(copper):
    frames = copper * 10
    base = forecast(frames, settings(TURBO))
    for dearer in (
        forecast(frames, settings({**TURBO, "n_sparse": 200})),
        forecast(frames, settings({**TURBO, "n_max": 6})),
        forecast(frames, settings({**TURBO, "cutoff": 5.5})),
        forecast(frames, settings(TURBO, PAIR)),
        forecast(frames * 2, settings(TURBO)),
    ):
        assert dearer.memory_MB > base.memory_MB
        assert dearer.cpu_seconds > base.cpu_seconds
    energies = [atoms.copy() for atoms in frames]
    for atoms in energies:
        del atoms.arrays["REF_forces"]
        atoms.info.pop("REF_virial", None)
    cheaper = forecast(energies, settings(TURBO))
    assert cheaper.memory_MB < base.memory_MB
    assert cheaper.cpu_seconds < base.cpu_seconds


def test_never_less_than_the_arrays_that_must_be_there(copper):
    """The derivatives of the descriptors, and the covariances with their factorisation, are known to the byte."""
    frames = copper * 4
    many = forecast(frames, settings({**TURBO, "n_max": 2, "l_max": 1, "n_sparse": 150}))
    assert many.memory_MB > 2 * 8e-6 * many.rows * many.columns
    long = forecast(frames, settings({**SOAP, "n_max": 8, "l_max": 8}))
    (d,) = long.descriptors
    assert d.term.length == 36 * 9 + 1
    assert long.memory_MB > 8e-6 * d.n_derivatives * d.term.length


def test_a_faster_core_takes_less_time(copper):
    fit = settings(PAIR, SOAP)
    base, fast = forecast(copper, fit), forecast(copper, fit, speed=2.0)
    assert fast.cpu_seconds == pytest.approx(base.cpu_seconds / 2)
    assert fast.memory_MB == base.memory_MB
    assert sum(base.seconds().values()) == pytest.approx(base.cpu_seconds)
    with pytest.raises(ValueError, match="speed of a core must be positive"):
        forecast(copper, fit, speed=0.0)


def test_only_labelled_frames_count(copper):
    fit = settings(SOAP)
    unlabelled = Atoms("Cu4", positions=[(0, 0, 0), (2, 2, 0), (2, 0, 2), (0, 2, 2)], cell=[4.0] * 3, pbc=True)
    assert forecast([*copper, unlabelled], fit) == forecast(copper, fit)
    with pytest.raises(ValueError, match="no labelled frame"):
        forecast([unlabelled], fit)


def test_description(copper):
    size = forecast(copper, settings(PAIR, SOAP))
    pair, soap = size.descriptors
    short = replace(size, descriptors=(replace(pair, n_derivatives=1_234_567), replace(soap, n_derivatives=4321)))
    text = short.describe()
    assert re.match(r"about \d+ MB and \d+ CPU-seconds; ", text)
    assert f"{size.atoms} atoms in {size.frames} frames, {size.rows} target values" in text
    assert "; distance_2b: 1.2e6 derivatives x 12 sparse points; soap: 4321 derivatives x 10 sparse points" in text
    double = replace(size, descriptors=(pair, replace(soap, n_derivatives=4321), replace(soap, n_derivatives=79)))
    assert double.describe().endswith("; 2 soap: 4400 derivatives, 20 sparse points in all")
    large = replace(size, descriptors=(pair, replace(soap, n_derivatives=50_000_000)), speed=1e-4)
    assert re.match(r"about \d+\.\d GB and [\d.]+ CPU-hours; ", large.describe())
    middle = replace(size, speed=size.cpu_seconds / 754)
    assert " and 13 CPU-minutes; " in middle.describe()


def test_needs_neither_aiida_nor_quippy():
    code = "import sys, aiida_gaprss.models.gap.forecast; print(sorted({'aiida', 'quippy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- memory of real fits ---

#: A light process that runs gap_fit: a child's peak memory is never less than that of the process which started it.
LAUNCHER = """
import json, os, sys
log = os.open("gap_fit.out", os.O_WRONLY | os.O_CREAT)
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, log, 1)])
_, status, usage = os.wait4(child, 0)
print(json.dumps([status, usage.ru_maxrss * 1024 / 1e6]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss in kB, as Linux has it")
@pytest.mark.parametrize(
    "descriptors",
    [
        pytest.param([PAIR, {**SOAP, "n_max": 8, "l_max": 4, "n_sparse": 100}], id="derivatives"),
        pytest.param([{**TURBO, "n_sparse": 1000}], id="covariances"),
    ],
)
def test_memory_of_a_real_fit(gap_fit_binary, tmp_path, descriptors):
    frames = cells({"Cu": 1}, 80, (10.0, 14.0), 2.0, (6, 8, 12))
    fit = settings(*descriptors)
    (tmp_path / "train.xyz").write_text(fr.dumps(frames))
    (tmp_path / "gap_fit.in").write_text(fit.command("train.xyz", "gap.xml", 1, {"Cu": 0.0}))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(gap_fit_binary), "config_file=gap_fit.in"],
        cwd=tmp_path,
        env={**os.environ, "OMP_STACKSIZE": "64M"},
        capture_output=True,
        text=True,
        check=True,
    )
    status, peak = json.loads(done.stdout)
    assert status == 0, (tmp_path / "gap_fit.out").read_text()[-2000:]
    assert (tmp_path / "gap.xml").is_file()
    assert peak > 60, "too small a fit says nothing"
    assert forecast(frames, fit).memory_MB == pytest.approx(peak, rel=0.25)
