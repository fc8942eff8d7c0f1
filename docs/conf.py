"""The site of the documents: sphinx-build -W --keep-going docs site."""

import re

from aiida_gaprss import __version__

REPOSITORY = "https://github.com/aiida-gaprss/aiida-gaprss/blob/main"

project = "aiida-gaprss"
author = "The aiida-gaprss developers"
copyright = "2026, The aiida-gaprss developers"
version = release = __version__
extensions = ["myst_parser", "sphinx_external_toc"]
html_theme = "furo"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_title = f"aiida-gaprss {__version__}"
html_theme_options = {
    "source_repository": REPOSITORY.removesuffix("/blob/main"),
    "source_branch": "main",
    "source_directory": "docs/",
}
#: Links to headings are as in the repository, where they are made of the words of the heading.
myst_heading_anchors = 4
#: Outputs of commands and parts of files are no whole files of their language.
suppress_warnings = ["misc.highlighting_failure"]


def absolute(app, docname, source):
    """Send links to files that are no pages of the site to the repository."""
    source[0] = re.sub(
        r"\]\((?:\.\./)+((?:examples|benchmarks|aiida_gaprss|tests|[A-Z]+\.md|recipe)[^)]*)\)", rf"]({REPOSITORY}/\1)", source[0]
    )


def setup(app):
    """Register what is done to sources."""
    app.connect("source-read", absolute)
