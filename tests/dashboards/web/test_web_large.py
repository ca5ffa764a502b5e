"""Every page of a study of 100 000 trials, in the browser: made of the small study's trials, many times over."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import TRIALS, Site, Visit, served, settled, sound

MANY = 100_000
COPIES = MANY // TRIALS - 1
WITH_POINTS = COPIES // 10
"""Copies that have their points too: the benchmark has a million of them."""
BEYOND = 1_000
"""More than the small study's highest row."""
GROW = """
WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < {copies})
INSERT INTO {table} SELECT {columns} FROM {table}, k
WHERE {trial} IN (SELECT id FROM einsearch_trials WHERE study_id = 1 AND number < {trials})
"""
PAGES = {
    "": "of 100\u202f000 trials done",
    "/trials?sort=loss": "page 1 of 2\u202f000",
    "/leaderboard": "Leaderboard",
    "/frontier": "Draw all points",
    "/taxonomy": "How θ splits",
    "/rungs": "A rung is a level of compute",
    "/steering": "The search against random",
    "/checks": "Base learning rates",
    "/provenance": "einsearch report",
    "/optuna": "Not offered here",
    "/structure?key=monarch": "monarch",
    f"/trials/{TRIALS * WITH_POINTS + 3}": f"Trial {TRIALS * WITH_POINTS + 3}",
}
"""Pages of the study, and words that each of them has to say."""


def grow(path: Path) -> None:
    """Many copies of the trials of study 1, under new numbers, and of the points of some."""
    moved = {"id": f"id + {BEYOND} * n", "number": f"number + {TRIALS} * n", "optuna_number": "NULL"}
    with sqlite3.connect(path) as database:
        for table, trial, copies in (("einsearch_trials", "id", COPIES), ("einsearch_points", "trial_id", WITH_POINTS)):
            given = moved if trial == "id" else {"trial_id": moved["id"].replace("id", "trial_id")}
            names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(given.get(name, name) for name in names)
            database.execute(GROW.format(table=table, columns=columns, trial=trial, copies=copies, trials=TRIALS))
        database.execute("UPDATE einsearch_studies SET budget = ? WHERE id = 1", [MANY])


@pytest.fixture
def large(filled: str, tmp_path: Path) -> Iterator[Site]:
    path = tmp_path / "large.db"
    with sqlite3.connect(filled.removeprefix("sqlite:///")) as small:
        small.execute("VACUUM INTO ?", [str(path)])
    grow(path)
    with served(f"sqlite:///{path}") as site:
        yield site


def test_every_page_of_a_large_study(large: Site, visit: Visit) -> None:
    assert large.ask("/api/v1/studies/1").json["done"] > 0.9 * MANY  # waits until the study is in memory
    addresses = {"/studies": "Studies"} | {f"/studies/1{end}": words for end, words in PAGES.items()}
    for address, words in addresses.items():
        settled(visit, large, address)
        assert words in visit.page.locator("main").inner_text(), address
        assert visit.page.locator(".plot.failed").count() == 0
    sound(visit)
