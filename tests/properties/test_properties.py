"""Properties: one plan for all calculators, kinds that other packages add."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from aiida_gaprss.properties.base import Property, PropertyError, labelled, property_of
from aiida_gaprss.properties.elastic import Elastic, elastic_constants, relaxed
from aiida_gaprss.structures.symmetry import Symmetry

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def crystal_of(atoms):
    atoms.calc = EMT()
    return relaxed(atoms)


@pytest.fixture(scope="module")
def hexagonal():
    """No atom on an inversion centre: the atoms move when the cell is strained."""
    return crystal_of(bulk("Cu", "hcp", 2.55, covera=1.63))


@pytest.fixture(scope="module")
def triclinic():
    """An ordered alloy without any symmetry but translations."""
    cell = np.array([[2.7, 0.1, 0.0], [0.2, 3.9, 0.3], [0.4, -0.2, 5.6]])
    scaled = [(0.02, 0.01, 0.0), (0.45, 0.55, 0.22), (0.03, 0.04, 0.52), (0.52, 0.48, 0.74)]
    return crystal_of(Atoms("CuAuCuPd", scaled_positions=scaled, cell=cell, pbc=True))


@pytest.mark.parametrize("name", ["hexagonal", "triclinic"])
def test_single_points_give_what_relaxing_the_atoms_gives(request, name):
    crystal = request.getfixturevalue(name)
    found = property_of({"kind": "elastic", "symmetry": False}).compute(EMT(), crystal)
    moved, held = (elastic_constants(crystal, relax_atoms=relax).voigt for relax in (True, False))
    moved_by = np.abs(moved - held).max()
    assert moved_by > 0.5, "the atoms do move"
    assert np.allclose(found["C_GPa"], moved, atol=0.05 * moved_by)
    assert np.allclose(found["C_clamped_GPa"], held, atol=1e-6)
    assert found["stable"]


def test_published_constants_of_stillinger_weber_silicon(sw):
    """As published for this potential, GPa."""
    crystal = bulk("Si", "diamond", 5.431, cubic=True)
    crystal.calc = sw
    crystal = relaxed(crystal)
    found = Elastic().compute(sw, crystal)
    c, clamped = np.array(found["C_GPa"]), np.array(found["C_clamped_GPa"])
    assert c[0, 0] == pytest.approx(151.4, abs=0.1)
    assert c[0, 1] == pytest.approx(76.4, abs=0.1)
    assert c[3, 3] == pytest.approx(56.4, abs=0.1)
    assert np.allclose(clamped, elastic_constants(crystal, relax_atoms=False).voigt, atol=1e-6)


def test_a_crystal_with_one_atom_needs_no_displacements():
    copper = crystal_of(bulk("Cu"))
    plan = Elastic(symmetry=False).plan(copper)
    assert [atoms.info["part"] for atoms in plan][:3] == ["crystal", "strain_xx_-", "strain_xx_+"]
    assert len(plan) == 13
    assert np.allclose(Elastic(symmetry=False).compute(EMT(), copper)["C_GPa"], elastic_constants(copper).voigt, atol=1e-6)


def test_what_is_missing_is_told(hexagonal):
    elastic = Elastic(symmetry=False)
    done = [labelled(atoms, EMT()) for atoms in elastic.plan(hexagonal)]
    del done[4].info["REF_virial"]
    done[4].info["label_status"] = "failed: not converged"
    with pytest.raises(PropertyError, match=r"frame strain_yy_\+ has no REF_virial: failed: not converged"):
        elastic.result(hexagonal, done, "REF")
    with pytest.raises(PropertyError, match="periodic in all directions"):
        Elastic().plan(Atoms("Cu2", positions=[(0, 0, 0), (2, 0, 0)]))


def test_calculators_that_give_no_numbers(hexagonal):
    with pytest.raises(PropertyError, match=r"frame crystal: .*not a finite number"):
        Elastic().compute(LennardJones(epsilon=float("nan"), sigma=2.3, rc=6.0), hexagonal)
    with pytest.raises(PropertyError, match="strains that cost nothing: is anything within the cutoff"):
        Elastic().compute(LennardJones(sigma=0.5), hexagonal)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "elastc"}, "kind is 'elastc', expected one of .*elastic"),
        ({}, "kind is 'None', expected one of .*elastic"),
        ({"kind": "elastic", "strain": -1}, "elastic.strain: .*greater than 0"),
        ({"kind": "elastic", "amount": 1}, "elastic.amount: unknown key"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(PropertyError, match=message):
        property_of(settings)


def test_a_property_of_another_package(other_package):
    """That of the page, as it stands there."""
    page = PAGE.read_text(encoding="utf-8")
    source = next(block for block in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "my_properties.py" in block)
    other_package("my_properties", source, re.search(r"```toml\n(.*?aiida_gaprss.properties.*?)```", page, flags=re.S)[1])
    copper = crystal_of(bulk("Cu", cubic=True))
    found = property_of({"kind": "compressibility", "strain": 0.001}).compute(EMT(), copper)
    assert found["compressibility_1/GPa"] == pytest.approx(1 / elastic_constants(copper).bulk_modulus, rel=1e-3)
    with pytest.raises(PropertyError, match=r"expected one of .*compressibility, .*elastic"):
        property_of({"kind": "nothing"})


@pytest.mark.parametrize(
    ("text", "entry", "message"),
    [
        ("1 / 0", "broken = my_properties:Broken", "broken .*cannot be imported: division by zero"),
        ("Thing = 3", "broken = my_properties:Thing", "broken .*is no Property"),
        ("", "broken = my_properties:Thing", "broken .*cannot be imported: "),
        ("", "elastic = my_properties:Thing", "elastic is both .* and .*; uninstall one"),
    ],
)
def test_packages_that_are_wrong(other_package, text, entry, message):
    other_package("my_properties", text, f'[project.entry-points."aiida_gaprss.properties"]\n{entry}')
    with pytest.raises(PropertyError, match=message):
        property_of({"kind": entry.split()[0]})


class Sites(Property):
    """Of somebody who asks geometry, and knows nothing of its errors."""

    kind: str = "sites"

    def plan(self, crystal):
        return [crystal[Symmetry(crystal).sites]]

    def result(self, crystal, done, prefix):
        return {"sites": len(Symmetry(crystal).sites)}


class MoreSites(Sites):
    """Nothing of its own."""


@pytest.mark.parametrize("kind", [Sites, MoreSites])
def test_what_geometry_says_is_said_by_the_property(kind):
    twice = Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 0)], cell=[3, 3, 3], pbc=True)
    message = "spglib finds no symmetry of the crystal to 0.01 Å: are two atoms at one place?"
    assert kind().faults(twice, 1.0) == [message]
    for ask in (lambda: kind().plan(twice), lambda: kind().result(twice, [], "REF")):
        with pytest.raises(PropertyError, match=re.escape(message)):
            ask()
    assert kind().result(bulk("Cu"), [], "REF") == {"sites": 1}
    assert Sites.plan.__name__ == "plan"
