from __future__ import annotations

import csv
import json
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trainers.corpus import load_corpus

TRAIN = ["train", "monarch", "--flops", "2e7", "--width", "16", "--corpus", "text"]


def test_every_evaluation_is_printed(einsearch: Any, text: Path, trial: list[str]) -> None:
    points = [json.loads(line) for line in einsearch(*TRAIN, *trial, "--format", "json").out.splitlines()]
    assert [p["step"] for p in points] == sorted(p["step"] for p in points) and len(points) == 3
    assert 0.9 * 2e7 < points[-1]["flops"] <= 2e7 and points[-1]["loss"] < points[0]["loss"]
    rows = list(csv.DictReader(einsearch(*TRAIN, *trial, "--format", "csv").out.splitlines()))
    assert [float(row["loss"]) for row in rows] == [p["loss"] for p in points]
    plain = einsearch(*TRAIN, *trial)
    assert f"loss {points[-1]['loss']:.4f} nats" in plain.out.splitlines()[-1] and "monarch, width 16" in plain.err


def test_a_checkpoint_continues_where_it_was(einsearch: Any, text: Path, trial: list[str]) -> None:
    whole = einsearch(*TRAIN, *trial, "--checkpoint", "a.ckpt", "--format", "json").out
    again = einsearch(*TRAIN, *trial, "--checkpoint", "a.ckpt", "--format", "json").out
    assert again == whole
    other = einsearch("train", "dense", *TRAIN[2:], *trial, "--checkpoint", "a.ckpt")
    assert other.code == 2 and other.err.startswith("error: the checkpoint is of another run (structure")
    Path("a.ckpt").write_bytes(Path("a.ckpt").read_bytes()[:-1])
    broken = einsearch(*TRAIN, *trial, "--checkpoint", "a.ckpt")
    assert broken.code == 2 and broken.err.startswith("error: ") and "a.ckpt" in broken.err and broken.out == ""


def test_a_disk_that_is_full_shows_before_anything_is_spent(command: list[str], text: Path, trial: list[str]) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    load_corpus(str(text))  # prepared where there is room
    script = [*command, *TRAIN[:-1], str(text), *trial, "--checkpoint", "a.ckpt"]
    done = subprocess.run(script, cwd=text.parent, capture_output=True, text=True, preexec_fn=little, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: checkpoint a.ckpt cannot be written (File too large)")
    assert "Traceback" not in done.stderr and list(text.parent.iterdir()) == [text]


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--flops", "0"], 2, "'0' is not a number of FLOPs above 0"),
        (["--flops", "inf"], 2, "'inf' is not a number of FLOPs above 0"),
        (["--flops", "100"], 2, "pays for 0 steps"),
        (["--width", "17"], 2, "a multiple of d_head"),
        (["--set", "lr=-1"], 2, "lr = -1 is not allowed"),
        (["--set", "dept=3"], 2, "did you mean 'depth'?"),
        (["--corpus", "nowhere"], 2, "no such file or folder"),
        (["--set", "lr=1000"], 1, "monarch diverged at step"),
        (["--checkpoint", "text/0.txt/x"], 1, "cannot be written"),
    ],
)
def test_mistakes(einsearch: Any, text: Path, trial: list[str], given: list[str], code: int, message: str) -> None:
    ended = einsearch(*TRAIN, *trial, *given)
    assert (
        ended.code == code and message in ended.err.splitlines()[-1] and ended.err.splitlines()[-1].lower().startswith("error")
    )
    assert list(text.parent.iterdir()) == [text]
