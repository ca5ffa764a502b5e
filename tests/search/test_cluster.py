"""What a trial takes of a cluster, whether it fits, and how a cluster is told who comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.cluster import Cluster, parse_resources
from search.connection import _auth_mode, runtime_env
from space.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu", "'gpu' is not NAME=AMOUNT"),
        ("gpu=some", "'gpu=some' is not NAME=AMOUNT"),
        ("gpu=0", "GPU is 0.0; give a number above 0"),
        ("cpu=nan", "CPU is nan; give a number above 0"),
        ("gpu=1.5", "cannot take 1.5 GPUs"),
    ],
)
def test_resources_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cluster(resources=parse_resources(text))


@pytest.mark.parametrize(
    ("need", "free", "room"),
    [
        ({"CPU": 1.0}, {"CPU": 3.0}, 3),
        ({"CPU": 1.0, "GPU": 0.25}, {"CPU": 16.0, "GPU": 1.0}, 4),
        ({"CPU": 1.0, "GPU": 0.1}, {"CPU": 16.0, "GPU": 0.3}, 3),
        ({"CPU": 1.0, "GPU": 1.0}, {"CPU": 16.0}, 0),
    ],
)
def test_room(need: dict[str, float], free: dict[str, float], room: int) -> None:
    assert Cluster("auto", need).room(free) == room


def test_what_goes_to_the_workers_is_code_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EINSEARCH_DB", "postgresql://ann:hunter2@db/nas")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    shipped = runtime_env()
    assert {Path(folder).name for folder in shipped["py_modules"]} == {"space", "trainers", "storage", "search"}
    assert "hunter2" not in str(shipped)


def test_a_token_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert _auth_mode() == "disabled"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t")
    assert _auth_mode() == "token"
