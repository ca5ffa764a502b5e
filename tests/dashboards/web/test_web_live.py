"""What another process records is on the page at once, plots included."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page

from storage.database import Database
from storage.studies import create_study

from .conftest import RECORDED, Site, Visit, drawn, planned, run_one, served

WRITER = """
import sys
from storage.database import Database
from storage.ledger import Ledger
from collections import namedtuple
Point = namedtuple("Point", "step tokens flops loss train_loss seconds warmup")
with Database.open(sys.argv[1]) as database:
    ledger = Ledger(database, 1)
    driver = ledger.join()
    claim = ledger.claim(driver)
    for line in sys.stdin:
        step = int(line)
        if step:
            ledger.record(claim, [Point(step, 100 * step, 1e11 * step, 2 + 1 / step, 2.0, 1.0 * step, False)])
        else:
            ledger.finish(claim, "completed", loss=2.1, flops=1e12, tokens=1000, steps=10, seconds=10.0)
            ledger.set_values({claim.trial_id: 0.25})
        print(step, flush=True)
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Site]:
    url = f"sqlite:///{tmp_path}/live.db"
    with Database.open(url, create=True) as database:
        study = create_study(database, "live", {}, 9, [planned("dense"), planned("monarch"), planned("kronecker")], **RECORDED)
        run_one(database, study.id)
    with served(url) as site:
        yield site


@pytest.fixture
def writer(running: Site) -> Iterator[subprocess.Popen[str]]:
    """A second process that records a point for each number it is told, and ends its trial at 0."""
    command = [sys.executable, "-c", WRITER, running.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def record(process: subprocess.Popen[str], step: int) -> None:
    """Have a point recorded, and wait until it is."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{step}\n")
    process.stdin.flush()
    assert int(process.stdout.readline()) == step


def marks(page: Page, name: str) -> int:
    return int(page.evaluate(f"document.querySelectorAll('#plot-{name} .points path').length"))


def test_points_and_results_of_another_process_are_drawn(running: Site, writer: subprocess.Popen[str], visit: Visit) -> None:
    page = visit.page
    record(writer, 1)
    page.goto(running.base + "/studies/1/frontier")
    drawn(page)
    page.wait_for_selector("#live[data-state=on]")
    for step in (2, 3, 4):
        count = marks(page, "frontier")
        record(writer, step)
        page.wait_for_function(f"() => document.querySelectorAll('#plot-frontier .points path').length > {count}")
    page.goto(running.base + "/studies/1")
    drawn(page)
    page.wait_for_selector("#live[data-state=on]")
    assert marks(page, "steering") == 0
    record(writer, 0)
    page.wait_for_function("() => document.querySelectorAll('#plot-steering .points path').length > 0")
    page.wait_for_selector("div:has(> dd:text('of 9 trials done')) > dt:text-is('2')")
    assert "1.28" in page.locator("#latest").inner_text()
    assert visit.faults == []


def test_the_stream_says_what_changed(running: Site, writer: subprocess.Popen[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    with closing(connection):
        connection.request("GET", "/studies/1/events")
        with connection.getresponse() as answer:
            assert answer.getheader("content-type", "").startswith("text/event-stream")
            first = event(answer)
            record(writer, 1)
            while event(answer)["trials"] == first["trials"]:  # the driver that joined may be told first
                pass


def event(answer: http.client.HTTPResponse) -> dict[str, str]:
    """The next event of the stream."""
    line = ""
    while not line.startswith("data: "):
        line = answer.readline().decode()
    found: dict[str, str] = json.loads(line[6:])
    return found
