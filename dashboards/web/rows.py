"""The rows of a table of trials as HTML. A page of it has 1 400 cells: here they take a millisecond, in a template ten.

The names of structures are the only text that others have written, and are escaped. All other cells are numbers, or words
from our own lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from dashboards.numbers import MISSING, decimal_text, scientific, seconds_text
from dashboards.web.snapshot import Snapshot, Structures
from dashboards.web.views import quoted, when
from storage.schema import TRIAL_KINDS, TRIAL_STATES

_NUMBERS = ("number", "rung", "width", "loss", "value", "flops", "seconds", "finished")
_NO_STRUCTURE = '<td class="name"><span class="soft">not proposed yet</span></td>', f'<td class="num">{MISSING}</td>' * 3


def trial_rows(study: int, snapshot: Snapshot, rows: Sequence[int]) -> Markup:
    """Some rows of the snapshot, under the heads of `trial_heads` in parts.html."""
    at, base = np.asarray(rows, dtype=np.int64), f"/studies/{study}"
    columns = (snapshot.numbers[name][at].tolist() for name in _NUMBERS)
    codes = (codes[at].tolist() for codes in (snapshot.structure, snapshot.kind, snapshot.state))
    return Markup("".join(_row(base, snapshot.structures, *cells) for cells in zip(*codes, *columns, strict=True)))


def _row(
    base: str,
    structures: Structures,
    structure: int,
    kind: int,
    state: int,
    number: float,
    rung: float,
    width: float,
    loss: float,
    value: float,
    flops: float,
    seconds: float,
    finished: float,
) -> str:
    name, place = _structure(base, structures, structure) if structure >= 0 else _NO_STRUCTURE
    ended = when(finished) if math.isfinite(finished) else MISSING
    return (
        f'<tr><td class="num"><a href="{base}/trials/{number:.0f}">{number:.0f}</a></td>{name}'
        f'<td>{TRIAL_KINDS[kind]}</td><td><span class="state {TRIAL_STATES[state]}">{TRIAL_STATES[state]}</span></td>'
        f'<td class="num">{decimal_text(rung, 0)}</td><td class="num">{decimal_text(width, 0)}</td>'
        f'<td class="num">{decimal_text(loss, 4)}</td><td class="num">{decimal_text(math.exp(value), 2)}</td>'
        f'<td class="num">{scientific(flops)}</td><td class="num">{seconds_text(seconds)}</td>{place}'
        f'<td title="{ended} UTC">{ended[5:16] or ended}</td></tr>\n'
    )


def _structure(base: str, structures: Structures, row: int) -> tuple[str, str]:
    """The cell with the name of a structure, and those with its omega, psi and nu."""
    key, name = structures.keys[row], structures.names[row]
    place = "".join(f'<td class="num">{decimal_text(value, 2)}</td>' for value in structures.place[row].tolist())
    return f'<td class="name"><a href="{base}/structure?key={quoted(key)}">{escape(name)}</a></td>', place
