"""Many campaigns one after another, or some at one time in the daemon; what has run already is not run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.watch import has_ended
from aiida_gaprss.outside import shown
from aiida_gaprss.settings.yamlfile import ConfigError

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_gaprss.cli.progress import Paused

#: Seconds from one look to the next whether a campaign has ended.
INTERVAL = 2.0


@dataclass(frozen=True)
class Wanted:
    """A campaign that is to be run: its name, the file and the seed that it has, and the inputs of its work chain."""

    name: str
    file: str
    seed: int
    inputs: dict[str, Any]


def seeds_of(_: Any, option: click.Parameter, text: str | None) -> list[int] | None:
    """Return seeds: those given with commas between them, or as many as a number says, from 1."""
    if text is None:
        return None
    try:
        given = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise click.BadParameter(f"{text!r}; expected a number of seeds (3), or seeds with commas (11,12,13)") from error
    seeds = given if "," in text else list(range(1, given[0] + 1)) if given else []
    if not seeds or min(seeds) < 1 or len(set(seeds)) < len(seeds):
        raise click.BadParameter(f"{text!r}; expected different seeds above 0, at least one")
    return seeds


def wanted_of(files: Sequence[Path], seeds: Sequence[int]) -> list[Wanted]:
    """Return the campaigns of files, each with every seed, all checked.

    :raises click.ClickException: with all faults of all files, before anything runs.
    """
    from aiida_gaprss.cli.check import judged
    from aiida_gaprss.frames import plain_name

    names = {path: plain_name(path.stem.replace(" ", "_"), "campaign") for path in files}
    if doubled := sorted({name for name in names.values() if list(names.values()).count(name) > 1}):
        raise click.ClickException(f"two files are called {', '.join(doubled)}: campaigns are named after their files")
    out: list[Wanted] = []
    faults: list[str] = []
    for path, name in names.items():
        try:
            for seed in seeds:
                called = f"{name}-s{seed}"
                out.append(Wanted(called, name, seed, judged(path, seed, called)[1]))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise click.ClickException("\n".join(faults))
    return out


class Runs:
    """Runs campaigns that have not run yet, and puts all of them into a group."""

    def __init__(self, wanted: Sequence[Wanted], group: str) -> None:
        """:param group: label of the group."""
        self.wanted, self.group = list(wanted), group
        self.nodes: dict[str, WorkChainNode] = {}

    def here(self) -> dict[str, WorkChainNode]:
        """Run them in this process, one after another, and return their nodes by name.

        :raises Paused: if one is interrupted.
        """
        from aiida_gaprss.cli.progress import Paused, resume_with_progress, run_with_progress
        from aiida_gaprss.workflows.here.claim import is_interrupted
        from aiida_gaprss.workflows.rss import RssWorkChain

        for number, one in enumerate(self.wanted, start=1):
            node = self.there(one)
            where = f"campaign {number} of {len(self.wanted)}, {one.name}"
            try:
                if node is None:
                    click.echo(f"{where}: begins")
                    node = run_with_progress(RssWorkChain, one.inputs)
                elif is_interrupted(node):
                    click.echo(f"{where}: <{node.pk}> was interrupted, and goes on")
                    node = resume_with_progress(node)
                elif not node.is_terminated:
                    click.echo(f"{where}: <{node.pk}> is running already, in another process; waiting for it")
                    wait_for([node], 1, lambda _: None)
                else:
                    click.echo(f"{where}: <{node.pk}> has run already, and is taken as it is")
            except Paused as paused:
                self.keep(one, self.there(one))
                raise _with_hint(paused) from None
            self.keep(one, node)
        return self.nodes

    def in_daemon(self, most: int) -> dict[str, WorkChainNode]:
        """Let the daemon run them, so many at one time, until all have ended; return their nodes by name.

        Whoever interrupts this command interrupts none of them; given again, it goes on.
        """
        waiting = list(self.wanted)
        alive: list[WorkChainNode] = []
        while waiting or alive:
            while waiting and len(alive) < most:
                one = waiting.pop(0)
                node = self.there(one)
                self.keep(one, node if node is not None else self.hand_over(one))
                _tell_begin(one, self.nodes[one.name], node is not None)
                alive += [] if self.nodes[one.name].is_terminated else [self.nodes[one.name]]
            alive = wait_for(alive, min(most, len(alive)), _tell_end) if alive else []
        return self.nodes

    def hand_over(self, one: Wanted) -> WorkChainNode:
        """Give a campaign to the daemon.

        :raises click.ClickException: if it cannot take it.
        """
        from aiida_gaprss.cli.campaign import submitted

        return submitted(one.inputs)

    def there(self, one: Wanted) -> WorkChainNode | None:
        """Return the campaign of this name and these inputs, if it has begun."""
        from aiida_gaprss.campaign.again import found_again
        from aiida_gaprss.workflows.rss import RssWorkChain

        return found_again(RssWorkChain, one.name, one.inputs)

    def keep(self, one: Wanted, node: WorkChainNode | None) -> None:
        """Put a campaign into the group, and tell one that failed."""
        from aiida.orm import Group

        if node is None:
            return
        self.nodes[one.name] = node
        Group.collection.get_or_create(label=self.group)[0].add_nodes([node])
        if node.is_terminated and not node.is_finished_ok:
            reason = node.exit_message or node.process_state
            click.echo(f"{one.name} <{node.pk}> failed, and is told apart: {shown(str(reason), 300)}")


def _with_hint(paused: Paused) -> Paused:
    """Return what says of an interrupted campaign how it goes on, with the other way to do that."""
    paused.message += ", or with the same compare command once more"
    return paused


def _tell_begin(one: Wanted, node: WorkChainNode, again: bool) -> None:
    words = "is with the daemon"
    if again:
        words = "has run already, and is taken as it is" if node.is_terminated else "is running already"
    click.echo(f"{one.name} <{node.pk}>: {words}")


def _tell_end(node: WorkChainNode) -> None:
    click.echo(f"{node.label} <{node.pk}>: {'finished' if node.is_finished_ok else node.exit_message or node.process_state}")


def wait_for(nodes: Sequence[WorkChainNode], most: int, tell: Callable[[WorkChainNode], None]) -> list[WorkChainNode]:
    """Wait until fewer than ``most`` of some campaigns are left; return those that have not ended.

    :param tell: what is done with each that has.
    """
    left = list(nodes)
    while len(left) >= most:
        time.sleep(INTERVAL)
        for node in [node for node in left if has_ended(node)]:
            left.remove(node)
            tell(node)
    return left
