"""`einsearch search`: start a study, or go on with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from einsearch import options


class Pair(click.ParamType[tuple[Any, Any]]):
    """`A:B`, two numbers."""

    name = "A:B"

    def __init__(self, first: Callable[[str], Any], second: Callable[[str], Any], example: str) -> None:
        self._kinds, self._example = (first, second), example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, Any]:
        """The two numbers that the text holds."""
        parts = str(value).split(":")
        try:
            first, second = (kind(part) for kind, part in zip(self._kinds, parts, strict=True))
        except ValueError:
            self.fail(f"{value!r} is not two numbers with a colon between them, such as {self._example}", param, ctx)
        return first, second


@click.command("search")
@click.argument("study", default="laptop")
@options.database
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N", help="Trials in all, baseline and known structures included."
)
@click.option(
    "--rung",
    "rungs",
    type=Pair(float, int, "1e11:24"),
    multiple=True,
    metavar="FLOPS:WIDTH",
    help="A level of compute and the width of its dense model; repeat, ascending.",
)
@click.option("--baseline", type=Pair(int, int, "0:16"), multiple=True, metavar="RUNG:WIDTH", help="A dense trial; repeat.")
@click.option("--known", multiple=True, metavar="STRUCTURE", help="A structure to try before proposing; repeat.")
@click.option("--known-rung", type=int, metavar="R", help="The rung the known structures are tried at.")
@click.option(
    "--target-compute", type=options.Flops(), metavar="FLOPS", help="Compute to compare at; default the highest rung's."
)
@click.option("--explore", type=float, metavar="SHARE", help="Share of proposals drawn at random.")
@click.option(
    "--early-stopping/--no-early-stopping",
    default=None,
    help="End a run that cannot reach the dense frontier at its own budget; default not.",
)
@click.option("--seed", type=int, help="Of proposals, weights and batches.")
@click.option("--corpus", help="'python', a text file, or a folder.")
@options.settings
@options.running
def command(
    study: str,
    db: str,
    trials: int | None,
    rungs: tuple[tuple[float, int], ...],
    corpus: str | None,
    changes: tuple[tuple[str, Any], ...],
    **given: Any,
) -> None:
    """Search for the best structure: start STUDY, or go on with it.

    STUDY is its name, by default laptop. Without options, a study that takes a few minutes on two cores: it trains dense
    baselines, then known structures, then proposes its own, and ends with the leaderboard, the fitted laws and an HTML
    report.
    """
    from einsearch.run import Running, run
    from search.settings import Rung, StudySettings, with_trial
    from search.study import Study

    running = Running.taken_from(given)
    if rungs:
        given["rungs"] = tuple(Rung(flops=flops, width=width) for flops, width in rungs)
        given["baseline"] = given["baseline"] or tuple((number, rung.width) for number, rung in enumerate(given["rungs"]))
        given["known_rung"] = given["known_rung"] or 0
    chosen = {key: value for key, value in given.items() if value not in (None, ())}
    moved = dict(changes) | ({"corpus": corpus} if corpus else {})
    settings = with_trial(StudySettings(**chosen), moved) if chosen or moved else None
    run(Study(study, db=db, trials=trials, settings=settings, checkpoints=running.checkpoints), running, create=True)
