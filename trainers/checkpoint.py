"""Checkpoints that are whole or absent.

A file is one line of text, `einsearch-checkpoint 1 <sha256 of the rest>`, followed by what `torch.save` wrote.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from space.errors import CheckpointError, DiskError

SUFFIX = ".ckpt"

_MAGIC = b"einsearch-checkpoint 1 "
_HEADER = len(_MAGIC) + 65


def path_at(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies, such that names sort by step."""
    return folder / f"step-{step:012d}{SUFFIX}"


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes `state` to `path` by a rename: a reader sees the previous file or the new one, never a part.

    Raises:
        DiskError: the disk is full or the folder not writable; the previous file is intact.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    payload = buffer.getbuffer()
    header = _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, header, payload)
    except OSError as error:
        raise DiskError(
            f"checkpoint {path} cannot be written ({error.strerror}); the previous one is intact: free "
            f"{len(payload) / 1e6:.1f} MB there, or give another folder"
        ) from error


def load(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU. Nothing but tensors and plain values is unpickled.

    Raises:
        CheckpointError: missing, truncated, corrupt, or not a checkpoint of this program.
    """
    payload = _verified(path)
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path} holds more than tensors and plain values; delete it") from error
    return dict(state)


def latest(folder: Path) -> Path | None:
    """The checkpoint of the highest step in `folder` that is whole, or None."""
    for path in sorted(folder.glob(f"step-*{SUFFIX}"), reverse=True):
        try:
            _verified(path)
        except CheckpointError:
            continue
        return path
    return None


def _replace(path: Path, header: bytes, payload: memoryview) -> None:
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header)
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
        _sync_folder(path.parent)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _verified(path: Path) -> memoryview:
    """The payload of `path`, its hash checked."""
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error.strerror}); give a file this program wrote") from error
    if not bytes(content[: len(_MAGIC)]) == _MAGIC:
        raise CheckpointError(f"{path} is not a checkpoint of this program; give a *{SUFFIX} file it wrote")
    if bytes(content[len(_MAGIC) : _HEADER - 1]) != hashlib.sha256(content[_HEADER:]).hexdigest().encode():
        raise CheckpointError(f"checkpoint {path} is truncated or corrupt (its hash differs); delete it and use an earlier one")
    return content[_HEADER:]
