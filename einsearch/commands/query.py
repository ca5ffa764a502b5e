"""`einsearch query`: questions to a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from einsearch import options
from einsearch.output import emit_frame
from einsearch.writing import TEXTS, print_text, write_file

if TYPE_CHECKING:
    import pandas as pd

    from storage.database import Database
    from storage.filters import Filters
    from storage.frames import Question

COLUMNS = (
    *("study", "number", "kind", "structure", "rung", "width", "state", "loss", "value"),
    *("flops", "tokens", "seconds", "omega", "psi", "nu", "attempts"),
)
BEST_COLUMNS = (
    *("study", "structure", "value", "loss", "number", "rung", "width", "state", "flops", "omega", "psi", "nu"),
    *("trials", "total_flops", "total_seconds"),
)
FAILURE_COLUMNS = ("study", "number", "structure", "state", "error", "attempt", "rung", "width", "flops", "host", "trial_state")
SUFFIXES = (*TEXTS, "parquet")
TABLE_ROWS = 1000
"""Rows of a table for people, where no limit is given."""


@click.command("query")
@options.database
@options.filters
@click.option("--best", is_flag=True, help="The best trial of each structure.")
@click.option("--frontier", is_flag=True, help="The trials of --study that no other beats in both loss and compute.")
@click.option("--cost", metavar="BY", help="What was spent, by study, state, kind or structure.")
@click.option("--attempts", is_flag=True, help="The attempts at trials.")
@click.option("--failures", is_flag=True, help="The attempts that went wrong, and why.")
@click.option("--points", is_flag=True, help="The evaluations along trials.")
@click.option("--studies", is_flag=True, help="The studies of the database.")
@click.option("--sql", help="The answer to one SELECT over the views that docs/database.md describes.")
@click.option("--timeout", type=float, default=30.0, show_default=True, metavar="SECONDS", help="Time limit of --sql.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help=f"At most N rows; a table shows {TABLE_ROWS} by default."
)
@options.output_file(help_="Write here instead of stdout; its suffix may say the format.")
@options.formats("jsonl", "parquet", default=None, help_="How to print; default table, or what FILE's suffix says.")
def command(db: str, output: Path | None, format_: str | None, limit: int | None, **asked: Any) -> None:
    """Trials of the database, filtered by what is given.

    Or the best of each structure, the frontier, what was spent, failures and their reasons, evaluations, studies, or the
    answer to a SELECT. The database is opened for reading only, and answers of any length take the same memory.
    """
    from storage.database import Database

    suffix = output.suffix.removeprefix(".") if output is not None else ""
    format_ = format_ or (suffix if suffix in SUFFIXES else "table")
    if format_ == "parquet" and output is None:
        raise click.UsageError("--format parquet needs -o FILE: it is not text")
    rows = TABLE_ROWS if limit is None and format_ == "table" else limit
    with Database.open(db) as database:
        pieces = _pieces(database, rows if format_ != "table" or rows is None else rows + 1, **asked)
        if format_ == "table":
            _table(pieces, output, rows or TABLE_ROWS, note=limit is None)
        elif output is None:
            print_text(pieces, format_)
        else:
            click.echo(f"{write_file(output, pieces, format_)} rows in {output}", err=True)


def _pieces(
    database: Database, limit: int | None, sql: str | None, timeout: float, **asked: Any
) -> Callable[[], Iterator[pd.DataFrame]]:
    """Asks the question that was put, once for each call.

    Raises:
        UsageError: two different things were asked for.
        UserError: a filter that cannot be.
    """
    from storage import frames
    from storage.filters import Filters

    kinds = ("best", "frontier", "cost", "attempts", "failures", "points", "studies")
    chosen = [name for name in kinds if asked[name]] + (["sql"] if sql is not None else [])
    filters = Filters(**{name: value for name, value in asked.items() if name not in kinds})
    _check(chosen, filters)
    if sql is not None:
        return lambda: _sql_pieces(database, sql, timeout, limit)
    question = _question(database, chosen[0] if chosen else "trials", asked["cost"], filters, limit)
    return lambda: frames.pieces(database, question)


def _check(chosen: list[str], filters: Filters) -> None:
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(f'--{name}' for name in chosen)} are different questions; ask one")
    given = filters.given()
    if chosen and chosen[0] in ("studies", "sql") and given:
        raise click.UsageError(f"--{given[0]} filters trials; --{chosen[0]} lists something else")


def _question(database: Database, name: str, by: str, filters: Filters, limit: int | None) -> Question:
    from storage import queries

    if name == "frontier":
        return queries.frontier(filters.study or options.only_in(database), filters, limit)
    if name == "cost":
        return queries.cost(cast(Any, by), filters, limit)  # which checks it
    if name == "studies":
        return queries.studies(limit)
    if name in ("attempts", "failures"):
        return queries.attempts(filters, limit, failed=name == "failures")
    simple = {"best": queries.best, "points": queries.points, "trials": queries.trials}
    return simple[name](filters, limit)


def _sql_pieces(database: Database, sql: str, timeout: float, limit: int | None) -> Iterator[pd.DataFrame]:
    """The answer to a SELECT, cut at the limit."""
    from storage.free_sql import sql_pieces

    left = limit
    for frame in sql_pieces(database, sql, seconds=timeout):
        yield frame if left is None else frame.head(left)
        left = None if left is None else left - len(frame)
        if left is not None and left <= 0:
            return


def _table(pieces: Callable[[], Iterator[pd.DataFrame]], output: Path | None, rows: int, note: bool) -> None:
    """A table for people, and a note where there is more than it shows."""
    import io
    from contextlib import redirect_stdout

    import pandas as pd

    from einsearch.output import write_whole

    whole = pd.concat(pieces(), ignore_index=True)
    shown = whole.head(rows)
    columns = _shown(shown)
    empty = "no trial matches" if columns else "no rows"
    if output is None:
        emit_frame(shown, "table", columns, empty=empty)
    else:
        text = io.StringIO()
        with redirect_stdout(text):
            emit_frame(shown, "table", columns, empty=empty)
        write_whole(output, text.getvalue().encode())
        click.echo(f"{len(shown)} rows in {output}", err=True)
    if note and len(whole) > rows:
        click.echo(f"note: the first {rows} rows; --limit N shows more, and -o FILE.csv or FILE.parquet takes all", err=True)


def _shown(frame: pd.DataFrame) -> tuple[str, ...] | None:
    """The columns of a table, the most telling first; None for all. A table of one study need not name it in every line."""
    for columns in (BEST_COLUMNS, FAILURE_COLUMNS, COLUMNS):
        if set(columns) <= set(frame.columns):
            return columns[1:] if frame["study"].nunique() <= 1 else columns
    return None
