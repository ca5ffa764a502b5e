"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from search import CHECKPOINTS, DEFAULT_DB

if TYPE_CHECKING:
    from storage.database import Database

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
    from storage.database import Database

    with Database.open(db) as open_database:
        return only_in(open_database)


def only_in(database: Database) -> str:
    """The same, of an open database."""
    from space.errors import StudyError
    from storage.queries import studies_frame

    names = list(studies_frame(database)["study"])
    if len(names) == 1:
        return str(names[0])
    if names:
        raise StudyError(f"which study? {database.url_shown} has {', '.join(map(repr, names))}; name one of them")
    raise StudyError(f"no study in {database.url_shown} yet; start one with `einsearch search`")


def filters(function: F) -> F:
    """Which trials: the fields of `storage.filters.Filters`."""
    limits: dict[str, Any] = {"type": float, "nargs": 2, "metavar": "LOW HIGH"}
    choices = [
        click.option("--study", help="Only this study; default all."),
        click.option("--structure", help="Only this structure."),
        click.option("--kind", help="baseline, known, proposal or random."),
        click.option("--state", help="queued, running, completed, truncated, diverged or failed."),
        click.option("--width", type=int, help="Only this width."),
        click.option("--rung", type=int, help="Only this rung."),
        click.option("--omega", **limits, help="Range of parameter sharing."),
        click.option("--psi", **limits, help="Range of the rank exponent."),
        click.option("--nu", **limits, help="Range of the compute intensity."),
    ]
    for choice in reversed(choices):
        function = choice(function)
    return function


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


class Resources(click.ParamType[dict[str, float]]):
    """`cpu=1,gpu=0.25`."""

    name = "NAME=AMOUNT,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """The resources that the text holds, by Ray's names."""
        from search.cluster import Cluster, parse_resources
        from space.errors import ConfigError

        try:
            return dict(Cluster(resources=parse_resources(str(value))).resources)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def running(function: F) -> F:
    """Options of the commands that run trials."""
    kind = click.Path(dir_okay=False, path_type=Path)
    options = [
        click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Trials at a time; default all that fit."),
        click.option(
            "--address",
            default="local",
            show_default=True,
            metavar="ADDRESS",
            help="Ray cluster: auto for the one this machine is in, HOST:PORT, ray://HOST:PORT; local starts one.",
        ),
        click.option(
            "--resources", type=Resources(), default="cpu=1", show_default=True, help="What a trial takes: cpu=1,gpu=0.25."
        ),
        click.option(
            "--checkpoints",
            envvar=CHECKPOINTS,
            show_envvar=True,
            metavar="PLACE",
            help="Folder, or URI such as s3://bucket/path, for checkpoints; default beside the database's file.",
        ),
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
