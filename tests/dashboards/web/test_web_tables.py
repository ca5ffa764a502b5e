"""The trial table and the snapshot behind it, against the database and against brute force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.web.api import trial_row
from dashboards.web.ordering import Column
from dashboards.web.rows import trial_rows
from dashboards.web.sampling import pareto, sample, strata
from dashboards.web.snapshot import Snapshot, read_points, read_snapshot
from dashboards.web.tables import TrialQuery, page
from storage.ledger import Ledger
from storage.schema import TRIAL_KINDS, TRIAL_STATES

from .conftest import NASTY, TRIALS, Site, evaluation, run_one

numbers = st.floats(0.1, 10.0).map(lambda value: round(value, 1))


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40))
def test_the_frontier_is_what_no_other_point_beats(points: list[tuple[float, float]]) -> None:
    x, y = np.array(points).T
    found = pareto(x, y, np.ones(len(x), dtype=np.bool_))
    for i, (xi, yi) in enumerate(points):
        beaten = any(xj <= xi and yj <= yi and (xj, yj) != (xi, yi) for xj, yj in points)
        assert not (found[i] and beaten)
    for xi, yi in set(points):
        beaten = any(xj <= xi and yj <= yi and (xj, yj) != (xi, yi) for xj, yj in points)
        kept = any(found[i] for i, point in enumerate(points) if point == (xi, yi))
        assert kept != beaten


@given(st.lists(st.integers(0, 5), max_size=100), st.integers(1, 50))
def test_a_sample_is_within_its_limit_and_spares_small_groups(groups: list[int], limit: int) -> None:
    stratum = np.array(groups, dtype=np.int64)
    kept = sample(stratum, limit)
    assert len(kept) <= max(limit, 0) or len(groups) <= limit
    assert len(set(kept.tolist())) == len(kept)
    shares = {group: int((stratum[kept] == group).sum()) for group in set(groups)}
    for group, share in shares.items():
        assert share == min(int((stratum == group).sum()), max(shares.values()))


def test_strata_cover_the_range_evenly_in_logarithm() -> None:
    bins = strata(np.geomspace(1e9, 1e12, 400))
    assert set(np.bincount(bins).tolist()) <= {9, 10, 11}


@pytest.mark.parametrize("column", get_args(Column))
def test_rows_come_in_order_with_missing_ones_last(site: Site, column: Any) -> None:
    """Against Python's own sort of what the trials have; in the running study most have no structure yet."""
    for study in (1, 4):
        with site.database.reading() as session:
            snapshot = read_snapshot(session, study)
        has = [value(snapshot, row, column) for row in range(len(snapshot))]
        known = sorted((row for row in range(len(has)) if has[row] is not None), key=lambda row: has[row])
        missing = [row for row in range(len(has)) if has[row] is None]
        up, down = (page(snapshot, TrialQuery(sort=column, order=order, size=100)) for order in ("up", "down"))
        assert up.rows == known + missing and down.rows == known[::-1] + missing
        assert up.matching == down.matching == len(snapshot)


def value(snapshot: Snapshot, row: int, column: str) -> Any:
    """What a trial has in a column of the table, None where nothing."""
    if column in ("kind", "state"):
        return (TRIAL_KINDS if column == "kind" else TRIAL_STATES).index(getattr(trial_row(snapshot, row), column))
    return getattr(trial_row(snapshot, row), column)


def test_names_in_rows_are_text(site: Site) -> None:
    with site.database.reading() as session:
        snapshot = read_snapshot(session, 1)
    names = [f"{NASTY}&{name}" for name in snapshot.structures.names]
    nasty = replace(snapshot, structures=replace(snapshot.structures, names=names, keys=names))
    html = trial_rows(1, nasty, list(range(TRIALS)))
    assert "<script" not in html and html.count("&lt;script&gt;") == html.count("%3Cscript%3E") == TRIALS


def test_filters_agree_with_the_database(site: Site) -> None:
    rows = site.ask("/api/v1/studies/1/trials", query={"size": 100}).json["trials"]
    assert len(rows) == TRIALS
    for name in ("state", "kind", "rung", "width"):
        for value in {row[name] for row in rows}:
            found = site.ask("/api/v1/studies/1/trials", query={"size": 100, name: value}).json
            assert [row["number"] for row in found["trials"]] == [row["number"] for row in rows if row[name] == value]
            assert found["matching"] == len(found["trials"])
    found = site.ask("/api/v1/studies/1/trials", query={"structure": "MONA"}).json["trials"]
    assert {row["structure"] for row in found} == {"monarch"}
    by_key = site.ask("/api/v1/studies/1/trials", query={"structure": found[0]["key"]}).json["trials"]
    assert by_key == found


def test_pages_cut_the_table_without_gaps(site: Site) -> None:
    pages = [site.ask("/api/v1/studies/1/trials", query={"sort": "loss", "size": 25, "page": n}).json for n in (1, 2, 3)]
    assert [part["pages"] for part in pages] == [2, 2, 2]
    seen = [row["number"] for part in pages for row in part["trials"]]
    assert sorted(seen) == list(range(TRIALS))
    assert pages[2]["trials"] == []


def test_new_points_are_added_to_the_known_ones(site: Site) -> None:
    """Reading only what has changed gives what reading everything gives."""
    database = site.database
    with database.reading() as session:
        before = read_snapshot(session, 4)
        known = read_points(session, before)
    ledger = Ledger(database, 4)
    claim: Any = ledger.claim(ledger.join())
    ledger.record(claim, [evaluation(1, warmup=True), evaluation(2), evaluation(3)])
    ledger.requeue(claim, "so that the next test finds it")
    with database.reading() as session:
        now = read_snapshot(session, 4)
        added, whole = read_points(session, now, before, known), read_points(session, now)
    assert len(whole) == len(known) + 2
    for name in ("trial", "flops", "loss"):
        assert sorted(getattr(added, name).tolist()) == sorted(getattr(whole, name).tolist())
    assert now.version != before.version


def test_the_fit_version_changes_with_the_results_only(site: Site) -> None:
    with site.database.reading() as session:
        first = read_snapshot(session, 5)
    run_one(site.database, 5)
    with site.database.reading() as session:
        second = read_snapshot(session, 5)
    assert first.fit_version != second.fit_version
    assert bool(second.measured[0]) and not bool(first.measured[0])
