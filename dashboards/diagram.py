"""The diagram of a structure at a width: nodes X, A, B, Y and the hyperedges between them, as inline SVG
(P1 Fig. 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

from dashboards.numbers import count_text
from space.edges import EDGES

if TYPE_CHECKING:
    from space.structure import Structure

GREEK = dict(zip(EDGES, "αβγδεφρ", strict=True))
LATIN = dict(zip(EDGES, "abcdefr", strict=True))
CAPTION = (
    "A circle is the input X, the output Y or a factor; a line joins what shares an index, thicker for a "
    "larger size (written with its letter); indices of size 1 are left out."
)
NODES = {"X": (46, 110), "A": (210, 38), "B": (210, 182), "Y": (374, 110)}
JOINTS = {"XAB": (146, 110), "YAB": (274, 110)}
LABELS = JOINTS | {"XA": (118, 81), "XB": (118, 139), "YA": (302, 81), "YB": (302, 139), "AB": (210, 110)}
RADIUS = 24


class DiagramData(NamedTuple):
    """A structure realised at (d_in, d_out): nodes, sizes of edges above 1, the einsum, its cost."""

    name: str
    nodes: tuple[str, ...]
    sizes: dict[str, int]
    einsum: str
    d_in: int
    d_out: int
    params: int
    macs: int


def diagram_data(structure: Structure, d_in: int, d_out: int) -> DiagramData:
    """Realise a structure at a width.  Raises StructureError where it cannot be."""
    at = structure.realize(d_in, d_out)
    sizes = {edge: at.sizes[edge] for edge in EDGES if at.sizes[edge] > 1}
    nodes = ("X", "A", "Y") if at.is_dense else ("X", "A", "B", "Y")
    return DiagramData(structure.name, nodes, sizes, einsum(sizes, nodes), d_in, d_out, at.params, at.macs)


def einsum(sizes: dict[str, int], nodes: tuple[str, ...]) -> str:
    """The einsum of the edges of size above 1, for torch or numpy, operands X and the factors in order.

    >>> einsum({"XA": 16, "XAB": 16, "YB": 16, "YAB": 16}, ("X", "A", "B", "Y"))
    '...ac,acf,cef->...ef'
    """
    terms = ["".join(LATIN[edge] for edge in EDGES if node in edge and edge in sizes) for node in nodes]
    return f"...{','.join(terms[:-1])}->...{terms[-1]}"


def diagram_svg(data: DiagramData) -> Markup:
    """A drawing in the colours of the page: `currentColor`, `--accent` and `--card` where it sets them."""
    strokes = [_stroke(edge, size, len(data.nodes)) for edge, size in data.sizes.items()]
    labels = [_label(edge, size, len(data.nodes)) for edge, size in data.sizes.items()]
    circles = [_node(node, len(data.nodes)) for node in data.nodes]
    title = f"Diagram of {data.name} from {data.d_in} to {data.d_out}"
    head = f'<svg class="diagram" viewBox="0 0 420 220" role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(strokes + labels + circles) + "</svg>")


def diagram_facts(data: DiagramData) -> str:
    """Parameters and multiply-accumulates against a dense layer of the same shape."""
    dense = data.d_in * data.d_out
    parts = f"{count_text(data.params, 'parameter')} ({data.params / dense:.1%} of dense)"
    return f"{parts}, {count_text(data.macs, 'MAC')} per vector ({data.macs / dense:.1%} of dense)"


def _at(node: str, nodes: int) -> tuple[int, int]:
    """Where a node is drawn: the only factor of a dense layer sits in the middle."""
    return (210, 110) if nodes == 3 and node == "A" else NODES[node]


def _stroke(edge: str, size: int, nodes: int) -> str:
    """One hyperedge: a line, or three that meet at a joint; width grows with the logarithm of its size."""
    width = 1.2 + 0.55 * math.log2(size)
    style = f'stroke="var(--accent, currentColor)" stroke-opacity="0.55" stroke-width="{width:.1f}"'
    ends = [_at(node, nodes) for node in edge]
    if edge not in JOINTS:
        return _line(ends[0], ends[1], style)
    return "".join(_line(JOINTS[edge], end, style) for end in ends)


def _line(start: tuple[int, int], end: tuple[int, int], style: str) -> str:
    return f'<line x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}" {style} stroke-linecap="round"/>'


def _label(edge: str, size: int, nodes: int) -> str:
    x, y = LABELS[edge] if nodes == 4 else (128 if edge == "XA" else 292, 110)
    halo = 'paint-order="stroke" stroke="var(--card, #fff)" stroke-width="5"'
    return (
        f'<text x="{x}" y="{y}" {halo} fill="currentColor" font-size="14" text-anchor="middle" '
        f'dominant-baseline="central">{GREEK[edge]}<tspan font-size="12" dx="2">{size}</tspan></text>'
    )


def _node(node: str, nodes: int) -> str:
    x, y = _at(node, nodes)
    factor = node in "AB"
    fill = "var(--accent, #0072b2)" if factor else "var(--card, #fff)"
    ink = "var(--card, #fff)" if factor else "currentColor"
    shape = f'<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="{fill}" stroke="currentColor" stroke-width="1.5"/>'
    text = f'<text x="{x}" y="{y}" fill="{ink}" font-size="17" font-weight="600" text-anchor="middle" '
    return f'{shape}{text}dominant-baseline="central">{node}</text>'
