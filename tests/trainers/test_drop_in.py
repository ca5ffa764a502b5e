"""Replacing the linear layers of models that know nothing of structures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from space.errors import ConfigError, StructureError
from space.structure import Structure
from trainers.drop_in import ReplacedLayer, structure_linears
from trainers.layers import EinsumLinear


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(36, 64), nn.GELU(), nn.Linear(64, 64, bias=False))
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def test_layers_are_replaced_in_place_and_reported() -> None:
    model = Classifier()
    report = structure_linears(model, "monarch", skip=["head"])
    assert isinstance(model.body[0], EinsumLinear)
    assert isinstance(model.body[2], EinsumLinear)
    assert type(model.head) is nn.Linear
    monarch = Structure.parse("monarch")
    assert report.layers == (
        ReplacedLayer("body.0", monarch, 36, 64, 36 * 64, 36 * 8 + 64 * 6, 36 * 64 + 64, 36 * 8 + 64 * 6 + 64),
        ReplacedLayer("body.2", monarch, 64, 64, 64 * 64, 2 * 64 * 8, 64 * 64, 2 * 64 * 8),
    )
    assert model(torch.randn(5, 36)).shape == (5, 10)


def test_report_is_a_readable_table() -> None:
    report = structure_linears(Classifier(), "monarch", skip=["head"])
    assert str(report) == (
        "layer     structure    d_in   d_out                      MACs                parameters\n"
        "body.0    monarch        36      64              2,304 -> 672              2,368 -> 736\n"
        "body.2    monarch        64      64            4,096 -> 1,024            4,096 -> 1,024\n"
        "2 layers                                       6,400 -> 1,696            6,464 -> 1,760"
    )


def test_device_dtype_bias_and_mode_are_kept() -> None:
    model = nn.Sequential(nn.Linear(16, 16, dtype=torch.float64), nn.Linear(16, 16, bias=False, device="meta")).eval()
    structure_linears(model, "monarch")
    assert (model[0].a.dtype, model[0].bias.dtype) == (torch.float64, torch.float64)
    assert (model[1].a.device.type, model[1].bias) == ("meta", None)
    assert not model[0].training


def test_skip_takes_patterns() -> None:
    model = nn.ModuleDict({name: nn.Linear(16, 16) for name in ("gate_1", "gate_2", "value")})
    report = structure_linears(model, "kronecker", skip=["gate_*"])
    assert [layer.name for layer in report.layers] == ["value"]


def test_a_table_from_weights_has_the_errors() -> None:
    model = Classifier()
    weight = model.body[2].weight.detach()
    report = structure_linears(model, "monarch", skip=["head", "body.0"], from_weights=True)
    (layer,) = report.layers
    error = float((model.body[2].dense_weight() - weight).detach().norm() / weight.norm())
    assert layer.relative_error == pytest.approx(error) and 0.1 < error < 1
    head, row, total = str(report).splitlines()
    assert head.endswith("parameters    error") and row.endswith(f"{error:.2%}") and len(row) == len(head)
    assert total.startswith("1 layer ")


def test_structures_by_pattern() -> None:
    """The first pattern that matches decides; what none matches stays."""
    model = Classifier()
    report = structure_linears(model, {"body.2": "kronecker", "body.*": Structure.parse("monarch")})
    assert [(x.name, str(x.structure)) for x in report.layers] == [("body.0", "monarch"), ("body.2", "kronecker")]
    assert type(model.head) is nn.Linear
    model = Classifier()
    report = structure_linears(model, {"*": "monarch"}, skip=["head"])
    assert [x.name for x in report.layers] == ["body.0", "body.2"]


@pytest.mark.parametrize("weight_norm", [False, True])
def test_from_weights_starts_where_the_model_is(weight_norm: bool) -> None:
    """Dense is a structure of which every model is a member."""
    torch.manual_seed(0)
    model, x = Classifier().double(), torch.randn(7, 36, dtype=torch.float64)
    expected = model(x)
    state = torch.get_rng_state()
    structure_linears(model, "dense", weight_norm=weight_norm, from_weights=True)
    torch.testing.assert_close(model(x), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_from_weights_keeps_frozen_layers_frozen() -> None:
    model = Classifier()
    model.body[0].requires_grad_(False)
    structure_linears(model, "monarch", weight_norm=True, from_weights=True)
    assert not any(p.requires_grad for p in model.body[0].parameters())
    assert all(p.requires_grad for p in model.head.parameters())


class Adapted(nn.Linear):
    """As adapters and quantised layers are: a linear layer that does more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x.mean()


def test_subclasses_and_computed_weights_are_left_alone() -> None:
    model = nn.Sequential(Adapted(16, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16))
    nn.utils.parametrizations.spectral_norm(model[1])
    prune.identity(model[2], "weight")
    kept = list(model[:3])
    assert [layer.name for layer in structure_linears(model, "monarch").layers] == ["3"]
    assert all(now is before for now, before in zip(model, kept, strict=False))


