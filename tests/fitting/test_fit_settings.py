import pytest
from pydantic import ValidationError

from aiida_gaprss.fitting.settings import FitSettings, bond_length

BASE = {"descriptors": [{"kind": "distance_2b", "cutoff": 4}], "sigma": {"energy": 0.01, "forces": 0.1, "virial": 0.2}}


def command(seed=5, e0=None, **changes):
    text = FitSettings(**{**BASE, **changes}).command("train.extxyz", "gap.xml", seed, e0 or {"Si": -1.5})
    return dict(line.split("=", 1) for line in text.splitlines())


def test_command():
    options = command(e0={"Si": -1.25, "O": -3.0})
    assert options["at_file"] == "train.extxyz"
    assert options["gp_file"] == "gap.xml"
    assert options["default_sigma"] == "{0.01 0.1 0.2 1}"
    assert options["e0"] == "{O:-3.0000000000:Si:-1.2500000000}"
    assert options["rnd_seed"] == "5"
    assert options["do_copy_at_file"] == "F"
    assert [options[f"{k}_parameter_name"] for k in ("energy", "force", "virial")] == ["REF_energy", "REF_forces", "REF_virial"]
    assert options["gap"].startswith("{distance_2b cutoff=4 ")
    assert "config_type_sigma" not in options


def test_config_type_sigma():
    sigma = {"b": {"energy": 0.1, "forces": 0.2, "virial": 0.3}, "a": {"energy": 1, "forces": 2, "virial": 3, "hessian": 4}}
    assert command(config_type_sigma=sigma)["config_type_sigma"] == "{a:1:2:3:4:b:0.1:0.2:0.3:1}"


def test_descriptors_are_joined():
    descriptors = [
        {"kind": "distance_2b", "cutoff": 5},
        {"kind": "angle_3b", "cutoff": 3.5, "n_sparse": 50},
        {"kind": "soap", "cutoff": 4.5, "n_max": 6, "l_max": 4, "zeta": 2},
    ]
    parts = command(descriptors=descriptors)["gap"].strip("{}").split(" : ")
    assert [part.split()[0] for part in parts] == ["distance_2b", "angle_3b", "soap"]
    assert all("add_species=T" in part for part in parts)
    assert "n_max=6 l_max=4" in parts[2]
    assert "zeta=2" in parts[2]
    assert FitSettings(**{**BASE, "descriptors": descriptors}).cutoff == 5


@pytest.mark.parametrize("seed", [0, -1])
def test_a_seed_that_gap_fit_would_draw(seed):
    with pytest.raises(ValueError, match="positive seed"):
        command(seed=seed)


@pytest.mark.parametrize(
    ("changes", "location"),
    [
        ({"sparse_jiter": 1e-8}, ("sparse_jiter",)),
        ({"descriptors": []}, ("descriptors",)),
        ({"descriptors": [{"kind": "distance_2b", "cutoff": 4, "n_sparze": 5}]}, ("descriptors", 0, "distance_2b", "n_sparze")),
        ({"descriptors": [{"kind": "soup", "cutoff": 4}]}, ("descriptors", 0)),
        ({"descriptors": [{"kind": "soap", "cutoff": -4}]}, ("descriptors", 0, "soap", "cutoff")),
        ({"sigma": {"energy": 0, "forces": 0.1, "virial": 0.2}}, ("sigma", "energy")),
        ({"sigma": {"energy": 0.1, "forces": 0.1}}, ("sigma", "virial")),
        ({"config_type_sigma": {"two words": BASE["sigma"]}}, ()),
    ],
)
def test_settings_that_are_refused(changes, location):
    with pytest.raises(ValidationError) as caught:
        FitSettings(**{**BASE, **changes})
    assert caught.value.errors()[0]["loc"] == location


def test_bond_length():
    assert bond_length(["Si"]) == pytest.approx(2.22)
    assert bond_length(["Si", "O"]) == pytest.approx(2.22)
