from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import einsearch
from einsearch.cli import commands

COMMANDS = [
    "search",
    "resume",
    "watch",
    "status",
    "query",
    "leaderboard",
    "describe",
    "train",
    "report",
    "plot",
    "dashboard",
    "export",
    "import",
    "upgrade",
]
HEAVY = {"torch", "ray", "optuna", "pandas", "numpy", "sqlalchemy", "scipy", "plotly", "rich", "alembic", "botorch"}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["einsearch", "einsearch.cli"])
def test_imports_are_light(module: str) -> None:
    """What --help and every mistake in the arguments wait for."""
    script = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_public_names_resolve() -> None:
    from search.study import Study
    from space.structure import Structure
    from trainers.drop_in import structure_linears
    from trainers.layers import EinsumLinear

    assert einsearch.Structure is Structure and einsearch.EinsumLinear is EinsumLinear
    assert einsearch.structure_linears is structure_linears and einsearch.Study is Study
    assert dir(einsearch) == sorted(einsearch.__all__)
    assert all(getattr(einsearch, name) is not None for name in einsearch.__all__)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Studdy'; it has .*EinsumLinear.*Study"):
        _ = einsearch.Studdy


def test_every_command_is_there_and_has_help(einsearch: Any) -> None:
    assert list(commands.commands) == COMMANDS
    listing = einsearch("--help").out
    for name, command in commands.commands.items():
        shown = einsearch(name, "--help")
        assert shown.code == 0 and f"einsearch {name}" in shown.out and command.help
        short = next(line for line in listing.splitlines() if line.split()[:1] == [name])
        assert not short.endswith("..."), "the summary is cut off at 80 columns"
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.name}"


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if not re.search(rf"einsearch {name}\b", text)] == []


def test_version_and_module(process: Any, tmp_path: Path) -> None:
    shown = process("--version", cwd=tmp_path)
    assert shown.code == 0 and re.fullmatch(r"einsearch, version \d+\.\d+\.\d+\n", shown.out) and shown.err == ""


def test_no_command_and_an_unknown_command(einsearch: Any) -> None:
    assert einsearch().code == 2
    unknown = einsearch("statsu")
    assert unknown.code == 2 and unknown.out == "" and "Did you mean 'status'?" in unknown.err
