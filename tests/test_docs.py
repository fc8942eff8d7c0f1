"""The page of options says what the models say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_reference_is_current():
    made = runpy.run_path(str(DOCS / "make_reference.py"))["reference"]()
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == made, "run: python docs/make_reference.py"
