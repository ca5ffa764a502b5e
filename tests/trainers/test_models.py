"""Real models of others, built from configuration: replaced, trained, converted, saved; and the guide that shows how."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from space.errors import StructureError
from trainers.drop_in import structure_linears
from trainers.layers import EinsumLinear
from trainers.model_table import describe_model

ROOT = Path(__file__).parents[2]


def gpt2(**changes: Any) -> Any:
    """A GPT-2 of Hugging Face, whose layers are `Conv1D` and whose head is tied to its embedding."""
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 61, "n_positions": 32, "n_embd": 48, "n_layer": 2, "n_head": 3}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**(sizes | {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0} | changes))
    )


def vit() -> Any:
    """A vision transformer of timm."""
    import timm

    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, **sizes)


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> Any:
    """The Python half of torchvision, which timm imports, and transformers where it finds it.

    Its compiled half loads only beside the build of torch that it was made with. Without it two operators have to be declared
    before the rest can be imported; nothing here calls them.
    """
    declared = None
    try:
        import torchvision
    except RuntimeError:
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision, declared


TOKENS = torch.arange(40).view(2, 20) % 61
IMAGES = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
MODELS = {"gpt2": (gpt2, TOKENS, ["lm_head"], 8), "vit": (vit, IMAGES, ["head"], 8)}


def outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    result: Any = model(x)
    return result if isinstance(result, torch.Tensor) else result.logits


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest) -> tuple[Any, torch.Tensor, list[str], int]:
    return MODELS[request.param]


def test_every_layer_of_the_blocks_is_replaced_and_the_model_learns(case: Any) -> None:
    build, x, skip, count = case
    model = build()
    before = describe_model(model)
    replaced = structure_linears(model, "monarch", skip, weight_norm=True)
    after = describe_model(model)
    assert len(replaced.layers) == count == sum(isinstance(m, EinsumLinear) for m in model.modules())
    saved = {"macs": 0, "params": 0}
    for layer in replaced.layers:
        saved["macs"] += layer.macs_before - layer.macs_after
        saved["params"] += layer.params_before - layer.params_after
    assert before.flops - after.flops == 2 * saved["macs"] > 0
    assert before.params - after.params == saved["params"] > 0
    optimizer = torch.optim.AdamW(replaced.parameter_groups(1e-3, base_width=24, weight_decay=0.1))
    target = outputs(build(), x).detach()
    losses = []
    for _ in range(8):
        loss = nn.functional.mse_loss(outputs(model, x), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters() if p.requires_grad)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("structure", ["dense", "generic:1/4"])
def test_a_model_of_members_of_the_family_is_converted_without_loss(case: Any, structure: str) -> None:
    """Its dense layers take the matrices of structured ones; projecting them gives the same outputs."""
    build, x, skip, _ = case
    model = build().eval()
    for layer in structure_linears(model, structure, skip).layers:
        assert layer.relative_error is None
    dense = build().eval()
    dense.load_state_dict(materialised(model, dense))
    expected = outputs(dense, x)
    torch.testing.assert_close(outputs(model, x), expected, rtol=1e-4, atol=1e-5)
    converted = structure_linears(dense, structure, skip, from_weights=True)
    assert all(layer.relative_error is not None and layer.relative_error < 1e-6 for layer in converted.layers)
    torch.testing.assert_close(outputs(dense, x), expected, rtol=1e-4, atol=1e-5)


def materialised(model: nn.Module, dense: nn.Module) -> dict[str, torch.Tensor]:
    """State of `dense` that makes it compute what `model` does."""
    state = dense.state_dict() | {k: v for k, v in model.state_dict().items() if k in dense.state_dict()}
    for name, layer in model.named_modules():
        if isinstance(layer, EinsumLinear):
            weight = layer.dense_weight().detach()
            state[f"{name}.weight"] = weight if type(dense.get_submodule(name)) is nn.Linear else weight.t()
    return state


def test_state_dicts_go_round(case: Any, tmp_path: Path) -> None:
    build, x, skip, _ = case
    model, fresh = build().eval(), build().eval()
    structure_linears(model, "btt:1/4", skip, weight_norm=True, from_weights=True)
    structure_linears(fresh, "btt:1/4", skip, weight_norm=True)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(outputs(model, x), outputs(fresh, x))


def test_compiled_models_are_the_same_function(case: Any) -> None:
    build, x, skip, _ = case
    model = build().eval()
    structure_linears(model, "monarch", skip)
    with torch.no_grad():
        torch.testing.assert_close(outputs(torch.compile(model, backend="eager"), x), outputs(model, x))


def test_gpt2_generates_the_same_with_and_without_its_cache() -> None:
    model = gpt2().eval()
    structure_linears(model, "btt:1/4", ["lm_head"])
    made = [model.generate(TOKENS, max_new_tokens=8, do_sample=False, use_cache=cached) for cached in (True, False)]
    assert torch.equal(made[0], made[1]) and made[0].shape == (2, 28)


def test_the_tied_head_of_gpt2_is_refused_and_an_untied_one_is_not() -> None:
    with pytest.raises(StructureError, match=r"layer 'lm_head': its weight is shared with 'transformer\.wte'"):
        structure_linears(gpt2(), "monarch")
    replaced = structure_linears(gpt2(tie_word_embeddings=False), "monarch")
    assert [layer.name for layer in replaced.layers][-1] == "lm_head"


def test_rates_of_a_gpt2_by_role() -> None:
    """At twice the base width: factors d_0 / (k in_i) with Adam, embeddings, tied head, norms and biases as they were."""
    model = gpt2()
    replaced = structure_linears(model, {"*.mlp.*": "monarch"})
    named = {id(p): name for name, p in model.named_parameters()}
    rate = {
        named[id(p)]: group["multiplier"] for group in replaced.parameter_groups(1.0, 24, width=48) for p in group["params"]
    }
    down = model.transformer.h[0].mlp.c_proj
    fans = {p.factor: p.fan_in for p in down.products}
    assert rate["transformer.h.0.mlp.c_proj.a"] == pytest.approx(4 * 24 / (2 * fans["a"]))
    assert rate["transformer.h.0.mlp.c_proj.b"] == pytest.approx(4 * 24 / (2 * fans["b"]))
    assert rate["transformer.h.0.attn.c_attn.weight"] == 1 / 2
    assert {rate[n] for n in rate if "ln_" in n or "wte" in n or "wpe" in n or n.endswith("bias")} == {1.0}


def test_table_of_a_gpt2() -> None:
    model = gpt2(n_layer=1)
    structure_linears(model, {"*.mlp.c_fc": "monarch"})
    assert repr(describe_model(model)) == str(describe_model(model)) == TABLE
    assert describe_model(model).params == sum(p.numel() for p in model.parameters())


TABLE = """\
layer                       kind           d_in   d_out           FLOPs      parameters
transformer.h.0.attn.c_attn Conv1D           48     144          13,824           7,056
transformer.h.0.attn.c_proj Conv1D           48      48           4,608           2,352
transformer.h.0.mlp.c_fc    monarch          48     192           4,608           2,496
transformer.h.0.mlp.c_proj  Conv1D          192      48          18,432           9,264
lm_head                     Linear           48      61           5,856               0
other                       2 Embedding                                           4,464
other                       3 LayerNorm                                             288
total                                                            47,328          25,920"""


def test_every_block_of_the_guide_runs() -> None:
    """In order, in one namespace, as a reader would."""
    text = (ROOT / "docs" / "layers.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/layers.md", "exec"), namespace)
