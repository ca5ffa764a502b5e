"""The JSON interface: as documented, and the same numbers as the library."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import results
from storage.status import status
from storage.studies import open_study

from .conftest import TRIALS, Site


def test_every_answer_is_as_documented(site: Site) -> None:
    """What schemathesis makes up for each operation, valid and not, is answered as the description says."""
    schema = schemathesis.openapi.from_url(f"{site.base}/api/v1/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 8
    for operation in operations:

        @given(case=st.one_of(operation.as_strategy(mode) for mode in schemathesis.GenerationMode))
        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def answered(case: Any) -> None:
            case.call_and_validate(timeout=120)  # the first leaderboard waits for a helper process

        answered()


def test_it_is_versioned_and_only_reads(site: Site) -> None:
    described = site.ask("/api/v1/openapi.json").json
    assert described["info"]["version"] == "1"
    for path, methods in described["paths"].items():
        assert path.startswith("/api/v1/") and set(methods) == {"get"}
        assert methods["get"]["summary"] and methods["get"]["description"]
        assert "content" in methods["get"]["responses"]["200"], path


def test_the_leaderboard_is_the_library_s(site: Site) -> None:
    found = site.ask("/api/v1/studies/1/leaderboard").json
    assert found["fresh"] and not found["problem"]
    board = results.leaderboard(site.database, open_study(site.database, "made-up"))
    assert [row["key"] for row in found["structures"]] == board["key"].tolist()
    for name in ("multiplier", "multiplier_low", "seconds_multiplier_high", "loss"):
        shown = [math.nan if row[name] is None else row[name] for row in found["structures"]]
        assert shown == pytest.approx(board[name].tolist(), nan_ok=True)
    assert found["laws"]["l_inf"] > 0


def test_a_study_without_dense_results_says_why_it_has_no_leaderboard(site: Site) -> None:
    found = site.ask("/api/v1/studies/2/leaderboard").json
    assert found["structures"] == [] and "dense" in found["problem"]


def test_the_status_is_the_library_s(site: Site) -> None:
    found, known = site.ask("/api/v1/studies/1").json, status(site.database, "made-up")
    assert found["states"] == dict(known.states) and found["done"] == known.done == TRIALS
    assert found["flops"] == pytest.approx(known.flops) and found["rate"] > 0 and found["left"] is None
    assert {cause["state"] for cause in found["causes"]} <= {"failed", "diverged"}


def test_a_trial_is_told_in_full(site: Site) -> None:
    found = site.ask("/api/v1/studies/1/trials/3").json
    assert found["trial"]["number"] == 3 and len(found["points"]) == 6 and len(found["attempts"]) == 1
    assert found["trial"]["config"]["lr"] == 0.003 and found["structure"]["key"] == "dense"


def test_a_plot_is_plain_lists(site: Site) -> None:
    """plotly writes numpy arrays as base64, which a browser cannot extend; nothing of that kind may be sent."""
    for name in ("steering", "frontier", "taxonomy", "curves", "rungs", "progress"):
        answer = site.ask(f"/api/v1/studies/1/plots/{name}")
        assert '"bdata"' not in answer.text and "scattergl" not in answer.text
        assert answer.json["caption"].endswith(".") and answer.json["figure"]["data"]


def test_a_plot_as_csv_has_its_points(site: Site) -> None:
    rows = list(csv.DictReader(io.StringIO(site.ask("/api/v1/studies/1/plots/steering/csv").text)))
    trials = site.ask("/api/v1/studies/1/trials", query={"size": 100}).json["trials"]
    measured = {row["number"]: math.exp(row["value"]) for row in trials if row["value"] is not None}
    drawn = {
        int(float(row["x"])): float(row["y"]) for row in rows if row["trace"] in ("baseline", "known", "proposal", "random")
    }
    assert drawn == pytest.approx(measured)


def test_a_law_can_be_asked_for_without_a_trial(site: Site) -> None:
    whole = site.ask("/api/v1/studies/1/plots/law/csv", query={"structure": "dense"}).text
    without = site.ask("/api/v1/studies/1/plots/law/csv", query={"structure": "dense", "exclude": "0,1"}).text
    assert "trial 0:" in whole and "trial 0:" not in without and "trial 2:" in without
    law = [line for line in whole.splitlines() if line.startswith("law,")]
    assert law and law != [line for line in without.splitlines() if line.startswith("law,")]


def test_a_structure_is_realised_at_a_size(site: Site) -> None:
    found = site.ask("/api/v1/structures", query={"text": "monarch", "d_in": 256, "d_out": 1024}).json
    assert (found["omega"], found["psi"], found["nu"]) == (0, 1, 0.5)
    assert math.prod(found["sizes"].get(edge, 1) for edge in ("XA", "XB", "XAB")) == 256
    refused = site.ask("/api/v1/structures", query={"text": "(1|2)"})
    assert refused.status == 404 and "(1|2)" in refused.json["detail"]
