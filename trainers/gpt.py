"""GPT-2 with structured linear layers: the model of a language-model trial (P1 section 4, App. D.1).

Pre-LayerNorm blocks, learned positions, GELU, a feed-forward network four times as wide, no biases, no dropout, LayerNorm on
queries and keys, and an untied dense head. Attention logits are scaled by 8 / d_head and each branch by sqrt(3 / depth), as
muP asks; the head and the last factor of each branch start at zero, so the first prediction is uniform.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.errors import ConfigError
from space.structure import Structure
from trainers.gpt_config import GPTConfig
from trainers.layers import EinsumLinear

BASE_DEPTH = 3
"""Depth at which a branch has multiplier 1."""

EMBEDDING_STD = 0.02


def _linear(config: GPTConfig, kind: str) -> EinsumLinear:
    """The layer of a block. Queries and keys have no gain: the LayerNorm after them has one."""
    structure = Structure.parse(config.structure)
    norm = config.weight_norm and not structure.is_dense
    return EinsumLinear(*config.layer_widths[kind], structure, weight_norm=norm, gain=kind not in ("query", "key"))


class Attention(nn.Module):
    """Causal self-attention with LayerNorm on queries and keys."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.d_head = config.heads, config.d_head
        self.query = _linear(config, "query")
        self.key = _linear(config, "key")
        self.value = _linear(config, "value")
        self.out = _linear(config, "out")
        self.query_norm = nn.LayerNorm(config.d_head, bias=False)
        self.key_norm = nn.LayerNorm(config.d_head, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, d) -> (B, T, d)
        """Attend over the tokens so far."""
        q = self.query_norm(self._split(self.query(x)))
        k = self.key_norm(self._split(self.key(x)))
        v = self._split(self.value(x))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=8 / self.d_head)
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:  # (B, T, d) -> (B, T, heads, d_head)
        return x.view(*x.shape[:-1], self.heads, self.d_head)


class FeedForward(nn.Module):
    """Up, GELU, down."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = _linear(config, "up")
        self.down = _linear(config, "down")

    def forward(self, x: Tensor) -> Tensor:  # (B, T, d) -> (B, T, d)
        """Applied to each token alone."""
        return self.down(F.gelu(self.up(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and feed-forward branches on a residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.scale = math.sqrt(BASE_DEPTH / config.depth)
        self.attention_norm = nn.LayerNorm(config.width, bias=False)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width, bias=False)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, d) -> (B, T, d)
        """Add both branches, each times sqrt(3 / depth)."""
        x = torch.add(x, self.attention(self.attention_norm(x)), alpha=self.scale)
        return torch.add(x, self.feed_forward(self.feed_forward_norm(x)), alpha=self.scale)


class GPT(nn.Module):
    """The language model. Its parameters are drawn from torch's global generator, or from the one given."""

    def __init__(self, config: GPTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.head = EinsumLinear(config.width, config.vocab_size, "dense")
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Embeddings from N(0, 0.02**2), layers as muP asks; zero for the head and the last factor of each branch."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, EMBEDDING_STD, generator=generator)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for name, module in self.named_modules():
            if isinstance(module, EinsumLinear):
                module.reset_parameters(generator, zero=name.endswith((".out", ".down", "head")))

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T) int64 -> (B, T, vocab_size)
        """Logits of the next token at each position.

        Raises:
            ConfigError: where T exceeds `config.context`.
        """
        length = tokens.shape[1]
        if length > self.config.context:
            raise ConfigError(f"tokens: {length} per sequence; the model's context is {self.config.context}")
        places = torch.arange(length, device=tokens.device)
        x = self.embedding(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # type: ignore[no-any-return]

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:  # (B, T), (B, T) int64 -> ()
        """Mean cross-entropy in nats per token, reduced in float32."""
        return F.cross_entropy(self(tokens).flatten(0, 1).float(), targets.flatten())
