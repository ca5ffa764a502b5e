"""A training step of a whole GPT-2 with structured layers against the same model left dense: `python -m benchmarks.models`.

The models are those that trials train, and differ in nothing else: embeddings, attention, norms and the dense head take what
they take in the dense model, which bounds what a structure can gain. They run in turns (`benchmarks.turns`), after a first step
that times plans.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.turns import keep_freed_memory, to_dense, until_sure
from trainers.gpt import GPT
from trainers.gpt_config import GPTConfig

STRUCTURES = ("monarch", "btt:1/4", "tensor_train:1/4", "low_rank:1/2", "monarch3")
CONTEXT = 256
TURNS = 10


def training_step(model: GPT, tokens: torch.Tensor) -> Callable[[], None]:
    """Forward, backward and Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def run() -> None:
        optimizer.zero_grad()
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()

    return run


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.partition("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[768, 1536])
    parser.add_argument("--depth", type=int, default=2, help="blocks")
    parser.add_argument("--sequences", type=int, default=8, help=f"of {CONTEXT} tokens in a step")
    parser.add_argument("--seconds", type=float, default=15.0, help="of turns for each structure")
    given = parser.parse_args()
    keep_freed_memory()
    tokens = torch.randint(0, 96, (given.sequences, CONTEXT + 1))
    print(f"depth {given.depth}, {given.sequences * CONTEXT} tokens a step, {torch.get_num_threads()} threads\n")
    print("| width | structure | parameters of dense's | ms | × dense |\n|---|---|---|---|---|")
    for width in given.widths:
        shape = {"width": width, "depth": given.depth, "context": CONTEXT}
        dense = GPT(GPTConfig(**shape))
        for name in STRUCTURES:
            ours = GPT(GPTConfig(structure=name, **shape))
            runs = {"dense": training_step(dense, tokens), "ours": training_step(ours, tokens)}
            times = until_sure(runs, given.seconds, TURNS)
            share = parameters(ours) / parameters(dense)
            print(f"| {width} | {name} | {share:.1%} | {min(times['ours']) * 1e3:.0f} | {to_dense(times):.2f} |", flush=True)


if __name__ == "__main__":
    main()
