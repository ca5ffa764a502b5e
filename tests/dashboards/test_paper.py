"""Figures for papers: drawn at every size of study, nothing cut off, and true to the laws."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from dashboards.paper import loss, ranking
from dashboards.paper.catalogue import DRAWINGS, paper_figure
from dashboards.paper.style import COLUMN, PAGE, suffix_of, typeset
from dashboards.plots import highlighted
from space.errors import ConfigError
from storage.laws import log_multiplier

SIGNATURES = {"svg": b"<?xml", "pdf": b"%PDF-", "png": b"\x89PNG"}


@pytest.fixture(params=["empty", "single", "small", "large"])
def world(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def overhang(figure: Any) -> float:
    """How far anything that is drawn reaches beyond the page, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = figure.get_tightbbox(canvas.get_renderer())
    return float(max(-drawn.x0, -drawn.y0, drawn.x1 - figure.get_figwidth(), drawn.y1 - figure.get_figheight()))


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_figure_is_drawn_at_every_size_and_no_label_is_cut(world: Any, name: str) -> None:
    bundle = world.bundle()
    with typeset():
        figure = DRAWINGS[name].draw(bundle, highlighted(bundle.leaderboard))
        assert overhang(figure) < 0.005
    assert figure.get_figwidth() in (COLUMN, PAGE, pytest.approx(PAGE * 0.82))


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_a_figure_is_the_same_bytes_twice(small: Any, suffix: str) -> None:
    first, again = (paper_figure("exponents", small.bundle(), suffix=suffix) for _ in range(2))
    assert first.startswith(SIGNATURES[suffix]) and first == again


def test_svg_is_lines_and_letters(small: Any) -> None:
    root = ElementTree.fromstring(paper_figure("frontier", small.bundle()))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "path" in tags and "image" not in tags
    assert root.attrib["width"] == f"{72 * COLUMN:g}pt"


def test_structures_can_be_chosen(small: Any) -> None:
    def colours(*structures: str) -> int:
        return paper_figure("frontier", small.bundle(), structures).count(b"#d55e00")

    assert colours("kronecker", "generic") > colours("kronecker")


def test_what_cannot_be_is_said(small: Any) -> None:
    with pytest.raises(ConfigError, match=r"no figure 'fronteer'; there are frontier, families"):
        paper_figure("fronteer", small.bundle())
    with pytest.raises(ConfigError, match=r"figure.jpeg .*\.svg, \.pdf, \.png"):
        suffix_of(Path("figure.jpeg"))
    assert suffix_of(Path("a/FIGURE.PNG")) == "png"


def test_each_figure_says_how_to_read_it_in_one_sentence() -> None:
    for name, drawing in DRAWINGS.items():
        assert drawing.sentence.endswith(".") and ". " not in drawing.sentence, name


def test_the_documentation_names_every_figure() -> None:
    text = (Path(__file__).parents[2] / "docs" / "figures.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(DRAWINGS)


def test_families_hold_the_structures_of_their_face(small: Any) -> None:
    every, full, ranked = loss.families_data(small.points, small.leaderboard, small.laws)
    board = small.leaderboard[small.leaderboard["key"] != "dense"]
    assert [len(f.lines) for f in (every, full, ranked)] == [
        len(board), int((board["omega"] == 0).sum()), int(((board["omega"] == 0) & (board["psi"] == 1)).sum()),
    ]  # fmt: skip
    for family in (every, full, ranked):
        values = [one.exponent for one in family.lines]
        assert values == sorted(values)
        assert all(
            b[0] >= a[0] and b[1] < a[1] for one in family.lines for a, b in zip(one.points, one.points[1:], strict=False)
        )


def test_reducible_loss_only_where_the_data_settle_l_inf(small: Any) -> None:
    assert loss.reducible_from(replace(small.laws, l_inf_identified=True)) == small.laws.l_inf
    assert loss.reducible_from(replace(small.laws, l_inf_identified=False)) == loss.reducible_from(None) == 0


def test_multiplier_curves_are_those_of_the_laws(small: Any) -> None:
    target = 1e14
    curves = ranking.multiplier_curves_data(small.laws, ["dense", "nothing", *small.leaderboard["key"]], target)
    assert [curve.key for curve in curves] == [key for key in small.leaderboard["key"] if key != "dense"]
    for curve in curves:
        law = small.laws.law(curve.key)
        assert curve.compute[0] == pytest.approx(law.low) and curve.compute[-1] == pytest.approx(target)
        assert curve.compute[curve.measured - 1] == pytest.approx(law.high)
        dense = small.laws.dense.compute_at(law.predict(np.array(curve.compute))) / np.array(curve.compute)
        assert curve.multiplier == pytest.approx(dense)
        _, draws = log_multiplier(small.laws, curve.key, target)
        assert (curve.low[-1], curve.high[-1]) == pytest.approx(np.exp(np.quantile(draws, [0.05, 0.95])))


def test_exponents_are_dense_first_and_as_sure_as_the_bootstrap(small: Any) -> None:
    rows = ranking.exponents_data(small.laws, list(small.leaderboard["key"]), limit=5)
    assert rows[0].name == "dense" and len(rows) == 5
    for row, key in zip(rows[1:], [k for k in small.leaderboard["key"] if k != "dense"], strict=False):
        assert row.exponent == small.laws.law(key).exponent and row.runs == small.laws.laws[key].runs
        draws = np.sort(small.laws.draws.exponent[:, list(small.laws.laws).index(key)])
        assert row.low <= row.exponent <= row.high or math.isclose(row.low, row.high, rel_tol=0.2)
        assert np.mean((draws >= row.low) & (draws <= row.high)) == pytest.approx(0.9, abs=0.02)


def test_importing_is_cheap() -> None:
    code = "import sys, dashboards.paper.catalogue, dashboards.markdown\n"
    code += "print([name for name in 'matplotlib plotly pandas numpy scipy'.split() if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
