"""The page of the command line, from the commands: see make_reference.py."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from aiida_gaprss.cli import cli

HEAD = """# Commands

Made by `docs/make_reference.py` from the commands; `aiida-gaprss COMMAND --help` tells the same. All take `-h`. PK stands for a
pk or a uuid. The exit status is 0, 1 if something is wrong, 2 if the command was not understood, 75 if the run was
[paused](first-campaign.md#interrupting-it), 130 after Ctrl-C.
"""


def commands(command: click.Command = cli, path: tuple[str, ...] = ("aiida-gaprss",)) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands that are no groups, with what is typed to call them."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))
    else:
        yield " ".join(path), command


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def text_of(command: click.Command) -> str:
    """Return what a command says of itself, with names of options as such."""
    text = inspect.cleandoc(command.help or "").replace("\b", "").replace("<", "&lt;")
    return re.sub(r"(?<![`\w-])(--[a-z][\w-]*)", r"`\1`", text)


def value_of(param: click.Parameter) -> str:
    """Return what a parameter takes."""
    if getattr(param, "is_flag", False):
        return ""
    if isinstance(param.type, click.Choice):
        return " or ".join(f"`{choice}`" for choice in param.type.choices)
    word = param.metavar or param.type.name.removesuffix(" range")
    low, high = getattr(param.type, "min", None), getattr(param.type, "max", None)
    bounds = " ".join(f"{what} {bound:g}" for what, bound in (("from", low), ("to", high)) if bound is not None)
    return f"{word.lower() if word.isupper() else word}{f', {bounds}' if bounds else ''}"


def default_of(param: click.Parameter, context: click.Context) -> str:
    """Return the default of an option."""
    default = param.get_default(context)
    if param.required:
        return "**required**"
    empty = default is None or default is False or default == () or getattr(param, "multiple", False)
    return "–" if empty else f"`{default}`"


def row(param: click.Parameter, context: click.Context) -> str:
    """Return the row of an option."""
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    return f"| {names} | {cell(value_of(param))} | {default_of(param, context)} | {cell(getattr(param, 'help', None) or '')} |"


def arguments(command: click.Command) -> str:
    """Return the arguments of a command as they are typed."""
    words = []
    for param in command.params:
        if isinstance(param, click.Argument):
            word = param.metavar or (param.name or "").upper()
            word = word if param.nargs == 1 or word.endswith("...") else f"{word}..."
            words.append(word if param.required or word.startswith("[") else f"[{word}]")
    return " ".join(words)


def section(name: str, command: click.Command) -> list[str]:
    """Return the section of a command."""
    context = click.Context(command, info_name=name)
    options = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    called = " ".join(word for word in (name, "[OPTIONS]" if options else "", arguments(command)) if word)
    lines = [f"## {name}", "", "```console", f"$ {called}", "```", "", *text_of(command).splitlines(), ""]
    if options:
        lines += ["| option | value | default | |", "|---|---|---|---|", *(row(param, context) for param in options), ""]
    return lines


def page() -> str:
    """Return the page."""
    lines = [*HEAD.splitlines(), ""]
    for name, command in commands():
        lines += section(name, command)
    return "\n".join(lines).rstrip() + "\n"
