"""`einsearch train`: one trial alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from einsearch import options


@click.command("train")
@click.argument("structure")
@click.option("--flops", type=options.Flops(), default=1e11, show_default=True, help="Training FLOPs to spend.")
@click.option("--width", type=int, help="Width of the model; default the one that costs what dense at 48 costs.")
@click.option("--corpus", default="python", show_default=True, help="'python', a text file, or a folder.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the weights and the batches.")
@options.settings
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Save here; resume from it if it exists.",
)
@options.formats()
def command(
    structure: str,
    flops: float,
    width: int | None,
    corpus: str,
    seed: int,
    changes: tuple[tuple[str, Any], ...],
    checkpoint: Path | None,
    format_: str,
) -> None:
    """Train one model whose linear layers are STRUCTURE.

    Prints its evaluations on stdout, and what it is on stderr. STRUCTURE as in `einsearch describe`.

    No database is involved. With --format json each evaluation is a line of its own, as soon as it is there.
    """
    from dataclasses import fields

    from search import corpus_place
    from search.plan import width_at
    from search.settings import Rung, StudySettings, with_trial
    from space.structure import Structure
    from trainers import checkpoint as checkpoints
    from trainers.config import TrialConfig
    from trainers.corpus import load_corpus
    from trainers.points import Point
    from trainers.run import TrainingRun

    parsed = Structure.parse(structure)
    place = corpus_place(str(dict(changes).get("corpus", corpus)))
    data = load_corpus(place)
    settings = with_trial(StudySettings(rungs=(Rung(flops=flops, width=48),), baseline=((0, 48),), known_rung=0), dict(changes))
    chosen = width_at(settings, parsed, 0, data.vocab_size) if width is None else width
    row = settings.trial.to_dict() | {
        "structure": parsed.key,
        "width": chosen,
        "budget_flops": flops,
        "corpus": place,
        "seed": seed,
    }
    run = TrainingRun(TrialConfig.from_dict(row), data)
    if checkpoint is not None and checkpoint.exists():
        run.load_state_dict(checkpoints.load(checkpoint))
    elif checkpoint is not None:
        checkpoints.save(checkpoint, run.state_dict())  # where it cannot be written shows before anything is spent
    _announce(run, parsed.name, data.unigram_entropy)
    if format_ == "csv":
        click.echo(",".join(field.name for field in fields(Point)))
    for earlier in run.points:
        _print(earlier, format_)
    while not run.done:
        point = run.advance()
        if point is not None:
            _print(point, format_)
        if checkpoint is not None:
            checkpoints.save(checkpoint, run.state_dict())
    if run.diverged:
        from space.errors import TrialError

        raise TrialError(f"{parsed.name} diverged at step {run.step}; lower the learning rate, such as --set lr=0.001")


def _announce(run: Any, name: str, entropy: float) -> None:
    parameters = sum(p.numel() for p in run.model.parameters())
    click.echo(
        f"{name}, width {run.config.width}: {parameters:,} parameters, {run.steps} steps of {run.config.tokens_per_step}"
        f" tokens, {run.precision} on {run.device}; unigram entropy {entropy:.4f} nats",
        err=True,
    )


def _print(point: Any, format_: str) -> None:
    from dataclasses import asdict

    if format_ == "json":
        click.echo(json.dumps(asdict(point)))
    elif format_ == "csv":
        click.echo(",".join(map(str, asdict(point).values())))
    else:
        warm = "  (warmup)" if point.warmup else ""
        click.echo(f"step {point.step:>6}  {point.flops:.2e} FLOPs  loss {point.loss:.4f} nats  {point.seconds:6.1f} s{warm}")
