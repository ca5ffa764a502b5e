"""Does one base learning rate serve every width and every structure?

    python -m benchmarks.learning_rates [--steps 400] [--widths 32,64,128]

trains GPT-2 models on the default corpus at each base rate, width and structure, for the same steps and batches, and prints the
final validation loss (nats per token), the best base rate of each row, the minimum of a parabola fitted to its losses, and what
the default rate costs there against the best of the grid. Under muP the best rates of all rows agree within a factor of two (P1
appendix C.2, P2 figure 2); rows differ by the luck of their seed, about 1 % of the loss.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np
import torch

from space.structure import Structure
from trainers import flops
from trainers.config import TrialConfig
from trainers.corpus import Corpus, load_corpus
from trainers.gpt_config import model_config
from trainers.run import TrainingRun

DEFAULT = 3e-3
RATES = (7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2)
STRUCTURES = ("dense", "monarch", "btt:1/4", "low_rank:1/2", "kronecker", "generic")
WIDTHS = (32, 64, 128)


def final_loss(structure: str, width: int, lr: float, steps: int, corpus: Corpus) -> float:
    """Validation loss after `steps` steps, nats per token; NaN when the run diverges."""
    config = TrialConfig(structure=structure, width=width, budget_flops=1.0, lr=lr, evaluations=1)
    per_token = flops.count(model_config(config, corpus.vocab_size)).total
    budget = float(per_token * config.tokens_per_step) * (steps + 0.5)
    run = TrainingRun(TrialConfig(**config.to_dict() | {"budget_flops": budget, "betas": config.betas}), corpus)
    while not run.done:
        run.advance()
    return math.nan if run.diverged else run.points[-1].loss


def best_rate(losses: Sequence[float]) -> float:
    """The minimum of the parabola in log rate fitted to all finite losses; NaN where it is outside the grid."""
    x, y = np.log(RATES), np.array(losses)
    a, b, _ = np.polyfit(x[np.isfinite(y)], y[np.isfinite(y)], 2)
    best = -b / (2 * a) if a > 0 else math.nan
    return math.exp(best) if x[0] <= best <= x[-1] else math.nan


def main() -> None:
    """Print the table of losses and the spread of the best rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--widths", type=lambda text: tuple(int(part) for part in text.split(",")), default=WIDTHS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    corpus = load_corpus("python")
    print(
        f"{'structure':14s} width  " + "  ".join(f"{rate:7.1e}" for rate in RATES) + "   best rate  cost of the default",
        flush=True,
    )
    found = []
    for name in STRUCTURES:
        for width in given.widths:
            losses = [final_loss(Structure.parse(name).key, width, rate, given.steps, corpus) for rate in RATES]
            found.append(best_rate(losses))
            cells = "  ".join(f"{loss:7.4f}" for loss in losses)
            cost = losses[RATES.index(DEFAULT)] - np.nanmin(losses)
            print(f"{name:14s} {width:5d}  {cells}   {found[-1]:9.1e}  {cost:.4f} nats", flush=True)
    inside = [rate for rate in found if math.isfinite(rate)]
    print(
        f"best rates: {min(inside):.1e} to {max(inside):.1e}, a factor of {max(inside) / min(inside):.2f};"
        f" {len(found) - len(inside)} of {len(found)} rows have theirs at the edge of the grid"
    )


if __name__ == "__main__":
    main()
