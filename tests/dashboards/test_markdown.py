"""The report in Markdown: whole tables, figures that are there, and names that stay names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboards.markdown import report_markdown, write_markdown
from space.errors import DiskError


def cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line)) - 1


@pytest.mark.parametrize("world", ["empty", "single", "small", "large"])
def test_every_table_is_whole(world: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(world).bundle()
    text = report_markdown(bundle)
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("| "):
            assert {cells(line) for line in lines} == {cells(lines[1])}, block
    for title in ("Leaderboard", "Laws", "Frontier", "Caveats", "How to reproduce it", "Provenance"):
        assert f"\n## {title}\n" in text
    settings = re.search(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert settings is not None and json.loads(settings[1]) == bundle.settings
    assert "![" not in text


def test_figures_can_be_left_out(small: Any, tmp_path: Path) -> None:
    alone = write_markdown(tmp_path / "alone" / "told.md", small.bundle(), figures=False)
    assert [child.name for child in alone.parent.iterdir()] == ["told.md"]


def test_a_name_is_just_a_name(small: Any) -> None:
    name = "<script>alert(1)</script> | *x* [a](b) `c` # d"
    board = small.leaderboard.assign(structure=name, verdict=name)
    text = report_markdown(replace(small.bundle(study=name), leaderboard=board, provenance={"study": name}))
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in prose.splitlines():
        if line.startswith(("|", "# ", "- study")):
            assert "<script" not in line.replace("\\<", "") and "](b)" not in line.replace("\\]", "")


def test_what_cannot_be_written_is_said(small: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError, match="cannot write the report"):
        write_markdown(tmp_path / "file" / "told.md", small.bundle(), figures=False)
