"""From a command in the shell to its first trial: `einsearch search`, and the least that a script with Ray Tune does."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

SCRIPT = """
import os
import torch
from ray import tune

class Trial(tune.Trainable):
    def step(self):
        return {"loss": float(torch.ones(2).sum()), "done": True}

class First(tune.Callback):
    def on_trial_start(self, **info):
        print("started", flush=True)

    def on_trial_result(self, **info):
        print("result", flush=True)

tune.run(Trial, num_samples=2, verbose=0, storage_path=os.getcwd(), callbacks=[First()])
"""
"""The reference: what anyone who trains with Ray Tune waits for."""

CLAIMED = "SELECT count(*) FROM einsearch_attempts"
EVALUATED = "SELECT count(*) FROM einsearch_points"


def in_the_shell(folder: Path, corpus: Path, times: int = 3) -> list[tuple[str, str]]:
    """Both, in turns; medians."""
    claimed, evaluated, started, resulted = [], [], [], []
    for turn in range(times):
        for seen, seconds in zip((claimed, evaluated), search(folder / f"{turn}.db", corpus), strict=True):
            seen.append(seconds)
        for seen, seconds in zip((started, resulted), tune_script(folder), strict=True):
            seen.append(seconds)
    return [
        ("`einsearch search` in the shell: seconds until its first trial is claimed", spread(claimed)),
        ("the same: until a trial's first evaluation is recorded", spread(evaluated)),
        ("a script with ray.tune and torch: seconds until its first trial starts", spread(started)),
        ("the same: until its first result", spread(resulted)),
    ]


def spread(seconds: list[float]) -> str:
    return f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def search(db: Path, corpus: Path) -> Iterator[float]:
    """Seconds until a trial is claimed, and until one is evaluated."""
    plan = ["--corpus", str(corpus), "--rung", "3e9:16", "--trials", "8", "--quiet", "--report", str(db.with_suffix(".html"))]
    with command([sys.executable, "-m", "einsearch", "search", "s", "--db", f"sqlite:///{db}", *plan], db.parent) as (since, _):
        for question in (CLAIMED, EVALUATED):
            yield since(lambda question=question: answer(db, question) > 0)


def answer(db: Path, question: str) -> int:
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
        try:
            return int(connection.execute(question).fetchone()[0])
        finally:
            connection.close()
    return 0


def tune_script(folder: Path) -> Iterator[float]:
    """Seconds until a trial starts, and until one has a result."""
    with command([sys.executable, "-c", SCRIPT], folder) as (since, process):
        for word in ("started", "result"):
            yield since(lambda word=word: process.stdout.readline().strip() == word)


@contextmanager
def command(words: list[str], folder: Path) -> Iterator[tuple[Callable[[Callable[[], bool]], float], subprocess.Popen[str]]]:
    """A process, and a function that waits for something of it and says how long it took; the process is then stopped."""
    start = time.perf_counter()
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:

        def since(there: Callable[[], bool]) -> float:
            while not there():
                if process.poll() is not None:
                    raise RuntimeError(f"{words} ended with {process.returncode} before its time")
                time.sleep(0.02)
            return time.perf_counter() - start

        try:
            yield since, process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=60)
            process.kill()
