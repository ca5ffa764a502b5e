"""Text as 96 symbols, and where documents come from.

The vocabulary is '\\n' followed by ASCII 32..126 (the character-level task of P1 section 4). A document with any other
character (a tab, a carriage return, an accent) is dropped whole; every document ends with '\\n'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from space.errors import DataError

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCAB_SIZE = len(ALPHABET)

_SYMBOLS = ALPHABET.encode()
_CODES = bytes(range(VOCAB_SIZE))
_TO_CODES = bytes.maketrans(_SYMBOLS, _CODES)
_TO_SYMBOLS = bytes.maketrans(_CODES, _SYMBOLS)

DISTRIBUTIONS = (
    "alembic", "botorch", "gpytorch", "linear-operator", "networkx", "numpy", "optuna", "pandas", "pyarrow", "ray",
    "rich", "scipy", "sqlalchemy", "sympy", "torch",
)  # fmt: skip
PYTHON_BYTES = 48_000_000
FILE_BYTES = 256 * 1024
BLOCK_BYTES = 16 * 1024


@dataclass(frozen=True)
class Source:
    """Where documents come from.

    `identity` changes whenever the documents may have changed: it names the prepared copy in the cache.
    `documents` yields raw documents in a fixed order; at most `max_bytes` of usable text are taken from it.
    """

    name: str
    identity: tuple[str, ...]
    documents: Callable[[], Iterator[bytes]]
    max_bytes: int | None = None


def encode(text: bytes) -> bytes:
    """The codes 0..95 of a usable document, one byte per character.

    >>> list(encode(b"a b\\n"))
    [66, 1, 67, 0]
    """
    return text.translate(_TO_CODES)


def decode(codes: bytes) -> bytes:
    """The text of `codes`; undoes `encode`."""
    return codes.translate(_TO_SYMBOLS)


def usable(text: bytes) -> bool:
    """Is every character of `text` in the alphabet?

    >>> usable(b"x = 1"), usable(b"\\tx = 1")
    (True, False)
    """
    return not text.translate(None, _SYMBOLS)


def python_source(max_bytes: int | None = PYTHON_BYTES) -> Source:
    """The Python files of the installed `DISTRIBUTIONS` (those absent are left out), in the order of a hash of their path.

    Files above `FILE_BYTES` are generated tables and left out. The hash order is a fixed shuffle, so any prefix of it has
    the mixture of the whole, and `max_bytes` takes a representative part.
    """
    installed = [found for name in DISTRIBUTIONS if (found := _installed(name))]
    if not installed:
        raise DataError(f"corpus 'python': none of {', '.join(DISTRIBUTIONS)} is installed here; give a path instead")
    versions = tuple(f"{dist.metadata['Name']}=={dist.version}" for dist in installed)
    return Source("python", (*versions, str(max_bytes)), lambda: _python_documents(installed), max_bytes)


def path_source(path: Path) -> Source:
    """A text file (cut between lines into blocks, unusable lines left out) or a folder (each file is a document).

    Raises:
        DataError: nothing is at `path`, or it cannot be read.
    """
    if path.is_file():
        return Source(str(path), _stamp(path), lambda: _blocks(path))
    if not path.is_dir():
        raise DataError(f"corpus {str(path)!r}: no such file or folder; give 'python', a text file, or a folder of text files")
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    stamps = tuple(part for file in files for part in _stamp(file))
    return Source(str(path), stamps, lambda: _files(path, files))


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _python_documents(installed: list[metadata.Distribution]) -> Iterator[bytes]:
    listed = {
        file.as_posix(): dist
        for dist in installed
        for file in dist.files or ()
        if file.suffix == ".py" and file.parts[0] != ".."
    }
    for name in sorted(listed, key=_shuffled):
        path = Path(str(listed[name].locate_file(name)))
        if path.is_file() and path.stat().st_size <= FILE_BYTES:
            yield _read(path)


def _files(folder: Path, files: list[Path]) -> Iterator[bytes]:
    for file in sorted(files, key=lambda file: _shuffled(file.relative_to(folder).as_posix())):
        yield _read(file)


def _blocks(path: Path) -> Iterator[bytes]:
    """Consecutive blocks of about `BLOCK_BYTES`, made of whole lines."""
    block: list[bytes] = []
    size = 0
    for line in _read(path).splitlines(keepends=True):
        if usable(line):
            block.append(line)
            size += len(line)
        if size >= BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join(block)


def _shuffled(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _stamp(path: Path) -> tuple[str, ...]:
    status = path.stat()
    return (str(path.resolve()), str(status.st_size), str(status.st_mtime_ns))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"corpus: {path} cannot be read ({error.strerror}); make it readable or leave it out") from error
