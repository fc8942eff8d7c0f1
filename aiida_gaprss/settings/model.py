"""The base of our models, the numbers and names in them, and their complaints as messages for a port or a file.

A number of a setting is one of the types here: finite, a number and nothing that could be read as one, and within bounds beyond
which it can only be a mistake. ``tests/campaign/test_file.py`` asks every field of every model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from aiida_gaprss.outside import shown
from aiida_gaprss.settings.faults import Fault, FaultError

#: How the tags of our discriminated unions begin: they appear in the location of a fault, and no key of a file looks like this.
TAG = "kind="

#: The type of a fault: a value where keys and values were expected.
NO_MAPPING = "no_mapping"


def _number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("expected a number")
    return value


_Number = BeforeValidator(_number)


def _from(least: float) -> AfterValidator:
    """Return a check of positive numbers: below ``least`` they are as good as zero."""

    def check(value: float) -> float:
        if value < least:
            raise ValueError(f"expected a number above {least:g}")
        return value

    return AfterValidator(check)


#: Whole numbers: of cells, frames, steps, jobs; the same and zero; atoms of a cell; sparse points; radial and angular functions
#: and powers of a kernel; seeds that fit 63 bits, as a database keeps them.
Count: TypeAlias = Annotated[int, _Number, Field(gt=0, le=1_000_000)]
CountOrZero: TypeAlias = Annotated[int, _Number, Field(ge=0, le=1_000_000)]
#: Frames that differ by chance alone: a mistaken 0 more, and what makes them fills memory before anybody can refuse it.
FrameCount: TypeAlias = Annotated[int, _Number, Field(gt=0, le=10_000)]
#: The same, of each of many frames.
CopyCount: TypeAlias = Annotated[int, _Number, Field(gt=0, le=1000)]
CopyCountOrZero: TypeAlias = Annotated[int, _Number, Field(ge=0, le=1000)]
AtomCount: TypeAlias = Annotated[int, _Number, Field(gt=0, le=1000)]
AtomCountOrZero: TypeAlias = Annotated[int, _Number, Field(ge=0, le=1000)]
SparseCount: TypeAlias = Annotated[int, _Number, Field(gt=0, le=100_000)]
Order: TypeAlias = Annotated[int, _Number, Field(gt=0, le=50)]
OrderOrZero: TypeAlias = Annotated[int, _Number, Field(ge=0, le=50)]
WholeSeconds: TypeAlias = Annotated[int, _Number, Field(gt=0, le=100_000_000)]
Kilobytes: TypeAlias = Annotated[int, _Number, Field(gt=0, le=10**12)]
PrimaryKey: TypeAlias = Annotated[int, _Number, Field(gt=0, lt=2**63)]
SeedNumber: TypeAlias = Annotated[int, _Number, Field(gt=0, lt=2**63)]

#: Elements of a matrix that makes a supercell.
Integer: TypeAlias = Annotated[int, _Number, Field(ge=-1000, le=1000)]

#: Real numbers: any positive one (energies in eV, forces in eV/Å, expected errors, …), the same and zero, one of either sign;
#: lengths (Å); volumes per atom (Å³); parts of a whole; pressures (GPa); seconds.
Positive: TypeAlias = Annotated[float, _Number, Field(gt=0, le=1e7), _from(1e-20)]
PositiveOrZero: TypeAlias = Annotated[float, _Number, Field(ge=0, le=1e7)]
Real: TypeAlias = Annotated[float, _Number, Field(ge=-1e7, le=1e7)]
#: Coefficients of a fit, which nobody writes by hand: large ones may cancel each other.
Coefficient: TypeAlias = Annotated[float, _Number, Field(ge=-1e25, le=1e25)]
Length: TypeAlias = Annotated[float, _Number, Field(gt=0, le=1000), _from(1e-6)]
LengthOrZero: TypeAlias = Annotated[float, _Number, Field(ge=0, le=1000)]
#: How far atoms of a crystal are displaced, Å: by more than about a bond, they are anywhere.
Displacement: TypeAlias = Annotated[float, _Number, Field(ge=0, le=3)]
Coordinate: TypeAlias = Annotated[float, _Number, Field(ge=-1000, le=1000)]
Volume: TypeAlias = Annotated[float, _Number, Field(gt=0, le=10_000), _from(0.1)]
Fraction: TypeAlias = Annotated[float, _Number, Field(ge=0, le=1)]
Pressure: TypeAlias = Annotated[float, _Number, Field(ge=-1e5, le=1e5)]
Seconds: TypeAlias = Annotated[float, _Number, Field(gt=0, le=1e8), _from(1e-3)]
SecondsOrZero: TypeAlias = Annotated[float, _Number, Field(ge=0, le=1e8)]


def _text(pattern: str, longest: int, expected: str) -> Any:
    _EXPECTED[pattern] = expected
    return StringConstraints(pattern=pattern, max_length=longest)


#: What a text should have been, by the pattern that it does not match.
_EXPECTED: dict[str, str] = {}

#: A name that becomes part of the names of frames, files and links: campaigns and kinds of seeds.
Name: TypeAlias = Annotated[
    str,
    _text(r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", 100, "a name of letters, digits and _ . + -, a letter or digit first"),
]
#: Words that become part of a line of a scheduler or a shell, such as the names of accounts and queues.
Word: TypeAlias = Annotated[
    str, _text(r"^[A-Za-z0-9_][A-Za-z0-9_.@:+,/-]*$", 200, "a word of letters, digits and _ . @ : + , / -")
]
Variable: TypeAlias = Annotated[str, _text(r"^[A-Za-z_][A-Za-z0-9_]*$", 200, "the name of a variable: letters, digits and _")]
#: Text of one line; a label of a code or another node; lines of a script; the path of a program.
Line: TypeAlias = Annotated[str, _text(r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$", 1000, "one line without control characters")]
Label: TypeAlias = Annotated[str, _text(r"^[^\x00-\x1f\x7f-\x9f]+$", 255, "a label, without control characters")]
Script: TypeAlias = Annotated[str, _text(r"^[^\x00-\x08\x0b-\x1f\x7f]*$", 20_000, "lines without control characters")]
AbsolutePath: TypeAlias = Annotated[str, _text(r"^/[^\x00-\x1f\x7f]*$", 1000, "an absolute path (/…) without control characters")]
#: A path of which a shell replaces ``~`` and variables, and nothing else: it holds no character that acts there.
ShellPath: TypeAlias = Annotated[
    str,
    _text(
        r"^(~/|~$)?([A-Za-z0-9_.+@:/-]|\$[A-Za-z_][A-Za-z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\})*$",
        1000,
        "a path of letters, digits and _ . + @ : / -, with ~ in front or variables ($HOME) if wanted",
    ),
    Field(min_length=1),
]


#: How pydantic names a branch of a union in the location of a fault.
_BRANCH = re.compile(r"(function-(before|after|wrap)|constrained-(int|float|str)|dict|list|tuple|literal|nullable)(\[|$)")


class Model(BaseModel):
    """A model that refuses keys it does not know, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def complaints(error: ValidationError) -> list[Fault]:
    """Return every fault; the message names value and what was expected."""
    out: list[Fault] = []
    for fault in error.errors():
        location = tuple(part for part in fault["loc"] if part != "tagged-union")
        location = tuple(part for part in location if not (str(part).startswith(TAG) or _BRANCH.match(str(part))))
        if fault["type"] == "extra_forbidden":
            message = "unknown key"
        elif fault["type"] == "missing":
            message = "missing"
        elif fault["type"] in ("union_tag_not_found", NO_MAPPING) and isinstance(fault["input"], str | int | float | list):
            message = f"expected keys and values (got {fault['input']!r})"
        elif fault["type"] == "union_tag_invalid" and str(fault["ctx"]["tag"]).startswith(TAG):
            known = fault["ctx"]["expected_tags"].replace(TAG, "")
            message = f"kind is {fault['ctx']['tag'].removeprefix(TAG)!r}, expected one of {known}"
        else:
            own = fault.get("ctx", {}).get("error")  # raised by our own checks
            if isinstance(own, FaultError):
                out += [one.under(*location) for one in own.faults]
                continue
            value, message = fault.get("input"), fault["msg"] if own is None else str(own)
            if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] in _EXPECTED:
                message = f"expected {_EXPECTED[fault['ctx']['pattern']]}"
            told = fault["type"] == "value_error" and _names(message, value)  # as our own checks do
            if not (isinstance(value, dict | list | BaseModel) or told):
                message += f" (got {shown(repr(value), 100)})"
        out.append(Fault(location, message))
    return list(dict.fromkeys(out))


def in_words(error: ValidationError, between: str = "; ", prefix: str = "") -> str:
    """Return all faults of a model, each with its place.

    :param prefix: what the model is part of, as ``search.``.
    """
    told = ((f"{prefix}{fault.where}", fault.message) for fault in complaints(error))
    return between.join(f"{where}: {message}" if where else message for where, message in told)


def _names(message: str, value: Any) -> bool:
    return re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", message) is not None


def model_validator_for(model: Callable[..., BaseModel]) -> Callable[[Any, Any], str | None]:
    """Return a port validator that checks a Dict node against a model, or what makes one."""

    def validate(node: Any, _: Any) -> str | None:
        if node is None:
            return None
        try:
            model(**node.get_dict())
        except ValidationError as error:
            return in_words(error)
        return None

    return validate