def test_rates_default_to_those_of_the_dense_model() -> None:
    model = Classifier()
    replaced = structure_linears(model, {"body.*": "monarch"}, weight_norm=True)
    (fast,) = [g for g in replaced.parameter_groups(0.1) if any(p is model.body[2].a for p in g["params"])]
    assert fast["multiplier"] == 64 / (2 * 8) and fast["lr"] == pytest.approx(0.4)
    rest = [g for g in replaced.parameter_groups(0.1) if any(p is model.head.weight for p in g["params"])]
    assert [g["multiplier"] for g in rest] == [1.0]


def test_rates_for_a_base_width() -> None:
    """Two layers read 64 features and one 36: the width is 64."""
    model = Classifier()
    replaced = structure_linears(model, "monarch")
    assert [x.d_in for x in replaced.layers] == [36, 64, 64]
    groups = replaced.parameter_groups(1.0, base_width=16)
    (group,) = [g for g in groups if any(p is model.body[2].b for p in g["params"])]
    assert group["multiplier"] == 16 / (2 * 8)
    assert groups == replaced.parameter_groups(1.0, base_width=32, width=128)


def test_dense_replaces_like_for_like() -> None:
    report = structure_linears(Classifier(), "dense")
    assert all(layer.macs_before == layer.macs_after for layer in report.layers)
    assert all(layer.params_before == layer.params_after for layer in report.layers)


def test_a_layer_with_two_names_stays_one_layer() -> None:
    shared = nn.Linear(16, 16)
    model = nn.Sequential(shared, nn.GELU(), shared)
    report = structure_linears(model, "monarch")
    assert model[0] is model[2]
    assert [layer.name for layer in report.layers] == ["0"]


@pytest.mark.parametrize("training", [True, False])
def test_the_transformer_of_torch_runs_in_both_modes(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    names = [x.name for x in structure_linears(model, "generic").layers]
    assert names == ["layers.0.linear1", "layers.0.linear2", "layers.1.linear1", "layers.1.linear2"]
    x = torch.randn(2, 6, 32)
    expected = model.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(model.train(training)(x), expected, rtol=1e-4, atol=1e-5)


def test_a_structured_model_learns() -> None:
    torch.manual_seed(0)
    model = Classifier()
    structure_linears(model, "btt:1/4", skip=["head"], weight_norm=True)
    x, labels = torch.randn(64, 36), torch.randint(0, 10, (64,))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_a_weight_tied_to_an_embedding_is_refused_and_nothing_is_replaced() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(16, 32), "body": nn.Linear(32, 32), "lm_head": nn.Linear(32, 16)})
    model["lm_head"].weight = model["embedding"].weight
    with pytest.raises(StructureError, match="layer 'lm_head': its weight is shared with 'embedding'"):
        structure_linears(model, "monarch")
    assert type(model["body"]) is nn.Linear
    assert [layer.name for layer in structure_linears(model, "monarch", skip=["lm_head"]).layers] == ["body"]


def test_layers_that_share_a_parameter_are_refused() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    model[1].bias = model[0].bias
    with pytest.raises(StructureError, match="layer '1': its bias is shared with '0'"):
        structure_linears(model, "monarch")


def test_a_layer_with_hooks_is_refused() -> None:
    model = Classifier()
    model.head.register_forward_hook(lambda *_: None)
    with pytest.raises(StructureError, match="layer 'head': it has hooks, which its replacement would lose"):
        structure_linears(model, "monarch")
    assert type(model.body[0]) is nn.Linear
    assert len(structure_linears(model, "monarch", skip=["head"]).layers) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_have_no_projection_name_their_layer(value: float) -> None:
    model = Classifier()
    model.head.weight.data[0, 0] = value
    with pytest.raises(StructureError, match="layer 'head': weight: some of its values are infinite or NaN"):
        structure_linears(model, "monarch", from_weights=True)
    assert type(model.body[0]) is nn.Linear


def test_a_layer_that_cannot_take_the_structure_is_named_and_nothing_is_replaced() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 0))
    with pytest.raises(StructureError, match=r"layer '1': .*monarch: d_out is 0"):
        structure_linears(model, "monarch")
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize(
    ("model", "skip", "message"),
    [
        (Classifier(), ["heads"], "'heads' matches no linear layer; there are body.0, body.2, head"),
        (Classifier(), ["*"], "Classifier has no linear layer left to replace; 3 are skipped"),
        (nn.GELU(), [], "GELU has no linear layer left to replace; 0 are skipped"),
        (nn.Linear(4, 4), [], "it is itself a Linear, which cannot be replaced in place; use EinsumLinear or project"),
    ],
    ids=["pattern", "all skipped", "none", "root"],
)
def test_a_request_that_changes_nothing_is_refused(model: nn.Module, skip: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        structure_linears(model, "monarch", skip)


def test_a_pattern_of_structures_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="structure: 'heads' matches no linear layer; there are "):
        structure_linears(Classifier(), {"body.*": "monarch", "heads": "dense"})
