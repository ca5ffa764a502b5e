"""Watching, plotting and reporting a study whose trials were never trained: its ledger is filled in here."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.paper.catalogue import DRAWINGS
from einsearch.foresight import innovations, predictions
from einsearch.observe import Observer
from space.structure import Structure
from storage import queries
from storage.claims import Claim
from storage.database import Database
from storage.ledger import Ledger
from storage.studies import PlannedTrial, create_study, open_study

NAMES = ["dense", "dense", "monarch", "kronecker", "btt:1/4", "low_rank:1/2", "generic", "tensor_train:1/4"]
BUDGET = 1e9
RUNGS = [{"flops": BUDGET / 4, "width": 16}, {"flops": BUDGET, "width": 32}]
NAME = "it's <b>one</b>"


class Made:
    """A study in a database, and this process as its driver."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/made.db"
        self.database = Database.open(self.url, create=True)
        plan = [
            PlannedTrial("baseline" if name == "dense" else "known", Structure.parse(name), n % 2, 16 * (1 + n % 2), {"n": n})
            for n, name in enumerate(NAMES)
        ]
        settings = {"rungs": RUNGS, "trial": {"corpus": "text"}}
        made = create_study(
            self.database, NAME, settings, len(plan), plan, seed=3, corpus_fingerprint="f" * 64, target_compute=BUDGET
        )
        self.ledger = Ledger(self.database, made.id)
        self.driver = self.ledger.join()

    def claim(self) -> Claim:
        claim = self.ledger.claim(self.driver)
        assert isinstance(claim, Claim)
        return claim

    def record(self, claim: Claim, share: float) -> None:
        """Four evaluations on the way to `share` of the budget."""
        spent = RUNGS[claim.number % 2]["flops"] * share
        self.ledger.record(claim, [_point(claim, step, spent * step / 4) for step in range(1, 5)])

    def finish(self, claim: Claim, state: Any = "completed", error: str | None = None) -> None:
        spent = RUNGS[claim.number % 2]["flops"]
        self.record(claim, 1.0)
        loss = _loss(claim, spent) if error is None else None
        self.ledger.finish(claim, state, loss=loss, flops=spent, tokens=4000, steps=4, seconds=8.0, error=error)
        if error is None:
            self.ledger.set_values({claim.trial_id: 0.1 * claim.number})

    def finish_all(self, upto: int = len(NAMES)) -> None:
        for _ in range(upto):
            self.finish(self.claim())


class _Point:
    """What the ledger records of an evaluation."""

    def __init__(self, step: int, flops: float, loss: float) -> None:
        self.step, self.flops, self.loss, self.train_loss = step, flops, loss, loss
        self.tokens, self.seconds, self.warmup = 1000 * step, 2.0 * step, False


def _loss(claim: Claim, flops: float) -> float:
    return 1 + (1 + 0.02 * claim.number) * (flops / 1e7) ** -0.2


def _point(claim: Claim, step: int, flops: float) -> _Point:
    return _Point(step, flops, _loss(claim, flops))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    study = Made(tmp_path)
    yield study
    study.database.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    study = Made(tmp_path_factory.mktemp("whole"))
    study.finish_all()
    yield study
    study.database.close()


def test_a_look_says_what_the_ledger_says(made: Made) -> None:
    made.finish(made.claim())
    observer = Observer(made.database, NAME)
    first = observer.snapshot()
    assert (first.done, first.budget, first.drivers, first.finished, first.running) == (1, 8, 1, (), ())
    second, third = made.claim(), made.claim()
    made.record(second, 0.5)
    now = observer.snapshot()
    assert [(t.number, t.progress, t.kind) for t in now.running] == [(1, 0.5, "baseline"), (2, 0.0, "known")]
    assert now.running[0].loss == pytest.approx(_loss(second, BUDGET / 2)) and math.isnan(now.running[1].loss)
    assert now.flops_spent == pytest.approx(BUDGET / 4 + BUDGET / 2) and now.rate > 0
    made.finish(second)
    made.finish(third, "failed", "out of memory\nat line 3")
    last = observer.snapshot()
    assert [(t.number, t.state) for t in last.finished] == [(1, "completed"), (2, "failed")]
    assert last.failures == {"out of memory": 1} and last.states["failed"] == 1 and last.done == 3
    assert observer.snapshot().finished == ()
    made.finish_all(5)
    assert observer.snapshot().best.name == "tensor_train:1/4"  # type: ignore[union-attr]


def test_watching_once(einsearch: Any, made: Made) -> None:
    claim = made.claim()
    made.record(claim, 0.25)
    told = json.loads(einsearch("watch", "--once", "--format", "json", "--db", made.url).out)
    assert (told["study"], told["done"], told["budget"], told["drivers"]) == (NAME, 0, 8, 1)
    assert told["running"][0]["progress"] == 0.25 and told["best"] is None and told["rate"] is None
    lines = einsearch("watch", NAME, "--once", "--db", made.url).out.splitlines()
    assert lines[0].endswith("0 of 8 trials done") and "trial 0 running: baseline dense rung 0 width 16, 25 % done" in lines[-1]


