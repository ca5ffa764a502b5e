"""Optuna's own dashboard in a process of its own, on a socket that only this user can open.

    python -m dashboards.web.optuna_child SOCKET        the database's URL is the first line of stdin

Loading it takes seconds and hundreds of megabytes, so the page starts it when somebody opens it. It ends with its
parent, whose end closes stdin. Its connection cannot write, whatever it is asked.
"""

from __future__ import annotations

import os
import sys
import threading
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from optuna_dashboard import wsgi

from storage.urls import locate


class _Handler(WSGIRequestHandler):
    """Says nothing; a Unix socket has no address of its peer."""

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingMixIn, WSGIServer):
    """A WSGI server on a Unix socket."""

    address_family = UnixStreamServer.address_family
    daemon_threads = True
    allow_reuse_address = False

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        return self.socket.accept()[0], ("local", 0)


def reading_url(text: str) -> str:
    """The database's URL, so that its connections can only read."""
    location = locate(text)
    if location.path is not None:
        return f"sqlite:///file:{quote(str(location.path))}?mode=ro&uri=true"
    url = location.url.update_query_dict({"options": "-c default_transaction_read_only=on"})
    return url.render_as_string(hide_password=False)


def main() -> None:
    """Serve until the parent goes away."""
    url = sys.stdin.readline().strip()
    os.umask(0o077)
    server = _Server(sys.argv[1], _Handler)  # type: ignore[arg-type]
    server.set_app(wsgi(reading_url(url)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
