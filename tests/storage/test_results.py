"""The bridge from the ledger to the laws: what is kept, what is read again, what can be made again."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event, update

from space.errors import StudyError
from space.structure import Structure
from storage import books, refits, results
from storage.claims import Claim
from storage.database import Database
from storage.fits import stored_fits
from storage.laws import Book
from storage.ledger import Ledger
from storage.schema import Fit
from storage.studies import StudyRecord

TARGET = 1e12
RUNS = {"dense": (0.25, 0.5, 1.0), "monarch": (0.5, 1.0), "kronecker": (0.5,)}
FASTER = {"dense": 1.0, "monarch": 1.6, "kronecker": 0.7}


class Evaluation(NamedTuple):
    """A point of a made-up run."""

    step: int
    tokens: int
    flops: float
    loss: float
    train_loss: float
    seconds: float
    warmup: bool


def evaluations(name: str, budget: float, luck: float = 1.0) -> list[Evaluation]:
    """A run on 0.9 + (faster C / 1e12)^-0.3, the first point of it warmup."""
    points = []
    for step, share in enumerate(np.geomspace(0.1, 1.0, 8), start=1):
        flops = float(budget * TARGET * share)
        loss = luck * (0.9 + (FASTER[name] * flops / 1e12) ** -0.3)
        points.append(Evaluation(step, 1000 * step, flops, loss, loss, flops / 1e10, step == 1))
    return points


def run(ledger: Ledger, driver: int, name: str, budget: float, state: str = "completed") -> int:
    """Take the next reserved trial through a run; return its number."""
    claim = ledger.claim(driver)
    assert isinstance(claim, Claim)
    if claim.structure is None:
        assert ledger.propose(claim, Structure.parse(name), 0, 64, {})
    points = evaluations(name, budget, 1 + 0.002 * math.sin(claim.number))
    assert ledger.record(claim, points)
    end = points[-1]
    error = None if state == "completed" else "out of memory"
    loss = end.loss if state == "completed" else None
    ledger.finish(
        claim,
        state,
        loss=loss,
        flops=end.flops,
        tokens=end.tokens,
        steps=8,
        seconds=end.seconds,
        error=error,  # type: ignore[arg-type]
    )
    return claim.number


@pytest.fixture
def filled(database: Database, new_study: object) -> tuple[StudyRecord, Ledger, int]:
    """A study of dense, Monarch and Kronecker runs, a failed one of Kronecker among them."""
    study: StudyRecord = new_study(database, "filled", 50, [], target_compute=TARGET)  # type: ignore[operator]
    ledger = Ledger(database, study.id)
    driver = ledger.join()
    for name, budgets in RUNS.items():
        for budget in budgets:
            run(ledger, driver, name, budget)
    run(ledger, driver, "kronecker", 0.5, "failed")
    return study, ledger, driver


Filled = tuple[StudyRecord, Ledger, int]


def test_the_leaderboard_is_that_of_the_runs_and_counts_everything_that_was_spent(database: Database, filled: Filled) -> None:
    board = results.leaderboard(database, filled[0]).set_index("structure")
    assert list(board.reset_index()[results.COLUMNS]) == results.COLUMNS
    assert board.loc["monarch", "multiplier"] == pytest.approx(1.6, rel=0.1)
    assert board.loc["dense", "multiplier"] == 1.0
    assert board.loc["kronecker", ["trials", "failed"]].tolist() == [2, 1]
    assert board.loc["kronecker", "flops"] == pytest.approx(1e12)
    assert board.loc["kronecker", "seconds"] == pytest.approx(100.0)
    assert board.loc["dense", "flops"] == pytest.approx(1.75e12)
    assert board["probability_best"].sum() == pytest.approx(1.0)
    assert "single run" in board.loc["kronecker", "verdict"]


def test_a_leaderboard_is_kept_until_a_result_comes(database: Database, filled: Filled) -> None:
    study, ledger, driver = filled
    first = results.leaderboard(database, study)
    (kept,) = stored_fits(database, study.id, "standings")
    with database.session() as session:
        marked = kept.payload | {"words": kept.payload["words"] | {"verdict": ["as it was"] * 3}}
        session.execute(update(Fit).where(Fit.settings_hash == kept.hash).values(payload=marked))
    assert set(results.leaderboard(database, study)["verdict"]) == {"as it was"}
    run(ledger, driver, "kronecker", 1.0)
    again = results.leaderboard(database, study)
    assert again.set_index("key").loc[first["key"], "loss"].notna().all()
    assert "as it was" not in set(again["verdict"])


def test_a_book_kept_and_grown_is_the_book_of_all_runs(database: Database, filled: Filled) -> None:
    study, ledger, driver = filled
    books.book(database, study, keep=True)
    run(ledger, driver, "monarch", 0.25)
    grown = books.book(database, study, keep=True)
    with Database.open(database.location.url.render_as_string(hide_password=False)) as again:
        warm = books.book(again, study)
    whole = Book.of(results.runs(database, study))
    assert grown is not None
    assert warm is not None
    for axis in ("compute", "seconds"):
        expected = whole.laws(axis, draws=20).to_dict()  # type: ignore[arg-type]
        assert grown.laws(axis, draws=20).to_dict() == expected  # type: ignore[arg-type]
        assert warm.laws(axis, draws=20).to_dict() == expected  # type: ignore[arg-type]


def test_a_result_costs_the_reading_of_its_structure_alone(database: Database, filled: Filled) -> None:
    study, ledger, driver = filled
    books.book(database, study, keep=True)
    new = run(ledger, driver, "kronecker", 1.0)
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(f"{given[2]} {given[3]}"))
    grown = books.book(database, study, keep=True)
    assert grown is not None and str(new) in grown.fronts[Structure.parse("kronecker").key].run_ids
    read = [statement for statement in asked if "FROM einsearch_trials JOIN einsearch_points" in statement]
    assert len(read) == 1 and Structure.parse("kronecker").key in read[0] and "dense" not in read[0]
    assert not any("einsearch_fits.payload" in statement for statement in asked if statement.startswith("SELECT"))


def test_where_nothing_can_be_kept_the_curves_are_read_once(database: Database, filled: Filled) -> None:
    study = filled[0]
    asked: list[str] = []
    with Database.open(database.location.url.render_as_string(hide_password=False), timeout=0.05) as impatient:
        event.listen(impatient.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
        with database.session() as held:
            database.lock(held, study.id)
            board = results.leaderboard(impatient, study)
    assert sum("FROM einsearch_trials JOIN einsearch_points" in statement for statement in asked) == 1
    assert stored_fits(database, study.id, "standings") == []
    pd.testing.assert_frame_equal(board, results.leaderboard(database, study))


def test_kept_laws_name_their_points_and_are_made_again_by_their_hash(database: Database, filled: Filled) -> None:
    study, ledger, driver = filled
    digest = results.record_laws(database, study)
    run(ledger, driver, "kronecker", 1.0)
    kept, again = refits.refit(database, study, digest[:12])
    assert kept == again
    assert kept["settings"]["trials"] == "0-5"
    assert kept["settings"]["flop_convention"] == "train_flops"
    (report,) = kept["laws"]["compute"]["structures"][Structure.parse("kronecker").key]["points"]
    assert report["run_id"] == "5"
    assert report["used"] + sum(report["left_out"].values()) == 7
    assert "before the end of its run" in report["left_out"]
    assert results.record_laws(database, study) != digest


def test_a_fit_that_cannot_be_made_again_says_why(database: Database, filled: Filled) -> None:
    study = filled[0]
    with pytest.raises(StudyError, match="0 fits of study 'filled' begin with 'abc'; it has none"):
        refits.refit(database, study, "abc")
    digest = results.record_laws(database, study)
    (fit,) = stored_fits(database, study.id, "laws")
    for change, words in (
        ({"flop_convention": "paper_macs"}, "counts FLOPs as paper_macs.* cannot be compared"),
        ({"method": 1}, "made by version 1 of the method"),
        ({"trials": "0-5,40"}, "no longer has the curves of trials 40"),
    ):
        with database.session() as session:
            payload = fit.payload | {"settings": fit.payload["settings"] | change}
            session.execute(update(Fit).where(Fit.settings_hash == digest).values(payload=payload))
        with pytest.raises(StudyError, match=words):
            refits.refit(database, study, digest)


def test_the_value_of_a_trial_is_its_log_multiplier(database: Database, new_study: object, planned: object) -> None:
    plan = [planned("baseline", "dense", 0), planned("baseline", "dense", 1)]  # type: ignore[operator]
    study: StudyRecord = new_study(database, "valued", 9, plan, target_compute=TARGET)  # type: ignore[operator]
    ledger = Ledger(database, study.id)
    driver = ledger.join()
    run(ledger, driver, "dense", 0.5)
    assert results.reference(database, study) is None
    run(ledger, driver, "dense", 1.0)
    number = run(ledger, driver, "monarch", 1.0)
    dense = results.reference(database, study)
    assert dense is not None
    assert results.values(database, study, dense, [number]) == {number: pytest.approx(math.log(1.6), abs=0.1)}


def test_a_study_whose_baseline_failed_cannot_compare(database: Database, new_study: object, planned: object) -> None:
    plan = [planned("baseline", "dense")]  # type: ignore[operator]
    study: StudyRecord = new_study(database, "failed", 9, plan, target_compute=TARGET)  # type: ignore[operator]
    ledger = Ledger(database, study.id)
    run(ledger, ledger.join(), "dense", 0.5, "failed")
    with pytest.raises(StudyError, match="every dense trial of study 'failed' failed or diverged"):
        results.reference(database, study)
    for question in (results.leaderboard, results.lawset, results.forecast, results.surface, results.record_laws):
        with pytest.raises(StudyError, match="has no finished dense trial yet"):
            question(database, study)


def test_ranges_of_numbers_come_back() -> None:
    for numbers in ([], [3], [0, 1, 2], [0, 2, 3, 9], list(range(100))):
        assert refits.numbers_of(refits.ranges(numbers)) == numbers
