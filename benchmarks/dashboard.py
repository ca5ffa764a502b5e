"""How fast the web page is: `python -m benchmarks.dashboard`, with a real headless Chromium.

Writes a made-up study, serves it as `einsearch dashboard` does, and prints a table of what was measured beside its bar.
Optuna's dashboard is measured on the same database, with as many trials in Optuna's tables as `--optuna` says.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright
from sqlalchemy import text

from benchmarks.synthetic import write_study
from space.structure import Structure
from storage.database import Database
from storage.ledger import Ledger

TABLES = [
    {"sort": sort, "order": order, "page": page} | filters
    for sort, order, page, filters in itertools.product(
        ("number", "structure", "state", "loss", "value", "flops", "omega", "finished"),
        ("up", "down"),
        (1, 300),
        ({}, {"state": "completed"}, {"kind": "random", "rung": 1}, {"structure": "1/2", "size": 100}),
    )
]


class Line(NamedTuple):
    what: str
    measured: str
    bar: str


class Point(NamedTuple):
    """An evaluation as trainers report it."""

    step: int
    tokens: int
    flops: float
    loss: float
    train_loss: float
    seconds: float
    warmup: bool = False


def memory(pid: int, name: str = "VmHWM") -> float:
    """Megabytes: the most a process has held (VmHWM), or what it holds (VmRSS)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024


def children(pid: int, module: str) -> list[int]:
    """The helper processes that run a module."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    found = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return [child for child in found if module in Path(f"/proc/{child}/cmdline").read_text()]


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used: other load on the machine does not count."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(url: str) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """The dashboard as a command: its process, its address, the seconds until it answers its first page."""
    command = [sys.executable, "-m", "einsearch", "dashboard", "--db", url, "--port", "0"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base = process.stdout.readline().removeprefix("dashboard: ").strip().rstrip("/")
        up = time.perf_counter() - started
        try:
            yield process, base, up
        finally:
            process.terminate()


def timed(url: str) -> tuple[float, bytes]:
    started = time.perf_counter()
    with urllib.request.urlopen(url, timeout=600) as answer:
        body = answer.read()
    return time.perf_counter() - started, body


def usable(page: Page, address: str) -> float:
    """Seconds from asking for a page to the last plot in sight being drawn."""
    started = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.wait_for_function(
        "() => [...document.querySelectorAll('figure[data-plot]')]"
        ".filter(f => f.getBoundingClientRect().top < innerHeight).every(f => f.dataset.drawn)",
        timeout=120_000,
    )
    return time.perf_counter() - started


def live(page: Page, base: str, url: str, study: int) -> list[float]:
    """Seconds from a point being recorded to its mark being on the frontier."""
    page.goto(f"{base}/studies/{study}/frontier")
    page.wait_for_selector("figure[data-drawn]")
    page.wait_for_selector("#live[data-state=on]")
    waits = []
    with Database.open(url) as database:
        ledger = Ledger(database, study)
        claim: Any = ledger.claim(ledger.join())
        if claim.structure is None:
            ledger.propose(claim, Structure.parse("monarch"), 0, 64, {})
        for step in range(1, 6):
            count = f"() => document.querySelectorAll('#plot-frontier .points path').length > {marks(page)}"
            ledger.record(claim, [Point(step, step * 10**6, 10.0 ** (9 + step / 5), 3.2 - step / 10, 2.0, float(step))])
            started = time.perf_counter()
            page.wait_for_function(count, polling=20)
            waits.append(time.perf_counter() - started)
            page.wait_for_timeout(3000)
    return waits


def marks(page: Page) -> int:
    return int(page.evaluate("document.querySelectorAll('#plot-frontier .points path').length"))


def pages(base: str, study: int) -> dict[str, str]:
    ends = ("", "/leaderboard", "/frontier", "/taxonomy", "/trials", "/rungs", "/steering")
    return {end.removeprefix("/") or "overview": f"{base}/studies/{study}{end}" for end in ends}


def measure(url: str, study: int, running: tuple[str, int]) -> Iterator[Line]:
    """Everything but Optuna's dashboard."""
    with server(url) as (process, base, up):
        yield Line("start of the server, until it listens", f"{up:.2f} s", "")
        yield from answered(process.pid, base, study)
        overview = pages(base, study)["overview"]
        with tab() as page:
            yield Line("page usable: overview, while the laws are fitted", f"{usable(page, overview):.1f} s", "4 s")
        begun, held = time.perf_counter(), memory(process.pid)
        state = timed(f"{base}/api/v1/studies/{study}/leaderboard")[1]
        helper = max((memory(child) for child in children(process.pid, "fit_worker")), default=0.0)
        waited = f"{time.perf_counter() - begun:.0f} s more" if b'"fresh":true' in state else "not within 20 s"
        yield Line("laws of all structures, by the helper process", f"{waited}, {helper:.0f} MB", "")
    with server(url) as (process, base, _), tab() as page:
        read(base, study)
        for name, address in pages(base, study).items():
            yield Line(f"page usable: {name}", f"{usable(page, address):.1f} s", "4 s")
        yield Line("memory of the server, most ever held", f"{max(held, memory(process.pid)):.0f} MB", "150 MB")
    with server(running[0]) as (_, base, _), tab() as page:
        yield Line("a recorded point is drawn: slowest of 5", f"{max(live(page, base, *running)):.2f} s", "2 s")


