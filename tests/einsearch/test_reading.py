"""A finished study, as people and programs read it."""

from __future__ import annotations

import csv
import importlib.util
import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from trainers.config import TrialConfig
from trainers.gpt import GPT
from trainers.gpt_config import model_config

SUM = "SELECT sum(flops), sum(seconds) FROM einsearch_trials"
NAMES = ["structure", "theta", "omega", "psi", "nu", "multiplier", "multiplier_low", "multiplier_high", "loss", "loss_low"]
NAMES += ["loss_high", "flops", "seconds", "trials"]


def ask(finished: Any, question: str) -> Any:
    """The answer of the database itself, past all of ours."""
    connection = sqlite3.connect(finished.folder / "einsearch.db")
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def test_status(study: Any, finished: Any) -> None:
    told = json.loads(study("status", "tiny", "--format", "json").out)
    assert told["trials"] == {"queued": 0, "running": 0, "completed": 6, "truncated": 0, "diverged": 0, "failed": 0}
    assert (told["flops"], told["seconds"]) == pytest.approx(ask(finished, SUM)[0])
    assert told["database"] == finished.db and told["budget"] == told["done"] == 6
    (row,) = csv.DictReader(study("status", "--format", "csv").out.splitlines())
    assert row["study"] == "tiny" and row["trials_completed"] == "6" and float(row["flops"]) == told["flops"]
    text = study("status").out
    assert "6 of 6 done (6 completed)" in text and f"database  {finished.folder}/einsearch.db" in text


def test_the_leaderboard_in_json_is_best_first(study: Any, finished: Any) -> None:
    rows = json.loads(study("leaderboard", "tiny", "--format", "json").out)
    assert {row["structure"] for row in rows} >= {"dense", "monarch", "kronecker"} and len(rows) == 5
    lows = [row["multiplier_low"] for row in rows if row["multiplier_low"] is not None]
    assert lows == sorted(lows, reverse=True)
    for row in rows:
        assert row.keys() >= set(NAMES) and len(row["theta"]) == 7
        known = [row[f"multiplier{end}"] for end in ("_low", "", "_high") if row[f"multiplier{end}"] is not None]
        assert known == sorted(known)
        assert row["loss_low"] <= row["loss"] <= row["loss_high"]
    ((flops, seconds),) = ask(finished, SUM)
    assert sum(row["trials"] for row in rows) == 6
    assert sum(row["flops"] for row in rows) == pytest.approx(flops) and sum(r["seconds"] for r in rows) == pytest.approx(
        seconds
    )


@pytest.mark.parametrize("columns", [80, 160])
def test_tables_fit_the_terminal(study: Any, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (["status"], ["leaderboard"], ["query"], ["query", "--studies"], ["query", "--points", "--study", "tiny"]):
        lines = study(*command).out.splitlines()
        assert max(len(line) for line in lines if not line.startswith(("(not shown", "database"))) <= columns
    head = study("leaderboard").out.splitlines()[0].split()
    assert head[:6] == ["structure", "multiplier", "loss", "omega", "psi", "nu"]
    assert columns < 160 or head[6:9] == ["trials", "flops", "seconds"]


def test_a_pipe_gets_every_column(study: Any) -> None:
    assert "not shown" not in study("query").out + study("leaderboard").out


def test_filters(study: Any, finished: Any) -> None:
    def numbers(*filters: str) -> list[int]:
        return [row["number"] for row in json.loads(study("query", *filters, "--format", "json").out)]

    assert numbers() == list(range(6)) and numbers("--study", "tiny") == numbers()
    assert numbers("--structure", "(0.5|0|0.5|0|0.5|0.5|0)") == numbers("--structure", "monarch") == [2]
    assert numbers("--kind", "baseline") == [0, 1] and numbers("--width", "16") == [1] and numbers("--rung", "1") == [1]
    assert numbers("--omega", "0.5", "0.5") == [3] and numbers("--kind", "known", "--nu", "0", "1") == [2, 3]


def test_no_match_reads_well(study: Any) -> None:
    assert study("query", "--state", "failed").out == "(no trial matches)\n"
    assert json.loads(study("query", "--state", "failed", "--format", "json").out) == []
    assert study("query", "--state", "failed", "--format", "csv").out.startswith("study,number,")


def test_free_sql_and_lists(study: Any) -> None:
    sql = "SELECT structure, count(*) AS n FROM einsearch_trial_view WHERE kind = 'baseline' GROUP BY 1"
    assert json.loads(study("query", "--sql", sql, "--format", "json").out) == [{"structure": "dense", "n": 2}]
    (row,) = json.loads(study("query", "--studies", "--format", "json").out)
    assert (row["study"], row["budget"], row["trials"], row["done"]) == ("tiny", 6, 6, 6)
    points = json.loads(study("query", "--points", "--study", "tiny", "--format", "json").out)
    assert [p["number"] for p in points] == [number for number in range(6) for _ in range(3)]


def test_files_hold_what_is_printed(study: Any, tmp_path: Path) -> None:
    for name in ("t.csv", "t.parquet", "t.json"):
        ended = study("query", "-o", name)
        assert ended.code == 0 and ended.out == "" and ended.err == f"6 rows in {name}\n"
    assert (tmp_path / "t.csv").read_text() == study("query", "--format", "csv").out
    assert (tmp_path / "t.json").read_text() == study("query", "--format", "json").out
    theirs = pd.read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), theirs, check_dtype=False)


