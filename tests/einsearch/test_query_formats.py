"""Questions on the command line: every format of every answer, and what cannot be asked."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n WHERE i > 1"
QUESTIONS = [[], ["--best"], ["--frontier", "--study", "old"], ["--cost", "state"], ["--failures"], ["--attempts"]]
QUESTIONS += [["--points", "--study", "old"], ["--points"], ["--studies"], ["--sql", "SELECT * FROM einsearch_trial_view"]]
MIXED = "SELECT 1 AS a, 2 AS a, 'x' AS mixed, 1 AS number, NULL AS none UNION ALL SELECT 3, 4, 5, 0.5, NULL"


@pytest.fixture
def old(einsearch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs commands on a study in every state."""
    shutil.copy(ROOT / "tests" / "assets" / "ledger-0001.db", tmp_path / "old.db")
    monkeypatch.setenv("EINSEARCH_DB", "sqlite:///old.db")
    assert einsearch("upgrade").code == 0
    return einsearch


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: " ".join(question) or "trials")
def test_every_format_has_the_same_rows(old: Any, question: list[str]) -> None:
    rows = json.loads(old("query", *question, "--format", "json").out)
    lines = [json.loads(line) for line in old("query", *question, "--format", "jsonl").out.splitlines()]
    table = list(csv.DictReader(old("query", *question, "--format", "csv").out.splitlines()))
    ended = old("query", *question, "-o", "rows.parquet")
    assert lines == rows and len(table) == len(rows) > 0
    assert ended.code == 0 and ended.err == f"{len(rows)} rows in rows.parquet\n"
    frame = pd.read_parquet("rows.parquet")
    assert len(frame) == len(rows) and list(frame.columns) == list(table[0])
    assert old("query", *question).code == 0
    assert len(json.loads(old("query", *question, "--limit", "1", "--format", "json").out)) == 1


def test_reasons_of_failures_are_shown(old: Any) -> None:
    text = old("query", "--failures", "--study", "old").out
    assert all(reason in text for reason in ("out of memory", "its worker process died", "the loss grew past the start"))
    failed = json.loads(old("query", "--failures", "--state", "failed", "--format", "json").out)
    assert [row["error"] for row in failed] == ["out of memory"]


def test_the_frontier_is_what_nothing_beats(old: Any) -> None:
    trials = [row for row in json.loads(old("query", "--study", "old", "--format", "json").out) if row["loss"]]
    beaten = [a for a in trials if any(b["flops"] <= a["flops"] and b["loss"] < a["loss"] for b in trials)]
    rows = json.loads(old("query", "--frontier", "--study", "old", "--format", "json").out)
    assert sorted(row["number"] for row in rows) == [row["number"] for row in trials if row not in beaten]


def test_twice_the_same_name_and_mixed_types(old: Any) -> None:
    old("query", "--sql", MIXED, "-o", "mixed.parquet")
    frame = pd.read_parquet("mixed.parquet")
    assert frame["a"].tolist() == [1, 3] and frame["a_2"].tolist() == [2, 4]
    assert frame["mixed"].tolist() == ["x", "5"] and frame["number"].tolist() == [1.0, 0.5]
    assert frame["none"].isna().all()
    rows = json.loads(old("query", "--sql", MIXED, "--format", "json").out)
    assert rows[1] == {"a": 3, "a_2": 4, "mixed": 5, "number": 0.5, "none": None}


def test_a_long_table_says_what_it_leaves_out(old: Any) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) SELECT i FROM n"
    cut = old("query", "--sql", many)
    assert cut.err.startswith("note: the first 1000 rows; --limit N shows more") and cut.out.splitlines()[-1].strip() == "1000"
    asked = old("query", "--sql", many, "--limit", "1200")
    assert asked.err == "" and asked.out.splitlines()[-1].strip() == "1200"
    assert len(old("query", "--sql", many, "--format", "csv").out.splitlines()) == 1501


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--best", "--frontier"], "ask one"),
        (["--cost", "day"], "a cost by 'day' was asked for; allowed: study, state, kind, structure"),
        (["--cost", "state", "--width", "3"], "costs are not kept by width"),
        (["--frontier"], "which study?"),
        (["--frontier", "--study", "nope"], "no study 'nope'"),
        (["--sql", "SELECT 1", "--study", "old"], "--study filters trials"),
        (["--limit", "0"], "0 is not in the range"),
        (["--sql", ENDLESS, "--timeout", "0.1"], "took longer than 0.1 seconds"),
        (["--sql", "DELETE FROM einsearch_trials"], "only reading is allowed"),
        (["--sql", "WITH x AS (SELECT 1) INSERT INTO einsearch_fits SELECT 1"], "not authorized"),
    ],
)
def test_what_cannot_be_asked_changes_nothing(old: Any, tmp_path: Path, given: list[str], message: str) -> None:
    before = hashlib.sha256((tmp_path / "old.db").read_bytes()).digest()
    ended = old("query", *given)
    assert ended.code == 2 and message in ended.err and ended.out == ""
    assert hashlib.sha256((tmp_path / "old.db").read_bytes()).digest() == before


def test_an_older_database_says_how_it_is_upgraded(einsearch: Any, tmp_path: Path) -> None:
    asset = ROOT / "tests" / "assets" / "ledger-0001.db"
    shutil.copy(asset, tmp_path / "old.db")
    ended = einsearch("query", "--db", "sqlite:///old.db")
    assert ended.code == 2 and "older schema 0001" in ended.err and "`einsearch upgrade`" in ended.err
    assert (tmp_path / "old.db").read_bytes() == asset.read_bytes()
    assert einsearch("upgrade", "--db", "sqlite:///none.db").code == 2 and not (tmp_path / "none.db").exists()
