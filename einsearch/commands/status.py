"""`einsearch status`: how a study stands."""

from __future__ import annotations

import click

from einsearch import options
from einsearch.output import emit_pairs


@click.command("status")
@options.study
@options.database
@options.formats()
def command(study: str, db: str, format_: str) -> None:
    """How STUDY stands: trials by state, compute spent, the best so far."""
    import math

    from storage.database import Database
    from storage.status import status

    with Database.open(db) as database:
        now = status(database, study)
    best = now.best
    emit_pairs(
        {
            "study": now.study,
            "trials": dict(now.states),
            "done": now.done,
            "budget": now.budget,
            "flops": now.flops,
            "seconds": now.seconds,
            "best": best.structure if best else None,
            "best_multiplier": math.exp(best.value) if best and best.value is not None else None,
            "drivers": now.drivers_alive,
            "database": now.url_shown,
        },
        format_,
    )
