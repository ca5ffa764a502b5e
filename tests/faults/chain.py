"""Drivers as processes of their own, with trials that cost nothing: `chain.py` reads orders, one JSON object a line.

{"start": {...}} forks a driver and answers with its process id; {"wait": pid} answers with [pid, how it ended], where pid may
be -1 for any, and an end below 0 is the signal. What an order to start has: `name`, `db`, `trials`, `checkpoints`, `settings`,
`log`, and perhaps

    commit        [n, "before" or "after"]: the driver kills itself at its n-th commit, its own or Optuna's
    calls         [class, method, "before" or "after", n, signal] each: the same at a call, or another signal
    after         seconds after which it is killed, wherever it is
    lost          share of commits that are made and whose answer is lost, as by a connection that broke
    refused       share of transactions that cannot begin
    lease         seconds of the driver's lease
    timeout       seconds a transaction waits for a lock
    pages         pages that the SQLite file may have: a disk that is full
    mode          "ro": the SQLite file cannot be written
    clock         seconds that this process's clock is ahead
    pause         seconds that an evaluation takes
    every         steps between evaluations
    attempts      attempts at a trial that may crash
    behaviour     {trial seed: "raise" | "nan" | "die" | "poor"}: trials that fail, diverge, take their process with them, or
                  have so high a loss that they are stopped where the settings allow it

A trial's loss is that of a chain of hashes over its steps, so that a step taken twice, left out or taken from another trial
shows in it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
import traceback
from pathlib import Path
from typing import Any

STEPS = 6
FLOPS_PER_STEP = 2e9
POOR = 1.0
"""What a poor trial's loss is higher."""


def chain_loss(seed: int, steps: int = STEPS) -> float:
    """The loss after so many steps of the trial with this seed."""
    return _loss(_link(seed, steps), steps)


def _link(seed: int, steps: int) -> str:
    link = str(seed)
    for step in range(1, steps + 1):
        link = _next(link, step)
    return link


def _next(link: str, step: int) -> str:
    return hashlib.sha256(f"{link}/{step}".encode()).hexdigest()


def _loss(link: str, step: int) -> float:
    return 2.0 + 1.0 / step + int(link[:8], 16) / 2**40


class ChainRun:
    """Stands where `trainers.run.TrainingRun` does."""

    pause, every = 0.0, 2
    behaviour: dict[str, str] = {}  # noqa: RUF012 - set once for the process

    def __init__(self, config: Any, corpus: Any) -> None:  # noqa: ARG002 - it reads no data
        self.config, self.step, self.points, self.coordinates, self.diverged = config, 0, [], [], False
        self.steps, self.link = STEPS, str(config.seed)
        self.seconds = 0.0

    @property
    def done(self) -> bool:
        return self.diverged or self.step == self.steps

    @property
    def flops(self) -> float:
        return self.step * FLOPS_PER_STEP

    @property
    def tokens(self) -> int:
        return self.step * 64

    def advance(self, max_steps: int | None = None) -> None:  # noqa: ARG002 - always to the next point
        from trainers.points import Point

        end = self.step + self.every
        while self.step < end:
            self.step += 1
            self.link = _next(self.link, self.step)
        self.seconds = self.step * 0.5
        self._behave(self.behaviour.get(str(self.config.seed)))
        if self.pause:
            time.sleep(self.pause)
        if not self.diverged:
            loss = _loss(self.link, self.step) + POOR * (self.behaviour.get(str(self.config.seed)) == "poor")
            self.points.append(Point(self.step, self.tokens, self.flops, loss, loss, self.seconds, False))

    def _behave(self, how: str | None) -> None:
        if how == "raise":
            raise ZeroDivisionError("no such layer")
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        self.diverged = how == "nan"

    def state_dict(self) -> dict[str, Any]:
        points = [[p.step, p.tokens, p.flops, p.loss, p.train_loss, p.seconds, p.warmup] for p in self.points]
        return {"seed": self.config.seed, "step": self.step, "link": self.link, "seconds": self.seconds, "points": points}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        from space.errors import CheckpointError
        from trainers.points import Point

        if state["seed"] != self.config.seed:
            raise CheckpointError("of another trial")
        self.step, self.link, self.seconds = state["step"], state["link"], state["seconds"]
        self.points = [Point(*row) for row in state["points"]]


