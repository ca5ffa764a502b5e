"""The two batched products: both orders against the definition, and the famous special cases."""

from __future__ import annotations

import torch

from trainers.layers import EinsumLinear
from trainers.products import Edges, materialise, rows


def test_both_orders_compute_one_function() -> None:
    torch.manual_seed(0)
    alpha, beta, gamma, delta, epsilon, phi, rho = 2, 3, 4, 5, 6, 7, 8
    a = torch.randn(alpha, gamma, delta, phi, rho, dtype=torch.float64)
    b = torch.randn(beta, gamma, epsilon, phi, rho, dtype=torch.float64)
    x = torch.randn(9, gamma * beta * alpha, dtype=torch.float64)
    a_first = Edges(alpha, beta, gamma, delta, epsilon, phi, rho, a_first=True)
    b_first = Edges(beta, alpha, gamma, epsilon, delta, phi, rho, a_first=False)
    factors_a = a.permute(1, 4, 3, 2, 0), b.permute(3, 2, 1, 0, 4)
    factors_b = b.permute(1, 4, 3, 2, 0), a.permute(3, 2, 1, 0, 4)
    expected = torch.einsum("bgefr,agdfr,tgba->tfde", b, a, x.view(9, gamma, beta, alpha)).reshape(9, -1)
    for factors, edges in ((factors_a, a_first), (factors_b, b_first)):
        torch.testing.assert_close(rows(x, *factors, edges), expected)
        torch.testing.assert_close(x @ materialise(*factors, edges).T, expected)


def test_a_monarch_layer_is_blocks_a_shuffle_and_blocks() -> None:
    layer = EinsumLinear(16, 16, "monarch", dtype=torch.float64)
    right = torch.block_diag(*layer.a.view(4, 4, 4))  # gamma: (phi, alpha)
    left = torch.block_diag(*layer.b.view(4, 4, 4))  # phi: (epsilon, gamma)
    shuffle = torch.eye(16, dtype=torch.float64).view(4, 4, 16).transpose(0, 1).reshape(16, 16)
    torch.testing.assert_close(layer.dense_weight(), left @ shuffle @ right)


def test_a_low_rank_layer_is_a_product_of_two_matrices() -> None:
    layer = EinsumLinear(16, 25, "low_rank:1/2", dtype=torch.float64)
    torch.testing.assert_close(layer.dense_weight(), layer.b.view(25, 4) @ layer.a.view(4, 16))
    assert torch.linalg.matrix_rank(layer.dense_weight()) == 4


def test_a_kronecker_layer_is_a_kronecker_product() -> None:
    layer = EinsumLinear(16, 16, "kronecker", dtype=torch.float64)
    swap = torch.eye(16, dtype=torch.float64).view(4, 4, 16).transpose(0, 1).reshape(16, 16)
    torch.testing.assert_close(layer.dense_weight(), swap @ torch.kron(layer.b.view(4, 4), layer.a.view(4, 4)))
