"""What a person reads in a terminal, a pipe and a narrow window."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from dashboards.answer import Leader
from dashboards.laws import laws_text
from dashboards.moments import FinishedTrial, LiveSnapshot, RunningTrial, snapshot_lines
from dashboards.numbers import count_text, flops_text, interval_text, scientific, seconds_text
from dashboards.tables import cell, table
from dashboards.terminal import LiveView

NAN = math.nan


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def finished(number: int, loss: float = 1.5) -> FinishedTrial:
    return FinishedTrial(
        number=number, kind="known", structure="monarch", rung=1, width=256, state="completed", loss=loss,
        multiplier=1.3, flops=3.2e11, seconds=83,
    )  # fmt: skip


def snapshot(done: int, *trials: FinishedTrial) -> LiveSnapshot:
    running = RunningTrial(number=7, kind="proposal", structure="[bold]btt:1/4", rung=2, width=512, progress=0.4, loss=NAN)
    return LiveSnapshot(
        study="a[red]b", done=done, budget=25, database="sqlite:///x.db", elapsed=83, seconds_left=120,
        flops_spent=3.2e12, best=Leader("k", "monarch", 1.32, 1.1, 1.55, "one trial"),
        running=(running,), finished=trials,
    )  # fmt: skip


def test_plain_lines_one_per_finished_trial_and_no_control_codes() -> None:
    stream = io.StringIO()
    with LiveView(stream=stream) as view:
        view.update(snapshot(0))
        view.update(snapshot(1, finished(0)))
        view.update(snapshot(3, finished(0), finished(2), finished(1, NAN)))
        view.note("stopping")
    lines = stream.getvalue().splitlines()
    assert lines[0] == (
        "[1/25] trial 0 completed: known monarch rung 1 width 256, loss 1.5000, multiplier 1.30, 3.2e11 FLOPs, 1m 23s"
    )
    assert [line.split(":")[0] for line in lines[1:]] == [
        "[2/25] trial 2 completed", "[3/25] trial 1 completed", "stopping",
    ]  # fmt: skip
    assert "loss –" in lines[2]
    assert all(char.isprintable() or char == "\n" for char in stream.getvalue())


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_says_only_notes(stream: io.StringIO) -> None:
    with LiveView(quiet=True, stream=stream) as view:
        view.update(snapshot(1, finished(0)))
        view.note("a note")
    assert stream.getvalue() == "a note\n"


def test_the_display_of_a_study_that_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    running = tuple(
        RunningTrial(number=n, kind="random", structure="x" * 40, rung=0, width=8, progress=0.5, loss=2.0) for n in range(20)
    )
    states = {"queued": 0, "running": 20, "completed": 3, "failed": 9}
    failures = {f"reason {n} " + "y" * 90: n for n in range(1, 6)}
    moment = replace(snapshot(12), running=running, states=states, failures=failures, drivers=0, rate=2.5e9)
    stream = Terminal()
    with LiveView(stream=stream) as view:
        view.update(moment)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    for part in (
        "20 running, 3 completed, 9 failed", "none; go on with `einsearch resume a[red]b`",
        "3.2e12 FLOPs, 2.5e9 FLOPs a second", "5 × reason 5", "and 2 other reasons", "and 4 more trials",
    ):  # fmt: skip
        assert part in shown
    assert "reason 1 " not in shown and "queued" not in shown
    assert max(len(line) for line in re.split(r"[\r\n]+", shown)) <= 80
    plain = "\n".join(snapshot_lines(moment))
    assert plain.count("running: random") == 20 and plain.count("failed: ") == 5 and "\x1b" not in plain


@pytest.mark.parametrize("width", ["80", "160"])
def test_the_display_fits_and_shows_everything(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with LiveView(stream=stream) as view:
        view.update(snapshot(1, finished(0)))
        view.note("[not markup]")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    for part in (
        "a[red]b",
        "1/25 trials",
        "1m 23s",
        "2m 00s left",
        "1.32 [1.10, 1.55]",
        "3.2e12 FLOPs",
        "sqlite:///x.db",
    ):
        assert part in shown
    assert "[bold]btt" in shown and "proposal" in shown and "[not markup]" in shown
    assert max(len(line) for line in re.split(r"[\r\n]+", shown)) <= int(width)


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("frame", ["trials", "points", "leaderboard"])
def test_tables_fit_and_name_what_they_leave_out(small: Any, frame: str, width: int) -> None:
    data = getattr(small, frame)
    lines = table(data, width=width).splitlines()
    end = next((i for i, line in enumerate(lines) if line.startswith("(not shown")), len(lines))
    shown, said = lines[:end], " ".join(lines[end:])
    assert len(shown) == len(data) + 2
    assert max(map(len, shown)) <= width
    names = re.split(r"\s{2,}", shown[0].strip())
    left = said.rstrip(")").split(": ")[1].split(", ") if said else []
    assert not set(names) & set(left)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_verdict_is_never_cut_and_what_all_share_is_said_once(small: Any, width: int) -> None:
    board = small.leaderboard.assign(
        verdict=[f"single run, L_inf not identified, extrapolated {i}.0x" for i in range(len(small.leaderboard))]
    )
    lines = table(board, ["structure", "multiplier", "loss", "omega", "verdict"], width=width, below="verdict").splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(line.strip() for line in lines)
    assert text.count("L_inf not identified") == text.count("single run") == 1 and "…" not in text
    for number, name in enumerate(board["structure"]):
        place = next(i for i, line in enumerate(lines) if line.split("  ")[0] == name)
        assert lines[place + 1].strip() == f"extrapolated {number}.0x"
    wide = table(board, ["structure", "multiplier", "verdict"], width=200, below="verdict").splitlines()
    assert len(wide) == len(board) + 2 and wide[2].endswith("extrapolated 0.0x")


def test_table_rounds_folds_intervals_and_keeps_gaps() -> None:
    frame = pd.DataFrame(
        {
            "structure": ["monarch", "x" * 60], "multiplier": [1.3219, NAN], "multiplier_low": [1.1, NAN],
            "multiplier_high": [1.549, NAN], "flops": [3.21e11, 0.0], "seconds": [83.0, NAN],
            "rung": pd.array([1, None], dtype="Int64"), "warmup": [True, False],
        }
    )  # fmt: skip
    head, rule, first, second = table(frame, width=120).splitlines()
    assert head.split() == ["structure", "multiplier", "flops", "seconds", "rung", "warmup"]
    assert set(rule) == {"─", " "}
    assert re.split(r"\s{2,}", first) == ["monarch", "1.32 [1.10, 1.55]", "3.2e11", "1m 23s", "1", "yes"]
    assert re.split(r"\s{2,}", second) == ["x" * 43 + "…", "–", "0", "–", "–", "no"]
    assert table(frame.iloc[:0]) == "(nothing yet)"
    assert table(frame, ["seconds"], width=9).splitlines()[0] == "seconds"


def test_laws_text_has_a_line_for_each_structure(small: Any) -> None:
    text = laws_text(small.laws, width=120)
    assert "L_inf" in text and "not identified" in text
    assert sum(line.startswith(("monarch ", "dense ", "generic ")) for line in text.splitlines()) == 3
    report = small.laws.laws["dense"].points
    used, left = sum(r.used for r in report), sum(sum(r.left_out.values()) for r in report)
    assert f"{used} of {used + left}" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.9, "9.9s"), (59.4, "59s"), (59.6, "1m 00s"), (83, "1m 23s"), (3599.7, "1h 00m"),
     (7500, "2h 05m"), (273600, "3d 04h"), (NAN, "–"), (None, "–")],
)  # fmt: skip
def test_seconds(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


def test_numbers() -> None:
    assert [flops_text(v) for v in (3.21e11, 9.99e9, 0, NAN)] == ["3.2e11", "1.0e10", "0", "–"]
    assert scientific(1.5e-3) == "1.5×10⁻³"
    assert interval_text(1.3, NAN, NAN) == "1.30"
    assert (count_text(1, "trial"), count_text(1200, "trial")) == ("1 trial", "1\u202f200 trials")
    assert cell("created", 0.0) == "1970-01-01 00:00:00"
