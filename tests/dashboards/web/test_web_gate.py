"""Who may ask, and that nothing writes."""

from __future__ import annotations

import ast
import http.client
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dashboards.web import app as application
from dashboards.web.security import is_loopback, trusted_hosts
from space.errors import DatabaseError

from .conftest import NASTY, Site

PATHS = [
    *(
        "/",
        "/studies",
        "/studies?study=1&study=3",
        "/studies/1",
        "/studies/1/leaderboard",
        "/studies/1/frontier",
        "/studies/1/taxonomy",
    ),
    *(
        "/studies/1/structure?key=monarch",
        "/studies/1/trials",
        "/studies/1/trials/0",
        "/studies/1/rungs",
        "/studies/1/steering",
    ),
    *("/studies/1/checks", "/studies/1/provenance", "/studies/1/optuna", "/studies/1/events", "/api", "/plotly.js"),
    *("/assets/page.css", "/assets/page.js", "/assets/theme.js", "/assets/icon.svg"),
    *("/api/v1/openapi.json", "/api/v1/studies", "/api/v1/studies/1", "/api/v1/studies/1/trials", "/api/v1/studies/1/trials/0"),
    *("/api/v1/studies/1/leaderboard", "/api/v1/structures?text=monarch", "/api/v1/studies/1/plots/steering"),
    *(
        "/api/v1/studies/1/plots/steering/csv",
        "/dashboard",
        "/dashboard/studies/1",
        "/static/bundle.js",
        "/api/meta",
        "/api/studies",
    ),
    "/api/studies/1",
]
OURS = [path for path in PATHS if not path.startswith(("/dashboard", "/static", "/api/meta", "/api/studies"))]
"""Those that our own code answers, not Optuna's dashboard behind the gate."""


def templates() -> set[str]:
    """Every path that the application answers, parameters and all."""
    from fastapi import FastAPI

    found: set[str] = set()

    def walk(routes: Any) -> None:
        for route in routes:
            if hasattr(route, "path"):
                found.add(route.path)
            inner = getattr(route, "original_router", None)
            if inner is not None:
                walk(inner.routes)

    parts = (application.api.router, application.pages.router, application.live.router, application.optuna_views.router)
    for part in parts:
        walk(part.routes)
    assert FastAPI is not None
    return found | {"/plotly.js", "/assets", "/api/v1/openapi.json"}


def test_the_list_of_paths_misses_no_route() -> None:
    listed = [path.partition("?")[0] for path in PATHS]
    for template in templates():
        pattern = re.sub(r"\{\w+:path\}", ".+", re.sub(r"\{\w+\}", "[^/]+", template))
        assert any(re.fullmatch(pattern + ("/.*" if template == "/assets" else ""), path) for path in listed), template


def test_without_the_token_no_path_answers_200(guarded: Site) -> None:
    for path in [*PATHS, "/login", "/nowhere", "/docs", "/openapi.json", "/assets/", "//", "/%2e%2e/"]:
        for sent in (
            {},
            {"cookie": "einsearch_token=wrong"},
            {"authorization": "Bearer wrong"},
            {"cookie": "einsearch_token="},
        ):
            for method in ("GET", "HEAD"):
                answer = guarded.ask(path, method, **sent)
                assert answer.status == 401 and "made-up" not in answer.text, (path, sent)


def test_with_the_token_every_path_answers(guarded: Site) -> None:
    for path in OURS:
        for headers in ({"cookie": "einsearch_token=a-secret"}, {"authorization": "Bearer a-secret"}):
            answer = guarded.ask(path, **headers)
            assert answer.status == 200, (path, answer.text)


def test_signing_in_keeps_the_token_in_a_cookie_that_scripts_cannot_read(guarded: Site) -> None:
    for answer in (
        guarded.ask("/login", "POST", "token=a-secret", content_type="application/x-www-form-urlencoded"),
        guarded.ask("/login?token=a-secret"),
    ):
        assert answer.status == 303
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        assert guarded.ask("/studies", cookie=answer.headers["set-cookie"].partition(";")[0]).status == 200


