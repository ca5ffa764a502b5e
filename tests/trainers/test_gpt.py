"""The model: its shape, what it starts from, that it is causal, and that it learns."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from space.errors import ConfigError
from trainers.gpt import GPT
from trainers.gpt_config import GPTConfig
from trainers.layers import EinsumLinear
from trainers.mup import parameter_groups

STRUCTURES = ["dense", "monarch", "btt:1/4", "low_rank:1/2", "kronecker", "generic:1/4"]


def small(structure: str = "monarch", **changes: object) -> GPTConfig:
    return replace(GPTConfig(structure=structure, width=48, depth=2, d_head=16, context=24), **changes)


def trained(config: GPTConfig) -> GPT:
    """A model none of whose parameters is zero."""
    model = GPT(config, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(0, 96, (3, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_first_loss_is_that_of_a_uniform_guess(structure: str, tokens: Tensor) -> None:
    model = GPT(small(structure))
    assert model(tokens).shape == (3, 24, 96)
    assert model.loss(tokens, tokens).item() == pytest.approx(math.log(96), rel=1e-6)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_token_does_not_see_later_ones(structure: str, tokens: Tensor) -> None:
    model = trained(small(structure)).double()
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 96
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :10], after[:, :10], rtol=0, atol=1e-12)
    assert (before[:, 10:] - after[:, 10:]).abs().amax(-1).min() > 1e-9


def test_positions_matter_and_shorter_sequences_are_prefixes(tokens: Tensor) -> None:
    model = trained(small()).double()
    torch.testing.assert_close(model(tokens[:, :7]), model(tokens)[:, :7])
    constant = model(torch.zeros(1, 24, dtype=torch.int64))
    assert (constant[0, 0] - constant[0, 1]).abs().max() > 1e-6


def reference(model: GPT, tokens: Tensor) -> Tensor:
    """GPT-2 with the changes of theory, spelled out with explicit matrices and a masked softmax."""
    d_head, length = model.config.d_head, tokens.shape[1]
    scale = math.sqrt(3 / model.config.depth)
    mask = torch.full((length, length), -math.inf, dtype=torch.float64).triu(1)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return weight * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    x = model.embedding.weight[tokens] + model.positions.weight[:length]
    for block in model.blocks:
        attention, ffn = block.attention, block.feed_forward
        h = norm(x, block.attention_norm.weight)
        heads = []
        for head in range(model.config.width // d_head):
            part = slice(head * d_head, (head + 1) * d_head)
            q, k, v = (h @ layer.dense_weight().T[:, part] for layer in (attention.query, attention.key, attention.value))
            q, k = norm(q, attention.query_norm.weight), norm(k, attention.key_norm.weight)
            heads.append((q @ k.transpose(1, 2) * 8 / d_head + mask).softmax(-1) @ v)
        x = x + scale * torch.cat(heads, -1) @ attention.out.dense_weight().T
        h = norm(x, block.feed_forward_norm.weight)
        x = x + scale * F.gelu(h @ ffn.up.dense_weight().T) @ ffn.down.dense_weight().T
    return norm(x, model.norm.weight) @ model.head.dense_weight().T


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_logits_equal_the_equations(structure: str, depth: int, tokens: Tensor) -> None:
    model = trained(small(structure, depth=depth)).double()
    torch.testing.assert_close(model(tokens), reference(model, tokens))


@pytest.mark.parametrize("structure", ["dense", "monarch"])
def test_initial_values(structure: str) -> None:
    model = GPT(GPTConfig(structure=structure, width=256, depth=2, d_head=64))
    for embedding in (model.embedding, model.positions):
        assert embedding.weight.std().item() == pytest.approx(0.02, rel=0.02)
    zero = {name for name, p in model.named_parameters() if not p.any()}
    last = "a" if structure == "dense" else "b"
    branches = {f"blocks.{i}.{layer}.{last}" for i in (0, 1) for layer in ("attention.out", "feed_forward.down")}
    assert zero == branches | {"head.a"}
    for name, layer in model.named_modules():
        if isinstance(layer, EinsumLinear):
            for product in layer.products:
                if f"{name}.{product.factor}" not in zero:
                    assert layer.get_parameter(product.factor).std().item() == pytest.approx(product.std, rel=0.1)


def test_every_parameter_is_reached_by_a_gradient(tokens: Tensor) -> None:
    model = trained(small())
    model.loss(tokens, tokens.roll(-1, 1)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_gains_are_where_weights_are_normalised_but_not_on_queries_and_keys() -> None:
    def gained(config: GPTConfig) -> set[str]:
        names = [name for name, _ in GPT(config).named_parameters() if "gain" in name]
        return {name.split(".")[-2] for name in names}

    assert gained(small(weight_norm=True)) == {"value", "out", "up", "down"}
    assert gained(small(weight_norm=False)) == set()
    assert gained(small("dense", weight_norm=True)) == set()


def test_dense_parameters_are_twelve_squares_per_block() -> None:
    d, depth, d_head = 48, 2, 16
    parameters = sum(p.numel() for p in GPT(small("dense")).parameters())
    assert parameters == depth * (12 * d * d + 2 * d + 2 * d_head) + (96 + 24) * d + d + 96 * d


@pytest.mark.parametrize("structure", ["dense", "monarch", "generic:1/4"])
def test_a_batch_is_memorised(structure: str) -> None:
    model = GPT(small(structure), torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 96, (2, 25), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, base_width=48), betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(120):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_initialisation_is_reproducible_from_a_generator() -> None:
    one, same, other = (GPT(small(), torch.Generator().manual_seed(seed)).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])


def test_copies_and_round_trips_compute_the_same(tokens: Tensor) -> None:
    model = trained(small())
    fresh = GPT(small())
    fresh.load_state_dict(model.state_dict())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
        assert torch.equal(other(tokens), model(tokens))


def test_bfloat16_autocast_reduces_the_loss_in_float32(tokens: Tensor) -> None:
    model = trained(small())
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(tokens, tokens)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model.loss(tokens, tokens).item(), rel=0.02)


def test_the_config_keeps_the_structure_under_its_one_name() -> None:
    assert small("monarch") == small("(0.5|0|0.5|0|0.5|0.5|0)")
    assert small("monarch").structure == "(1/2|0|1/2|0|1/2|1/2|0)"
    assert small("dense").structure == "dense"
    with pytest.raises(FrozenInstanceError):
        small().width = 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"width": 50}, "width is 50; it must be a multiple of d_head, which is 16"),
        ({"width": 48.0}, "width is 48.0"),
        ({"depth": -1}, "depth is -1"),
        ({"depth": True}, "depth is True"),
        ({"d_head": "16"}, "d_head is '16'"),
        ({"context": 0}, "context is 0"),
        ({"vocab_size": None}, "vocab_size is None"),
        ({"structure": "monark"}, "structure: 'monark' is not a structure; did you mean 'monarch'"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_a_sequence_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="25 per sequence; the model's context is 24"):
        GPT(small())(torch.zeros(1, 25, dtype=torch.int64))
