"""Frames as aligned text for a terminal of a given width."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dashboards.numbers import MISSING, decimal_text, flops_text, interval_text, seconds_text

if TYPE_CHECKING:
    from pandas import DataFrame

GAP = "  "
INDENT = "    "
LONGEST = 44
"""Longest text that a cell shows; the longest structure key at denominators below 10 fits."""


def _when(seconds: float) -> str:
    if not math.isfinite(seconds):
        return MISSING
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _digits(digits: int) -> Callable[[float], str]:
    return lambda value: decimal_text(value, digits)


_FORMATS: Mapping[str, Callable[[float], str]] = {
    "flops": flops_text,
    "seconds": seconds_text,
    "created": _when,
    "finished": _when,
    "loss": _digits(4),
    "train_loss": _digits(4),
    "multiplier": _digits(2),
    "value": _digits(3),
}


def cell(column: str, value: Any) -> str:
    """One value as text, rounded as its column asks; a dash where there is none."""
    if value is None or value != value:
        return MISSING
    if isinstance(value, (str, datetime)):
        text = str(value)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if isinstance(value, bool):
        return "yes" if value else "no"
    kind = column if column in _FORMATS else column.rsplit("_", 1)[-1]
    if kind in _FORMATS:
        return _FORMATS[kind](float(value))
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _column(frame: DataFrame, column: str) -> list[str]:
    """The cells of a column, joined with its interval where the frame has `COLUMN_low` and `COLUMN_high`."""
    values = _values(frame, column)
    if f"{column}_low" not in frame:
        return [cell(column, value) for value in values]
    ends = zip(*(frame[name].astype("float64") for name in (column, *_ends(column))), strict=True)
    return [interval_text(value, low, high, 3 if column == "loss" else 2) for value, low, high in ends]


def _values(frame: DataFrame, column: str) -> list[Any]:
    """Python values, None where missing (a nullable column has a missing value that compares to nothing)."""
    return frame[column].astype(object).where(frame[column].notna(), None).tolist()


def _ends(column: str) -> tuple[str, str]:
    return f"{column}_low", f"{column}_high"


def _shown(frame: DataFrame) -> list[str]:
    """All columns but those folded into another one, and the seven exponents that the key repeats."""
    folded = {end for name in frame.columns for end in _ends(name)}
    return [c for c in frame.columns if c not in folded and not c.startswith("theta_") and c != "key"]


def _fitting(widths: Sequence[int], width: int) -> int:
    """How many columns, from the left, fit: always at least one."""
    used = [sum(widths[:count]) + len(GAP) * (count - 1) for count in range(1, len(widths) + 1)]
    return max(sum(size <= width for size in used), 1)


def aligned(columns: Mapping[str, Sequence[str]], right: set[str], width: int | None = None, below: str | None = None) -> str:
    """Columns of text under their names, those in `right` to the right; see `table` for `width` and `below`."""
    limit = width if width is not None else shutil.get_terminal_size((100, 24)).columns
    names = list(columns)
    widths = [max(len(text) for text in (name, *columns[name])) for name in names]
    if below is not None and _fitting(widths, limit) < len(names):
        return _with_notes(columns, right, limit, below)
    kept = _fitting(widths, limit)
    rows = [names, ["─" * size for size in widths], *zip(*columns.values(), strict=True)]
    lines = [GAP.join(_padded(row[:kept], names, widths, right)).rstrip() for row in rows]
    if kept < len(names):
        lines += _wrapped(f"(not shown at this width: {', '.join(names[kept:])})", "", limit)
    return "\n".join(lines)


def _with_notes(columns: Mapping[str, Sequence[str]], right: set[str], width: int, below: str) -> str:
    """The columns but one, whose texts stand under the rows; what all of them say stands once, at the end."""
    notes = [text.split(", ") for text in columns[below]]
    common = [part for part in notes[0] if len(notes) > 1 and all(part in note for note in notes)]
    lines = aligned({name: texts for name, texts in columns.items() if name != below}, right, width).splitlines()
    for place, note in reversed(list(enumerate(notes))):
        own = ", ".join(part for part in note if part not in common)
        lines[3 + place : 3 + place] = _wrapped(own, INDENT, width) if own else []
    return "\n".join([*lines, *(_wrapped(f"{below} of all: {', '.join(common)}", "", width) if common else [])])


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), initial_indent=indent, subsequent_indent=indent)


def _padded(row: Sequence[str], names: Sequence[str], widths: Sequence[int], right: set[str]) -> list[str]:
    sizes = zip(row, names, widths, strict=False)
    return [text.rjust(size) if name in right else text.ljust(size) for text, name, size in sizes]


def table(frame: DataFrame, columns: Sequence[str] | None = None, *, width: int | None = None, below: str | None = None) -> str:
    """A frame as aligned text: numbers to the right, intervals as `1.32 [1.10, 1.55]`, FLOPs as `3.2e11`.

    Columns are kept from the left as far as `width` characters reach (default: the terminal's); the last line
    names those left out.  `below` names a column of words, in parts with commas between them, that is written out in
    full and stands under the rows where it does not fit beside them.  Raises KeyError for a column that the frame does
    not have.
    """
    names = list(columns) if columns is not None else _shown(frame)
    if frame.empty:
        return "(nothing yet)"
    right = {name for name in names if frame[name].dtype.kind in "iuf"}
    texts = {name: _column(frame, name) for name in names}
    if below is not None:
        texts[below] = [str(text) for text in frame[below]]
    return aligned(texts, right, width, below)
