"""Frames, status and filters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest

from space.errors import ConfigError, StructureError, StudyError
from space.structure import Structure
from storage import queries
from storage.claims import Claim
from storage.database import Database
from storage.filters import Filters
from storage.frames import POINT_COLUMNS, STUDY_COLUMNS, TRIAL_COLUMNS, answer
from storage.ledger import Ledger
from storage.status import status
from storage.studies import StudyRecord, open_study

TRIALS = [
    "number",
    "kind",
    "structure",
    "key",
    "theta_XA",
    "theta_XB",
    "theta_XAB",
    "theta_YA",
    "theta_YB",
    "theta_YAB",
    "theta_AB",
    "omega",
    "psi",
    "nu",
    "rung",
    "width",
    "state",
    "attempts",
    "steps",
    "tokens",
    "flops",
    "loss",
    "seconds",
    "value",
    "optuna_number",
    "created",
    "finished",
]
POINTS = [
    "number",
    "structure",
    "key",
    "rung",
    "width",
    "step",
    "tokens",
    "flops",
    "loss",
    "train_loss",
    "seconds",
    "warmup",
]


@dataclass(frozen=True)
class Evaluation:
    step: int
    tokens: int
    flops: float
    loss: float
    train_loss: float
    seconds: float
    warmup: bool


@pytest.fixture(scope="module")
def lived(standing: Database, new_study: Callable[..., StudyRecord]) -> Database:
    """Two studies, of which `first` has lived, and nothing of it changes any more."""
    live(Ledger(standing, open_study(standing, "first").id))
    new_study(standing, "second")
    return standing


def live(ledger: Ledger) -> None:
    """A dense baseline completes, a Monarch runs, a Kronecker is truncated, a reservation stays blank."""
    driver = ledger.join()
    dense, monarch, third, _ = (ledger.claim(driver) for _ in range(4))
    assert isinstance(dense, Claim) and isinstance(monarch, Claim) and isinstance(third, Claim)
    ledger.link(dense, lambda _: 0)
    ledger.record(
        dense,
        [Evaluation(1, 64, 10.0, 4.0, math.nan, 0.1, True), Evaluation(2, 128, 20.0, 3.0, 2.9, 0.2, False)],
    )
    ledger.finish(dense, "completed", loss=3.0, flops=20.0, tokens=128, steps=2, seconds=0.2)
    ledger.record(monarch, [Evaluation(1, 64, 5.0, 3.5, 3.4, 0.1, False)])
    ledger.propose(third, Structure.parse("kronecker"), 1, 128, {"lr": 0.1}, kind="random")
    ledger.finish(third, "truncated", loss=3.2, flops=7.0, tokens=90, steps=3, seconds=0.5)


def numbers(frame: pd.DataFrame) -> list[int]:
    return frame["number"].tolist()


def test_the_trials_frame_has_the_agreed_columns_and_types(lived: Database) -> None:
    frame = queries.trials_frame(lived, "first")
    assert list(frame.columns) == TRIALS
    assert frame.dtypes.astype(str).to_dict() == TRIAL_COLUMNS
    assert numbers(frame) == [0, 1, 2, 3]
    assert frame["structure"].tolist()[:3] == ["dense", "monarch", "kronecker"]
    assert frame["kind"].tolist() == ["baseline", "known", "random", "proposal"]
    assert frame["state"].tolist() == ["completed", "running", "truncated", "running"]
    monarch = frame.iloc[1]
    assert [monarch[f"theta_{edge}"] for edge in ("XA", "XB", "XAB", "YA", "YB", "YAB", "AB")] == [
        0.5,
        0,
        0.5,
        0,
        0.5,
        0.5,
        0,
    ]
    assert (monarch["omega"], monarch["psi"], monarch["nu"], monarch["width"]) == (0.0, 1.0, 0.5, 256)
    assert (monarch["flops"], monarch["steps"], monarch["tokens"], monarch["attempts"]) == (5.0, 1, 64, 1)
    assert math.isnan(monarch["loss"]) and math.isnan(monarch["finished"]) and monarch["created"] > 1.7e9
    assert frame["optuna_number"].tolist() == [0, pd.NA, pd.NA, pd.NA]


def test_a_reservation_has_no_structure_yet(lived: Database) -> None:
    reserved = queries.trials_frame(lived, "first").iloc[3]
    assert reserved[["structure", "key", "theta_XA", "omega", "rung", "width", "loss", "value"]].isna().all()


def test_values_are_those_that_were_set(ledger: Ledger, database: Database) -> None:
    live(ledger)
    ledger.set_values({settled.trial_id: -settled.flops for settled in ledger.unsettled()})
    assert queries.trials_frame(database, "first")["value"].fillna(1).tolist() == [-20, 1, -7, 1]
    best = status(database, "first").best
    assert best is not None and (best.number, best.value, best.width) == (2, -7.0, 128)


def test_the_points_frame_has_the_agreed_columns_and_types(lived: Database) -> None:
    frame = queries.points_frame(lived, "first")
    assert list(frame.columns) == POINTS
    assert frame.dtypes.astype(str).to_dict() == POINT_COLUMNS
    assert frame[["number", "step", "flops", "loss"]].to_numpy().tolist() == [
        [0, 1, 10, 4],
        [0, 2, 20, 3],
        [1, 1, 5, 3.5],
    ]
    assert frame["warmup"].tolist() == [True, False, False]
    assert frame["train_loss"].isna().tolist() == [True, False, False]


def test_empty_frames_have_the_same_columns_and_types(database: Database, new_study: Callable[..., StudyRecord]) -> None:
    assert queries.studies_frame(database).dtypes.astype(str).to_dict() == STUDY_COLUMNS
    new_study(database, "empty", 3, [])
    trials, points = queries.trials_frame(database, "empty"), queries.points_frame(database, "empty")
    assert (len(trials), len(points)) == (0, 0)
    assert trials.dtypes.astype(str).to_dict() == TRIAL_COLUMNS
    assert points.dtypes.astype(str).to_dict() == POINT_COLUMNS
    best = status(database, "empty").best
    assert best is None


def test_the_studies_frame_lists_every_study(lived: Database) -> None:
    frame = queries.studies_frame(lived)
    assert list(frame.columns) == list(STUDY_COLUMNS)
    assert frame[["study", "budget", "trials", "done", "flops"]].to_numpy().tolist() == [
        ["first", 10, 4, 2, 32.0],
        ["second", 10, 2, 0, 0.0],
    ]


def test_status_tells_how_a_study_stands(lived: Database) -> None:
    now = status(lived, "first")
    assert now.states == {
        "queued": 0,
        "running": 2,
        "completed": 1,
        "truncated": 1,
        "diverged": 0,
        "failed": 0,
    }
    assert (now.study, now.done, now.budget, now.drivers_alive) == ("first", 2, 10, 1)
    assert (now.flops, now.seconds) == (32.0, pytest.approx(0.8))
    assert now.url_shown == lived.url_shown and now.started <= now.now
    assert now.best is not None and (now.best.number, now.best.structure, now.best.loss) == (
        2,
        "kronecker",
        3.2,
    ), "the best structure, dense aside"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), [0, 1, 2, 3, 0, 1]),
        (Filters(study="first"), [0, 1, 2, 3]),
        (Filters(study="first", structure="monarch"), [1]),
        (Filters(structure="(0.5|0|0.5|0|0.5|0.5|0)"), [1, 1]),
        (Filters(state="running"), [1, 3]),
        (Filters(kind="baseline"), [0, 0]),
        (Filters(study="first", width=128, rung=1), [2]),
        (Filters(study="first", omega=(0.0, 0.0)), [0, 1]),
        (Filters(study="first", omega=(0.5, 1.0)), [2]),
        (Filters(study="first", nu=(0.5, 0.5), psi=(0.9, 1.0)), [1, 2]),
        (Filters(study="first", structure="dense", state="running"), []),
    ],
)
def test_select_keeps_what_matches(lived: Database, filters: Filters, expected: list[int]) -> None:
    frame = queries.select(lived, filters)
    assert list(frame.columns) == ["study", *TRIALS]
    assert numbers(frame) == expected


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ({"state": "done"}, ConfigError, "state is 'done'; allowed: queued, running, completed"),
        ({"kind": "guess"}, ConfigError, "kind is 'guess'; allowed: baseline"),
        ({"omega": (1.0, 0.0)}, ConfigError, "omega is 1.0 to 0.0; give a range, the lower end first"),
        ({"psi": (math.nan, 1.0)}, ConfigError, "psi is nan to 1.0"),
        ({"structure": "monarc"}, StructureError, "did you mean 'monarch'"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(wrong: dict[str, object], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        Filters(**wrong)  # type: ignore[arg-type]


def test_every_query_names_an_unknown_study(lived: Database) -> None:
    for query in (queries.trials_frame, queries.points_frame, status):
        with pytest.raises(StudyError, match=r"no study 'frist' in .*; it has 'first', 'second'"):
            query(lived, "frist")
    with pytest.raises(StudyError, match="no study 'frist'"):
        queries.select(lived, Filters(study="frist"))


@pytest.mark.parametrize("ask", [queries.points, queries.attempts, queries.trials])
@pytest.mark.parametrize(
    "filters", [{}, {"study": "first"}, {"structure": "dense"}, {"omega": (0.0, 0.5)}, {"state": "running"}]
)
def test_a_page_is_the_beginning_of_the_whole_answer(lived: Database, ask: Any, filters: dict[str, Any]) -> None:
    whole = answer(lived, ask(Filters(**filters)))
    assert not whole.empty
    for limit in (1, 2, 50):
        pd.testing.assert_frame_equal(answer(lived, ask(Filters(**filters), limit)), whole.head(limit))


@pytest.mark.parametrize(
    ("filters", "found"), [({"omega": (0.0, 0.2)}, [0]), ({"nu": (0.0, 1.0), "state": "truncated"}, [2]), ({"width": 8}, [])]
)
def test_filters_of_the_best_choose_structures_and_trials(lived: Database, filters: dict[str, Any], found: list[int]) -> None:
    assert numbers(answer(lived, queries.best(Filters(study="first", **filters)))) == found
