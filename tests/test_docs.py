"""The page of options says what the models say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_reference_is_current():
    pages = runpy.run_path(str(DOCS / "make_reference.py"))
    for page, make in (("reference.md", "reference"), ("strategies/settings.md", "of_build")):
        assert (DOCS / page).read_text(encoding="utf-8") == pages[make](), "run: python docs/make_reference.py"
