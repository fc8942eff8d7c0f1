import re

import pytest
from pydantic import ValidationError

from aiida_gaprss.models.families import bond_length, expand
from aiida_gaprss.models.gap.family import Gap
from aiida_gaprss.models.gap.settings import GapSettings

BASE = {"descriptors": [{"kind": "distance_2b", "cutoff": 4}], "sigma": {"energy": 0.01, "forces": 0.1, "virial": 0.2}}


def command(seed=5, e0=None, **changes):
    text = GapSettings(**{**BASE, **changes}).command("train.extxyz", "gap.xml", seed, e0 or {"Si": -1.5})
    return dict(line.split("=", 1) for line in text.replace(" :\n", " : ").splitlines())


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
    assert all("add_species=F" in part for part in parts)
    assert "n_max=6 l_max=4" in parts[2]
    assert "zeta=2" in parts[2]
    assert GapSettings(**{**BASE, "descriptors": descriptors}).cutoff == 5


def gaps(descriptor, *elements):
    text = command(descriptors=[descriptor], e0=dict.fromkeys(elements, -1.0))["gap"]
    return [" ".join(word for word in part.split() if re.match(r"Z|n_spec|cent", word)) for part in text.strip("{}").split(" : ")]


def test_every_pair_triplet_and_centre():
    """As gap_fit itself writes them into the potential when it is asked to add the species."""
    pairs = gaps({"kind": "distance_2b", "cutoff": 5}, "Li", "Cu", "Au")
    assert pairs == ["Z1=3 Z2=3", "Z1=3 Z2=29", "Z1=3 Z2=79", "Z1=29 Z2=29", "Z1=29 Z2=79", "Z1=79 Z2=79"]
    triplets = gaps({"kind": "angle_3b", "cutoff": 4}, "Cu", "Li")
    assert triplets == [
        *("Z=3 Z1=3 Z2=3", "Z=3 Z1=3 Z2=29", "Z=3 Z1=29 Z2=29"),
        *("Z=29 Z1=3 Z2=3", "Z=29 Z1=3 Z2=29", "Z=29 Z1=29 Z2=29"),
    ]
    assert gaps({"kind": "soap", "cutoff": 4}, "Cu", "Li") == ["n_species=2 Z=3", "n_species=2 Z=29"]
    assert [part.split()[1] for part in gaps({"kind": "soap_turbo", "cutoff": 4}, "Cu", "Li")] == [
        "central_index=1",
        "central_index=2",
    ]
    assert gaps({"kind": "distance_2b", "cutoff": 5, "only": [["Cu", "Li"]]}, "Cu", "Li") == ["Z1=3 Z2=29"]
    assert gaps({"kind": "angle_3b", "cutoff": 5, "only": [["Cu", "Cu", "Li"]]}, "Cu", "Li") == ["Z=29 Z1=3 Z2=29"]
    with pytest.raises(ValueError, match="distance_2b: no Li-Au among the elements Cu Li; there are Li-Li, Li-Cu, Cu-Cu"):
        gaps({"kind": "distance_2b", "cutoff": 5, "only": [["Au", "Li"]]}, "Cu", "Li")


def test_sparse_points_by_config_type():
    descriptor = {"kind": "soap", "cutoff": 4, "n_sparse": {"liquid": 30, "crystal": 20}}
    assert "config_type_n_sparse={liquid:30:crystal:20}" in command(descriptors=[descriptor])["gap"]
    assert " n_sparse=" not in command(descriptors=[descriptor])["gap"]