def test_the_report_is_one_file(study: Any, tmp_path: Path) -> None:
    ended = study("report", "tiny", "-o", "new/report.html")
    assert ended.code == 0 and ended.out == "report: new/report.html\n"
    assert "tiny" in (tmp_path / "new" / "report.html").read_text()


@pytest.mark.parametrize("structure", [None, "monarch"])
def test_export_is_a_module_that_runs(study: Any, tmp_path: Path, structure: str | None) -> None:
    ended = study("export", "tiny", *(["--structure", structure] if structure else []))
    folder = tmp_path / "einsearch-winner"
    assert ended.code == 0 and ended.out.split() == [f"{folder.name}/winner.{suffix}" for suffix in ("py", "json", "pt")]
    spec = importlib.util.spec_from_file_location("winner", folder / "winner.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    layer = module.Winner(32, 64, bias=True)
    x = torch.randn(2, 32)
    torch.testing.assert_close(layer(x), x @ layer.dense_weight().T + layer.bias)
    told = json.loads((folder / "winner.json").read_text())
    assert module.STRUCTURE == told["key"] == str((structure and layer.structure.key) or told["key"])

    saved = torch.load(folder / "winner.pt", weights_only=True)
    config = TrialConfig.from_dict(saved["config"])
    model = GPT(model_config(config, 96))
    assert config.structure == told["key"] and model.load_state_dict(saved["model"]).missing_keys == []


def test_before_the_baseline_there_is_nothing_to_compare(einsearch: Any, text: Path) -> None:
    from search.settings import StudySettings, with_trial
    from search.study import Study

    settings = with_trial(StudySettings(), {"corpus": str(text)})
    with Study("young", db="sqlite:///einsearch.db", settings=settings).driver(create=True):
        pass
    table, rows = einsearch("leaderboard"), einsearch("leaderboard", "--format", "json")
    assert table.code == rows.code == 0 and table.out == "(nothing yet)\n" and json.loads(rows.out) == []
    assert table.err.startswith("note: study 'young' has no finished dense trial yet") and rows.err.count("\n") == 1
    assert "none; go on with `einsearch resume young`" in einsearch("status").out
    assert einsearch("report").code == 0
    assert einsearch("export").code == 2
    with Study("other", db="sqlite:///einsearch.db", settings=settings).driver(create=True):
        pass
    which = einsearch("status")
    assert (
        which.code == 2 and which.err == "error: which study? sqlite:///einsearch.db has 'young', 'other'; name one of them\n"
    )


def test_a_reader_that_leaves_is_no_error(finished: Any, command: list[str]) -> None:
    """`einsearch query … | head -1`: more is written than a pipe holds, and nobody reads it."""
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i FROM n"
    asked = [*command, "query", "--db", finished.db, "--sql", many, "--format", "csv"]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "i\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_a_full_disk_under_stdout(finished: Any, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        asked = [*command, "status", "--db", finished.db, "--format", "json"]
        done = subprocess.run(asked, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and done.stderr == "error: the output: No space left on device\n"
