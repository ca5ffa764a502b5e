"""Learning rates of a layer's factors, as the maximal update parameterisation sets them (P1 §6 and App. C; P2 §3).

    eta     base learning rate, tuned on a dense layer of fan-in d_0
    k       number of factors
    in_i    fan-in of factor i: the indices that its product sums, in the order of the cheapest sequence
    eta_i   eta d_0 / (k in_i), for Adam

They follow from the settings and the sizes of a layer; trials record the base rate alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from space.realization import Realization
from space.structure import Structure

CAPTION = (
    "How fast each factor of a square layer learns, for a layer of fan-in d₀ at the base width: η·d₀ / (k·in) for Adam, where "
    "in is the fan-in of the factor and k the number of factors. Computed from the settings, not measured."
)


class LayerRates(NamedTuple):
    """A square layer of a structure: fan-in and learning rate of each factor."""

    key: str
    name: str
    width: int
    factors: tuple[tuple[str, int, float], ...]


def fan_ins(at: Realization) -> dict[str, int]:
    """Fan-in of each factor, in the order in which they are multiplied.

    >>> fan_ins(Structure.parse("low_rank:1/2").realize(256, 256))
    {'A': 256, 'B': 16}
    """
    found: dict[str, int] = {}
    before = {"X"}
    for factor in at.sequence:
        summed = [
            size for edge, size in at.sizes.items() if factor in edge and before & set(edge) and set(edge) <= before | {factor}
        ]
        found[factor] = math.prod(summed)
        before.add(factor)
    return found


def layer_rates(structure: Structure, width: int, lr: float, base_width: int) -> LayerRates:
    """Rates of a width x width layer at base rate `lr`; raises StructureError where it cannot be realised."""
    known = fan_ins(structure.realize(width, width))
    rates = tuple((factor, size, lr * base_width / (len(known) * size)) for factor, size in known.items())
    return LayerRates(structure.key, structure.name, width, rates)
