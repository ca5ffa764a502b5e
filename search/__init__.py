"""What to try next: the study, its plan, the sampler that steers it, and the executor that runs its trials."""

from __future__ import annotations

from pathlib import Path

DEFAULT_DB = "sqlite:///einsearch.db"
"""The database where nothing else is said: a file in the working directory."""

CHECKPOINTS = "EINSEARCH_CHECKPOINTS"
"""Environment variable that says where checkpoints go."""


def below(place: str, name: str) -> str:
    """`name` in a folder or at a URI."""
    return f"{place.rstrip('/')}/{name}"


def trial_place(checkpoints: str, number: int) -> str:
    """Where a trial's checkpoints are, in the place of its study's."""
    return below(checkpoints, f"trial-{number:05d}")


def corpus_place(name: str) -> str:
    """The corpus as a study records it: a path is made absolute, so that it is the same from every folder."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and name not in ("python", "python-full") else name