def install(order: dict[str, Any]) -> None:
    """Make this process what the order says."""
    from search import driver, plan, steady, steering, trial
    from storage import database, leases

    trial.TrainingRun = ChainRun  # type: ignore[misc,assignment]
    ChainRun.pause, ChainRun.every = order.get("pause", 0.0), order.get("every", 2)
    ChainRun.behaviour = order.get("behaviour", {})
    steady.LONGEST_PAUSE = 0.2
    plan.width_at = _dense_width  # type: ignore[assignment]
    steering.Steering.propose = _at_random  # type: ignore[method-assign,assignment]
    leases.Leases.__init__.__defaults__ = (order.get("attempts", 1000),)
    if "lease" in order:
        driver.Driver.__init__.__defaults__ = (order["lease"],)
    if "clock" in order:
        real, ahead = time.time, order["clock"]
        time.time = lambda: real() + ahead
    if "timeout" in order or "mode" in order:
        original = database.writing_engine
        mode = order.get("mode")
        if mode is not None:
            _connect_as(mode)
        database.writing_engine = lambda place, create, timeout: original(place, create, order.get("timeout", timeout))
    install_engine(order)
    for call in order.get("calls", []):
        die_at(*call)
    if "after" in order:
        signal.setitimer(signal.ITIMER_REAL, order["after"])
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _dense_width(settings: Any, structure: Any, rung: int, vocab_size: int) -> int:
    return int(settings.rungs[rung].width)


def _at_random(self: Any, observed: Any, rng: Any, left: float = 1.0) -> Any:
    return self._random([one for one in observed if not one.structure.is_dense], rng)


def _connect_as(mode: str) -> None:
    from storage import engines

    connect = engines.connect_sqlite
    engines.connect_sqlite = lambda path, _, timeout: connect(path, mode, timeout)


def install_engine(order: dict[str, Any]) -> None:
    """Faults of the database's engine: commits that kill, answers that are lost, a disk that is full."""
    from sqlalchemy import Engine, event
    from sqlalchemy.engine.default import DefaultDialect
    from sqlalchemy.exc import OperationalError

    from storage.leases import Leases

    rng = random.Random(order.get("seed", 0))
    commit = DefaultDialect.do_commit
    deadly, when = order.get("commit", (0, ""))
    commits, ready = 0, False
    join = Leases.join

    def joining(self: Any) -> int:
        nonlocal ready
        ready = True  # whoever starts on a broken database is told so; whoever has started waits for it
        return join(self)

    Leases.join = joining  # type: ignore[method-assign,assignment]

    def do_commit(self: Any, connection: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == deadly and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, connection)
        if commits == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if ready and rng.random() < order.get("lost", 0.0):
            raise broken(self.name)  # SQLAlchemy wraps it as it does the real one

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]
    if order.get("refused"):

        @event.listens_for(Engine, "begin")
        def _begin(connection: Any) -> None:
            if ready and rng.random() < order["refused"]:
                error = broken(connection.dialect.name)
                raise OperationalError("BEGIN", {}, error) from error

    if "pages" in order:

        @event.listens_for(Engine, "connect")
        def _connect(connection: Any, record: Any) -> None:
            connection.execute(f"PRAGMA max_page_count = {order['pages']}")


def broken(dialect: str) -> Exception:
    """What Python's driver of the database raises where the connection broke, or the file is locked."""
    import psycopg

    if dialect == "postgresql":
        return psycopg.OperationalError("server closed the connection unexpectedly")
    return sqlite3.OperationalError("database is locked")


def die_at(place: str, method: str, when: str, call: int, number: int = signal.SIGKILL) -> None:
    """Have the n-th call of a method send this process a signal."""
    module, _, name = place.rpartition(".")
    owner = getattr(importlib.import_module(module), name)
    original = getattr(owner, method)
    calls = 0

    def fatal(*args: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls
        if mine == call and when == "before":
            os.kill(os.getpid(), number)
        answer = original(*args, **keywords)
        if mine == call and when == "after":
            os.kill(os.getpid(), number)
        return answer

    setattr(owner, method, fatal)


def run(order: dict[str, Any]) -> None:
    """What a forked driver does."""
    from search.driver import Task
    from search.report import Report, failure
    from search.settings import StudySettings
    from search.study import Study
    from search.trial import AttemptRunner
    from storage.claims import Wait

    install(order)
    settings = StudySettings.from_dict(order["settings"])
    study = Study(order["name"], db=order["db"], trials=order["trials"], settings=settings, checkpoints=order["checkpoints"])
    with study.driver(create=True) as driver:
        while isinstance(task := driver.next(), Task | Wait):
            if isinstance(task, Wait):
                time.sleep(0.05)
                continue
            last = Report("running")
            try:
                runner = AttemptRunner(task.config, task.place, task.claim.attempt)
                while driver.report(task, last := runner.advance()) and last.state == "running":
                    pass
            except ZeroDivisionError as error:
                driver.report(task, failure(error, last))
        if driver.fault is not None:
            raise driver.fault


def fork(order: dict[str, Any]) -> int:
    """Start a driver; its standard output is ours no more, what it says goes to its log."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        run(order)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must not return
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    """Obey until standard input ends; what still runs then ends too."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    for name in (
        "search.driver",
        "search.study",
        "search.plan",
        "storage.results",
        "psycopg",
        "optuna.storages",
        "alembic.command",
    ):
        importlib.import_module(name)
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            pid = fork(order["start"])
            running.add(pid)
            print(pid, flush=True)
        else:
            pid, status = os.waitpid(order["wait"], 0)
            running.discard(pid)
            print(json.dumps([pid, os.waitstatus_to_exitcode(status)]), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
