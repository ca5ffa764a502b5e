"""The connection to Ray: a cluster of this process's own, started beside what the process does meanwhile, or one that runs."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from search.cluster import Cluster
from space.errors import RunError

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the other output obeys verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # nothing resumes from Tune's files
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Ray's settings; what a person has set stays."""

OWN = {
    "RAY_AUTH_MODE": "disabled",  # a cluster of this process's own, on loopback
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # agents of a killed driver look for it so long
    "RAY_enable_metrics_collection": "0",  # nobody reads them, nor the next one
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",  # Ray's head would keep a history of 100 000 tasks
    "RAY_preload_python_modules": "search.worker",  # workers load torch while the driver still prepares
}
"""More of them, for a cluster of this process's own."""

TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

KNOCK_SECONDS = 10.0
"""How long a cluster may take to answer at all."""


class Connection:
    """Ray for as long as a block lasts. It starts in the background; `wait` where it is needed.

    A cluster of this process's own has a CPU for each worker, and ends with the block. A thread holds it throughout, since
    Linux ends Ray's processes with the thread that started them.

    Args:
        workers: trials at a time; None for as many as there is room for.
    """

    def __init__(self, cluster: Cluster, workers: int | None = None) -> None:
        self.cluster, self.workers = cluster, workers or cluster.cpus
        self._there, self._over = threading.Event(), threading.Event()
        self._fault: BaseException | None = None
        self._holder = threading.Thread(target=self._hold, name="einsearch-ray", daemon=True)

    def __enter__(self) -> Connection:
        for name, value in {**QUIET, **(OWN if self.cluster.embedded else {"RAY_AUTH_MODE": _auth_mode()})}.items():
            os.environ.setdefault(name, value)
        import ray  # noqa: F401 - here, for two threads that load it at once may each meet a half of it

        self._holder.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import ray

        try:
            self._there.wait()
            ray.shutdown()
        finally:
            self._over.set()
            self._holder.join()

    def wait(self) -> None:
        """Until Ray is there.

        Raises:
            RunError: the cluster cannot be reached.
        """
        self._there.wait()
        if self._fault is not None:
            raise self._fault
        _handle_again()

    def _hold(self) -> None:
        try:
            if self.cluster.embedded:
                _start(self.workers or 1)
            else:
                _join(self.cluster.address)
        except BaseException as fault:  # noqa: BLE001 - `wait` raises it, where it can be told
            self._fault = fault
        self._there.set()
        self._over.wait()


def _handle_again() -> None:
    """Ray's library has a handler of SIGTERM of its own, which prints a stack; put that of Python back in its place."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _start(cpus: int) -> None:
    """Ray on this machine, reachable on loopback only."""
    import ray

    with _on_loopback(True), _no_more_than_needed():
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def _join(address: str) -> None:
    """Ray as it runs already. The code of this process goes to the workers with it."""
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": runtime_env()}
    try:
        _knock(address)
        with _on_loopback(_is_on_loopback(address)):
            ray.init(address=address, **options)
        if address.startswith("ray://"):
            _work_from_outside()
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`{_hint()}") from error


def _knock(address: str) -> None:
    """Raises OSError where nothing listens at HOST:PORT: Ray itself tries for minutes, and prints each."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _work_from_outside() -> None:
    """Tune asks Ray's node on this machine for a scratch folder; a driver outside of the cluster has no node."""
    import ray.train._internal.storage as theirs

    theirs._get_ray_train_session_dir = lambda: str(Path(tempfile.gettempdir()) / "einsearch-tune")


@contextmanager
def _no_more_than_needed() -> Iterator[None]:
    """Have Ray leave out processes that a study on one machine never asks: the head of a dashboard, which it waits for though
    none is shown; an autoscaler; a collector of logs. Each takes a second of a core and 50 MB.
    """
    from ray._private.node import Node

    def no_dashboard(node: Any, *_: Any, **__: Any) -> None:
        node._webui_url = ""

    def nothing(*_: Any, **__: Any) -> None:
        """Start nothing."""

    with replaced(Node, start_api_server=no_dashboard, start_monitor=nothing, start_log_monitor=nothing):
        yield


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Other private attributes of Ray's, for as long as a block lasts. A version of Ray without one of them does as it does."""
    kept = {name: getattr(owner, name) for name in values if hasattr(owner, name)}
    try:
        for name in kept:
            setattr(owner, name, values[name])
        yield
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)


@contextmanager
def _on_loopback(alone: bool) -> Iterator[None]:
    """Have Ray use loopback only, where the cluster is `alone` on this machine.

    On Linux Ray answers a wish for 127.0.0.1 with the address of the machine, and then listens on all of them, or looks for a
    cluster there. Where it does not expect other machines (as it never does on macOS), it stays on loopback. The variable says
    so to the processes that Ray starts.
    """
    from ray._private import ray_constants

    variable, expected = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    said = os.environ.get(variable)
    if alone:
        ray_constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = expected
        os.environ.pop(variable, None)
        if said is not None:
            os.environ[variable] = said


def _is_on_loopback(address: str) -> bool:
    """Whether a cluster was started on loopback only: `auto` is where Ray itself says it is."""
    from ray._private.services import get_ray_address_from_environment

    found = (get_ray_address_from_environment("auto", None) or "") if address == "auto" else address
    return found.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def runtime_env() -> dict[str, Any]:
    """What Ray ships to the workers: our packages, and what says where their caches and data are."""
    import search
    import space
    import storage
    import trainers

    modules: list[ModuleType] = [space, trainers, storage, search]
    kept = ("XDG_CACHE_HOME", "OMP_NUM_THREADS", "HF_HOME")
    return {
        "py_modules": [str(Path(str(module.__file__)).parent) for module in modules],
        "excludes": ["__pycache__"],
        "env_vars": {name: os.environ[name] for name in kept if name in os.environ},
    }


def _hint() -> str:
    """What to do about the token, which a cluster that asks for one does not mention."""
    if os.environ["RAY_AUTH_MODE"] == "token":
        return "; it was asked with a token (RAY_AUTH_MODE=token), which must be the cluster's own"
    return f"; it was asked without a token (RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}): set {TOKENS[0]} where it needs one"


def _auth_mode() -> str:
    """How to say who we are to a cluster: by a token where there is one."""
    home = Path.home() / ".ray" / "auth_token"
    return "token" if any(os.environ.get(name) for name in TOKENS) or home.is_file() else "disabled"
