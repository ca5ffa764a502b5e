"""`einsearch dashboard`: the live page of a database."""

from __future__ import annotations

import sys

import click

from einsearch import options

PORT = 8765


@click.command("dashboard")
@options.database
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0 for any free one.")
@click.option(
    "--allow-host", "allowed", multiple=True, metavar="NAME", help="A further host name of this page; repeat for more."
)
@click.option("--token", is_flag=True, help="Want a token on loopback too.")
def command(db: str, host: str, port: int, allowed: tuple[str, ...], token: bool) -> None:
    """Serve the live web page of a database.

    Until Ctrl-C. It reads and never writes. On loopback, the default, anybody with an account on this machine can open it;
    on any other address it wants a token, which is printed once.
    """
    from dashboards.web.serve import serve

    serve(db, host, port, allowed, token, click.echo, (sys.executable, "-m", "einsearch.foresight_worker"))
