"""Serve the page until it is stopped."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import uvicorn

from dashboards.web.app import create_app
from dashboards.web.security import LOGIN, is_loopback, new_token, trusted_hosts
from storage.database import Database

_M_ARENA_MAX = -8
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that stand for all of a machine's, and one of them that can be opened."""
_SWITCH_SECONDS = 5e-4
"""After so long a busy thread lets others run; with Python's 5 ms, each time that an answer waits for the database while
another thread computes costs it 5 ms.
"""


def serve(
    url: str,
    host: str,
    port: int,
    allowed: Sequence[str],
    token: bool,
    say: Callable[[str], None],
    foresight: Sequence[str] | None = None,
) -> None:
    """Open the database for reading and serve its page.

    Args:
        host: address to listen on; anything but loopback wants a token from every visitor.
        port: 0 for any free one.
        allowed: further host names under which the page may be asked for.
        token: want a token on loopback too.
        say: where the address, and the token, are printed, once.
        foresight: see `create_app`.

    Raises:
        DatabaseError: the database cannot be used.
    """
    _one_heap()
    sys.setswitchinterval(_SWITCH_SECONDS)
    secret = new_token() if token or not is_loopback(host) else None
    with Database.open(url) as database:
        app = create_app(database, url, token=secret, hosts=trusted_hosts(host, allowed), foresight=foresight)
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)
        listening = config.bind_socket()
        listening.listen()
        shown = allowed[0] if allowed else _EVERYWHERE.get(host, host)
        place = f"http://{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}"
        say(f"dashboard: {place}/" if secret is None else f"dashboard: {place}{LOGIN}?token={secret}")
        if host in _EVERYWHERE and not allowed:
            say("from other machines it answers only under names that --allow-host gives")
        gc.freeze()  # what is loaded by now stays: looking through it again and again would hold up answers
        uvicorn.Server(config).run(sockets=[listening])


def _one_heap() -> None:
    """Have glibc keep one heap for all threads: with one for each, what large studies leave free is kept many times over."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
