"""The command line: `einsearch COMMAND`. Thin commands over the library, one file each in `einsearch.commands`.

Exit codes: 0 done; 1 a fault at run time; 2 something wrong was given; 130 stopped from the keyboard, 143 by SIGTERM.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata

import click

from einsearch.commands import (
    dashboard,
    describe,
    export,
    import_,
    leaderboard,
    plot,
    query,
    report,
    resume,
    search,
    status,
    train,
    upgrade,
    watch,
)
from space.errors import EinsearchError

INTERRUPTED = 130


class InOrder(click.Group):
    """Lists its commands in the order a person needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the interface is click's
        """Names, as they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("einsearch"), prog_name="einsearch")
def commands() -> None:
    """Search for the linear layer with the lowest loss per FLOP.

    A study trains small GPT-2 models whose linear layers are Einsum structures, fits scaling laws to the results, and
    ranks the structures by their compute multiplier against dense layers. Start one with `einsearch search`.
    """


for command in (
    search,
    resume,
    watch,
    status,
    query,
    leaderboard,
    describe,
    train,
    report,
    plot,
    dashboard,
    export,
    import_,
    upgrade,
):
    commands.add_command(command.command)


def main() -> None:
    """Run a command; a person's mistake ends in one line, never in a traceback."""
    try:
        code = commands(standalone_mode=False) or 0
        sys.stdout.flush()
        sys.exit(code)
    except EinsearchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped; nothing recorded is lost", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _no_more_output()
        sys.exit(0)
    except OSError as error:
        click.echo(f"error: {error.filename or 'the output'}: {error.strerror or error}", err=True)
        _no_more_output()
        sys.exit(1)


def _no_more_output() -> None:
    """What is still in the buffer of stdout goes nowhere, instead of failing again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
