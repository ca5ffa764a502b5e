"""Where the checkpoints of a trial are kept: a folder, or any place that fsspec reaches by a URI.

    folder/attempt-2/step-000000000120.ckpt

A folder must be one that every worker sees, where there are workers on several machines. What is fetched from elsewhere is
verified by its hash like everything else, so that a file cut off on its way counts as none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from space.errors import CheckpointError, DataError, DiskError
from trainers import checkpoint

KEPT = 2
"""Checkpoints that an attempt keeps: a successor may be reading the one before the last."""


def vault(place: str) -> Vault:
    """The checkpoints of a trial at `place`.

    Raises:
        DataError: a URI of a kind that fsspec does not know, or whose package is not installed.
    """
    return Store(place) if "://" in place else Folder(Path(place))


class Vault(Protocol):
    """The checkpoints of one trial. Every method raises DiskError where the place cannot be used."""

    def clear(self) -> None:
        """Delete all of them."""

    def save(self, attempt: int, step: int, state: Mapping[str, Any]) -> None:
        """Keep the state of an attempt after `step`; it is whole when this returns."""

    def found(self, before: int | None = None) -> Iterator[Path]:
        """What was written, furthest first, each as a local file; only that of attempts `before` a number."""


class Folder:
    """Checkpoints in a folder of this machine, or one that several share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def save(self, attempt: int, step: int, state: Mapping[str, Any]) -> None:
        """Write one file by a rename, and delete what is older than the last few."""
        path = checkpoint.path_at(self._folder / f"attempt-{attempt}", step)
        checkpoint.save(path, state)
        for older in sorted(path.parent.glob(f"*{checkpoint.SUFFIX}"))[:-KEPT]:
            older.unlink(missing_ok=True)

    def found(self, before: int | None = None) -> Iterator[Path]:
        """The files themselves."""
        names = (str(path) for path in self._folder.glob(f"attempt-*/step-*{checkpoint.SUFFIX}"))
        return map(Path, _furthest(names, before))


class Store:
    """Checkpoints at a URI, `s3://bucket/path` for one: written and read through a scratch folder of this machine."""

    def __init__(self, uri: str) -> None:
        import fsspec

        self._uri = uri
        try:
            self._files, self._root = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise DataError(f"checkpoints at {uri}: {error}; give a folder, or a URI that fsspec knows") from error

    def clear(self) -> None:
        """Delete everything below the URI."""
        with self._reaching("written"):
            if self._files.exists(self._root):
                self._files.rm(self._root, recursive=True)

    def save(self, attempt: int, step: int, state: Mapping[str, Any]) -> None:
        """Upload one file, and delete what is older than the last few."""
        folder = f"{self._root}/attempt-{attempt}"
        with tempfile.TemporaryDirectory(prefix="einsearch-checkpoint-") as scratch:
            path = checkpoint.path_at(Path(scratch), step)
            checkpoint.save(path, state)
            with self._reaching("written"):
                self._files.makedirs(folder, exist_ok=True)
                self._files.put_file(str(path), f"{folder}/{path.name}")
        with self._reaching("written"):
            for older in sorted(self._files.glob(f"{folder}/*{checkpoint.SUFFIX}"))[:-KEPT]:
                self._files.rm_file(older)

    def found(self, before: int | None = None) -> Iterator[Path]:
        """A copy of each; it lives until the next one is asked for."""
        with self._reaching("read"):
            self._files.invalidate_cache()
            names = self._files.glob(f"{self._root}/attempt-*/step-*{checkpoint.SUFFIX}")
        for name in _furthest(map(str, names), before):
            with tempfile.TemporaryDirectory(prefix="einsearch-checkpoint-") as scratch:
                copy = Path(scratch) / Path(name).name
                with self._reaching("read"):
                    self._files.get_file(name, str(copy))
                yield copy

    @contextmanager
    def _reaching(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of store has errors of its own
            raise DiskError(f"checkpoints at {self._uri} cannot be {done} ({type(error).__name__}: {error})") from error


def load_furthest(place: str) -> dict[str, Any] | None:
    """The state in the furthest whole checkpoint of a trial, over all its attempts; None where there is none."""
    for path in vault(place).found():
        try:
            return checkpoint.load(path)
        except CheckpointError:
            continue
    return None


def _furthest(names: Iterator[str], before: int | None) -> list[str]:
    """Paths `…/attempt-A/step-S.ckpt` by step, furthest first, the later attempt first among equals."""

    def rank(name: str) -> tuple[str, int]:
        *_, attempt, step = name.split("/")
        return step, int(attempt.removeprefix("attempt-"))

    return sorted((name for name in names if before is None or rank(name)[1] < before), key=rank, reverse=True)
