"""`einsearch query`: the trials of a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from einsearch import options
from einsearch.output import emit_frame

COLUMNS = (
    *("study", "number", "kind", "structure", "rung", "width", "state", "loss", "value"),
    *("flops", "tokens", "seconds", "omega", "psi", "nu", "attempts"),
)
RANGE: dict[str, Any] = {"type": float, "nargs": 2, "metavar": "LOW HIGH"}


@click.command("query")
@options.database
@click.option("--study", help="Only this study; default all.")
@click.option("--structure", help="Only this structure.")
@click.option("--kind", help="baseline, known, proposal or random.")
@click.option("--state", help="queued, running, completed, truncated, diverged or failed.")
@click.option("--width", type=int, help="Only this width.")
@click.option("--rung", type=int, help="Only this rung.")
@click.option("--omega", **RANGE, help="Range of parameter sharing.")
@click.option("--psi", **RANGE, help="Range of the rank exponent.")
@click.option("--nu", **RANGE, help="Range of the compute intensity.")
@click.option("--points", is_flag=True, help="Every evaluation of STUDY's trials, instead of the trials.")
@click.option("--studies", is_flag=True, help="The studies of the database, instead of trials.")
@click.option("--sql", help="One SELECT over einsearch_trial_view and einsearch_point_view, instead of all this.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write here; parquet needs it.")
@options.formats("parquet")
def command(db: str, points: bool, studies: bool, sql: str | None, output: Path | None, format_: str, **filters: Any) -> None:
    """Trials of the database, filtered; or its studies, its evaluations, or the answer to a SELECT.

    The database is opened for reading only.
    """
    from storage import queries
    from storage.database import Database
    from storage.free_sql import sql as answer

    if points and filters["study"] is None:
        raise click.UsageError("--points needs --study: evaluations are listed one study at a time")
    if format_ == "parquet" and output is None:
        raise click.UsageError("--format parquet needs -o FILE: it is not text")
    columns: tuple[str, ...] | None = None
    with Database.open(db) as database:
        if sql is not None:
            frame = answer(database, sql)
        elif studies:
            frame = queries.studies_frame(database)
        elif points:
            frame = queries.points_frame(database, filters["study"])
        else:
            frame, columns = queries.select(database, queries.Filters(**filters)), COLUMNS
    if output is None:
        emit_frame(frame, format_, columns)
    else:
        _write(frame, output, format_, columns)


def _write(frame: Any, output: Path, format_: str, columns: tuple[str, ...] | None) -> None:
    from contextlib import redirect_stdout

    from space.errors import DiskError

    try:
        if format_ == "parquet":
            frame.to_parquet(output, index=False)
        else:
            with output.open("w") as file, redirect_stdout(file):
                emit_frame(frame, format_, columns)
    except OSError as error:
        raise DiskError(f"{output} cannot be written ({error.strerror}); give another file with -o") from error
    click.echo(f"{len(frame)} rows in {output}", err=True)
