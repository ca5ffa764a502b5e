"""Which Ray cluster runs the trials, what each takes of it, and why one waits.

Cluster()                                          Ray on this machine for as long as it is needed, one CPU a trial
Cluster("auto", {"CPU": 1, "GPU": 0.25})           a cluster that runs already, four trials on a GPU
Cluster("ray://10.0.0.1:10001", {"GPU": 1})        the same from outside of it
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from space.errors import ConfigError

EMBEDDED = "local"
"""The address of a cluster of this process's own."""

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

    @property
    def cpus(self) -> int | None:
        """Trials at a time that this machine has CPUs for; None on another cluster, whose room is the only bound."""
        return max(1, int(len(os.sched_getaffinity(0)) / self.resources.get("CPU", 1.0))) if self.embedded else None

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
