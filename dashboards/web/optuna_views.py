"""Optuna's own dashboard behind our gate: its pages, its script and what they read; nothing that writes.

Its paths are fixed (`/dashboard`, `/static`, `/api/...`), so they are passed on as they are. Beyond MOST_TRIALS trials it
takes minutes and gigabytes, and is not offered.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy import func, select

from dashboards.web.state import state_of
from storage.database import Database
from storage.schema import Trial

MOST_TRIALS = 10_000
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' data: 'unsafe-inline'; img-src 'self' data: blob:;"
    " object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Its plots evaluate code that they make; still no inline script, and nothing from elsewhere."""
_SECONDS = 120.0
_PASSED = ("content-type", "content-encoding", "cache-control", "last-modified", "location")

router = APIRouter(include_in_schema=False)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


class OptunaViews:
    """The process that serves Optuna's dashboard, started at its first use. Threads may share it."""

    def __init__(self, database: Database, url: str) -> None:
        self._database = database
        self._url = url
        self._folder = tempfile.TemporaryDirectory(prefix="einsearch-")
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def refusal(self) -> str:
        """Why it is not offered, empty where it is."""
        if find_spec("optuna_dashboard") is None:
            return "optuna-dashboard is not installed"
        with self._database.reading() as session:
            trials = session.scalar(select(func.count()).select_from(Trial)) or 0
        if trials > MOST_TRIALS:
            return f"this database has {trials} trials, and optuna-dashboard is offered up to {MOST_TRIALS}"
        return ""

    def get(self, path: str, accept_encoding: str) -> tuple[int, dict[str, str], bytes]:
        """The answer to a GET: status, headers, body."""
        connection = _Connection(self._started())
        try:
            connection.request("GET", path, headers={"accept-encoding": accept_encoding})
            answer = connection.getresponse()
            headers = {name: value for name in _PASSED if (value := answer.getheader(name)) is not None}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()

    def _started(self) -> str:
        place = Path(self._folder.name, "socket")
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                place.unlink(missing_ok=True)
                command = [sys.executable, "-m", "dashboards.web.optuna_child", str(place)]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                assert self._process.stdin is not None and self._process.stdout is not None
                self._process.stdin.write(self._url + "\n")
                self._process.stdin.flush()
                if self._process.stdout.readline() != "ready\n":
                    raise HTTPException(503, "optuna-dashboard did not start")
        return str(place)


@router.get("/dashboard")
@router.get("/dashboard/{rest:path}")
@router.get("/static/{rest:path}")
@router.get("/api/meta")
@router.get("/api/studies")
@router.get("/api/studies/{rest:path}")
def passed_on(request: Request) -> Response:
    """What Optuna's dashboard answers."""
    views = state_of(request).optuna
    if why := views.refusal():
        raise HTTPException(404, why)
    path = request.scope["raw_path"].decode("ascii", "replace")
    query = request.scope["query_string"].decode("ascii", "replace")
    try:
        status, headers, body = views.get(f"{path}?{query}" if query else path, request.headers.get("accept-encoding", ""))
    except (OSError, http.client.HTTPException) as error:
        raise HTTPException(503, f"optuna-dashboard did not answer: {error}") from error
    return Response(body, status, headers | {"content-security-policy": POLICY})
