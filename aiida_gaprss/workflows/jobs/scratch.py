"""What jobs leave in the scratch folders of their computers is removed once its content is in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, get_args

from aiida.engine import WorkChain
from aiida.orm import CalcJobNode, Node, ProcessNode, RemoteData

from aiida_gaprss.settings.jobs import ScratchPolicy


def define_scratch(spec: Any) -> None:
    """Add the port with the policy to a work chain that calls ``clean_scratch``."""
    spec.input(
        "scratch",
        valid_type=str,
        non_db=True,
        default="keep",
        validator=_validate_policy,
        help="Scratch folders to remove when their jobs have been evaluated: keep (none), finished (those that ended well), all.",
    )


def _validate_policy(value: str, _: Any) -> str | None:
    return None if value in get_args(ScratchPolicy) else f"expected one of {', '.join(get_args(ScratchPolicy))}, got {value!r}"


def clean_scratch(chain: WorkChain, processes: Iterable[Node]) -> None:
    """Remove the scratch folders of ended processes and of all that they have called, over one connection to each computer.

    What cannot be removed is left: the work chain reports it, and goes on.

    :param chain: has the policy among its inputs.
    """
    policy: ScratchPolicy = chain.inputs.scratch
    folders = []
    for process in (node for node in processes if isinstance(node, ProcessNode) and policy != "keep"):
        for job in (process, *process.called_descendants):
            if isinstance(job, CalcJobNode) and job.is_terminated and (policy == "all" or job.is_finished_ok):
                folders += [link.node for link in job.base.links.get_outgoing(link_label_filter="remote_folder").all()]
    for trouble in remove_folders(folders):
        chain.report(f"{trouble} (later: verdi calcjob cleanworkdir)")


def remove_folders(folders: Iterable[Node]) -> list[str]:
    """Remove folders of jobs, over one connection to each computer; return what could not be removed and why."""
    by_computer: dict[str, list[RemoteData]] = defaultdict(list)
    for folder in folders:
        if isinstance(folder, RemoteData) and folder.computer and not folder.is_cleaned:
            by_computer[folder.computer.label].append(folder)
    troubles = []
    for label, nodes in by_computer.items():
        try:
            with nodes[0].get_authinfo().get_transport() as transport:
                for node in nodes:  # node._clean would call a folder cleaned that could not be removed
                    if transport.isdir(node.get_remote_path()):
                        transport.rmtree(node.get_remote_path())
                    node.base.extras.set(RemoteData.KEY_EXTRA_CLEANED, True)
        except Exception as exception:  # a connection can fail in any way
            left = sum(not node.is_cleaned for node in nodes)
            troubles.append(f"{left} folders stay in the scratch of {label}: {type(exception).__name__}: {exception}")
    return troubles
