from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from space.errors import CheckpointError, DiskError
from trainers import checkpoint


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write any file beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def state(step: int) -> dict[str, object]:
    return {
        "step": step,
        "model": {"w": torch.arange(40_000, dtype=torch.float32) + step},
        "points": [{"loss": 1.5}],
        "rng": None,
    }


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = checkpoint.path_at(tmp_path / "new" / "folder", 7)
    checkpoint.save(path, state(7))
    loaded = checkpoint.load(path)
    assert torch.equal(loaded["model"]["w"], torch.arange(40_000, dtype=torch.float32) + 7)
    assert loaded | {"model": None} == state(7) | {"model": None}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("position", [0, 30, 60, 95, 5000, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, position: int) -> None:
    path = checkpoint.path_at(tmp_path, 1)
    checkpoint.save(path, state(1))
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint.load(path)


@pytest.mark.parametrize("size", [0, 10, 87, 88, 1000, 160_000])
def test_a_truncated_file_is_noticed(tmp_path: Path, size: int) -> None:
    path = checkpoint.path_at(tmp_path, 1)
    checkpoint.save(path, state(1))
    os.truncate(path, size)
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint.load(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    torch.save(state(1), tmp_path / "bare.pt")
    for path in (tmp_path / "bare.pt", tmp_path / "absent.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match="give a"):
            checkpoint.load(path)


class Intruder:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["INTRUDED"],)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTRUDED", str(tmp_path / "intruded"))
    path = checkpoint.path_at(tmp_path, 1)
    checkpoint.save(path, {"step": Intruder()})
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        checkpoint.load(path)
    assert not (tmp_path / "intruded").exists()
    pickle.loads(pickle.dumps(Intruder()))
    assert (tmp_path / "intruded").exists()


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = checkpoint.path_at(tmp_path, 1)
    checkpoint.save(path, state(1))
    before = path.read_bytes()
    with files_of_at_most(100_000), pytest.raises(DiskError, match=f"{path}.*File too large.*previous one is intact.*free"):
        checkpoint.save(path, state(2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.save(path, state(2))
    assert checkpoint.load(path)["step"] == 2


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="another folder"):
        checkpoint.save(checkpoint.path_at(tmp_path / "file", 1), state(1))


def test_latest_is_the_newest_that_is_whole(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "absent") is None
    for step in (5, 90, 1000):
        checkpoint.save(checkpoint.path_at(tmp_path, step), state(step))
    (tmp_path / ".step-000000002000.ckpt.partial").write_bytes(b"einsearch-checkpoint 1 ")
    assert checkpoint.latest(tmp_path) == checkpoint.path_at(tmp_path, 1000)
    os.truncate(checkpoint.path_at(tmp_path, 1000), 500)
    assert checkpoint.latest(tmp_path) == checkpoint.path_at(tmp_path, 90)
