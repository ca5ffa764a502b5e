"""The factors of a layer, and what each multiplies."""

from __future__ import annotations

from space.realization import Realization
from trainers.chain import chain_products
from trainers.products import Edges, FactorName, Product


def products(realization: Realization) -> tuple[Product, ...]:
    """The products of a layer in the order in which they are executed: one for dense, else one per factor.

    >>> from space.structure import Structure
    >>> [(p.factor, p.fan_in, p.fan_out) for p in products(Structure.parse("kronecker").realize(256, 256))]
    [('a', 16, 16), ('b', 16, 16)]
    """
    if realization.is_dense:
        d_in, d_out = realization.d_in, realization.d_out
        return (Product("a", d_in, d_out, (d_out, d_in)),)
    if realization.factors > 2:
        return chain_products(realization)
    e = Edges.of(realization)
    names: tuple[FactorName, FactorName] = ("a", "b") if realization.order == "A" else ("b", "a")
    return (
        Product(names[0], e.x1, e.rows1, e.shapes[0]),
        Product(names[1], e.inner, e.y2, e.shapes[1]),
    )
