"""docs/database.md says what is so: its commands run, its views have the columns it names, Optuna opens what it says."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest

from storage.schema import THETA

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "database.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def laptop(einsearch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs commands where `einsearch.db` holds the study `laptop`, of an older schema."""
    shutil.copy(ROOT / "tests" / "assets" / "ledger-0001.db", tmp_path / "einsearch.db")
    connection = sqlite3.connect(tmp_path / "einsearch.db")
    connection.execute("UPDATE einsearch_studies SET name = 'laptop' WHERE name = 'old'")
    connection.execute("UPDATE studies SET study_name = 'laptop'")
    connection.commit()
    connection.close()
    assert einsearch("upgrade").code == 0
    return einsearch


def test_every_command_runs(laptop: Any, tmp_path: Path) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) > 15
    for line in lines:
        name, *arguments = shlex.split(line)
        ended = laptop(*arguments)
        assert (name, ended.code, ended.err.startswith("error")) == ("einsearch", 0, False), (line, ended)
    again = laptop("import", "laptop.parquet", "--db", "sqlite:///pooled.db")
    assert again.out.startswith("laptop: 0 new trials, 0 completed, 8 here already")


def test_the_python_runs_and_optuna_sees_the_imported_trials(
    laptop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks("python")
    names: dict[str, Any] = {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    exec(code, names)
    mine = names["study"].trials_dataframe()
    assert len(mine) == 5 and mine["state"].tolist()[:2] == ["COMPLETE", "COMPLETE"]
    laptop("export", "laptop", "--data", "laptop.parquet")
    assert "6 entered in Optuna's tables" in laptop("import", "laptop.parquet", "--db", "sqlite:///pooled.db").out
    theirs = optuna.load_study(study_name="laptop", storage="sqlite:///pooled.db").trials_dataframe()
    assert theirs["state"].tolist() == ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "FAIL", "FAIL"]
    assert theirs["params_theta_XA"].tolist()[:4] == [1.0, 1.0, 0.5, 1.0]
    assert theirs["user_attrs_ledger_number"].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_columns_of_the_views_are_named(laptop: Any) -> None:
    rows = re.findall(r"^\| `(einsearch_\w+_view)` \| [^|]+ \| (.+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    for view, columns in rows:
        whole = columns.replace("`theta_xa` … `theta_ab`", ", ".join(f"`{name}`" for name in THETA))
        shown = laptop("query", "--sql", f"SELECT * FROM {view} LIMIT 0", "--format", "csv").out
        assert shown.strip().split(",") == re.findall(r"`(\w+)`", whole), view


def test_every_table_is_named(laptop: Any, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "einsearch.db")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    ours = {name for name in tables if name.startswith("einsearch_") and name != "einsearch_alembic_version"}
    assert [name for name in sorted(ours) if f"`{name}`" not in TEXT] == []
