"""Which crystals go on to the strategies after a relaxation."""

import pytest
from ase.build import bulk

from aiida_gaprss.strategies.relaxed import RelaxedCrystals


def ended(atoms, status="converged"):
    atoms.info["relax_status"] = status
    return atoms


def test_one_that_stays_what_it_is():
    rules = RelaxedCrystals()
    assert (rules.by, rules.ltol, rules.stol, rules.angle_tol) == ("reference", 0.1, 0.1, 3.0), "those of George et al."
    given = bulk("Si", a=5.43)
    end = ended(bulk("Si", a=5.5, cubic=True).repeat((1, 1, 2)))
    assert rules.why_not(given, end) is None, "whatever its cell"
    assert rules.in_words(given, end) == "Fd-3m (227), volume +3.9 %"


@pytest.mark.parametrize(("a", "why"), [(4.9, "Fd-3m (227), volume -26.5 %"), (6.5, "Fd-3m (227), volume +71.5 %, expected at")])
def test_the_same_structure_of_another_size(a, why):
    """As the matcher has it, whatever the volume; one that a hole of a potential has swallowed is the same, too."""
    given, end = bulk("Si", a=5.43), ended(bulk("Si", a=a))
    told = RelaxedCrystals(volume_change=0.2).why_not(given, end)
    assert told.startswith(why)
    assert told.endswith("expected at most 20 % (relax.volume_change)")
    assert RelaxedCrystals(volume_change=None).why_not(given, end) is None


def test_others():
    given = bulk("Si", a=5.43)
    rules = RelaxedCrystals(most_atoms=4)
    assert rules.why_not(given.repeat(2), None) == "16 atoms, expected at most 4 (relax.most_atoms)"
    assert rules.why_not(given, None, "the job was killed") == "not relaxed: the job was killed"
    assert rules.why_not(given, None) == "not relaxed: no frame came back"
    assert rules.why_not(given, ended(given.copy(), "max_steps")) == "not relaxed: max_steps"
    other = ended(bulk("Si", "bcc", a=3.42))
    assert rules.why_not(given, other) == "became another structure: Fd-3m (227) before, Im-3m (229) after, volume -0.1 %"


def test_tolerances_count():
    given, end = bulk("Si", a=5.43), ended(bulk("Si", a=5.43))
    end.set_scaled_positions([[0, 0, 0], [0.33, 0.33, 0.33]])
    assert RelaxedCrystals().why_not(given, end).startswith("became another structure: Fd-3m (227) before, R-3m (166) after")
    assert RelaxedCrystals(stol=0.5).why_not(given, end) is None
