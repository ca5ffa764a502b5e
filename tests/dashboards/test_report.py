"""The report is one safe file that says what the data say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboards.answer import answer, caveats, leader
from dashboards.laws import surface_text
from dashboards.report import report_html, write_report
from dashboards.story import flat, glossary
from space.errors import DiskError
from storage.laws import Run, surface_law

VOID = {"meta", "link", "br", "img", "input", "hr"}
TARGET = 1e13


class Page(HTMLParser):
    """Tags in balance, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture(params=["empty", "single", "small", "large"])
def world(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_report_is_whole_small_and_loads_nothing(world: Any, tmp_path: Path) -> None:
    path = write_report(tmp_path / "deep" / "report.html", world.bundle())
    html = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 10e6
    page = Page(html)
    assert page.open == []
    links = [value for _, name, value in page.attributes if name in {"src", "href", "srcset", "data", "action"}]
    assert [link for link in links if link is None or not link.startswith("#")] == ["data:,"]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    places = {value for _, name, value in page.attributes if name == "id"}
    figures = json.loads(page.scripts[0])["figures"]
    assert {f"plot-{name}" for name in figures} <= places
    assert {link[1:] for link in links if link and link.startswith("#")} <= places
    assert html.count("plotly.js v") == 1
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]


def test_a_name_is_just_a_name(small: Any) -> None:
    name = "</script><script>alert(1)</script>&\"'"
    bundle = replace(
        small.bundle(study=name), settings={name: {name: name}}, commands={name: [name]}, provenance={name: name}, task=name
    )
    board = bundle.leaderboard.assign(structure=name, verdict=name)
    points, trials = (frame.assign(structure=name) for frame in (bundle.points, bundle.trials))
    page = Page(report_html(replace(bundle, leaderboard=board, points=points, trials=trials)))
    assert page.open == []
    assert len(page.scripts) == 3
    assert page.text.count(name) > 5


def test_report_tells_the_study(small: Any) -> None:
    text = Page(report_html(small.bundle())).text
    best = leader(small.leaderboard)
    assert best is not None
    for part in (
        best.name,
        best.interval,
        "Caveats",
        "einsum(",
        "3f0c9a5e",
        "einsearch search",
        "torch",
        "What the verdicts mean",
        "settings as a file",
        "measured inside the 90 % interval",
        "left out",
        "corpus",
    ):
        assert part in text
    for name in small.leaderboard["structure"]:
        assert name in text


def test_a_report_that_cannot_be_written_leaves_the_old_one(small: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    with pytest.raises(DiskError, match="cannot write the report"):
        write_report(blocked / "report.html", small.bundle())
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(DiskError, match="folder"):
        write_report(folder, small.bundle())
    assert blocked.read_text() == "mine"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file", "folder"]


def board(multiplier: float, low: float, high: float, verdict: str = "own exponent") -> pd.DataFrame:
    dense = {
        "key": "dense",
        "structure": "dense",
        "multiplier": 1.0,
        "multiplier_low": 0.9,
        "multiplier_high": 1.1,
    }
    best = {
        "key": "k",
        "structure": "s",
        "multiplier": multiplier,
        "multiplier_low": low,
        "multiplier_high": high,
    }
    return pd.DataFrame([dense | {"verdict": ""}, best | {"verdict": verdict}])


@pytest.mark.parametrize(
    ("frame", "strength", "says"),
    [
        (board(1.3, 1.1, 1.5), "clear", "dense model needs 1.30 [1.10, 1.50] times the compute of s"),
        (board(1.3, 1.1, 1.5, "single run"), "thin", "evidence is thin (single run)"),
        (board(1.3, 0.9, 1.5), "open", "an interval that holds 1"),
        (board(1.3, float("nan"), float("nan")), "open", "no interval yet"),
        (board(0.8, 0.7, 0.9), "clear", "no structure beats dense"),
        (board(0.8, 0.7, 0.9).iloc[:1], "none", "No structure can be compared"),
    ],
)
def test_the_answer_is_as_strong_as_its_interval(frame: pd.DataFrame, strength: str, says: str) -> None:
    found = answer(frame, TARGET)
    assert (found.strength, says in found.sentence) == (strength, True)


def test_caveats_name_what_the_answer_rests_on(small: Any, empty: Any) -> None:
    lines = "\n".join(caveats(small.trials, small.leaderboard, small.laws, TARGET))
    assert "1 trial diverged" in lines
    assert "irreducible loss" in lines
    assert f"picked among {len(small.leaderboard)} structures" in lines
    assert "In seconds" in lines
    assert "No law has been fitted" in caveats(empty.trials, empty.leaderboard, None, TARGET)[0]


def test_settings_are_shown_flat() -> None:
    assert flat({"trial": {"depth": 3, "mup": {"base": 256}}, "seed": 0}) == {
        "trial.depth": "3",
        "trial.mup.base": "256",
        "seed": "0",
    }


def test_the_glossary_explains_the_verdicts_that_are_there_and_no_others() -> None:
    said = glossary(pd.DataFrame({"verdict": ["single run, L_inf not identified", "own exponent, dense extrapolated 4.1x"]}))
    assert set(said) == {"single run", "not identified", "own exponent", "dense extrapolated"}


def test_the_settings_of_a_report_are_json_that_a_study_can_be_made_of(small: Any) -> None:
    bundle = small.bundle()
    text = Page(report_html(bundle)).text
    start = text.index("The settings as a file") + len("The settings as a file")
    assert json.JSONDecoder().raw_decode(text[start:].lstrip())[0] == bundle.settings


def test_the_law_of_size_and_data_is_told_as_far_as_it_is_known() -> None:
    rng = np.random.default_rng(0)
    runs = []
    for params in (1e5, 3e5, 1e6, 3e6):
        tokens = np.geomspace(1e6, 1e8, 12)
        loss = (1.2 + 60 * params**-0.4 + 40 * tokens**-0.3) * np.exp(rng.normal(0, 1e-4, tokens.size))
        runs.append(Run("dense", f"{params:g}", 6 * params * tokens, loss, tokens, 6 * params))
    known = surface_law(runs, 6e13)
    text = surface_text(known.to_dict())
    assert f"{known.loss:.3f} nats" in text and known.verdict in text and "N^−0.40 and D^−0.30" in text
    assert surface_text(surface_law(runs[:1], 6e13).to_dict()) == "not enough sizes of dense models for it"
