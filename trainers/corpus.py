"""A prepared corpus: memory-mapped tokens with a fingerprint, and the batches drawn from them.

A prepared corpus is a folder with `train.bin`, `validation.bin` (raw unsigned integers) and `meta.json`
(`vocab_size`, `dtype` of "uint8" or "uint16", `fingerprint`). Such a folder can be copied to another machine and given as
a path. Batches are pure functions of (seed, step), so that the position in the data is the step and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from space.errors import DataError, DiskError
from trainers.cache import default_cache, locked
from trainers.text import PYTHON_BYTES, VOCAB_SIZE, Source, encode, path_source, python_source, usable

if TYPE_CHECKING:
    import torch

Tokens = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

FORMAT = 1
VALIDATION_EVERY = 20
DTYPES = ("uint8", "uint16")
PYTHON_SOURCES: dict[str, int | None] = {"python": PYTHON_BYTES, "python-full": None}

_TRAINING, _VALIDATION = 0, 1
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Corpus:
    """Tokens of a corpus, split into training and validation by document.

    Attributes:
        train: (tokens,), memory-mapped.
        validation: (tokens,), memory-mapped.
        fingerprint: SHA-256 over both, recomputed when the corpus is opened.
    """

    name: str
    train: Tokens
    validation: Tokens
    vocab_size: int
    fingerprint: str

    @cached_property
    def unigram_entropy(self) -> float:
        """Entropy of the training tokens, nats per token: the loss of a model that knows their frequencies and no context."""
        counts = np.zeros(self.vocab_size, np.int64)
        for start in range(0, len(self.train), _CHUNK):
            counts += np.bincount(self.train[start : start + _CHUNK], minlength=self.vocab_size)
        p = counts[counts > 0] / counts.sum()
        return float(-(p * np.log(p)).sum())

    def require(self, fingerprint: str) -> None:
        """Checks that this is the corpus that was recorded.

        Raises:
            DataError: the fingerprints differ.
        """
        if fingerprint != self.fingerprint:
            raise DataError(
                f"corpus {self.name!r} has fingerprint {self.fingerprint[:16]}, {fingerprint[:16]} was recorded: the data "
                "differ here; install the recorded versions, copy the prepared corpus over, or start a new study"
            )

    def require_context(self, context: int) -> None:
        """Checks that both splits hold a window of `context` tokens and their targets.

        Raises:
            DataError: a split is too small.
        """
        for split, tokens in (("training", self.train), ("validation", self.validation)):
            if len(tokens) <= context:
                raise DataError(
                    f"corpus {self.name!r} has {len(tokens)} {split} tokens, a context of {context} needs at least "
                    f"{context + 1}; give more text or a shorter context"
                )

    def train_batch(self, step: int, batch_size: int, context: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and targets (next tokens) of one step, both (batch_size, context) int64: a pure function of (seed, step)."""
        rng = np.random.default_rng((_TRAINING, seed, step))
        return _windows(self.train, rng, batch_size, context)

    def validation_windows(self, count: int, context: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and targets of a fixed set of validation windows, both (count, context) int64."""
        rng = np.random.default_rng((_VALIDATION, seed))
        return _windows(self.validation, rng, count, context)


def load_corpus(name_or_path: str, cache_dir: Path | None = None) -> Corpus:
    """Opens a corpus; the first time, prepares it under a lock in `cache_dir` (default `~/.cache/einsearch`).

    Args:
        name_or_path: "python" (the Python sources of the installed dependencies, 48 MB of them), "python-full" (all of
            them), a text file, a folder of text files, or a folder with a prepared corpus.
        cache_dir: where prepared corpora are kept; processes may share it.

    Raises:
        DataError: missing, unreadable, without two usable documents, or changed on disk after it was prepared.
        DiskError: the prepared corpus cannot be written.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path not in PYTHON_SOURCES and (path / "meta.json").is_file():
        return open_corpus(name_or_path, path)
    source = _source(name_or_path, path)
    identity = json.dumps([FORMAT, VALIDATION_EVERY, *source.identity])
    label = name_or_path if source.name == "python" else "text"
    home = (cache_dir or default_cache()) / "corpora"
    folder = home / f"{label}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    try:
        if not folder.is_dir():
            _build_once(source, folder)
    except OSError as error:
        raise DiskError(
            f"corpus {name_or_path!r}: {home} cannot be written ({error.strerror}); free space there or set XDG_CACHE_HOME"
        ) from error
    return open_corpus(name_or_path, folder)


def _source(name: str, path: Path) -> Source:
    return python_source(PYTHON_SOURCES[name]) if name in PYTHON_SOURCES else path_source(path)


def open_corpus(name: str, folder: Path) -> Corpus:
    """Opens a prepared corpus and verifies it.

    Raises:
        DataError: a file is missing, empty or malformed, or the tokens are not those `meta.json` describes.
    """
    meta = _read_meta(name, folder)
    train, validation = (_map(name, folder / f"{split}.bin", meta["dtype"]) for split in ("train", "validation"))
    if (largest := max(int(train.max()), int(validation.max()))) >= meta["vocab_size"]:
        raise DataError(f"corpus {name!r}: token {largest} is outside the vocabulary of {meta['vocab_size']} in {folder}")
    found = _fingerprint(meta, folder)
    if meta.get("fingerprint", found) != found:
        raise DataError(f"corpus {name!r}: the tokens in {folder} changed after they were prepared; delete that folder")
    return Corpus(name, train, validation, meta["vocab_size"], found)


def _windows(tokens: Tokens, rng: np.random.Generator, count: int, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    import torch  # here, as a driver opens a corpus long before it needs torch, which takes seconds

    starts = rng.integers(0, len(tokens) - context, size=count)
    block = torch.from_numpy(tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64))
    return block[:, :-1].contiguous(), block[:, 1:].contiguous()


def _read_meta(name: str, folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"corpus {name!r}: {folder / 'meta.json'} cannot be read ({error})") from error
    size, dtype = (meta.get("vocab_size"), meta.get("dtype")) if isinstance(meta, dict) else (None, None)
    if not isinstance(size, int) or dtype not in DTYPES or not 1 < size <= np.iinfo(dtype).max + 1:
        raise DataError(
            f"corpus {name!r}: {folder / 'meta.json'} has vocab_size {size!r} and dtype {dtype!r}; it needs dtype "
            f"{' or '.join(DTYPES)} and a vocab_size that fits it"
        )
    return dict(meta)


def _map(name: str, path: Path, dtype: str) -> Tokens:
    if not path.is_file() or path.stat().st_size == 0:
        raise DataError(f"corpus {name!r}: {path} is missing or empty; prepare the corpus again")
    return np.memmap(path, dtype=np.dtype(dtype), mode="r")


def _fingerprint(meta: dict[str, Any], folder: Path) -> str:
    digest = hashlib.sha256(f"{meta['vocab_size']} {meta['dtype']}".encode())
    for split in ("train", "validation"):
        with (folder / f"{split}.bin").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _build_once(source: Source, folder: Path) -> None:
    """Prepares `folder` unless another process has; the rename makes it visible complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            return
        scratch = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
        try:
            _build(source, scratch)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _build(source: Source, folder: Path) -> None:
    """Every `VALIDATION_EVERY`-th usable document goes to validation, beginning with the first; duplicates are dropped."""
    seen: set[bytes] = set()
    taken = dropped = 0
    with (folder / "train.bin").open("wb") as train, (folder / "validation.bin").open("wb") as validation:
        for document in source.documents():
            text = document if document.endswith(b"\n") else document + b"\n"
            digest = hashlib.sha256(text).digest()
            if not document or not usable(text) or digest in seen:
                dropped += 1
                continue
            (train if len(seen) % VALIDATION_EVERY else validation).write(encode(text))
            seen.add(digest)
            taken += len(text)
            if source.max_bytes and taken >= source.max_bytes:
                break
    if len(seen) < 2:
        raise DataError(
            f"corpus {source.name!r}: {len(seen)} usable documents ({dropped} dropped), at least 2 are needed; a document may "
            "hold newlines and the ASCII characters 32 to 126 only (no tabs), and a single file needs 16 kB"
        )
    meta = {"vocab_size": VOCAB_SIZE, "dtype": "uint8", "documents": len(seen), "dropped": dropped}
    (folder / "meta.json").write_text(json.dumps(meta | {"fingerprint": _fingerprint(meta, folder)}, indent=1))
