"""Where the parts of a structure's diagram are drawn: nodes, the joints of hyperedges, labels.

X stands on the left, Y on the right, the factors between them; three and more zigzag down the middle, so that no line from X
or Y to a factor, nor between two factors, runs through a third. An edge of two nodes is a line, one of more a joint with a
line to each of its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

RADIUS = 24
MARGIN = 26
_APART = 40
"""Joints, and labels, are so far from each other at least, where that is possible."""
_ALONG = (0.5, 0.42, 0.58, 0.34, 0.66, 0.28, 0.72, 0.24, 0.76)

Place = tuple[float, float]


class Places(NamedTuple):
    """A drawing of `width` by `height`: places of the nodes, of the joints and of the labels of edges."""

    width: int
    height: int
    nodes: Mapping[str, Place]
    joints: Mapping[str, Place]
    labels: Mapping[str, Place]


TWO = Places(
    420,
    220,
    {"X": (46, 110), "A": (210, 38), "B": (210, 182), "Y": (374, 110)},
    {"XAB": (146, 110), "YAB": (274, 110)},
    {
        "XA": (118, 81),
        "XB": (118, 139),
        "XAB": (146, 110),
        "YA": (302, 81),
        "YB": (302, 139),
        "YAB": (274, 110),
        "AB": (210, 110),
    },
)
ONE = Places(420, 220, {"X": (46, 110), "A": (210, 110), "Y": (374, 110)}, {}, {"XA": (128, 110), "YA": (292, 110)})


def places(nodes: tuple[str, ...], edges: Iterable[str]) -> Places:
    """Places of these nodes, X and Y at the ends, and of these edges, each named by its nodes."""
    if len(nodes) <= len(TWO.nodes):
        return ONE if len(nodes) == len(ONE.nodes) else TWO
    at = _nodes(nodes)
    width, height = 560, int(max(y for _, y in at.values())) + 44
    taken = list(at.values())
    joints: dict[str, Place] = {}
    labels: dict[str, Place] = {}
    for edge in sorted(edges, key=len):
        ends = [at[node] for node in edge]
        if len(ends) == 2:
            labels[edge] = _free([_between(ends[0], ends[1], share) for share in _ALONG], taken)
        else:
            around = list(_around(_centre(ends), width, height))
            clear = [place for place in around if _clear(place, ends, at.values())]
            joints[edge] = labels[edge] = _free(clear or around, taken)
        taken.append(labels[edge])
    return Places(width, height, at, joints, labels)


def _nodes(nodes: tuple[str, ...]) -> dict[str, Place]:
    factors = nodes[1:-1]
    at = {factor: (280.0 + (48 if place % 2 else -48), 44.0 + 104 * place) for place, factor in enumerate(factors)}
    middle = (at[factors[0]][1] + at[factors[-1]][1]) / 2
    return {nodes[0]: (46.0, middle)} | at | {nodes[-1]: (514.0, middle)}


def _between(start: Place, end: Place, share: float) -> Place:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _centre(ends: list[Place]) -> Place:
    return sum(x for x, _ in ends) / len(ends), sum(y for _, y in ends) / len(ends)


def _around(centre: Place, width: int, height: int) -> Iterable[Place]:
    """Places near a centre, the nearest first, inside the drawing."""
    for distance in range(0, 200, 10):
        for turn in range(16 if distance else 1):
            angle = math.tau * turn / 16
            x, y = centre[0] + distance * math.cos(angle), centre[1] + distance * math.sin(angle)
            if MARGIN <= x <= width - MARGIN and MARGIN <= y <= height - MARGIN:
                yield x, y


def _clear(joint: Place, ends: list[Place], nodes: Iterable[Place]) -> bool:
    """Whether no line from a joint to one of its ends runs through another node."""
    return all(_distance(node, joint, end) > RADIUS + 4 for end in ends for node in nodes if node != end)


def _distance(point: Place, start: Place, end: Place) -> float:
    """From a point to the line between two others."""
    (px, py), (ax, ay), (bx, by) = point, start, end
    square = (bx - ax) ** 2 + (by - ay) ** 2
    share = min(max(((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / square, 0.0), 1.0) if square else 0.0
    return math.dist(point, (ax + share * (bx - ax), ay + share * (by - ay)))


def _free(wanted: list[Place], taken: list[Place]) -> Place:
    """The first that is apart from all that are taken, or that which is furthest from them."""
    room = [min(math.dist(place, other) for other in taken) for place in wanted]
    return next((place for place, far in zip(wanted, room, strict=True) if far >= _APART), wanted[room.index(max(room))])
