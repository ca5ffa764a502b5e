"""What every test runs in: one cache for all worker processes of a test run, and one thread for each of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all worker processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def surroundings(common: Path) -> Iterator[None]:
    """Corpora are prepared and kernels compiled once in a test run, in no cache of a person's; torch takes one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(common / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # else tests that are at work beside them leave Ray's workers next to nothing
        patch.setenv("PYTHONPATH", str(ROOT))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs in the background ignore Ctrl-C
        yield
