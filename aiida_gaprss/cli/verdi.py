"""Our commands on datasets and potentials as ``verdi data gaprss.dataset …`` and ``verdi data gaprss.potential …``."""

from __future__ import annotations

from typing import Any

import click

from aiida_gaprss.cli import Commands, in_words
from aiida_gaprss.cli.nodes import dataset as _dataset
from aiida_gaprss.cli.potentials import potential as _potential


class OfVerdi(Commands):
    """The same commands in the profile that ``verdi`` was told; faults of the user end with one clear message."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        if (profile := getattr(ctx.obj, "profile", None)) is not None:
            from aiida import load_profile

            load_profile(profile)
        try:
            return super().invoke(ctx)
        except click.ClickException:
            raise
        except Exception as exception:
            if (said := in_words(exception)) is None:
                raise
            raise click.ClickException(said) from exception


def _of_verdi(group: click.Group) -> OfVerdi:
    return OfVerdi(group.name, commands=group.commands, help=group.help, context_settings={"help_option_names": ["-h", "--help"]})


#: Entry points of the group ``aiida.cmdline.data``.
dataset, potential = _of_verdi(_dataset), _of_verdi(_potential)
