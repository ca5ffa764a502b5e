"""The protocol without Ray: trials run in the driver's own process, and drivers that die between any two steps of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search.driver import Task
from search.study import Study
from search.trial import AttemptRunner, Report
from space.structure import Structure
from storage.claims import Finished, Wait

LEDGER, OPTUNA, RUNNER = "storage.ledger.Ledger", "search.optuna_side.OptunaSide", "search.trial.AttemptRunner"

STEPS = [
    (LEDGER, "claim", "after", 1),
    (LEDGER, "claim", "after", 5),
    (LEDGER, "propose", "before", 1),
    (LEDGER, "propose", "after", 2),
    (OPTUNA, "enter", "after", 2),
    (OPTUNA, "enter", "after", 5),
    (LEDGER, "link", "after", 3),
    (RUNNER, "advance", "after", 5),
    (LEDGER, "record", "after", 5),
    (LEDGER, "finish", "before", 2),
    (LEDGER, "finish", "after", 1),
    (LEDGER, "finish", "after", 2),
    (LEDGER, "set_values", "after", 1),
    (OPTUNA, "tell", "after", 1),
    (LEDGER, "mark_told", "after", 1),
    (LEDGER, "mark_told", "after", 6),
]


def test_a_study_in_one_process(study: Study, drive: Callable[..., Any], whole: Callable[..., pd.DataFrame]) -> None:
    with study.driver(create=True) as driver:
        assert drive(driver) == Finished(6)
        assert driver.ended == 6 and driver.running == []
    frame = whole(study, 6)
    assert list(frame["kind"])[:4] == ["baseline", "baseline", "known", "known"]
    assert set(frame["kind"][4:]) <= {"proposal", "random"}
    assert frame["attempts"].tolist() == [1] * 6 and np.isfinite(frame["loss"]).all() and np.isfinite(frame["value"]).all()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[2]}-{step[1]}-{step[3]}")
def test_a_driver_that_dies_anywhere_loses_nothing(
    step: tuple[str, str, str, int],
    study: Study,
    others: Any,
    drive: Callable[..., Any],
    whole: Callable[..., pd.DataFrame],
    planned_losses: dict[int, float],
) -> None:
    assert others.wait(others.start(study, kill=step)) == -signal.SIGKILL
    with study.driver(create=False) as driver:
        assert drive(driver) == Finished(6)
    frame = whole(study, 6, planned_losses)
    assert frame["attempts"].sum() in (6, 7)
