"""What a person gets wrong costs one line and nothing else: no traceback, no compute, no file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

READERS = ["status", "leaderboard", "report", "export", "resume"]
SEARCH = ["search", "mine", "--corpus", "text"]


def assert_refused(ended: Any, message: str, code: int = 2) -> None:
    assert ended.code == code and ended.out == ""
    *usage, line = ended.err.splitlines()
    assert message in line
    assert (line.startswith("error: ") and not usage) or (line.startswith("Error: ") and usage[0].startswith("Usage: "))


@pytest.mark.parametrize("reader", [*READERS, "query"])
def test_no_database_and_none_is_made(einsearch: Any, tmp_path: Path, reader: str) -> None:
    for name in [] if reader == "query" else ["mine"], []:
        assert_refused(einsearch(reader, *name), "no database at")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reader", READERS)
def test_an_unknown_study(study: Any, tmp_path: Path, reader: str) -> None:
    assert_refused(study(reader, "nope"), "no study 'nope' in sqlite:///")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["status", "mine"], ["search", "mine"], ["resume", "mine"], ["query"]])
def test_a_file_that_is_no_database_stays_as_it_was(einsearch: Any, tmp_path: Path, command: list[str]) -> None:
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"not a database " * 100)
    assert_refused(einsearch(*command, "--db", f"sqlite:///{junk}"), "is not a SQLite database")
    assert junk.read_bytes() == b"not a database " * 100 and list(tmp_path.iterdir()) == [junk]


def test_a_database_that_is_corrupt_inside(finished: Any, einsearch: Any, tmp_path: Path) -> None:
    whole = (finished.folder / "einsearch.db").read_bytes()
    broken = tmp_path / "broken.db"
    broken.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    for command in (["status", "tiny"], ["leaderboard", "tiny"], ["query"], ["resume", "tiny"]):
        ended = einsearch(*command, "--db", f"sqlite:///{broken}")
        assert ended.code == 2 and ended.err.startswith("error: ") and str(broken) in ended.err


def test_a_database_of_somebody_else(einsearch: Any, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    assert_refused(einsearch("status", "mine", "--db", f"sqlite:///{tmp_path}/other.db"), "not einsearch's")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/x", "mysql is not supported"),
        ("einsearch.db", "is not a database URL"),
        ("sqlite:///", "a study needs a file"),
        ("sqlite:///nowhere/x.db", "no database at"),
        ("postgresql://ann:secret@127.0.0.1:1/x", "postgresql://ann:***@127.0.0.1:1/x cannot be reached"),
    ],
)
def test_urls(einsearch: Any, tmp_path: Path, url: str, message: str) -> None:
    ended = einsearch("status", "mine", "--db", url)
    assert_refused(ended, message)
    assert "secret" not in ended.err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--trials", "0"], "0 is not in the range"),
        (["--trials", "3"], "its plan alone has"),
        (["--concurrency", "0"], "0 is not in the range"),
        (["--rung", "8e8:16", "--rung", "4e8:8"], "above the one before"),
        (["--rung", "nan:8"], "above 0"),
        (["--rung", "0:8"], "above 0"),
        (["--rung", "4e8"], "such as 1e11:24"),
        (["--rung", "4e8:9"], "a multiple of d_head = 8"),
        (["--rung", "100:8"], "pays for 0 steps"),
        (["--baseline", "3:16"], "rung 3 is not one of the 3 rungs"),
        (["--known", "(nan|0|1/2|0|1/2|1/2|0)"], "alpha is 'nan'"),
        (["--known", "dense"], "it is the baseline already"),
        (["--target-compute", "nan"], "'nan' is not a number of FLOPs above 0"),
        (["--explore", "2"], "give a share in [0, 1]"),
        (["--seed", "-1"], "seed is -1"),
        (["--set", "dept=3"], "did you mean 'depth'?"),
        (["--set", "depth"], "is not KEY=VALUE"),
        (["--set", "depth=0"], "depth = 0 is not allowed"),
        (["--set", "structure=monarch"], "structure is set for each trial"),
        (["--set", "context=1000000"], "a context of 1000000 needs at least"),
        (["--corpus", "nowhere"], "no such file or folder"),
        (["--corpus", "empty"], "empty"),
        (["--db", "sqlite:///nowhere/x.db"], "does not exist"),
        (["--report", "text"], "is a directory"),
        (["--sed", "1"], "No such option"),
    ],
)
def test_a_search_that_cannot_be_leaves_nothing(einsearch: Any, text: Path, given: list[str], message: str) -> None:
    (text.parent / "empty").mkdir()
    assert_refused(einsearch(*SEARCH, *given), message)
    assert sorted(text.parent.iterdir()) == [text.parent / "empty", text]


def test_names_that_no_study_can_have(einsearch: Any, text: Path) -> None:
    assert_refused(einsearch("search", "", "--corpus", "text"), "cannot name a study")
    assert list(text.parent.iterdir()) == [text]


def test_a_study_with_other_settings_says_which_differ(study: Any, finished: Any, small: list[str]) -> None:
    same = [str(finished.origin / "text") if word == "text" else word for word in small]
    assert_refused(study("search", "tiny", *same, "--seed", "7"), "exists with other settings: seed")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["resume", "--trials", "4"], "it can only grow"),
        (["resume", "--trials", "some"], "or +20 to extend"),
        (["leaderboard", "--format", "xml"], "'xml' is not one of"),
        (["status", "--format", "parquet"], "'parquet' is not one of"),
        (["query", "--format", "parquet"], "needs -o FILE"),
        (["query", "--kind", "good"], "kind is 'good'; allowed: baseline"),
        (["query", "--state", "done"], "state is 'done'; allowed: queued"),
        (["query", "--psi", "1", "0"], "the lower end first"),
        (["query", "--structure", "mnarch"], "did you mean 'monarch'?"),
        (["query", "--points", "--studies"], "ask one"),
        (["query", "--studies", "--kind", "known"], "--kind filters trials"),
        (["query", "--sql", "DROP TABLE einsearch_trials"], "only reading is allowed"),
        (["query", "--sql", "SELECT thing FROM einsearch_trial_view"], "no such column"),
        (["export", "--structure", "generic"], "has no result of generic"),
    ],
)
def test_questions_that_cannot_be(study: Any, finished: Any, given: list[str], message: str) -> None:
    before = (finished.folder / "einsearch.db").read_bytes()
    assert_refused(study(*given), message)
    assert (finished.folder / "einsearch.db").read_bytes() == before


@pytest.mark.parametrize(
    "given",
    [
        ["report", "-o"],
        ["query", "--format", "csv", "-o"],
        ["query", "-o"],
        ["export", "-o"],
        ["query", "--format", "parquet", "-o"],
    ],
)
def test_output_that_cannot_be_written(study: Any, tmp_path: Path, given: list[str]) -> None:
    (tmp_path / "file").write_text("old")
    assert_refused(study(*given, str(tmp_path / "file" / "below")), "file", code=1)
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
