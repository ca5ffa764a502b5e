"""Ray clusters whose machines come and go under a study. Run by `make faults`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from search.connection import _on_loopback
from search.study import Study

# Ray's clusters leave files open
pytestmark = pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")

HEAD = Path(__file__).with_name("head.py")
PATIENCE = 300.0
PLAN = [
    *("--rung", "3e8:8", "--rung", "6e8:16", "--baseline", "0:8", "--baseline", "1:16", "--known", "monarch"),
    *("--known", "kronecker", "--trials", "6", "--corpus", "text", "--set", "depth=1", "--set", "context=16"),
    *("--set", "batch_size=4", "--set", "warmup_steps=2", "--set", "evaluations=8", "--set", "eval_windows=8", "--quiet"),
]


@contextmanager
def machines(first: int = 0, **more: Any) -> Iterator[Cluster]:
    """A cluster of this machine's own: a head with so many CPUs, to which others can be added."""
    with pytest.MonkeyPatch.context() as patch, _on_loopback(True):
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": first, "include_dashboard": False, "object_store_memory": 2**27} | more
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()


@contextmanager
def head(**environment: str) -> Iterator[str]:
    """The address of a cluster with settings that this process does not have."""
    command, more = [sys.executable, str(HEAD)], {"RAY_USAGE_STATS_ENABLED": "0"} | environment
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **more}) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def add(cluster: Cluster) -> Any:
    """One more machine, with one CPU."""
    with _on_loopback(True):
        return cluster.add_node(num_cpus=1, object_store_memory=2**27)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 5))) for _ in range(40)]
    (tmp_path / "text").mkdir()
    for number in range(40):
        lines = (" ".join(rng.choices(words, k=8)) for _ in range(40))
        (tmp_path / "text" / f"{number}.txt").write_text("\n".join(lines))
    return tmp_path