def test_protocols():
    """All of them are settings; what the papers say of them is what they say."""
    assert len(Gap.PROTOCOLS.names()) == 16
    for name in Gap.PROTOCOLS.names():
        settings = GapSettings(**expand({"protocol": name}, ["Si"]))
        assert settings.command("train.extxyz", "gap.xml", 1, {"Si": -1.0})
    zuo = GapSettings(**expand({"protocol": "zuo2020_Mo", "sparse_jitter": 1e-9}, ["Mo"]))
    assert (zuo.cutoff, zuo.descriptors[0].n_max, zuo.descriptors[0].l_max) == (5.2, 8, 8)
    assert zuo.sigma.numbers() == [0.01, 0.05, 0.01, 1.0]
    assert zuo.sparse_jitter == 1e-9
    assert zuo.targets == ["energy", "forces"]
    smooth, tight = (GapSettings(**expand({"protocol": f"prl2018_{kind}"}, ["B"])).descriptors[2] for kind in ("smooth", "tight"))
    assert (smooth.atom_sigma, smooth.n_max, smooth.l_max) == (0.75, 8, 8)
    assert (tight.atom_sigma, tight.n_max, tight.l_max) == (0.5, 12, 12)
    assert smooth.cutoff == tight.cutoff == 3.7
    allen = GapSettings(**expand({"protocol": "allen2022_Al"}, ["Al"]))
    assert (allen.cutoff, allen.descriptors[0].delta, allen.descriptors[0].n_sparse) == (10.0, 2.0, 1400)
    assert allen.regularisation[0].virial_factor == 5e-3
    with pytest.raises(ValueError, match="unknown protocol 'zuo2020_Xe'; known: allen2022_Al"):
        expand({"protocol": "zuo2020_Xe"}, ["Xe"])


def test_lengths_in_bonds():
    assert GapSettings(**expand({"protocol": "default"}, ["B"])).cutoff == 3.7  # the cutoff of the boron paper
    assert GapSettings(**expand({"protocol": "fast"}, ["Si", "O"])).cutoff == 4.9
    changes = {"protocol": "fast", "descriptors": [{"kind": "distance_2b", "cutoff": "3 b"}]}
    assert GapSettings(**expand(changes, ["Si"])).cutoff == 6.7


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
        ({"config_type_sigma": {"two words": BASE["sigma"]}}, ("config_type_sigma",)),
        ({"descriptors": [{"kind": "soap", "cutoff": 4, "n_sparse": {"two words": 5}}]}, ("descriptors", 0, "soap", "n_sparse")),
        ({"descriptors": [{"kind": "soap", "cutoff": 4, "n_sparse": {}}]}, ("descriptors", 0, "soap", "n_sparse")),
        ({"descriptors": [{"kind": "soap", "cutoff": 4, "cutoff_transition_width": 4}]}, ("descriptors", 0, "soap")),
        ({"descriptors": [{"kind": "soap", "cutoff": 4, "theta_uniform": 1}]}, ("descriptors", 0, "soap", "theta_uniform")),
        ({"targets": ["forces"]}, ("targets",)),
        ({"e0": {"Xx": 1.0}}, ("e0",)),
        ({"e0": {}}, ("e0",)),
        ({"regularisation": [{"kind": "hull", "f": 0.1}]}, ("regularisation", 0, "hull", "f")),
    ],
)
def test_settings_that_are_refused(changes, location):
    with pytest.raises(ValidationError) as caught:
        GapSettings(**{**BASE, **changes})
    assert caught.value.errors()[0]["loc"] == location


def test_bond_length():
    assert bond_length(["Si"]) == pytest.approx(2.22)
    assert bond_length(["Si", "O"]) == pytest.approx(2.22)


def test_more_config_types_than_gap_fit_can_read():
    few = {f"type{n}": BASE["sigma"] for n in range(39)}
    assert GapSettings(**BASE, config_type_sigma=few)
    with pytest.raises(ValidationError, match="config_type_sigma has 40 entries, gap_fit reads at most 39"):
        GapSettings(**BASE, config_type_sigma={**few, "another": BASE["sigma"]})
    with pytest.raises(ValueError, match=r"gap_fit cannot keep a line of \d+ characters: config_type_sigma="):
        command(config_type_sigma={f"a_rather_long_name_of_a_kind_of_frames_{n}": BASE["sigma"] for n in range(30)})
