"""What a person gets to see on the terminal: names and messages from outside are shown as they are, and do nothing.

Every console is a :class:`PlainConsole`: a plain string is never markup, an emoji code or a control character on it, in whatever
it stands (a line, a cell, a title, a node of a tree). What is to have a colour is made by :func:`styled`. What commands print
without a console goes through :func:`harmless_output`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from aiida_gaprss.outside import harmless

#: Columns that our widest tables need; a narrower terminal wraps their lines.
WIDE = 124


class PlainConsole(Console):
    """A console on which strings are shown as they are, with control characters written out."""

    def __init__(self, **options: Any) -> None:
        """:param options: as of :class:`rich.console.Console`, but for markup, emoji and highlight, which are off."""
        super().__init__(**options, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]  # handed on as they are
        """Return a string as rich text; all strings come by here, also those in tables and trees."""
        return super().render_str(harmless(text), **options)


def wide_console() -> PlainConsole:
    """Return a console on which the tables are not cut."""
    return PlainConsole(width=max(PlainConsole().width, WIDE))


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return texts as one, those that come with a style in it: ``styled(("found", "green"), " ", name)``."""
    given = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((harmless(text), style) for text, style in given))


class HarmlessStream:
    """A stream of text on which control characters are written out; consoles, which see to that themselves, write past it."""

    def __init__(self, stream: TextIO) -> None:
        """:param stream: to which the text goes."""
        self.rich_proxied_file = stream  # where rich finds the stream behind another one

    def write(self, text: str) -> int:
        """Write a text."""
        return self.rich_proxied_file.write(harmless(text))

    def __getattr__(self, name: str) -> Any:
        """Be the stream in everything else."""
        return getattr(self.rich_proxied_file, name)


@contextmanager
def harmless_output() -> Iterator[None]:
    """Write out the control characters in whatever is printed meanwhile, to standard output and standard error."""
    out: Any = HarmlessStream(sys.stdout)
    errors: Any = HarmlessStream(sys.stderr)
    with redirect_stdout(out), redirect_stderr(errors):
        yield
