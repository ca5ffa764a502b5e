"""`TrialConfig`: everything that decides the outcome of a trial, as one JSON row."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from space.errors import ConfigError
from space.structure import Structure

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """One training run. The defaults are tuned for a study of a few minutes on a laptop, on the corpus "python".

    Attributes:
        structure: name or key of the structure of every linear layer but the head.
        width: d_model; a multiple of `d_head`.
        budget_flops: FLOPs to spend (convention `train_flops`); the run takes as many whole steps as they pay for.
        depth: number of transformer blocks.
        context: tokens per window.
        batch_size: windows per step.
        lr: Adam learning rate of a dense layer of fan-in `base_width`; every other layer's follows by muP.
        warmup_steps: steps of linear warmup; the rate is constant after them, so a shorter run is a prefix of a longer one.
        weight_norm: learnable gains on normalised factors.
        clip: largest global gradient norm.
        evaluations: number of evaluation points, spaced geometrically, the last one at the end.
        eval_windows: validation windows per evaluation, the same ones in every run.
        seed: of the initial weights and of the training batches.
        precision: "fp32", "bf16" (autocast), or "auto" for bf16 where the device has it in hardware.
        corpus: what `trainers.corpus.load_corpus` takes.
        corpus_fingerprint: the data the run must see; None accepts any.

    Raises:
        ConfigError: a field is out of its range.
        StructureError: the structure is unknown or infeasible.
    """

    structure: str
    width: int
    budget_flops: float
    depth: int = 2
    d_head: int = 8
    context: int = 32
    batch_size: int = 32
    lr: float = 3e-3
    base_width: int = 64
    warmup_steps: int = 20
    weight_norm: bool = True
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    evaluations: int = 6
    eval_windows: int = 512
    seed: int = 0
    precision: str = "auto"
    corpus: str = "python"
    corpus_fingerprint: str | None = None

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            if not rule.holds(given := getattr(self, name)):
                raise ConfigError(f"{name} = {given!r} is not allowed; give {rule.allowed}")
        if self.width % self.d_head:
            raise ConfigError(f"width = {self.width} is not allowed; give a multiple of d_head = {self.d_head}")
        Structure.parse(self.structure)

    @property
    def tokens_per_step(self) -> int:
        """Tokens trained on in one step."""
        return self.batch_size * self.context

    def to_dict(self) -> dict[str, Any]:
        """A JSON-safe dictionary; `from_dict` undoes it."""
        return dataclasses.asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> TrialConfig:
        """The configuration that `to_dict` wrote; absent keys take their defaults.

        Raises:
            ConfigError: names a key that is unknown or missing, or a field out of its range.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in row:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
                raise ConfigError(f"unknown setting {key!r} of a trial; {hint}")
        for name, field in fields.items():
            if name not in row and field.default is dataclasses.MISSING:
                raise ConfigError(f"setting {name!r} of a trial is missing; give it")
        betas = row.get("betas")
        return cls(**(dict(row) | ({"betas": tuple(betas)} if isinstance(betas, list) else {})))

    def to_json(self) -> str:
        """One line of JSON, keys sorted: equal configurations give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TrialConfig:
        """The configuration that `to_json` wrote.

        Raises:
            ConfigError: not a JSON object, or as in `from_dict`.
        """
        try:
            row = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"the settings of a trial are not JSON ({error}): {text[:80]!r}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"the settings of a trial must be a JSON object, not {text[:80]!r}")
        return cls.from_dict(row)


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    allowed: str


def _integer(least: int) -> _Rule:
    return _Rule(lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= least, f"an integer of at least {least}")


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


_POSITIVE = _Rule(lambda x: _is_number(x) and x > 0, "a finite number above 0")

_RULES = {
    "structure": _Rule(lambda x: isinstance(x, str), "the name of a structure or its seven exponents, as text"),
    "width": _integer(1),
    "budget_flops": _POSITIVE,
    "depth": _integer(1),
    "d_head": _integer(1),
    "context": _integer(1),
    "batch_size": _integer(1),
    "lr": _POSITIVE,
    "base_width": _integer(1),
    "warmup_steps": _integer(0),
    "weight_norm": _Rule(lambda x: isinstance(x, bool), "True or False"),
    "clip": _POSITIVE,
    "betas": _Rule(
        lambda x: isinstance(x, tuple) and len(x) == 2 and all(_is_number(b) and 0 <= b < 1 for b in x),
        "two numbers in [0, 1)",
    ),
    "evaluations": _integer(1),
    "eval_windows": _integer(1),
    "seed": _integer(0),
    "precision": _Rule(lambda x: x in PRECISIONS, "one of " + ", ".join(PRECISIONS)),
    "corpus": _Rule(lambda x: isinstance(x, str) and x != "", "'python', 'python-full' or a path"),
    "corpus_fingerprint": _Rule(lambda x: x is None or isinstance(x, str), "a SHA-256 in hexadecimal, or None"),
}