def test_a_pipe_gets_a_line_for_each_trial_and_the_end(made: Made, command: list[str]) -> None:
    asked = [*command, "watch", NAME, "--db", made.url, "--interval", "0.1"]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        head = [process.stdout.readline() for _ in range(3)]
        assert head[0].endswith("0 of 8 trials done\n")
        made.finish_all()
        out, err = process.communicate(timeout=60)
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [f"[{n + 1}/8] trial {n} completed" for n in range(8)]
    assert lines[-1].startswith("done; see ") and err == "" and process.returncode == 0 and "\x1b" not in out


def test_ctrl_c_leaves_and_the_study_goes_on(made: Made, command: list[str]) -> None:
    asked = [*command, "watch", "--db", made.url, "--format", "json"]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["done"] == 0
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "stopped watching; the study goes on\n"


def test_a_study_that_is_done_ends_the_watch(einsearch: Any, whole: Made) -> None:
    assert einsearch("watch", NAME, "--db", whole.url, "--quiet").out == ""
    (line,) = einsearch("watch", "--db", whole.url, "--format", "json").out.splitlines()
    assert json.loads(line)["done"] == 8
    assert einsearch("watch", "nope", "--db", whole.url).code == 2


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_a_figure_is_a_file(einsearch: Any, whole: Made, suffix: str) -> None:
    ended = einsearch("plot", "frontier", "--db", whole.url, "-o", f"f.{suffix}", "--structure", "monarch")
    assert (ended.code, ended.out) == (0, f"figure: f.{suffix}\n"), ended.err
    assert Path(f"f.{suffix}").stat().st_size > 5000


def test_figures_are_listed_and_mistakes_are_said(einsearch: Any, whole: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = einsearch("plot", "--list").out.splitlines()
    assert sum(not line.startswith(" ") for line in listed) == len(DRAWINGS) and max(map(len, listed)) <= 80
    for wrong, says in (
        (["plot"], "--list"),
        (["plot", "fronteer", "--db", whole.url], "no figure 'fronteer'; there are frontier"),
        (["plot", "frontier", "--db", whole.url, "-o", "f.jpg"], ".svg, .pdf, .png"),
        (["plot", "frontier", "--db", whole.url, "--structure", "monark"], "monark"),
    ):
        ended = einsearch(*wrong)
        assert ended.code == 2 and says in ended.err, ended.err
    assert list(Path.cwd().iterdir()) == []


def test_the_report_in_both_formats(einsearch: Any, whole: Made) -> None:
    assert einsearch("report", NAME, "--db", whole.url, "-o", "new/r.md").out == "report: new/r.md\n"
    text = Path("new/r.md").read_text()
    assert "einsearch resume" in text and "f" * 64 in text
    shown = re.findall(r"!\[(\w+)\]\((r-figures/\w+\.svg)\)", text)
    assert len(shown) >= 10
    for name, place in shown:
        assert (Path("new") / place).read_bytes().startswith(b"<?xml") and DRAWINGS[name].sentence in text
    assert sorted(child.name for child in Path("new").iterdir()) == ["r-figures", "r.md"]
    assert einsearch("report", "--db", whole.url, "--format", "md", "--no-figures", "-o", "a.md").code == 0
    assert not Path("a-figures").exists()
    assert einsearch("report", "--db", whole.url).out == "report: einsearch-report.html\n"
    page = Path("einsearch-report.html").read_text()
    assert "it&#39;s &lt;b&gt;one&lt;/b&gt;" in page and "<b>one</b>" not in page


def test_forecasts_are_those_of_conditioning_step_by_step() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 12))
    covariance, values = root @ root.T + 0.3 * np.eye(9), rng.normal(size=9)
    error, sd = innovations(covariance, values)
    for i in range(9):
        weights = np.linalg.solve(covariance[:i, :i], covariance[:i, i]) if i else np.zeros(0)
        assert error[i] == pytest.approx(values[i] - weights @ values[:i])
        assert sd[i] ** 2 == pytest.approx(covariance[i, i] - weights @ covariance[:i, i])


def test_forecasts_of_a_study(whole: Made) -> None:
    trials = queries.trials_frame(whole.database, NAME)
    found = predictions(trials, open_study(whole.database, NAME))
    assert found is not None and found["number"].tolist() == [6, 7]
    assert found["sd"].gt(0).all() and found["mean"].between(-2, 2).all()
    assert predictions(trials.head(5), open_study(whole.database, NAME)) is None
