"""The diagram of a structure at a width: nodes X, A, B, ..., Y and the hyperedges between them, as inline SVG
(P1 Fig. 1).
"""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

from dashboards.numbers import count_text
from dashboards.places import RADIUS, Place, places
from space.edges import EDGES, FACTORS, edge_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from space.structure import Structure

GREEK = dict(zip(EDGES, "αβγδεφρ", strict=True))
LATIN = dict(zip(EDGES, "abcdefr", strict=True))
CAPTION = (
    "A circle is the input X, the output Y or a factor; a line joins what shares an index, thicker for a "
    "larger size (written with its letter); indices of size 1 are left out."
)


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
    sizes = {edge: size for edge, size in at.sizes.items() if size > 1}
    nodes = ("X", *FACTORS[: at.factors], "Y")
    return DiagramData(structure.name, nodes, sizes, einsum(sizes, nodes), d_in, d_out, at.params, at.macs)


def einsum(sizes: dict[str, int], nodes: tuple[str, ...]) -> str:
    """The einsum of the edges of size above 1, for torch or numpy, operands X and the factors in order.

    >>> einsum({"XA": 16, "XAB": 16, "YB": 16, "YAB": 16}, ("X", "A", "B", "Y"))
    '...ac,acf,cef->...ef'
    """
    letter = letters(tuple(sizes), nodes)
    terms = ["".join(letter[edge] for edge in letter if node in edge) for node in nodes]
    return f"...{','.join(terms[:-1])}->...{terms[-1]}"


def letters(edges: tuple[str, ...], nodes: tuple[str, ...]) -> dict[str, str]:
    """The letter of each edge in an einsum; those of two factors are always the same."""
    known = LATIN if len(nodes) <= 4 else dict(zip(edges, string.ascii_letters, strict=False))
    return {edge: known[edge] for edge in edge_names(len(nodes) - 2) if edge in edges}


def diagram_svg(data: DiagramData) -> Markup:
    """A drawing in the colours of the page: `currentColor`, `--accent` and `--card` where it sets them."""
    at = places(data.nodes, data.sizes)
    letter = GREEK if len(data.nodes) <= 4 else letters(tuple(data.sizes), data.nodes)
    strokes = [_stroke(edge, size, at.nodes, at.joints) for edge, size in data.sizes.items()]
    labels = [_label(letter[edge], size, at.labels[edge]) for edge, size in data.sizes.items()]
    circles = [_node(node, place) for node, place in at.nodes.items()]
    title = f"Diagram of {data.name} from {data.d_in} to {data.d_out}"
    head = f'<svg class="diagram" viewBox="0 0 {at.width} {at.height}" role="img" aria-label="{escape(title)}">'
    return Markup(head + "".join(strokes + labels + circles) + "</svg>")


def diagram_facts(data: DiagramData) -> str:
    """Parameters and multiply-accumulates against a dense layer of the same shape."""
    dense = data.d_in * data.d_out
    parts = f"{count_text(data.params, 'parameter')} ({data.params / dense:.1%} of dense)"
    return f"{parts}, {count_text(data.macs, 'MAC')} per vector ({data.macs / dense:.1%} of dense)"


def _stroke(edge: str, size: int, nodes: Mapping[str, Place], joints: Mapping[str, Place]) -> str:
    """One hyperedge: a line, or several that meet at a joint; width grows with the logarithm of its size."""
    width = 1.2 + 0.55 * math.log2(size)
    style = f'stroke="var(--accent, currentColor)" stroke-opacity="0.55" stroke-width="{width:.1f}"'
    ends = [nodes[node] for node in edge]
    if edge not in joints:
        return _line(ends[0], ends[1], style)
    return "".join(_line(joints[edge], end, style) for end in ends)


def _line(start: Place, end: Place, style: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" {style} stroke-linecap="round"/>'


def _label(letter: str, size: int, place: Place) -> str:
    x, y = place
    halo = 'paint-order="stroke" stroke="var(--card, #fff)" stroke-width="5"'
    return (
        f'<text x="{x:g}" y="{y:g}" {halo} fill="currentColor" font-size="14" text-anchor="middle" '
        f'dominant-baseline="central">{letter}<tspan font-size="12" dx="2">{size}</tspan></text>'
    )


def _node(node: str, place: Place) -> str:
    x, y = place
    factor = node not in "XY"
    fill = "var(--accent, #0072b2)" if factor else "var(--card, #fff)"
    ink = "var(--card, #fff)" if factor else "currentColor"
    shape = f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="{fill}" stroke="currentColor" stroke-width="1.5"/>'
    text = f'<text x="{x:g}" y="{y:g}" fill="{ink}" font-size="17" font-weight="600" text-anchor="middle" '
    return f'{shape}{text}dominant-baseline="central">{node}</text>'
