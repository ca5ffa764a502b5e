"""What early stopping would have saved in a finished study, and which runs it would have wronged: its runs are judged again.

    python -m benchmarks.stopping laptop --db sqlite:///einsearch.db

A run is wronged that would have been stopped, and came in below the dense law at its own compute.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from search.stopping import WIDTH, Frontier
from storage.curves import runs
from storage.database import Database
from storage.laws import Run
from storage.studies import open_study
from trainers.points import Point

WIDTHS = (1.0, 2.0, 3.0)
"""Margins to try, in standard deviations; the rule's own is WIDTH."""


def points(run: Run) -> list[Point]:
    """A curve as a worker reports it."""
    columns = zip(run.compute.tolist(), run.loss.tolist(), run.seconds.tolist(), strict=True)
    return [Point(step, step, flops, loss, loss, at, False) for step, (flops, loss, at) in enumerate(columns, start=1)]


def stops(frontier: Frontier, found: list[Run]) -> Iterator[tuple[Run, float]]:
    """Runs that would have been stopped, and the FLOPs that this would have saved."""
    for run in found:
        curve = points(run)
        for number in range(1, len(curve)):
            decision = frontier.judge(curve[:number], run.flops)
            if decision is not None and decision.stopped:
                yield run, run.flops - decision.flops
                break


def main() -> None:
    """Judge the runs of a study, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--db", default="sqlite:///einsearch.db")
    given = parser.parse_args()
    with Database.open(given.db) as database:
        study = open_study(database, given.study)
        baseline, everything = runs(database, study, "baseline"), runs(database, study)
    own = Frontier.of(baseline)
    known = {run.run_id for run in baseline}
    others, spent = [run for run in everything if run.run_id not in known], sum(run.flops for run in everything)
    print(f"| margin of {len(others)} runs beside the baseline | stopped | wronged | FLOPs saved |\n|---|---|---|---|")
    for width in WIDTHS:
        frontier = replace(own, margin=own.margin * width / WIDTH)
        ended = list(stops(frontier, others))
        wronged = sum(float(run.loss[-1]) < float(own.dense.predict(run.flops)) for run, _ in ended)
        saved = 100 * sum(flops for _, flops in ended) / spent
        print(f"| {width:.0f} sd = {frontier.margin:.3f} in log loss | {len(ended)} | {wronged} | {saved:.1f} % |")


if __name__ == "__main__":
    main()
