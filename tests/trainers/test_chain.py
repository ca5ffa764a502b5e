"""Layers of many factors by batched products, against torch.einsum on the definition, in float64."""

from __future__ import annotations

import copy
import string
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from space.edges import FACTORS, edge_names
from space.errors import StructureError
from space.realization import Realization
from space.structure import Structure
from trainers.chain import Chain, chain_contract, chain_materialise, chain_products
from trainers.factors import products
from trainers.products import Edges, materialise

NAMES = [
    "kronecker3",
    "monarch3",
    "tensor_train3:1/6",
    "tensor_train3:rank=3",
    "block_tensor_train3:1/6",
    "block_tensor_train3:rank=2",
    "kronecker4",
    "monarch4",
    "tensor_train4:1/8",
    "block_tensor_train5:rank=2",
]
WIDTHS = [(64, 64), (24, 96), (90, 30), (53, 47)]


def random_structure(rng: np.random.Generator, factors: int) -> Structure:
    names = edge_names(factors)
    while True:
        counts = np.zeros(len(names), dtype=int)
        for node in "XY":
            side = [i for i, edge in enumerate(names) if edge[0] == node]
            counts[rng.choice(side, size=4, replace=False)] += rng.multinomial(12, [0.25] * 4)
        inner = [i for i, edge in enumerate(names) if edge[0] not in "XY"]
        counts[inner] = rng.integers(0, 4, size=len(inner)) * (rng.random(len(inner)) < 0.4)
        try:
            found = Structure.from_theta([c / 12 for c in counts])
        except StructureError:
            continue
        if found.factors == factors:
            return found


@cache
def cases() -> tuple[Realization, ...]:
    rng = np.random.default_rng(11)
    drawn = [random_structure(rng, 3) for _ in range(40)] + [random_structure(rng, 4) for _ in range(10)]
    named = [Structure.parse(name) for name in NAMES]
    return tuple(s.realize(*WIDTHS[i % 4]) for i, s in enumerate(drawn)) + tuple(s.realize(*w) for s in named for w in WIDTHS)


def truth(x: Tensor, factors: dict[str, Tensor], real: Realization) -> Tensor:
    """The einsum of the definition; `factors` have one dimension for each edge of size above 1, in the order of theta."""
    names = [e for e in edge_names(real.factors) if real.sizes[e] > 1]
    letter = dict(zip(names, string.ascii_letters, strict=False))
    inputs = [e for e in reversed(names) if e[0] == "X"]
    outputs = sorted((e for e in names if e[0] == "Y"), key=lambda e: -len(e))
    terms = ["".join(letter[e] for e in inputs) + "Z"]
    terms += ["".join(letter[e] for e in names if f in e) for f in factors]
    equation = f"{','.join(terms)}->{''.join(letter[e] for e in outputs)}Z"
    sized = x.view(*(real.sizes[e] for e in inputs), x.shape[1])
    return torch.einsum(equation, sized, *factors.values()).reshape(real.padded_out, x.shape[1])


def by_edges(stored: list[Tensor], real: Realization) -> dict[str, Tensor]:
    """Factors as the products hold them, with one dimension for each edge of size above 1: the module's table of roles."""
    names, before, found = [e for e in edge_names(real.factors) if real.sizes[e] > 1], {"X"}, {}
    for letter, tensor in zip(real.sequence, stored, strict=True):
        after = {"Y", *FACTORS[: real.factors]} - before - {letter}
        own = [e for e in names if letter in e]
        held = [e for e in own if before & set(e)]
        batch, summed = [e for e in held if after & set(e)], [e for e in held if not after & set(e)]
        stored_order = [*batch, *(e for e in own if e not in held), *summed]
        sized = tensor.reshape([real.sizes[e] for e in stored_order])
        found[letter] = sized.permute([stored_order.index(e) for e in own])
        before.add(letter)
    return found


def draw(real: Realization, tokens: int = 5) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(real.padded_in, tokens), *(p.shape for p in chain_products(real))]
    x, *factors = (torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes)
    return x, factors