def answered(pid: int, base: str, study: int) -> Iterator[Line]:
    """How soon the server answers: pages when all is cold and when it is not, tables while the helper fits the laws."""
    first, _ = timed(f"{base}/studies/{study}")
    yield Line("first HTML of all, everything cold", f"{first:.2f} s", "0.5 s")
    yield Line("and with the study in it, which is read meanwhile", f"{first + read(base, study):.1f} s", "")
    timed(f"{base}/api/v1/studies/{study}/plots/frontier")  # all that is read of the study is read now
    html = [timed(address)[0] for address in pages(base, study).values()]
    yield Line("first HTML of a page, slowest of its pages", f"{max(html):.3f} s", "0.5 s")
    before = processor(pid)
    asked = [(timed(f"{base}/studies/{study}/trials?{urlencode(query)}")[0], urlencode(query)) for query in TABLES]
    tables, slowest = sorted(seconds for seconds, _ in asked), max(asked)[1]
    yield Line(f"table page, filter or sort: median of {len(tables)}", f"{1000 * statistics.median(tables):.0f} ms", "50 ms")
    each = (processor(pid) - before) / len(tables)
    yield Line("table page, filter or sort: processor time, mean", f"{1000 * each:.0f} ms", "50 ms")
    above = sum(seconds > 0.05 for seconds in tables)
    yield Line("table page, filter or sort: slowest, above the bar", f"{1000 * tables[-1]:.0f} ms, {above}", "50 ms")
    yield Line("the slowest of them", slowest, "")


def read(base: str, study: int) -> float:
    """Seconds until the pages of a study have it in them."""
    started = time.perf_counter()
    while b'http-equiv="refresh"' in timed(f"{base}/studies/{study}")[1]:
        pass
    return time.perf_counter() - started


@contextmanager
def tab() -> Iterator[Page]:
    """A page of a browser that has just been started and has nothing in its caches."""
    chromium = shutil.which("chromium")
    assert chromium, "no chromium: install it (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1440, "height": 900})
        browser.close()


def optuna_beside(url: str, trials: int) -> Iterator[Line]:
    """Optuna's dashboard over the same database, its tables filled in bulk."""
    import optuna

    optuna.create_study(storage=url, study_name="made-up")
    with Database.open(url) as database, database.engine.begin() as connection:
        rows = [{"id": n + 1, "number": n, "value": float(n % 97)} for n in range(trials)]
        insert = "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete)"
        connection.execute(text(f"{insert} VALUES (:id, :number, 1, 'COMPLETE', '2026-01-01', '2026-01-02')"), rows)
        insert = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (:id, 0, :value, 'FINITE')"
        connection.execute(text(insert), rows)
        space = '{"name": "FloatDistribution", "attributes": {"low": 0.0, "high": 100.0, "log": false, "step": null}}'
        for name in ("theta_XA", "theta_XB", "theta_YA", "theta_YB", "theta_AB"):
            insert = "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)"
            values = "VALUES (:id, :name, :value, :space)"
            connection.execute(text(f"{insert} {values}"), [row | {"name": name, "space": space} for row in rows])
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), url, "--port", "18089"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while True:
            try:
                timed("http://127.0.0.1:18089/dashboard")
                break
            except OSError:
                time.sleep(0.2)
        seconds, body = timed("http://127.0.0.1:18089/api/studies/1?after=0")
        yield Line(f"optuna-dashboard, {trials} trials: its data", f"{seconds:.1f} s, {len(body) / 1e6:.0f} MB sent", "")
        yield Line("optuna-dashboard: memory, most ever held", f"{memory(process.pid):.0f} MB", "")
        process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", metavar="URL", help="a database that benchmarks.synthetic has written, instead of a new one")
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=10, help="evaluations of a trial")
    parser.add_argument("--optuna", type=int, default=0, metavar="TRIALS")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url, small = f"sqlite:///{folder}/large.db", f"sqlite:///{folder}/small.db"
        if given.db is None:
            with Database.open(url, create=True) as database:
                write_study(database, trials=given.trials, evaluations=given.points)
        with Database.open(small, create=True) as database:
            running = write_study(database, trials=60, kinds=12)
            with database.engine.begin() as connection:
                connection.execute(text("UPDATE einsearch_studies SET budget = budget + 1"))
        load = os.getloadavg()[0]
        print(f"{given.trials} trials with {given.points} points each; load of the machine at the start: {load:.1f}\n")
        print(f"| {'what':<58} | {'measured':<28} | bar |\n|{'-' * 60}|{'-' * 30}|-----|")
        lines = measure(given.db or url, 1, (small, running))
        for line in itertools.chain(lines, optuna_beside(given.db or url, given.optuna) if given.optuna else ()):
            print(f"| {line.what:<58} | {line.measured:<28} | {line.bar} |", flush=True)


if __name__ == "__main__":
    main()
