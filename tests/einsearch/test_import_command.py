"""`einsearch import`: what it refuses leaves no trace."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def test_a_file_that_is_no_export_makes_no_database(einsearch: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_text("notes")
    reasons = {"notes.parquet": "it is not a Parquet file that can be read", "none.parquet": "there is no such file"}
    for name, reason in reasons.items():
        ended = einsearch("import", name, "--db", "sqlite:///new.db")
        assert ended.code == 2 and f"error: {name}: {reason}" in ended.err
    assert not (tmp_path / "new.db").exists()


def test_options_that_exclude_each_other(einsearch: Any) -> None:
    for given in (["--as", "x", "--into", "y", "a.parquet"], ["--as", "x", "a.parquet", "b.parquet"]):
        assert "--as names one study" in einsearch("import", *given).err


def test_pooled_trials_get_values_and_are_in_optuna(einsearch: Any, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "assets" / "ledger-0001.db", tmp_path / "einsearch.db")
    einsearch("upgrade")
    einsearch("export", "old", "--data", "old.parquet")
    einsearch("import", "old.parquet", "--db", "sqlite:///two.db", "--as", "two")
    again = einsearch("import", "old.parquet", "--db", "sqlite:///two.db", "--into", "two")
    assert again.out == "two: 0 new trials, 0 completed, 6 here already; 0 entered in Optuna's tables\n"
    conflict = einsearch("import", "old.parquet", "--db", "sqlite:///two.db")
    assert conflict.out.startswith("old: 8 new trials")
