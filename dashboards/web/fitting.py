"""The laws for the page: asked of a helper process, kept until the study's results change.

A page never waits for a fit: it shows what is known, and is told when there is more.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]
_KEPT = 16
LAWS = (sys.executable, "-m", "dashboards.web.fit_worker")
GONE = "the helper process has ended (perhaps for want of memory); ask again"


@dataclass(frozen=True, slots=True)
class Fit:
    """What is known of a fit: the latest answer (None before the first), and whether it is of the present results."""

    answer: Answer | None
    fresh: bool

    @property
    def error(self) -> str:
        """Why there is no fit, empty where there is one or none yet."""
        return str((self.answer or {}).get("error", ""))

    @property
    def found(self) -> Answer | None:
        """The answer, unless it is an error."""
        return None if self.answer is None or self.error else self.answer


class Fitting:
    """Fits of the studies of one database. Threads may share it."""

    def __init__(self, url: str, tell: Callable[[], None], command: Sequence[str] = LAWS) -> None:
        """`tell` is called when a fit has ended, `command` is the helper process."""
        self._url = url
        self._command = command
        self._tell = tell
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix="einsearch-fit")
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Answer]] = {}
        self._pending: dict[str, Future[Answer]] = {}
        self._process: subprocess.Popen[str] | None = None

    def get(self, study: int, version: str, want: str, wait: float = 0.0, **more: Any) -> Fit:
        """A fit of a study's results of some version, begun where it is not known; waits up to `wait` seconds for it."""
        asked = {"study": study, "want": want, **more}
        slot = json.dumps(asked, sort_keys=True)
        with self._lock:
            known = self._known.get(slot)
            if known is not None and known[0] == version:
                return Fit(known[1], True)
            job = self._pending.get(slot)
            if job is None:
                job = self._pending[slot] = self._jobs.submit(self._run, slot, version, asked)
        if wait > 0:
            try:
                job.result(timeout=wait)
            except TimeoutError:
                return Fit(None if known is None else known[1], False)
            with self._lock:
                known = self._known[slot]
        return Fit(None if known is None else known[1], known is not None and known[0] == version)

    def state(self) -> str:
        """Changes whenever a fit ends."""
        with self._lock:
            return str(hash(tuple((slot, version) for slot, (version, _) in self._known.items())))

    def close(self) -> None:
        """End the helper process."""
        self._jobs.shutdown(wait=False, cancel_futures=True)
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def _run(self, slot: str, version: str, asked: dict[str, Any]) -> Answer:
        answer = self._ask(asked | {"version": version, "url": self._url})
        with self._lock:
            self._known.pop(slot, None)
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[slot] = version, answer
            self._pending.pop(slot, None)
        self._tell()
        return answer

    def _ask(self, request: dict[str, Any]) -> Answer:
        """One request to the helper, which is started where it is not running. The URL goes through its stdin, not its
        arguments, for it may hold a password.
        """
        if self._process is None or self._process.poll() is not None:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(self._command, text=True, encoding="utf-8", **pipes)
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.kill()
            self._process.communicate()
            return {"error": GONE}
        answer: Answer = json.loads(line)
        return answer
