"""Which Ray cluster runs the trials, what each takes of it, and why one waits.

Cluster()                                          Ray on this machine for as long as it is needed, one CPU a trial
Cluster("auto", {"CPU": 1, "GPU": 0.25})           a cluster that runs already, four trials on a GPU
Cluster("ray://10.0.0.1:10001", {"GPU": 1})        the same from outside of it
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from space.errors import ConfigError, RunError

EMBEDDED = "local"
"""The address of a cluster of this process's own."""

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
}
"""More of them, for a cluster of this process's own."""

TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
KNOWN = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where trials run.

    Args:
        address: `local`, `auto` or `HOST:PORT` of a Ray cluster whose node this is, or `ray://HOST:PORT`.
        resources: what a trial takes of a node, by Ray's names.

    Raises:
        ConfigError: an amount that is not above 0, or more than one GPU and not whole.
    """

    address: str = EMBEDDED
    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1.0})

    def __post_init__(self) -> None:
        for name, amount in self.resources.items():
            if not (math.isfinite(amount) and amount > 0):
                raise ConfigError(f"resources: {name} is {amount}; give a number above 0")
            if name == "GPU" and amount > 1 and amount != int(amount):
                raise ConfigError(f"resources: a trial cannot take {amount} GPUs; give a whole number, or a share below 1")

    @property
    def embedded(self) -> bool:
        """Whether the cluster is this process's own."""
        return self.address == EMBEDDED

    def room(self, free: Mapping[str, float]) -> int:
        """How many more trials fit, judged by the sums over all nodes."""
        return min(int(free.get(name, 0.0) / amount + 1e-9) for name, amount in self.resources.items())


def parse_resources(text: str) -> dict[str, float]:
    """`cpu=1,gpu=0.25` by Ray's names.

    >>> parse_resources("gpu=0.25,cpu=2,tpu_slice=1")
    {'GPU': 0.25, 'CPU': 2.0, 'tpu_slice': 1.0}

    Raises:
        ConfigError: not of that form.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, amount = part.partition("=")
        try:
            found[KNOWN.get(name.strip().lower(), name.strip())] = float(amount)
        except ValueError:
            raise ConfigError(f"resources: {part!r} is not NAME=AMOUNT; write cpu=1,gpu=0.25") from None
    return found


def waiting_for(need: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> str:
    """Why a trial that needs so much of one node has none yet.

    >>> waiting_for({"CPU": 1, "GPU": 1}, [{"CPU": 4}])
    'waiting for 1 GPU: the cluster has none'
    >>> waiting_for({"CPU": 8}, [{"CPU": 4}, {"CPU": 2}])
    'waiting for 8 CPU: the largest node has 4'
    >>> waiting_for({"CPU": 1}, [{"CPU": 4}, {"CPU": 2}])
    'waiting for 1 CPU: all 6 of the cluster are in use'
    """
    have = list(nodes)
    for name, amount in need.items():
        largest = max((node.get(name, 0.0) for node in have), default=0.0)
        if largest < amount:
            rest = f"the largest node has {largest:g}" if largest else "the cluster has none"
            return f"waiting for {amount:g} {name}: {rest}"
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in need.items())
    total = ", ".join(f"{sum(node.get(name, 0.0) for node in have):g}" for name in need)
    return f"waiting for {wanted}: all {total} of the cluster are in use"


@contextmanager
def connected(cluster: Cluster, workers: int | None) -> Iterator[None]:
    """Ray, for as long as it is needed. A cluster of this process's own has `workers` CPUs and ends with it.

    Raises:
        RunError: the cluster cannot be reached.
    """
    import ray

    for name, value in {**QUIET, **(OWN if cluster.embedded else {"RAY_AUTH_MODE": _auth_mode()})}.items():
        os.environ.setdefault(name, value)
    try:
        if cluster.embedded:
            _start(workers or 1)
        else:
            _join(cluster.address)
        yield
    finally:
        ray.shutdown()


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
        with _on_loopback(_is_on_loopback(address)):
            ray.init(address=address, **options)
        if address.startswith("ray://"):
            _work_from_outside()
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`{_hint()}") from error


def _work_from_outside() -> None:
    """Tune asks Ray's node on this machine for a scratch folder; a driver outside of the cluster has no node."""
    import ray.train._internal.storage as theirs

    theirs._get_ray_train_session_dir = lambda: str(Path(tempfile.gettempdir()) / "einsearch-tune")


@contextmanager
def _no_more_than_needed() -> Iterator[None]:
    """Have Ray leave out processes that a study on one machine never asks: the head of a dashboard, which it waits for though
    none is shown; an autoscaler; a collector of logs. Each takes a second of a core and 50 MB. A version of Ray that names them
    otherwise starts them all.
    """
    from ray._private.node import Node

    def no_dashboard(node: Any, *_: Any, **__: Any) -> None:
        node._webui_url = ""

    def nothing(*_: Any, **__: Any) -> None:
        """Start nothing."""

    instead = {"start_api_server": no_dashboard, "start_monitor": nothing, "start_log_monitor": nothing}
    kept = {name: getattr(Node, name) for name in instead if hasattr(Node, name)}
    try:
        for name in kept:
            setattr(Node, name, instead[name])
        yield
    finally:
        for name, start in kept.items():
            setattr(Node, name, start)


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
