"""plotly.js for the pages: as the installed plotly package has it, but for two parentheses.

The file hands its whole program, as one function, to a loader that calls it. A browser skims a function where it stands and
reads it when it is called: five megabytes, twice. A function in parentheses is read at once, and so the first page of a
browser is there a third of a second earlier.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from starlette.responses import Response, StreamingResponse

_YEAR = "public, max-age=31536000, immutable"
_PART = 2**20
_HEAD, _FOOT = 1024, 16
_OPEN = b"this, () => {", b"this, (() => {"
_CLOSE = b"}));", b"})));"


def plotly_js() -> Response:
    """The file as an answer that a browser keeps: its address has the version."""
    pieces = parts(Path(str(files("plotly").joinpath("package_data/plotly.min.js"))))
    return StreamingResponse(pieces, media_type="text/javascript", headers={"cache-control": _YEAR})


def parts(place: Path) -> Iterator[bytes]:
    """What is sent of a file, at most a megabyte at a time: the server need not hold it whole."""
    head, foot = _ends(place)
    yield head
    yield from _between(place, _HEAD, place.stat().st_size - _FOOT)
    yield foot


def _ends(place: Path) -> tuple[bytes, bytes]:
    """The first and the last bytes, with the parentheses where the file is built as we know it."""
    with place.open("rb") as file:
        head = file.read(_HEAD)
        file.seek(-_FOOT, os.SEEK_END)
        foot = file.read()
    known = _OPEN[0] in head and foot.endswith(_CLOSE[0])
    return (head.replace(*_OPEN), foot.replace(*_CLOSE)) if known else (head, foot)


def _between(place: Path, start: int, end: int) -> Iterator[bytes]:
    with place.open("rb") as file:
        file.seek(start)
        while part := file.read(min(_PART, end - file.tell())):
            yield part
