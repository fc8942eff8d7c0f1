import numpy as np
import pytest

from aiida_gaprss.fitting.log import expected_counts, read_log
from aiida_gaprss.fitting.regularisation import EnergyRegularisation


def test_sigmas_grow_with_the_energy_and_with_the_root_of_the_number_of_atoms(copies):
    settings = EnergyRegularisation(low=0.002, high=0.2, width=1.0, forces=10, virial=5)
    assert settings.apply(copies) == len(copies) - 1
    assert "energy_sigma" not in copies[0].info, "the isolated atom keeps the sigma of its kind"
    cells = copies[1:]
    energies = np.array([a.info["REF_energy"] / len(a) for a in cells])
    per_atom = np.array([a.info["energy_sigma"] / np.sqrt(len(a)) for a in cells])
    x = np.clip(energies - energies.min(), 0, 1)
    assert np.allclose(per_atom, 0.002 * 100**x)
    assert per_atom[energies.argmin()] == pytest.approx(0.002)
    assert np.allclose([a.info["force_sigma"] for a in cells], 10 * per_atom)
    assert np.allclose([a.info["virial_sigma"] / np.sqrt(len(a)) for a in cells], 5 * per_atom)


def test_gap_fit_reads_them(copies, fit_with_binary, evaluated):
    EnergyRegularisation(low=0.0005, high=0.5, width=1.0).apply(copies)
    folder, text = fit_with_binary(copies, keep=("energy_sigma", "force_sigma", "virial_sigma"))
    log = read_log(text)
    assert log.counts == expected_counts(copies)
    assert log.counts["energy_sigma"] == len(copies) - 1
    from quippy.potential import Potential

    predictions = evaluated(copies, Potential(param_filename=str(folder / "gap.xml")))
    error = np.array([abs(p[0] - a.info["REF_energy"]) / len(a) for p, a in zip(predictions, copies, strict=True)])
    tight = np.array([a.info.get("energy_sigma", 1) / np.sqrt(len(a)) < 0.01 for a in copies])
    assert tight.any()
    assert error[tight].mean() < error[~tight][1:].mean()


def test_one_element_only(copies):
    copies[2].numbers[0] = 6
    with pytest.raises(ValueError, match="one element, the training set has C, Si"):
        EnergyRegularisation().apply(copies)