def test_a_wrong_token_is_refused_and_not_repeated(guarded: Site) -> None:
    for body in ("token=guess", "token=", "", "token=" + "a" * 10_000, "token=%ff%fe"):
        answer = guarded.ask("/login", "POST", body)
        assert answer.status == 401 and "set-cookie" not in answer.headers
        assert "guess" not in answer.text and "a-secret" not in answer.text


def test_a_foreign_host_name_gets_400(site: Site) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "localhost.evil"):
        for path in ("/studies", "/api/v1/studies", "/assets/page.css"):
            assert site.ask(path, host=host).status == 400, (host, path)
    for host in ("localhost", "127.0.0.1:99", "[::1]:8765", "LOCALHOST"):
        assert site.ask("/studies", host=host).status == 200, host


def test_only_reading_methods_pass(site: Site) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for path in ("/studies", "/api/v1/studies/1", "/api/studies", "/api/studies/1", "/login", "/dashboard"):
            assert site.ask(path, method).status == 405, (method, path)


def test_head_answers_as_get_does_without_the_body(site: Site) -> None:
    for path in ("/studies", "/studies/1/trials", "/studies/99", "/api/v1/studies/1", "/plotly.js", "/assets/page.css"):
        head, got = site.ask(path, "HEAD"), site.ask(path)
        assert head.status == got.status and head.body == b"" and got.body, path
        assert head.headers["content-type"] == got.headers["content-type"]


def test_every_answer_forbids_foreign_and_inline_scripts(site: Site) -> None:
    for path in OURS:
        answer = site.ask(path)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'", path
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer", path
        if headers["content-type"].startswith("text/html"):
            html = answer.text
            assert not re.search(r"<script(?![^>]*\bsrc=)", html) and not re.search(r"\son\w+=", html), path


def test_names_are_only_names(site: Site) -> None:
    for path in ("/studies", "/studies?study=5", "/studies/5", "/studies/5/provenance", "/studies/5/trials"):
        html = site.ask(path).text
        assert NASTY not in html and "&lt;script&gt;" in html
    assert NASTY in site.ask("/api/v1/studies").text.replace("\\/", "/")
    assert site.ask("/api/v1/studies").headers["content-type"].startswith("application/json")


def test_columns_come_from_a_list(site: Site) -> None:
    for sort in ("loss; DROP TABLE einsearch_trials", "id", "error", "config", "Trial.loss", "", "loss desc"):
        assert site.ask("/api/v1/studies/1/trials", query={"sort": sort}).status == 422, sort
        assert site.ask("/studies/1/trials", query={"sort": sort}).status == 422, sort


def test_the_connection_cannot_write(site: Site) -> None:
    with pytest.raises(DatabaseError), site.database.reading() as session:
        session.execute(text("DELETE FROM einsearch_points"))


def test_the_page_never_asks_for_a_writing_session() -> None:
    for path in (Path(__file__).parents[3] / "dashboards" / "web").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Attribute) and node.attr in {"session", "begin", "lock", "commit"}), path


def test_anything_but_loopback_wants_a_token() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))
    assert trusted_hosts("0.0.0.0") == trusted_hosts("127.0.0.1")
    assert "10.0.0.1" in trusted_hosts("10.0.0.1") and "nas" in trusted_hosts("0.0.0.0", ["nas"])


def test_the_command_prints_the_token_once_and_wants_it(filled: str) -> None:
    command = [sys.executable, "-m", "einsearch", "dashboard", "--db", filled, "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"dashboard: http://127\.0\.0\.1:(\d+)/login\?token=([\w-]{43})\n", line)
            assert found, line
            assert "--allow-host" in process.stdout.readline()
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
            with closing(connection):
                link = f"/login?token={found[2]}"
                known = {"authorization": f"Bearer {found[2]}"}
                for path, headers, status in (("/api/v1/studies", {}, 401), ("/api/v1/studies", known, 200), (link, {}, 303)):
                    connection.request("GET", path, headers=headers)
                    with connection.getresponse() as answer:
                        answer.read()
                    assert answer.status == status
        finally:
            process.terminate()
        rest = process.communicate()
        assert found[2] not in rest[0] + rest[1]


def test_a_missing_database_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "einsearch", "dashboard", "--db", f"sqlite:///{tmp_path}/none.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: no database at")
    assert not list(tmp_path.iterdir())
