"""What a campaign takes of the profile: nodes, and bytes of the file repository, stage by stage; and what more labels would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida.common.links import LinkType
from aiida.manage import get_manager
from aiida.orm import CalcJobNode, Data, Node, ProcessNode, QueryBuilder, RemoteData, WorkChainNode

from aiida_gaprss.campaign.stages import CRYSTALS, LABEL, SEARCH, VARIANCES, part_of
from aiida_gaprss.data.dataset import Dataset

#: Databases limit the number of values in a query.
CHUNK = 500

#: Bytes of the database of a profile without nodes.
EMPTY_DATABASE = {"postgresql": 10_000_000, "sqlite": 200_000}

#: Stages that do not grow with the number of labels.
FIXED = (SEARCH,)


@dataclass(frozen=True)
class StageUse:
    """Nodes of one stage of a campaign, its new files, and the labels it has brought."""

    stage: str
    labels: int
    nodes: int
    bytes: int


@dataclass(frozen=True)
class StorageUse:
    """What a campaign takes, and what there is in the profile in all. Sizes in bytes."""

    stages: list[StageUse]
    scratch_folders: int
    profile_nodes: int
    database: int
    empty_database: int
    repository: int

    def forecast(self, labels: int) -> tuple[int, int]:
        """Return the bytes of repository and database of a campaign like this one with so many labels.

        What a stage takes is proportional to its labels, except the search. The repository is that without packing; a node
        takes as much of the database as one of the profile in the mean.

        :raises ValueError: if the campaign has no labels yet.
        """
        known = sum(stage.labels for stage in self.stages)
        if not known:
            raise ValueError("the campaign has no labels yet")
        factor = {stage.stage: 1.0 if stage.stage in FIXED else labels / known for stage in self.stages}
        nodes = sum(factor[stage.stage] * stage.nodes for stage in self.stages)
        size = sum(factor[stage.stage] * stage.bytes for stage in self.stages)
        each = max(self.database - self.empty_database, 0) / self.profile_nodes
        return round(size), self.empty_database + round(nodes * each)


def storage_use(campaign: WorkChainNode) -> StorageUse:
    """Measure what a campaign takes.

    Files with the same content are stored once; they count where they are first used.
    """
    labels = _labels_by_stage(campaign)
    stages: list[StageUse] = []
    seen_files: set[str] = set()
    seen_nodes: set[int | None] = {campaign.pk}
    scratch = 0
    for stage, children in _children(campaign).items():
        processes = [*children, *_called(children)]
        new = (set(processes) | _data_of(processes)) - seen_nodes
        seen_nodes |= new
        files = _files(new) - seen_files
        seen_files |= files
        scratch += _uncleaned(processes)
        stages.append(StageUse(stage, labels.get(stage, 0), len(new), _size(files)))
    with _container() as container:
        total = container.get_total_size()
    repository = total.total_size_packed_on_disk + total.total_size_loose
    return StorageUse(stages, scratch, QueryBuilder().append(Node).count(), *_database_sizes(), repository)


def _labels_by_stage(campaign: WorkChainNode) -> dict[str, int]:
    """Return how many frames the reference was handed in each stage; of a database, all in one."""
    if "labels" not in campaign.outputs:
        return {}
    labels = campaign.outputs.labels
    return {LABEL: labels.n_frames} if isinstance(labels, Dataset) else {key: node.n_frames for key, node in labels.items()}


def _stage_in(campaign: WorkChainNode, label: str) -> str:
    """Return the stage that a link is of: a part of a campaign; of a database a strategy, or what is done for all of them."""
    if campaign.process_label != "BuildWorkChain":
        return part_of(label)
    names = sorted(campaign.inputs.settings["strategies"], key=len, reverse=True)
    return next((name for name in names if label.startswith(f"{name}_")), _OF_ALL.get(part_of(label), label))


#: Stages of a database that are of all strategies, by the first word of a link.
_OF_ALL = {"to": LABEL, LABEL: LABEL, VARIANCES: VARIANCES, "crystals": CRYSTALS, "kept": CRYSTALS, "reference": CRYSTALS}


def _children(campaign: WorkChainNode) -> dict[str, list[int]]:
    """Return the processes that a campaign has called, by stage, in the order of time."""
    query = QueryBuilder().append(ProcessNode, filters={"id": campaign.pk}, tag="campaign")
    query.append(ProcessNode, with_incoming="campaign", edge_project="label", project="id", tag="child")
    out: dict[str, list[int]] = defaultdict(list)
    for pk, label in query.order_by({"child": "ctime"}).all():
        out[_stage_in(campaign, label)].append(pk)
    return out


def _called(processes: Iterable[int]) -> list[int]:
    """Return all that these processes have called, and what those have called, and so on."""
    found: list[int] = []
    level = list(processes)
    while level:
        below: list[int] = []
        for chunk in _chunks(level):
            query = QueryBuilder().append(ProcessNode, filters={"id": {"in": chunk}}, tag="caller")
            calls = {"type": {"in": [LinkType.CALL_CALC.value, LinkType.CALL_WORK.value]}}
            below += query.append(ProcessNode, with_incoming="caller", edge_filters=calls, project="id").all(flat=True)
        found += below
        level = below
    return found


def _data_of(processes: Iterable[int]) -> set[int]:
    """Return the data that these processes have made or read."""
    out: set[int] = set()
    for chunk in _chunks(processes):
        for side in ("with_incoming", "with_outgoing"):
            query = QueryBuilder().append(ProcessNode, filters={"id": {"in": chunk}}, tag="process")
            keywords: dict[str, Any] = {side: "process"}
            out |= set(query.append(Data, project="id", **keywords).all(flat=True))
    return out


def _files(nodes: Iterable[int]) -> set[str]:
    """Return the keys of the files of nodes in the repository."""
    keys: set[str] = set()

    def add(tree: dict[str, Any]) -> None:
        for entry in tree.get("o", {}).values():
            if "k" in entry:
                keys.add(entry["k"])
            add(entry)

    for chunk in _chunks(nodes):
        for tree in QueryBuilder().append(Node, filters={"id": {"in": chunk}}, project="repository_metadata").all(flat=True):
            add(tree or {})
    return keys


def _size(keys: set[str]) -> int:
    """Return the bytes that these files take without packing."""
    with _container() as container:
        return sum(meta.size for _, meta in container.get_objects_meta(sorted(keys)))


def _container() -> Any:
    """Return the object store of the profile: AiiDA has no public way to the sizes of files."""
    repository: Any = get_manager().get_profile_storage().get_repository()
    return repository._container


def _uncleaned(processes: Iterable[int]) -> int:
    """Return how many of these jobs still have a folder in the scratch of their computer."""
    count = 0
    for chunk in _chunks(processes):
        query = QueryBuilder().append(CalcJobNode, filters={"id": {"in": chunk}}, tag="job")
        folders = query.append(RemoteData, with_incoming="job", project=f"extras.{RemoteData.KEY_EXTRA_CLEANED}").all(flat=True)
        count += sum(not cleaned for cleaned in folders)
    return count


def _database_sizes() -> tuple[int, int]:
    """Return the bytes of the database of the profile, on PostgreSQL or SQLite, and of one without nodes."""
    from sqlalchemy import text

    storage: Any = get_manager().get_profile_storage()
    session = storage.get_session()
    dialect = session.get_bind().dialect.name
    if dialect == "postgresql":
        size = int(session.execute(text("select pg_database_size(current_database())")).scalar())
    else:
        size = sum(path.stat().st_size for path in Path(session.get_bind().url.database).parent.glob("database.sqlite*"))
    return size, EMPTY_DATABASE[dialect]


def _chunks(values: Iterable[int]) -> Iterator[list[int]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
