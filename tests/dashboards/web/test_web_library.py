"""plotly.js as the page serves it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from dashboards.web import library

from .conftest import Site

PACKAGED = files("plotly").joinpath("package_data/plotly.min.js").read_bytes()


def test_the_library_is_that_of_the_package_in_parentheses(site: Site) -> None:
    """Fails where a new plotly is built in another way: then it is served as it is, and first pages take longer."""
    sent = site.ask("/plotly.js")
    assert "immutable" in sent.headers["cache-control"]
    assert sent.body.replace(b"this, (() => {", b"this, () => {", 1).removesuffix(b"})));") + b"}));" == PACKAGED
    assert len(sent.body) == len(PACKAGED) + 2


@pytest.mark.parametrize("content", [b"other" * 1000, b"this, () => {" + b"x" * 5000, b"x" * 5000 + b"}));"])
def test_a_library_that_is_built_otherwise_is_sent_as_it_is(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "plotly.min.js"
    place.write_bytes(content)
    assert b"".join(library.parts(place)) == content