class Search:
    """`einsearch` in a process of its own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.db = folder, f"sqlite:///{folder}/einsearch.db"
        self.log = folder / "log.txt"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        command = [sys.executable, "-m", "einsearch", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env={**os.environ, **environment})

    def run(self, *arguments: str) -> int:
        """Run a command to its end."""
        return self.start(*arguments).wait(PATIENCE)

    def status(self) -> dict[str, Any]:
        """What `einsearch status` says; nothing while there is no study."""
        command = [sys.executable, "-m", "einsearch", "status", "--format", "json"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def points(self) -> int:
        """Evaluations that trials under way have recorded."""
        import sqlite3
        from contextlib import closing, suppress

        with suppress(sqlite3.Error), closing(sqlite3.connect(self.folder / "einsearch.db")) as file:
            query = (
                "SELECT count(*) FROM einsearch_points p JOIN einsearch_trials t ON t.id = p.trial_id WHERE t.state = 'running'"
            )
            return int(file.execute(query).fetchone()[0])
        return 0

    def attempts(self, state: str) -> int:
        """Attempts in a state."""
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(self.folder / "einsearch.db")) as file:
            return int(file.execute("SELECT count(*) FROM einsearch_attempts WHERE state = ?", (state,)).fetchone()[0])

    def assert_whole(self, trials: int = 6) -> None:
        """Every trial completed, once."""
        frame = Study("laptop", db=self.db).trials_frame()
        assert frame["state"].tolist() == ["completed"] * trials, self.log.read_text()
        assert self.attempts("completed") == trials and self.attempts("running") == 0


def wait_until(condition: Callable[[], Any], what: str) -> None:
    end, pause = time.monotonic() + PATIENCE, threading.Event()
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        pause.wait(0.2)


@pytest.fixture
def search(folder: Path) -> Search:
    return Search(folder)


def test_a_machine_is_removed_and_another_added(search: Search) -> None:
    with machines() as cluster:
        lost = add(cluster)
        driver = search.start("search", *PLAN, "--address", cluster.address)
        wait_until(lambda: search.points() or driver.poll() is not None, "a trial is under way")
        cluster.remove_node(lost, allow_graceful=False)
        wait_until(lambda: search.attempts("preempted") or driver.poll() is not None, "its trial is back in the queue")
        add(cluster)
        assert driver.wait(PATIENCE) == 0, search.log.read_text()
    search.assert_whole()
    assert search.attempts("preempted") >= 1


def test_two_drivers_each_with_a_cluster_of_its_own(search: Search) -> None:
    drivers = [search.start("search", *PLAN, "--concurrency", "1") for _ in range(2)]
    assert [driver.wait(PATIENCE) for driver in drivers] == [0, 0], search.log.read_text()
    search.assert_whole()
    assert search.attempts("preempted") == 0


def test_what_a_study_waits_for_is_told_and_it_stops_at_a_wish(search: Search) -> None:
    with machines(first=1) as cluster:
        driver = search.start("search", *PLAN, "--address", cluster.address, "--resources", "gpu=1")
        told = "waiting for 1 GPU: the cluster has none"
        wait_until(lambda: told in json.dumps(search.status()) or driver.poll() is not None, f"status says {told!r}")
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(PATIENCE) == 143, search.log.read_text()
        said = search.log.read_text()
        assert "stopped; nothing recorded is lost" in said and "***" not in said and "Traceback" not in said
        assert search.run("resume", "laptop", "--quiet", "--address", cluster.address) == 0, search.log.read_text()
    search.assert_whole()


def test_the_head_is_lost(search: Search) -> None:
    with machines(first=1) as cluster:
        driver = search.start("search", *PLAN, "--address", cluster.address, RAY_gcs_rpc_server_reconnect_timeout_s="5")
        wait_until(lambda: search.points() or driver.poll() is not None, "a trial is under way")
    assert driver.wait(PATIENCE) != 0
    assert search.run("resume", "laptop", "--quiet", "--concurrency", "1") == 0, search.log.read_text()
    search.assert_whole()


def test_a_driver_outside_of_the_cluster_and_checkpoints_at_a_uri(search: Search, folder: Path) -> None:
    places = ["--checkpoints", f"file://{folder}/kept"]
    with machines(first=1, ray_client_server_port=10001) as cluster:
        assert cluster.address
        assert search.run("search", *PLAN, *places, "--address", "ray://127.0.0.1:10001") == 0, search.log.read_text()
    search.assert_whole()
    assert len(list((folder / "kept").glob("study-*/trial-*/attempt-1/*.ckpt"))) == 12


def test_a_cluster_that_asks_for_a_token(search: Search) -> None:
    token = "0123456789abcdef" * 2
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    strangers = {
        "asked without a token (RAY_AUTH_MODE=disabled): set RAY_AUTH_TOKEN": {"RAY_AUTH_MODE": "disabled"},
        "which must be the cluster's own": known | {"RAY_AUTH_TOKEN": token[::-1]},
        "no authentication token was found": {"RAY_AUTH_MODE": "token", "HOME": str(search.folder)},
    }
    with head(**known) as address:
        for told, theirs in strangers.items():
            assert search.start("search", *PLAN, "--address", address, **theirs).wait(PATIENCE) == 1
            *_, last = search.log.read_text().splitlines()
            assert last.startswith(f"error: no Ray cluster answers at {address} (") and told in last
        assert search.start("search", *PLAN, "--address", address, **known).wait(PATIENCE) == 0, search.log.read_text()
    search.assert_whole()
    assert "Traceback" not in search.log.read_text() and token not in search.log.read_text()


def test_a_worker_that_takes_too_much_memory_is_killed_and_its_trial_goes_on(search: Search) -> None:
    greedy = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    driver = search.start("search", *PLAN, "--concurrency", "1", **greedy)
    wait_until(lambda: search.status() and search.attempts("preempted"), "a worker was killed for its memory")
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(PATIENCE) == 143, search.log.read_text()
    assert search.run("resume", "laptop", "--quiet", "--concurrency", "1") == 0, search.log.read_text()
    search.assert_whole()


def test_a_folder_that_cannot_be_written_stops_the_run_and_loses_nothing(search: Search, folder: Path) -> None:
    (folder / "file").write_text("not a folder")
    here = ["--concurrency", "2", "--checkpoints"]
    assert search.run("search", *PLAN, *here, f"{folder}/file/checkpoints") == 1
    *_, last = search.log.read_text().splitlines()
    assert last.startswith("error: trial ") and "cannot be written" in last and "give another folder" in last
    assert search.status()["trials"]["queued"] == 4
    assert search.run("resume", "laptop", "--quiet", *here, f"{folder}/elsewhere") == 0, search.log.read_text()
    search.assert_whole()


@pytest.mark.parametrize(
    ("number", "code", "joined"),
    [(signal.SIGINT, 130, False), (signal.SIGINT, 130, True), (signal.SIGTERM, 143, False), (signal.SIGTERM, 143, True)],
)
def test_a_wish_to_stop_leaves_a_checkpoint(search: Search, number: signal.Signals, code: int, joined: bool) -> None:
    with machines(first=1) if joined else nullcontext() as cluster:
        place = ["--address", cluster.address] if cluster is not None else ["--concurrency", "1"]
        driver = search.start("search", *PLAN, *place)
        wait_until(lambda: search.points() or driver.poll() is not None, "a trial is under way")
        driver.send_signal(number)
        assert driver.wait(PATIENCE) == code, search.log.read_text()
        said = search.log.read_text()
        assert "stopping after a checkpoint" in said and "Traceback" not in said and "***" not in said, said
        assert search.status()["trials"]["running"] == search.status()["drivers"] == 0
        assert search.run("resume", "laptop", "--quiet", *place) == 0, search.log.read_text()
    search.assert_whole()
