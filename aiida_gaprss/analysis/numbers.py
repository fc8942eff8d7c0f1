"""Numbers and names as a reader wants them."""

from __future__ import annotations

import numpy as np


def duration(seconds: float | None) -> str:
    """Return a time as a reader wants it: ``4.2 s``, ``3 min 05 s``, ``2 h 14 min``."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def number(value: float | int | None, digits: int | None = None) -> str:
    """Return a number with so many decimals (default: as it is), with a true minus sign; ``–`` for None."""
    if value is None:
        return "–"
    if digits is None:
        return str(value).replace("-", "−")
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def significant(value: float | None) -> str:
    """Return an error with three significant digits and no exponent."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, 2 - int(np.floor(np.log10(abs(value))))) if np.isfinite(value) else 0
    return number(value, min(decimals, 6))


def subscripts(formula: str) -> str:
    """Return a formula with its numbers as subscripts: ``Cu3Au`` becomes ``Cu₃Au``."""
    return formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def space_group(symbol: str) -> str:
    """Return a Hermann–Mauguin symbol with its screw axes as subscripts: ``P6_3/mmc`` becomes ``P6₃/mmc``."""
    for digit, subscript in zip("123456", "₁₂₃₄₅₆", strict=True):
        symbol = symbol.replace(f"_{digit}", subscript)
    return symbol
