"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_DB = "sqlite:///einsearch.db"


def database(function: F) -> F:
    """`--db`: which database."""
    return click.option(
        "--db",
        envvar="EINSEARCH_DB",
        default=DEFAULT_DB,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME.",
    )(function)


def formats(*allowed: str) -> Callable[[F], F]:
    """`--format`: a table for people, the others for programs."""
    choices = click.Choice(["table", "json", "csv", *allowed])
    return click.option("--format", "format_", type=choices, default="table", show_default=True, help="How to print.")


def study(function: F) -> F:
    """The argument STUDY."""
    return click.argument("study")(function)


def running(function: F) -> F:
    """Options of the commands that run trials."""
    options = [
        click.option("--concurrency", type=int, metavar="N", help="Trials at a time; default one per CPU."),
        click.option("--report", "report_", metavar="FILE", help="Write the HTML report here when done."),
        click.option("--quiet", is_flag=True, help="No live display; only the answer at the end."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


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
