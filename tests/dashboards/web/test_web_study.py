"""What the pages say of stopped runs, of foresight, of learning rates, and while a large study is being read."""

from __future__ import annotations

import csv
import io
import math
import sys
import threading
from typing import Any

import pytest

from dashboards.web import pages, watch
from storage.schema import Decision

from .conftest import Site, served

FORESIGHT = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    found = {"predictions": [[3, 0.25, 0.1], [11, -0.5, 0.2]]} if asked["study"] == 1 else {"error": "too few results"}
    print(json.dumps(found), flush=True)
"""


def test_a_visitor_need_not_wait_for_a_study_that_is_read(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page comes at once, and asks again by itself; what is not a page of a study is not held up."""
    go, read = threading.Event(), watch.read_snapshot

    def slowly(*given: Any) -> Any:
        assert go.wait(60)
        return read(*given)

    monkeypatch.setattr(watch, "read_snapshot", slowly)
    monkeypatch.setattr(pages, "PATIENCE", 0.01)
    with served(filled) as site:
        for end in ("", "/leaderboard", "/trials"):
            first = site.ask(f"/studies/1{end}")
            assert first.status == 200 and 'http-equiv="refresh"' in first.text and "made-up" in first.text
        assert site.ask("/api").status == 200
        go.set()
        monkeypatch.setattr(pages, "PATIENCE", 60.0)
        assert 'http-equiv="refresh"' not in site.ask("/studies/1").text


def test_what_the_search_foresaw_is_drawn_against_what_came(filled: str) -> None:
    with served(filled, foresight=[sys.executable, "-c", FORESIGHT]) as site:
        rows = list(csv.DictReader(io.StringIO(site.ask("/api/v1/studies/1/plots/foresight/csv").text)))
        drawn = {float(row["x"]): float(row["y"]) for row in rows if "foreseen" in row["text"]}
        trials = {row["number"]: row for row in site.ask("/api/v1/studies/1/trials", query={"size": 100}).json["trials"]}
        wanted = {math.exp(0.25): trials[3]["value"], math.exp(-0.5): trials[11]["value"]}
        assert drawn == pytest.approx({x: math.exp(value) for x, value in wanted.items()})
        assert "Of 2 trials that were foreseen" in site.ask("/studies/1/steering").text
        refused = site.ask("/api/v1/studies/2/plots/foresight/csv").text
        assert refused.splitlines() == ["trace,x,y,z,a,b,c,text"]


def test_runs_that_were_stopped_are_told_with_the_evidence(site: Site) -> None:
    assert "No run has been stopped early" in site.ask("/studies/4/rungs").text
    with site.database.session() as session:
        trial = site.ask("/api/v1/studies/1/trials/9").json["trial"]["id"]
        evidence = {"flops": 2.5e11, "loss": 3.25, "budget": 1e12, "bound": 3.125, "frontier": 3.0}
        session.add(Decision(trial_id=trial, step=4, stopped=True, decided=1.8e9, **evidence))
    text = site.ask("/studies/1/rungs").text
    for part in ('href="/studies/1/trials/9"', "25 %", "3.2500", "3.1250", "3.0000", "7.5×10¹¹"):
        assert part in text, part


def test_learning_rates_of_factors_follow_from_the_settings(site: Site) -> None:
    assert "name no base rate" in site.ask("/studies/2/checks").text
    text = site.ask("/studies/1/checks").text
    assert "Every trial ran at the base learning rate 0.003" in text
    assert "A 8 · B 8" in text and "A 0.012 · B 0.012" in text  # monarch at width 64: 0.003 * 64 / (2 * 8)


def test_coordinates_are_drawn_and_their_slopes_told(site: Site) -> None:
    """Synthetic trials move alike at every width, but for a tenth of luck."""
    assert "far enough apart" in site.ask("/studies/2/checks").text
    text = site.ask("/studies/1/checks").text
    assert "After 16 steps" in text and text.count('<td class="num">+0.') + text.count('<td class="num">−0.') >= 10
    rows = list(csv.DictReader(io.StringIO(site.ask("/api/v1/studies/1/plots/coordinates/csv").text)))
    assert {float(row["x"]) for row in rows} == {64, 128, 256}
    logits = [float(row["y"]) for row in rows if "logits" in row["text"]]
    assert logits == pytest.approx([0.5 * math.log(16)] * len(logits), rel=0.11)
    looks = site.ask("/api/v1/studies/1/trials/3").json["coordinates"]
    assert [look["step"] for look in looks] == [4, 8, 16] and looks[-1]["up"] > looks[0]["up"] > 0
