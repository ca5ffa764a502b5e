"""Triton: batches of matrix products whose operands lie anywhere. Imported only where Triton is installed.

Checked in Triton's interpreter; these kernels have not run on a GPU yet, and their tiles are not tuned.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def grouped(  # type: ignore[no-untyped-def]  # noqa: ANN201
    a,  # noqa: ANN001
    b,  # noqa: ANN001
    c,  # noqa: ANN001
    rows,  # noqa: ANN001
    columns,  # noqa: ANN001
    terms,  # noqa: ANN001
    inner,  # noqa: ANN001
    splits,  # noqa: ANN001
    a_outer,  # noqa: ANN001
    a_inner,  # noqa: ANN001
    a_row,  # noqa: ANN001
    a_term,  # noqa: ANN001
    b_outer,  # noqa: ANN001
    b_inner,  # noqa: ANN001
    b_term,  # noqa: ANN001
    b_column,  # noqa: ANN001
    c_split,  # noqa: ANN001
    c_outer,  # noqa: ANN001
    c_inner,  # noqa: ANN001
    c_row,  # noqa: ANN001
    c_column,  # noqa: ANN001
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TERMS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """c[split, batch] = a[batch] @ b[batch] over one share of the terms; a batch is (outer, inner), each with its strides.

    One program makes one tile of (ROWS, COLUMNS), in float32.
    """
    tiles_down = tl.cdiv(rows, ROWS)
    tiles = tiles_down * tl.cdiv(columns, COLUMNS)
    program = tl.program_id(0)
    tile = program % tiles
    split = (program // tiles) % splits
    batch = program // (tiles * splits)
    outer = (batch // inner).to(tl.int64)
    within = (batch % inner).to(tl.int64)
    row = (tile % tiles_down).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (tile // tiles_down).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    share = tl.cdiv(tl.cdiv(terms, splits), TERMS) * TERMS
    start = split.to(tl.int64) * share
    left = a + outer * a_outer + within * a_inner + row[:, None] * a_row
    right = b + outer * b_outer + within * b_inner + column[None, :] * b_column
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for step in range(0, share, TERMS):
        term = start + step + tl.arange(0, TERMS)
        p = tl.load(left + term[None, :] * a_term, mask=(row[:, None] < rows) & (term[None, :] < terms), other=0.0)
        q = tl.load(right + term[:, None] * b_term, mask=(term[:, None] < terms) & (column[None, :] < columns), other=0.0)
        total = tl.dot(p, q, total, input_precision=PRECISION)
    out = c + split.to(tl.int64) * c_split + outer * c_outer + within * c_inner
    out += row[:, None] * c_row + column[None, :] * c_column
    tl.store(out, total.to(c.dtype.element_ty), mask=(row[:, None] < rows) & (column[None, :] < columns))
