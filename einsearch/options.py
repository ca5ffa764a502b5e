"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from search import DEFAULT_DB

F = TypeVar("F", bound=Callable[..., Any])


def database(function: F) -> F:
    """`--db`: which database."""
    return click.option(
        "--db",
        envvar="EINSEARCH_DB",
        default=DEFAULT_DB,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME; by default a file in the working directory.",
    )(function)


def formats(*more: str, default: str | None = "table", help_: str = "How to print.") -> Callable[[F], F]:
    """`--format`: a table for people, the others for programs."""
    choices = click.Choice(["table", "json", "csv", *more])
    return click.option("--format", "format_", type=choices, default=default, show_default=True, help=help_)


def study(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument STUDY and the option `--db`; the one study of a database need not be named."""

    @wraps(function)
    def named(study: str | None, db: str, **rest: Any) -> Any:
        return function(study=only(db) if study is None else study, db=db, **rest)

    return click.argument("study", required=False)(database(named))


def only(db: str) -> str:
    """The name of the one study that a database holds.

    Raises:
        DatabaseError: the database cannot be used.
        StudyError: it holds none, or several; the message lists them.
    """
    from space.errors import StudyError
    from storage.database import Database
    from storage.queries import studies_frame

    with Database.open(db) as open_database:
        names = list(studies_frame(open_database)["study"])
        if len(names) == 1:
            return str(names[0])
        if names:
            raise StudyError(f"which study? {open_database.url_shown} has {', '.join(map(repr, names))}; name one of them")
        raise StudyError(f"no study in {open_database.url_shown} yet; start one with `einsearch search`")


def output_file(default: str | None = None, help_: str = "Where to write.") -> Callable[[F], F]:
    """`-o FILE`."""
    return click.option(
        *("-o", "--output"),
        type=click.Path(dir_okay=False, path_type=Path),
        default=default,
        show_default=default is not None,
        metavar="FILE",
        help=help_,
    )


def running(function: F) -> F:
    """Options of the commands that run trials."""
    kind = click.Path(dir_okay=False, path_type=Path)
    options = [
        click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Trials at a time; default one per CPU."),
        click.option(
            *("--report", "report_"),
            type=kind,
            default="einsearch-report.html",
            show_default=True,
            metavar="FILE",
            help="Write the HTML report here when done.",
        ),
        click.option("--quiet", is_flag=True, help="No progress; only the answer at the end."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


class Flops(click.ParamType[float]):
    """FLOPs: a finite number above 0."""

    name = "FLOPS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that the text holds."""
        try:
            flops = float(value)
        except ValueError:
            flops = math.nan
        if not (math.isfinite(flops) and flops > 0):
            self.fail(f"{value!r} is not a number of FLOPs above 0, such as 1e11", param, ctx)
        return flops


class Assignment(click.ParamType[tuple[str, Any]]):
    """`KEY=VALUE`, the value read as JSON where it is JSON, else as text."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """The pair that the text holds."""
        import json

        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE, such as depth=3", param, ctx)
        try:
            return key.strip(), json.loads(text)
        except ValueError:
            return key.strip(), text


settings = click.option(
    "--set",
    "changes",
    type=Assignment(),
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the trials, such as depth=3 or lr=0.003; repeat for more.",
)
"""`--set`: any field of `trainers.config.TrialConfig`."""


def corpus_place(name: str) -> str:
    """The corpus as a study records it: a path is made absolute, so that it is the same from every folder."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and name not in ("python", "python-full") else name
