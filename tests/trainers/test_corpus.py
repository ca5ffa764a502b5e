from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from space.errors import DataError, DiskError
from trainers.corpus import Corpus, load_corpus
from trainers.text import decode

ROOT = Path(__file__).parents[2]


def documents(count: int) -> dict[str, str]:
    sums = {i: "".join(f"{i} + {j} = {i + j}\n" for j in range(40)) for i in range(count)}
    return {f"part{i % 3}/file{i:03d}.txt": f"document {i}\n" + text for i, text in sums.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    for name, text in documents(60).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def text_of(corpus: Corpus) -> tuple[str, str]:
    return decode(corpus.train.tobytes()).decode(), decode(corpus.validation.tobytes()).decode()


def split_documents(text: str) -> list[str]:
    return ["document " + part for part in text.split("document ")[1:]]


def test_decoding_gives_the_sources_back(folder: Path, tmp_path: Path) -> None:
    (folder / "tab.txt").write_text("\tno")
    (folder / "accent.txt").write_text("caf\u00e9", encoding="utf-8")
    (folder / "copy.txt").write_text(documents(60)["part0/file000.txt"])
    (folder / ".hidden").write_text("hidden")
    train, validation = text_of(load_corpus(str(folder), tmp_path / "cache"))
    found = split_documents(train) + split_documents(validation)
    assert sorted(found) == sorted(documents(60).values())
    assert len(split_documents(validation)) == 60 // 20
    assert not set(split_documents(train)) & set(split_documents(validation))


def test_every_document_ends_with_a_newline(tmp_path: Path) -> None:
    root = tmp_path / "texts"
    root.mkdir()
    for i in range(4):
        (root / f"{i}.txt").write_text(f"open end {i}")
    train, validation = text_of(load_corpus(str(root), tmp_path / "cache"))
    assert sorted((train + validation).splitlines()) == [f"open end {i}" for i in range(4)]
    assert train.endswith("\n")
    assert validation.endswith("\n")


def test_one_file_is_cut_between_lines_and_keeps_its_order(tmp_path: Path) -> None:
    lines = [f"line {i:05d} of the file" for i in range(20_000)]
    path = tmp_path / "one.txt"
    path.write_text("\n".join([*lines[:50], "a\ttab", *lines[50:]]) + "\n")
    train, validation = (text.splitlines() for text in text_of(load_corpus(str(path), tmp_path / "cache")))
    assert sorted(train + validation) == lines
    assert train == sorted(train)
    assert 0.02 < len(validation) / len(lines) < 0.1


def test_the_fingerprint_follows_the_content(folder: Path, tmp_path: Path) -> None:
    first = load_corpus(str(folder), tmp_path / "one")
    assert load_corpus(str(folder), tmp_path / "one").fingerprint == first.fingerprint
    assert load_corpus(str(folder), tmp_path / "two").fingerprint == first.fingerprint
    (folder / "part0" / "file000.txt").write_text("something else\n")
    changed = load_corpus(str(folder), tmp_path / "one")
    assert changed.fingerprint != first.fingerprint
    changed.require(changed.fingerprint)
    with pytest.raises(DataError, match=f"{changed.fingerprint[:16]}.*{first.fingerprint[:16]}.*recorded"):
        changed.require(first.fingerprint)


def test_a_prepared_folder_can_be_copied_and_opened(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(str(folder), tmp_path / "cache")
    (prepared,) = (path for path in (tmp_path / "cache" / "corpora").iterdir() if path.is_dir())
    copy = prepared.rename(tmp_path / "elsewhere")
    again = load_corpus(str(copy), tmp_path / "unused")
    assert again.fingerprint == corpus.fingerprint
    assert not (tmp_path / "unused").exists()


def test_tokens_that_changed_on_disk_are_refused(folder: Path, tmp_path: Path) -> None:
    load_corpus(str(folder), tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("train.bin")
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="changed after"):
        load_corpus(str(folder), tmp_path / "cache")


def test_wide_tokens_of_a_persons_own(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 50_257, 5000).astype(np.uint16)
    tokens[:4000].tofile(tmp_path / "train.bin")
    tokens[4000:].tofile(tmp_path / "validation.bin")
    (tmp_path / "meta.json").write_text(json.dumps({"vocab_size": 50_257, "dtype": "uint16"}))
    corpus = load_corpus(str(tmp_path))
    assert np.array_equal(corpus.train, tokens[:4000])
    (tmp_path / "meta.json").write_text(json.dumps({"vocab_size": 1000, "dtype": "uint16"}))
    with pytest.raises(DataError, match="outside the vocabulary of 1000"):
        load_corpus(str(tmp_path))


@pytest.mark.parametrize(
    "meta", ["{", "[]", '{"vocab_size": 96}', '{"vocab_size": 300, "dtype": "uint8"}', '{"vocab_size": 96, "dtype": "float32"}']
)
def test_a_malformed_description_is_refused(tmp_path: Path, meta: str) -> None:
    (tmp_path / "meta.json").write_text(meta)
    with pytest.raises(DataError, match=r"meta\.json"):
        load_corpus(str(tmp_path))


def test_missing_tokens_are_named(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"vocab_size": 96, "dtype": "uint8"}')
    with pytest.raises(DataError, match=r"train\.bin is missing or empty"):
        load_corpus(str(tmp_path))


def test_what_cannot_be_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*no such file or folder"):
        load_corpus(str(tmp_path / "nowhere"), tmp_path / "cache")
    for name, content in {"empty": "", "tabs": "\t\n" * 50_000, "short": "too short\n"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match="at least 2 are needed"):
            load_corpus(str(tmp_path / name), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "corpora").iterdir() if path.is_dir()]


def test_a_context_longer_than_the_text_is_refused(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(str(folder), tmp_path / "cache")
    corpus.require_context(64)
    with pytest.raises(DataError, match=r"validation tokens.*shorter context"):
        corpus.require_context(10_000)


def test_a_cache_that_is_no_folder_is_a_disk_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="XDG_CACHE_HOME"):
        load_corpus(str(folder), tmp_path / "file")


def test_processes_that_race_agree_and_prepare_once(folder: Path, tmp_path: Path) -> None:
    script = "import sys; from trainers.corpus import load_corpus; print(load_corpus(sys.argv[1]).fingerprint)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    racers = [
        subprocess.Popen([sys.executable, "-c", script, str(folder)], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {racer.communicate()[0].strip() for racer in racers}
    assert all(racer.returncode == 0 for racer in racers)
    assert printed == {load_corpus(str(folder), tmp_path / "einsearch").fingerprint}
    assert len([path for path in (tmp_path / "einsearch" / "corpora").iterdir() if path.is_dir()]) == 1


def test_unigram_entropy_is_that_of_the_characters(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(str(folder), tmp_path / "cache")
    counts = Counter(text_of(corpus)[0])
    total = counts.total()
    expected = -math.fsum(n / total * math.log(n / total) for n in counts.values())
    assert corpus.unigram_entropy == pytest.approx(expected, rel=1e-12)


def test_batches_are_windows_of_the_text_and_their_next_tokens(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(str(folder), tmp_path / "cache")
    train = corpus.train.tobytes()
    tokens, targets = corpus.train_batch(step=3, batch_size=8, context=32, seed=1)
    assert tokens.shape == targets.shape == (8, 32)
    assert tokens.dtype == targets.dtype == torch.int64
    for row, following in zip(tokens.numpy(), targets.numpy(), strict=True):
        assert bytes([*row.astype(np.uint8), following[-1]]) in train
        assert np.array_equal(row[1:], following[:-1])


def test_a_batch_depends_on_seed_and_step_alone(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(str(folder), tmp_path / "cache")

    def digest(step: int, seed: int) -> str:
        return hashlib.sha256(corpus.train_batch(step, 8, 32, seed)[0].numpy().tobytes()).hexdigest()

    grid = {(step, seed): digest(step, seed) for step in range(5) for seed in range(5)}
    corpus.validation_windows(16, 32)
    torch.rand(3)
    assert {(step, seed): digest(step, seed) for step, seed in reversed(grid)} == grid
    assert len(set(grid.values())) == 25


def test_validation_windows_are_fixed(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(str(folder), tmp_path / "cache")
    first, again = corpus.validation_windows(16, 32), corpus.validation_windows(16, 32)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].numpy()[0].astype(np.uint8).tobytes() in corpus.validation.tobytes()


def test_the_installed_python_sources(python_corpus: Corpus) -> None:
    text = "".join(text_of(python_corpus))
    assert python_corpus.vocab_size == 96
    assert 10_000_000 < len(text) < 49_000_000
    assert 0.03 < len(python_corpus.validation) / len(text) < 0.07
    assert 3.0 < python_corpus.unigram_entropy < 3.6
    sources = [path for path in Path(torch.__file__).parent.glob("optim/*.py") if path.read_text().isascii()]
    found = [path for path in sources if path.read_text().rstrip("\n") in text]
    assert 0 < len(found) < len(sources)
