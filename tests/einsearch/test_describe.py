from __future__ import annotations

import csv
import json
import math
from typing import Any

import pytest
import torch

from space.catalogue import STANDARD
from trainers.layers import EinsumLinear

KEYS = ["XA", "XB", "XAB", "YA", "YB", "YAB", "AB"]


def macs_of(s: dict[str, int], dense: bool) -> int:
    """Multiply-adds of the two contractions, in the cheaper order: the product over the indices that each one loops over."""
    if dense:
        return s["XA"] * s["YA"]
    x, shared = s["XA"] * s["XB"] * s["XAB"], s["YAB"] * s["AB"]
    a_first = x * s["YA"] * shared + s["XB"] * s["XAB"] * s["YA"] * s["YB"] * shared
    b_first = x * s["YB"] * shared + s["XA"] * s["XAB"] * s["YA"] * s["YB"] * shared
    return min(a_first, b_first)


@pytest.mark.parametrize("name", ["dense", *STANDARD, "low_rank:1/2", "(3/8|1/8|1/2|1/8|3/8|1/2|1/8)"])
def test_json_is_what_the_layer_is(einsearch: Any, name: str) -> None:
    told = json.loads(einsearch("describe", name, "--d-in", "16", "--d-out", "64", "--format", "json").out)
    layer = EinsumLinear(16, 64, name, dtype=torch.float64)
    assert told["params"] == sum(p.numel() for p in layer.parameters())
    assert told["rank"] == int(torch.linalg.matrix_rank(layer.dense_weight()))
    assert list(told["sizes"]) == KEYS and len(told["theta"]) == 7
    sizes = told["sizes"]
    assert math.prod(sizes[k] for k in KEYS[:3]) == told["padded_in"] >= 16
    assert math.prod(sizes[k] for k in KEYS[3:6]) == told["padded_out"] >= 64
    assert told["macs"] == macs_of(sizes, told["factors"] == 1)
    assert {"name", "omega", "psi", "nu"} <= told.keys()


def test_monarch_in_numbers(einsearch: Any) -> None:
    """32 blocks of 32 by 64, then 64 blocks of 32 by 64."""
    told = json.loads(einsearch("describe", "monarch", "--d-in", "1024", "--d-out", "4096", "--format", "json").out)
    assert told["theta"] == [0.5, 0, 0.5, 0, 0.5, 0.5, 0] and told["name"] == "monarch"
    assert (told["omega"], told["psi"], told["nu"]) == (0, 1, 0.5)
    assert told["macs"] == told["params"] == 1024 * 64 + 32 * 4096 and told["rank"] == 1024
    assert (told["d_in"], told["d_out"]) == (1024, 4096)


def test_csv_and_text_tell_the_same(einsearch: Any) -> None:
    (row,) = csv.DictReader(einsearch("describe", "btt:1/4", "--format", "csv").out.splitlines())
    told = json.loads(einsearch("describe", "btt:1/4", "--format", "json").out)
    assert [float(row[f"theta_{k}"]) for k in KEYS] == told["theta"]
    assert {k: int(row[f"sizes_{k}"]) for k in KEYS} == told["sizes"] and int(row["macs"]) == told["macs"]
    text = einsearch("describe", "btt:1/4").out
    assert f"{told['macs']:,} per token" in text and f"{told['rank']:,} of 1,024" in text and "omega 0, psi 1, nu 3/4" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["mnarch"], "did you mean 'monarch'?"),
        (["(nan|0|1/2|0|1/2|1/2|0)"], "alpha is 'nan'"),
        (["(1/2|0|1/2|0|1/2|1/2)"], "6 entries given; theta has 7"),
        (["(1/2|0|1/2|0|1/2|1/2|0|0)"], "8 entries given"),
        (["(0.9|0|0.9|0|0.5|0.5|0)"], "(0.9|0|0.9|0|0.5|0.5|0)"),
        (["(1/0|0|1/2|0|1/2|1/2|0)"], "alpha is '1/0'"),
        (["low_rank"], "needs the exponent of its rank"),
        ([""], "is not a structure"),
        (["monarch", "--d-in", "0"], "0"),
        (["monarch", "--d-out", "-4"], "-4"),
    ],
)
def test_what_is_no_structure(einsearch: Any, given: list[str], message: str) -> None:
    ended = einsearch("describe", *given)
    assert ended.code == 2 and ended.out == ""
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1 and message in ended.err
