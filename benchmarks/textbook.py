"""A two-factor layer as a textbook writes it, for comparison: two batched products with permutes between, or two einsums.

Each holds its weights in the layout that suits it, contracts in the cheaper order, and leaves the gradient to torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from space.realization import Realization


class TwoBmm(nn.Module):
    """x -> permute -> bmm -> permute -> bmm -> permute."""

    def __init__(self, realization: Realization, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        alpha, beta, gamma, delta, epsilon, phi, rho = realization.sizes.values()
        self.a_first = realization.order == "A"
        self.sizes = gamma, phi, rho
        self.x = (alpha, beta) if self.a_first else (beta, alpha)
        self.y = (delta, epsilon) if self.a_first else (epsilon, delta)
        options = {"dtype": dtype, "device": device}
        first = torch.randn(gamma, self.x[0], rho * phi * self.y[0], **options)
        second = torch.randn(phi, gamma * self.x[1] * rho, self.y[1], **options)
        self.first, self.second = nn.Parameter(first / first.shape[1] ** 0.5), nn.Parameter(second / second.shape[1] ** 0.5)

    def forward(self, x: Tensor) -> Tensor:  # (T, d_in) -> (T, d_out)
        (x1, x2), (y1, y2), (gamma, phi, rho), tokens = self.x, self.y, self.sizes, len(x)
        x = x.view(tokens, gamma, x2, x1) if self.a_first else x.view(tokens, gamma, x1, x2).transpose(2, 3)
        z = torch.bmm(x.transpose(0, 1).reshape(gamma, tokens * x2, x1), self.first)
        z = z.view(gamma, tokens, x2, rho, phi, y1).permute(4, 1, 5, 0, 2, 3)
        y = torch.bmm(z.reshape(phi, tokens * y1, gamma * x2 * rho), self.second)
        y = y.view(phi, tokens, y1, y2).transpose(0, 1)
        return (y if self.a_first else y.transpose(2, 3)).reshape(tokens, phi * y1 * y2)


class TwoEinsum(nn.Module):
    """The definition, one factor after the other."""

    def __init__(self, realization: Realization, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        alpha, beta, gamma, delta, epsilon, phi, rho = realization.sizes.values()
        self.a_first = realization.order == "A"
        self.sizes = gamma, beta, alpha
        options = {"dtype": dtype, "device": device}
        a_in, b_in = (alpha, beta * gamma * rho) if self.a_first else (alpha * gamma * rho, beta)
        self.a = nn.Parameter(torch.randn(alpha, gamma, delta, phi, rho, **options) / a_in**0.5)
        self.b = nn.Parameter(torch.randn(beta, gamma, epsilon, phi, rho, **options) / b_in**0.5)

    def forward(self, x: Tensor) -> Tensor:  # (T, d_in) -> (T, d_out)
        x = x.view(-1, *self.sizes)
        if self.a_first:
            y = torch.einsum("tgbdfr,bgefr->tfde", torch.einsum("tgba,agdfr->tgbdfr", x, self.a), self.b)
        else:
            y = torch.einsum("tgaefr,agdfr->tfde", torch.einsum("tgba,bgefr->tgaefr", x, self.b), self.a)
        return y.reshape(len(x), -1)
