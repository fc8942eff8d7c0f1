"""Small outputs: those made by hand for the references, and a run of pw.x."""

from pathlib import Path

import pytest

REFERENCE = Path(__file__).parent.parent / "reference"


@pytest.fixture(scope="session")
def boron():
    """Return what pw.x printed of two steps of a relaxation of two boron atoms."""
    return (REFERENCE / "boron_relax.out").read_text()


@pytest.fixture
def changed():
    """Replace a text where it stands for the first time (or in so many places); it must be there."""

    def changed(text, *pairs, count=1):
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new, count)
        return text

    return changed
