"""Where results come from: the versions of what computed them, and the commit of our own code."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("einsearch", "torch", "optuna", "ray", "sqlalchemy", "numpy")
"""Distributions whose versions are recorded, where they are installed."""

_ROOT = Path(__file__).parents[1]


@cache
def versions() -> dict[str, str]:
    """Versions of `PACKAGES` and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_commit(root: Path = _ROOT) -> str | None:
    """The commit that our code is of, with `-dirty` after it where it was changed since; None outside of a repository."""
    if not (root / ".git").exists():
        return None
    asked = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--match=", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
