"""Our kinds of random cells: by composition, seeds of AIRSS, rigid fragments."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from ase import Atoms
from ase.io import read
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from aiida_gaprss.outside import OutsideError, read_text
from aiida_gaprss.settings.model import TAG, AtomCount, AtomCountOrZero, Coordinate, Length, Model, Volume
from aiida_gaprss.strategies.airss_file import parse_seed
from aiida_gaprss.strategies.airss_tags import MOST_BYTES
from aiida_gaprss.strategies.base import CampaignFormula
from aiida_gaprss.strategies.cells import CellStrategy, CheckedSpec
from aiida_gaprss.strategies.fragments import FragmentSpec, icosahedron
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.random_cells import CellSpec

#: Fragments that have a name; each is made for an edge in Å.
FRAGMENTS = {"B12": ("B", icosahedron)}

Range: TypeAlias = tuple[Volume, Volume]

MAPPING, SEQUENCE, ELSE = (Tag(f"{TAG}{name}") for name in ("mapping", "sequence", "else"))


def _mapping_or_not(value: Any) -> str:
    return MAPPING.tag if isinstance(value, Mapping | Model) else ELSE.tag


def _sequence_or_not(value: Any) -> str:
    return SEQUENCE.tag if isinstance(value, list | tuple) else ELSE.tag


#: The same for all, or by element or pair.
Volumes: TypeAlias = Annotated[Annotated[Range, ELSE] | Annotated[dict[str, Range], MAPPING], Discriminator(_mapping_or_not)]
Separations: TypeAlias = Annotated[
    Annotated[Length, ELSE] | Annotated[dict[str, Length], MAPPING], Discriminator(_mapping_or_not)
]

#: A number, or a smallest and a largest.
Numbers: TypeAlias = Annotated[
    Annotated[AtomCountOrZero, ELSE] | Annotated[tuple[AtomCountOrZero, AtomCountOrZero], SEQUENCE],
    Discriminator(_sequence_or_not),
]


class ByComposition(CellStrategy):
    """Cells by their composition, volume and separations (see ``structures.random_cells.CellSpec``)."""

    formula: dict[str, Numbers] | None = Field(
        None,
        description="atoms per formula unit; or ranges of atoms per cell for all elements (Li: [0, 8]); default: the campaign's",
    )
    n_atoms: list[AtomCount] | None = Field(
        None, min_length=1, description="atoms per cell, drawn evenly from the list; may be left out with ranges in the formula"
    )
    volume_per_atom: Volumes | None = Field(
        None,
        description="Å³, drawn uniformly; by element (Si: [15, 25]), then summed over the composition; "
        "default: 0.7 to 1.6 times that of the elements",
    )
    min_separation: Separations | None = Field(
        None,
        description="Å, for all pairs or by pair (Si-O: 1.6); default: 0.8 times the sum of the covalent radii, "
        "less in small volumes",
    )
    n_operations: list[AtomCount] = Field(default=[1], description="symmetry operations, drawn evenly from the list")

    @property
    def of_campaign(self) -> bool:
        """Whether all cells have the composition of the campaign."""
        return self.formula is None

    def spec(self, formula: CampaignFormula) -> CellSpec:
        """Return the specification for the seed's own or the campaign's formula."""
        return CellSpec(
            formula=self.formula or dict(formula),  # type: ignore[arg-type]
            n_atoms=None if self.n_atoms is None else tuple(self.n_atoms),
            volume_per_atom=self.volume_per_atom,
            min_separation=self.min_separation,
            n_operations=tuple(self.n_operations),
        )


class RandomSeed(ByComposition):
    """Random cells (see ``structures.random_cells.CellSpec``)."""

    kind: Literal["random"] = "random"


class AirssSeed(CellStrategy):
    """A seed of AIRSS: a CASTEP cell file with ``#TAG`` lines."""

    kind: Literal["airss"]
    text: str | None = Field(None, description="the seed")
    file: str | None = Field(None, description="file that holds it instead, relative to the campaign file")

    @model_validator(mode="after")
    def _one(self) -> AirssSeed:
        if (self.text is None) == (self.file is None):
            raise ValueError("give either text or file")
        return self

    def spec(self, formula: CampaignFormula) -> CheckedSpec:
        """Return what the text says; its own elements count, not the formula."""
        if self.text is None:
            raise RandomCellError(f"{self.file!r} has not been read (see with_texts)", place=("file",))
        return parse_seed(self.text)


