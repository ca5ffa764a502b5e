"""Searches as they run: what a pipe gets, what a terminal shows, and what an interrupt leaves."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import struct
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

from search.study import Study

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NOISE = re.compile(r"warn|ray|tune|optuna|deprecat|/tmp/ray|Configuration for experiment", re.IGNORECASE)


def in_a_terminal(arguments: list[str], cwd: Path, interrupt_at: str) -> tuple[int, str]:
    """Run a command on a terminal of 100 columns, press Ctrl-C when it shows a text; its exit code and all it showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(cwd)
        os.environ["TERM"] = "xterm-256color"
        os.execv(arguments[0], arguments)
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    shown, pressed = "", False
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk.decode(errors="replace")
            if not pressed and interrupt_at in shown:
                os.write(terminal, b"\x03")
                pressed = True
    except OSError:  # how a terminal ends on Linux
        pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), CONTROL.sub("", shown).replace("\r", "")


def test_a_pipe_gets_the_answer_and_plain_progress(finished: Any) -> None:
    ended, folder = finished.outcome, finished.origin
    assert ended.code == 0, ended.err
    first, *lines = ended.err.splitlines()
    assert first == f"study 'tiny' in {folder}/einsearch.db: 0 of 6 trials done"
    assert [re.match(r"\[(\d)/6\] trial \d completed: ", line) is not None for line in lines] == [True] * 6, ended.err
    assert "\x1b" not in ended.err + ended.out
    assert not NOISE.search(ended.out.replace(str(folder), "")), ended.out
    assert ended.out.splitlines()[1].startswith("Leaderboard of 'tiny'") and "monarch" in ended.out
    assert "L_inf" in ended.out and ended.out.endswith("report: einsearch-report.html\n")
    assert {p.name for p in folder.iterdir()} == {"text", "einsearch.db", "einsearch.db.checkpoints", "einsearch-report.html"}


def test_a_complete_study_is_not_run_again(study: Any, finished: Any) -> None:
    ended = study("resume")
    assert ended.code == 0 and "Leaderboard of 'tiny'" in ended.out
    assert ended.err.splitlines()[-1] == "nothing is left to run; for more: einsearch resume tiny --trials +10"
    quiet = study("resume", "tiny", "--quiet")
    assert quiet.err == "" and quiet.out == ended.out


def test_early_stopping_can_be_switched(study: Any, finished: Any) -> None:
    for option, wanted in (("--early-stopping", True), ("--no-early-stopping", False)):
        assert study("resume", "tiny", "--quiet", option).code == 0
        assert Study("tiny", db=finished.db).record().settings["early_stopping"] is wanted


def test_an_interrupt_on_a_terminal_and_the_way_on(
    command: list[str], process: Any, einsearch: Any, text: Path, longer: list[str]
) -> None:
    folder = text.parent
    search = [*command, "search", "my study", *longer, "--concurrency", "1", "--db", f"sqlite:///{folder}/s.db"]
    code, shown = in_a_terminal(search, folder, "[1/6]")
    assert code == 130, shown
    for part in ("einsearch my study", "0/6 trials", " left", "best so far", "baseline", "progress"):
        assert part in shown, f"{part!r} not in {shown}"
    assert re.search("[1-5]/6 trials", shown), shown
    assert "Traceback" not in shown and not NOISE.search(shown.replace(str(folder), "")), shown
    *_, advice, way_on = shown.strip().splitlines()
    assert advice == "stopped; nothing recorded is lost. Go on with:"

    status = ["status", "--db", f"sqlite:///{folder}/s.db", "--format", "json"]
    before = json.loads(einsearch(*status).out)
    assert 1 <= before["done"] < 6 and before["trials"]["running"] == before["drivers"] == 0
    assert sum(before["trials"].values()) >= before["done"] + 1
    program, *arguments = shlex.split(way_on)
    assert program == "einsearch"
    ended = process(*arguments, "--quiet", cwd=folder)
    assert ended.code == 0 and ended.err == "" and "Leaderboard of 'my study'" in ended.out
    after = json.loads(einsearch(*status).out)
    assert after["trials"]["completed"] == after["done"] == 6 and after["flops"] > before["flops"]
