"""The house itself: who may import whom, and what must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "space": set(),
    "storage": {"space"},
    "trainers": {"space"},
    "search": {"space", "storage", "trainers"},
    "dashboards": {"space", "storage"},
    "einsearch": {"space", "storage", "trainers", "search", "dashboards"},
}
"""Our folders, and which of them each may import."""

MAY_NOT_KNOW = {
    "space": {"torch", "ray", "optuna", "sqlalchemy", "pandas", "plotly", "scipy"},
    "trainers": {"ray", "optuna", "sqlalchemy", "pandas", "plotly", "scipy", "pyarrow"},
    "storage": {"torch", "ray", "optuna", "plotly", "botorch"},
    "dashboards": {"torch", "ray", "optuna", "botorch"},
}
"""Libraries that a folder must run without."""


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The top-level package of every import in a file, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder: str) -> None:
    assert modules(folder)
    for path in modules(folder):
        ours = set(imported(path)) & MAY_IMPORT.keys()
        assert ours <= MAY_IMPORT[folder] | {folder}, path


@pytest.mark.parametrize("folder", MAY_NOT_KNOW)
def test_folders_do_not_know_what_they_must_run_without(folder: str) -> None:
    for path in modules(folder):
        assert not set(imported(path)) & MAY_NOT_KNOW[folder], path


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_no_two_modules_of_a_folder_import_each_other(folder: str) -> None:
    graph = {name(path): {m for m in absolute(path) if m.startswith(folder)} for path in modules(folder)}
    for start in graph:
        seen, todo = set(), set(graph[start])
        while todo:
            module = todo.pop()
            assert module != start, f"{start} imports itself by way of others"
            seen.add(module)
            todo |= graph.get(module, set()) - seen


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def absolute(path: Path) -> Iterator[str]:
    """Modules that a file imports when it is loaded: at the top level, type checking aside."""
    known = {name(p) for p in modules(path.relative_to(ROOT).parts[0])}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_trainers_run_where_only_torch_and_numpy_are() -> None:
    """A trial on a bare machine: every other dependency of ours is hidden from the import system."""
    script = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "optuna", "sqlalchemy", "pandas", "scipy", "pyarrow", "plotly", "click", "rich"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import torch
from trainers import checkpoint, corpus, drop_in, run
from trainers.layers import EinsumLinear
assert EinsumLinear(8, 8, "monarch")(torch.ones(2, 8)).shape == (2, 8)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_the_project_speaks_of_itself_alone() -> None:
    """No machine paths and no registries' hosts in what is committed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for file in filter(None, listed.split("\0")):
        path = ROOT / file
        if (
            path.suffix in {".py", ".md", ".toml", ".txt", ".html", ".css", ".js", ""}
            and path.is_file()
            and path != Path(__file__)
        ):
            text = path.read_text(errors="ignore")
            assert "/" + "work/" not in text, path
            assert "/" + "root/" not in text, path
