"""Optuna's own dashboard behind our gate."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from dashboards.web import optuna_views
from dashboards.web.optuna_child import reading_url
from storage.database import Database
from storage.studies import create_study

from .conftest import RECORDED, Site, planned, served


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A database with our tables and Optuna's, behind a token."""
    url = f"sqlite:///{tmp_path_factory.mktemp('optuna')}/einsearch.db"
    with Database.open(url, create=True) as database:
        create_study(database, "shown", {}, 5, [planned("dense")], **RECORDED)
    study = optuna.create_study(storage=url, study_name="shown", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("theta_XA", 0, 1), n_trials=3)
    with served(url, token="a-secret") as site:
        yield site


def test_its_pages_and_data_pass_with_the_token_only(both: Site) -> None:
    token = {"authorization": "Bearer a-secret"}
    for path in (
        "/dashboard",
        "/dashboard/studies/1",
        "/static/bundle.js",
        "/api/studies",
        "/api/studies/1?after=0",
        "/api/meta",
    ):
        assert both.ask(path).status == 401
        answer = both.ask(path, **token)
        assert answer.status == 200, path
        assert "'unsafe-inline'" not in answer.headers["content-security-policy"].partition("style-src")[0]
        for method in ("POST", "PUT", "DELETE"):
            assert both.ask(path, method, **token).status == 405
    studies = both.ask("/api/studies", **token).json["study_summaries"]
    assert [study["study_name"] for study in studies] == ["shown"]
    assert len(both.ask("/api/studies/1?after=0", **token).json["trials"]) == 3


def test_its_connection_cannot_write(both: Site) -> None:
    with (
        sqlite3.connect(reading_url(both.url).removeprefix("sqlite:///"), uri=True) as connection,
        pytest.raises(sqlite3.OperationalError),
    ):
        connection.execute("DELETE FROM trials")
    connection.close()
    shown = reading_url("postgresql://ann@db.example/nas")
    assert "default_transaction_read_only%3Don" in shown


def test_a_large_database_is_not_offered(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(optuna_views, "MOST_TRIALS", 10)
    answer = site.ask("/dashboard")
    assert answer.status == 404 and "offered up to 10" in answer.text
    assert "offered up to 10" in site.ask("/studies/1/optuna").text