def test_products_and_gradients_are_those_of_the_einsum() -> None:
    for real in cases():
        x, factors = draw(real)
        y = chain_contract(x, factors, Chain.of(real))
        expected = truth(x, by_edges(factors, real), real)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10, msg=str(real))
        weights = torch.randn_like(y)
        ours = torch.autograd.grad(y, (x, *factors), weights)
        theirs = torch.autograd.grad(expected, (x, *factors), weights)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_matrix_is_that_of_the_products() -> None:
    for real in cases():
        x, factors = draw(real)
        w = chain_materialise(factors, Chain.of(real))
        assert w.shape == (real.padded_out, real.padded_in)
        torch.testing.assert_close(w @ x, chain_contract(x, factors, Chain.of(real)), rtol=1e-10, atol=1e-10, msg=str(real))
        rank = int(torch.linalg.matrix_rank(w[: real.d_out, : real.d_in]))
        assert rank <= real.rank


def test_products_count_what_the_realization_counts() -> None:
    for real in cases():
        parts = chain_products(real)
        assert [p.factor.upper() for p in parts] == list(real.sequence)
        assert sum(np.prod(p.shape) for p in parts) == real.params
        assert all(p.shape[1:] == (p.fan_out, p.fan_in) for p in parts)


def test_no_output_is_dead_and_no_input_unread() -> None:
    for real in cases():
        w = chain_materialise(draw(real)[1], Chain.of(real))[: real.d_out, : real.d_in]
        assert bool((w != 0).any(0).all()) and bool((w != 0).any(1).all())


@pytest.mark.parametrize("text", ["monarch", "kronecker", "btt:1/4", "tensor_train:1/4", "generic:1/4", "monarch:blocks=4"])
@pytest.mark.parametrize("widths", [(24, 96), (96, 24), (53, 47)])
def test_two_factors_are_laid_out_as_the_products_of_two(text: str, widths: tuple[int, int]) -> None:
    """The same fan-ins, and the same order of features: with the same weights the same matrix as `trainers.products`."""
    real = Structure.parse(text).realize(*widths)
    ours, theirs = chain_products(real), products(real)
    assert [(p.factor, p.fan_in, p.fan_out) for p in ours] == [(p.factor, p.fan_in, p.fan_out) for p in theirs]
    first, second = (torch.randn(p.shape, dtype=torch.float64) for p in theirs)
    whole = materialise(first, second, Edges.of(real))
    s, a, b = real.sizes, *(("XA", "YA"), ("XB", "YB"))[:: 1 if real.order == "A" else -1]
    assert first.shape == (s["XAB"], s["AB"], s["YAB"], s[a[1]], s[a[0]])
    chained = [first.permute(0, 3, 2, 1, 4), second.permute(0, 1, 3, 2, 4)]
    chained = [t.reshape(p.shape) for t, p in zip(chained, ours, strict=True)]
    assert second.shape == (s["YAB"], s[b[1]], s["XAB"], s[b[0]], s["AB"])
    torch.testing.assert_close(chain_materialise(chained, Chain.of(real)), whole, rtol=1e-10, atol=1e-10)


def test_variance_is_kept_at_initialisation() -> None:
    """With the std of each product, an input of variance 1 leaves a square layer with variance of order 1."""
    generator = torch.Generator().manual_seed(0)
    for text in ("monarch3", "kronecker3", "block_tensor_train3:1/6"):
        real = Structure.parse(text).realize(512, 512)
        factors = [torch.randn(p.shape, generator=generator) * p.std for p in chain_products(real)]
        y = chain_contract(torch.randn(512, 256, generator=generator), factors, Chain.of(real))
        assert 0.3 < float(y.std()) < 1.5, text


def test_under_autocast_and_copied() -> None:
    real = Structure.parse("tensor_train3:1/6").realize(64, 96)
    x, factors = (torch.randn(64, 7), [torch.randn(p.shape) for p in chain_products(copy.deepcopy(real))])
    exact = chain_contract(x, factors, Chain.of(real))
    with torch.autocast("cpu", torch.bfloat16):
        rough = chain_contract(x, factors, Chain.of(real))
    assert rough.dtype == torch.bfloat16
    assert float((rough - exact).norm() / exact.norm()) < 0.03