class FragmentAtoms(Model):
    """A fragment by its atoms."""

    symbols: list[str] = Field(min_length=1)
    positions: list[tuple[Coordinate, Coordinate, Coordinate]] = Field(description="Å, as many as symbols")

    @model_validator(mode="after")
    def _same_length(self) -> FragmentAtoms:
        if len(self.symbols) != len(self.positions):
            raise ValueError(f"{len(self.symbols)} symbols and {len(self.positions)} positions, expected as many")
        return self


class FragmentSeed(CellStrategy):
    """Rigid fragments at random places and orientations, repeated by the operations of a space group."""

    kind: Literal["fragments"]
    fragment: Annotated[Annotated[str, ELSE] | Annotated[FragmentAtoms, MAPPING], Discriminator(_mapping_or_not)] = Field(
        description="name of a built-in fragment (B12, the icosahedron), extended XYZ, or symbols and positions"
    )
    edge: Length = Field(1.77, description="Å, edge of a built-in fragment")
    n_fragments: list[AtomCount] = Field(
        default=[3, 4], min_length=1, description="fragments per cell, multiples of the number of operations"
    )
    n_operations: list[AtomCount] = Field(default=[1, 2, 3, 4], description="symmetry operations, drawn evenly from the list")
    space_groups: list[AtomCount] | None = Field(None, description="international numbers, drawn evenly, instead of n_operations")
    volume_per_atom: Range | None = Field(None, description="Å³, drawn uniformly; default: 0.7 to 1.6 times that of the elements")
    min_separation: Separations | None = Field(
        None, description="Å, between atoms of different fragments and of free atoms; default as for random cells"
    )
    free_atoms: dict[str, Numbers] = Field(
        default_factory=dict, description="single atoms per cell besides the fragments, a number or a range of each element"
    )

    @field_validator("fragment")
    @classmethod
    def _known(cls, value: str | FragmentAtoms) -> str | FragmentAtoms:
        if isinstance(value, str):
            _fragment(value, 1.0)
        return value

    def spec(self, formula: CampaignFormula) -> FragmentSpec:
        """Return the specification; the fragment's elements count, not the formula."""
        given = self.fragment
        if isinstance(given, FragmentAtoms):
            try:
                atoms = Atoms(given.symbols, positions=given.positions)
            except KeyError as exception:
                raise RandomCellError(f"fragment: {exception} is not a chemical element") from exception
        else:
            atoms = _fragment(given, self.edge)
        free = {symbol: (n, n) if isinstance(n, int) else n for symbol, n in self.free_atoms.items()}
        return FragmentSpec(
            fragment=atoms,
            n_fragments=tuple(self.n_fragments),
            n_operations=tuple(self.n_operations),
            space_groups=None if self.space_groups is None else tuple(self.space_groups),
            volume_per_atom=self.volume_per_atom,
            min_separation=self.min_separation,
            free_atoms=free,
        )


def _fragment(text: str, edge: float) -> Atoms:
    """Return a fragment by its name or its extended XYZ."""
    if text in FRAGMENTS:
        symbol, make = FRAGMENTS[text]
        return make(symbol, edge)
    if len(text.split()) == 1:
        raise ValueError(f"no fragment is called {text!r}; known: {', '.join(FRAGMENTS)}; expected one of these or extended XYZ")
    try:
        atoms = read(io.StringIO(text.strip() + "\n"), format="extxyz")
    except Exception as exception:  # the reader raises what its parts happen to raise
        raise ValueError(f"the fragment is not readable as extended XYZ: {exception}") from exception
    assert isinstance(atoms, Atoms)
    if not np.isfinite(atoms.positions).all():
        raise ValueError("the fragment has a position that is not a finite number")
    return atoms


#: Kinds of strategies whose ``text`` may be given as a ``file``.
WITH_TEXT = ("airss", "occupancy")


def with_texts(seeds: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return settings of strategies, every file of a kind that has a text read into it, and by name why a file cannot be read.

    :param seeds: by name, as they stand in a campaign file; what is wrong in itself is passed over.
    :param folder: what the files are relative to.
    """
    out, faults = dict(seeds), {}
    for name, seed in seeds.items():
        if not isinstance(seed, Mapping) or seed.get("kind") not in WITH_TEXT:
            continue
        if isinstance(seed.get("file"), str) and "text" not in seed:
            try:
                text = read_text(folder / seed["file"], MOST_BYTES)
            except OutsideError as exception:
                faults[name] = str(exception)
                continue
            out[name] = {**{key: value for key, value in seed.items() if key != "file"}, "text": text}
    return out, faults
