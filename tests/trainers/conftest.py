from __future__ import annotations

import pytest
import torch

from trainers.corpus import Corpus, load_corpus


@pytest.fixture(scope="session")
def python_corpus(surroundings: None) -> Corpus:
    """The default corpus, prepared from what is installed."""
    return load_corpus("python")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small products gain nothing from threads, and results then do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are chosen by estimate, the same every time; what a test of the autotuner times, it asks for."""
    monkeypatch.setenv("EINSEARCH_AUTOTUNE", "0")
