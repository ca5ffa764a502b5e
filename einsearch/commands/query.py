"""`einsearch query`: the trials of a database."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from einsearch import options
from einsearch.output import emit_frame, write_whole

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("study", "number", "kind", "structure", "rung", "width", "state", "loss", "value"),
    *("flops", "tokens", "seconds", "omega", "psi", "nu", "attempts"),
)
SUFFIXES = ("json", "csv", "parquet")
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
@click.option("--points", is_flag=True, help="The evaluations of --study, instead of trials.")
@click.option("--studies", is_flag=True, help="The studies of the database, instead of trials.")
@click.option("--sql", help="The answer to one SELECT over einsearch_trial_view and einsearch_point_view, instead of all this.")
@options.output_file(help_="Write here instead of stdout; its suffix may say the format.")
@options.formats("parquet", default=None, help_="How to print; default table, or what FILE's suffix says.")
def command(output: Path | None, format_: str | None, **asked: Any) -> None:
    """Trials of the database, filtered by what is given.

    Or its studies, the evaluations of a study, or the answer to a SELECT. The database is opened for reading only.
    """
    suffix = output.suffix.removeprefix(".") if output is not None else ""
    format_ = format_ or (suffix if suffix in SUFFIXES else "table")
    if format_ == "parquet" and output is None:
        raise click.UsageError("--format parquet needs -o FILE: it is not text")
    frame = answer(**asked)
    columns = COLUMNS if set(COLUMNS) <= set(frame.columns) else None
    if output is None:
        emit_frame(frame, format_, columns, empty="no trial matches" if columns else "no rows")
        return
    write_whole(output, _bytes(frame, format_, columns))
    click.echo(f"{len(frame)} rows in {output}", err=True)


def answer(db: str, points: bool, studies: bool, sql: str | None, **filters: Any) -> pd.DataFrame:
    """The frame that was asked for.

    Raises:
        UsageError: two different things were asked for.
        UserError: a filter or a statement that cannot be, or an unusable database.
    """
    from storage import free_sql, queries
    from storage.database import Database

    _check(points, studies, sql, filters)
    wanted = queries.Filters(**filters)
    with Database.open(db) as database:
        if sql is not None:
            return free_sql.sql(database, sql)
        if studies:
            return queries.studies_frame(database).rename(columns={"finished": "done"})
        if points:
            return queries.points_frame(database, filters["study"])
        return queries.select(database, wanted)


def _check(points: bool, studies: bool, sql: str | None, filters: dict[str, Any]) -> None:
    chosen = [name for name, given in (("--points", points), ("--studies", studies), ("--sql", sql is not None)) if given]
    narrowed = [f"--{name}" for name, given in filters.items() if given is not None and not (points and name == "study")]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} are different questions; ask one")
    if chosen and narrowed:
        raise click.UsageError(f"{narrowed[0]} filters trials; {chosen[0]} lists something else")
    if points and filters["study"] is None:
        raise click.UsageError("--points needs --study: evaluations are listed one study at a time")


def _bytes(frame: pd.DataFrame, format_: str, columns: tuple[str, ...] | None) -> bytes:
    if format_ == "parquet":
        return bytes(frame.to_parquet(index=False))
    text = StringIO()
    with redirect_stdout(text):
        emit_frame(frame, format_, columns)
    return text.getvalue().encode()
