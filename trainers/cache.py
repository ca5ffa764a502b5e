"""Where prepared corpora, compiled kernels and the plans that were measured are kept on a machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/einsearch`, or `~/.cache/einsearch`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "einsearch"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a file, made if need be, against all other processes: what is made once is made by one of them."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
