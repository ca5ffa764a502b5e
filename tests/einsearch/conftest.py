"""The command line as people run it: in this process where that is the same, else in one of its own; and one finished study."""

from __future__ import annotations

import fcntl
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from einsearch import cli

EINSEARCH = [sys.executable, "-m", "einsearch"]
TRIAL = [
    *("--set", "depth=1", "--set", "context=16", "--set", "batch_size=4", "--set", "warmup_steps=2"),
    *("--set", "evaluations=3", "--set", "eval_windows=8"),
]
PLAN = [
    *("--baseline", "0:8", "--baseline", "1:16", "--known", "monarch", "--known", "kronecker"),
    *("--trials", "6", "--corpus", "text", *TRIAL),
]
SMALL = ["--rung", "1.5e7:8", "--rung", "3e7:16", *PLAN]
LONGER = ["--rung", "1e8:8", "--rung", "2e8:16", *PLAN]


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def defaults(surroundings: None) -> Iterator[None]:
    """Nothing is set by whoever runs the tests, and every warning shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "default")
        patch.delenv("EINSEARCH_DB", raising=False)
        patch.delenv("COLUMNS", raising=False)
        yield


def write_text(folder: Path) -> Path:
    """A folder `text` of 40 small documents that a model can learn something from."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 5))) for _ in range(40)]
    (folder / "text").mkdir()
    for number in range(40):
        lines = (" ".join(rng.choices(words, k=8)) for _ in range(40))
        (folder / "text" / f"{number}.txt").write_text("\n".join(lines))
    return folder / "text"


def call(*arguments: str) -> Outcome:
    """`einsearch ARGUMENTS`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["einsearch", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert "Traceback" not in err.getvalue()
    return Outcome(int(end.value.code or 0), out.getvalue(), err.getvalue())


def spawn(*arguments: str, cwd: Path) -> Outcome:
    """`einsearch ARGUMENTS`, in a process of its own, its output piped."""
    done = subprocess.run([*EINSEARCH, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def einsearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture(scope="session")
def process() -> Command:
    """Runs a command in a process of its own."""
    return spawn


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


@dataclass(frozen=True)
class Finished:
    """A study that ran to its end in `origin`, with all defaults for its files, and what it wrote meanwhile.

    `folder` is a copy of it, for one worker of the tests alone.
    """

    folder: Path
    origin: Path
    outcome: Outcome

    @property
    def db(self) -> str:
        """URL of its database."""
        return f"sqlite:///{self.folder}/einsearch.db"


def run_once(origin: Path) -> Outcome:
    """Run the study in a folder, unless another worker of these tests has: they wait for one another."""
    with origin.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = origin.with_suffix(".json")
        if not told.exists():
            origin.mkdir()
            write_text(origin)
            told.write_text(json.dumps(asdict(spawn("search", "tiny", *SMALL, cwd=origin))))
        return Outcome(**json.loads(told.read_text()))


@pytest.fixture(scope="session")
def finished(defaults: None, common: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    origin = common / "finished"
    outcome = run_once(origin)
    return Finished(shutil.copytree(origin, tmp_path_factory.mktemp("finished") / "copy"), origin, outcome)


@pytest.fixture
def study(finished: Finished, einsearch: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in an empty folder, with the finished study as the default database."""
    monkeypatch.setenv("EINSEARCH_DB", finished.db)
    return einsearch


@pytest.fixture(scope="session")
def small() -> list[str]:
    return SMALL


@pytest.fixture(scope="session")
def longer() -> list[str]:
    return LONGER


@pytest.fixture(scope="session")
def trial() -> list[str]:
    return TRIAL


@pytest.fixture(scope="session")
def command() -> list[str]:
    """What starts the command line in a process of its own."""
    return EINSEARCH
