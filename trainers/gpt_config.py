"""The shape of a model: what it is and costs is known from it alone. Nothing here imports torch, which takes seconds."""

from __future__ import annotations

from dataclasses import dataclass

from space.errors import ConfigError, StructureError
from space.structure import Structure
from trainers.config import TrialConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTConfig:
    """Shape of a model.

    Args:
        structure: text of the structure of every linear layer but the head; kept as the structure's key.
        width: features of the residual stream, a multiple of `d_head`.
        depth: number of blocks.
        d_head: features of an attention head.
        context: longest sequence, tokens.
        vocab_size: number of symbols.
        weight_norm: whether structured layers are weight-normalised (P2 section 5.1); dense ones never are.

    Raises:
        ConfigError: names the field that is wrong.
    """

    structure: str = "dense"
    width: int
    depth: int = 3
    d_head: int = 64
    context: int = 128
    vocab_size: int = 96
    weight_norm: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "depth", "d_head", "context", "vocab_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}; it must be a positive integer")
        if self.width % self.d_head:
            raise ConfigError(f"width is {self.width}; it must be a multiple of d_head, which is {self.d_head}")
        try:
            object.__setattr__(self, "structure", Structure.parse(self.structure).key)
        except StructureError as error:
            raise ConfigError(f"structure: {error}") from None

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // self.d_head

    @property
    def layer_widths(self) -> dict[str, tuple[int, int]]:
        """(d_in, d_out) of each linear layer of a block, by kind."""
        d = self.width
        square = dict.fromkeys(("query", "key", "value", "out"), (d, d))
        return square | {"up": (d, 4 * d), "down": (4 * d, d)}


def model_config(config: TrialConfig, vocab_size: int) -> GPTConfig:
    """The model of a trial."""
    return GPTConfig(
        structure=config.structure,
        width=config.width,
        depth=config.depth,
        d_head=config.d_head,
        context=config.context,
        vocab_size=vocab_size,
        weight_norm=config.weight_norm,
    )
