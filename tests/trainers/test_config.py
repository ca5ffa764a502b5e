from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.catalogue import FIXED, PAPER
from space.errors import ConfigError, StructureError
from trainers.config import PRECISIONS, TrialConfig

MINIMAL: dict[str, Any] = {"structure": "monarch", "width": 64, "budget_flops": 1e11}

positive = st.floats(1e-12, 1e24)
configs = st.builds(
    lambda heads, d_head, **fields: TrialConfig(width=heads * d_head, d_head=d_head, **fields),
    heads=st.integers(1, 64),
    d_head=st.integers(1, 128),
    structure=st.sampled_from(sorted({*FIXED, *PAPER, "low_rank:1/2", "(0|1/2|1/2|1/2|0|1/2|1/4)"})),
    budget_flops=positive,
    depth=st.integers(1, 96),
    context=st.integers(1, 1 << 20),
    batch_size=st.integers(1, 1 << 20),
    lr=positive,
    base_width=st.integers(1, 4096),
    warmup_steps=st.integers(0, 1 << 30),
    weight_norm=st.booleans(),
    clip=positive,
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    evaluations=st.integers(1, 1000),
    eval_windows=st.integers(1, 1 << 20),
    seed=st.integers(0, 1 << 63),
    precision=st.sampled_from(PRECISIONS),
    corpus=st.text(min_size=1),
    corpus_fingerprint=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
)


@given(configs)
def test_json_gives_the_same_configuration_back(config: TrialConfig) -> None:
    assert TrialConfig.from_json(config.to_json()) == config
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_absent_settings_take_their_defaults() -> None:
    assert TrialConfig.from_dict(MINIMAL) == TrialConfig(**MINIMAL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0), ("width", -64), ("width", 64.0), ("width", True), ("width", "64"),
        ("budget_flops", 0), ("budget_flops", -1e9), ("budget_flops", math.nan), ("budget_flops", math.inf),
        ("depth", 0), ("d_head", 0), ("context", 0), ("batch_size", 0), ("evaluations", 0), ("eval_windows", 0),
        ("lr", 0.0), ("lr", math.nan), ("lr", "fast"), ("clip", 0), ("clip", math.inf), ("warmup_steps", -1),
        ("seed", -1), ("seed", 0.5), ("weight_norm", 1), ("betas", (0.9,)), ("betas", (0.9, 1.0)),
        ("betas", (math.nan, 0.9)), ("precision", "fp64"), ("corpus", ""), ("corpus_fingerprint", 7), ("structure", None),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_was_given(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field) as caught:
        TrialConfig(**(MINIMAL | {field: value}))
    assert repr(value) in str(caught.value)
    assert "give" in str(caught.value)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="multiple of d_head = 48"):
        TrialConfig(**MINIMAL, d_head=48)


def test_an_unknown_structure_is_quoted() -> None:
    with pytest.raises(StructureError, match="monrach"):
        TrialConfig(**(MINIMAL | {"structure": "monrach"}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (MINIMAL | {"batchsize": 3}, "'batchsize'.*'batch_size'"),
        (MINIMAL | {"zzz": 3}, "'zzz'.*known are structure"),
        ({"structure": "dense", "width": 64}, "'budget_flops'"),
    ],
)
def test_unknown_and_missing_keys_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_dict(row)


@pytest.mark.parametrize("text", ["", "[1]", "{", '"dense"'])
def test_text_that_is_no_json_object_is_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match="JSON"):
        TrialConfig.from_json(text)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrialConfig(**MINIMAL).width = 32  # type: ignore[misc]
