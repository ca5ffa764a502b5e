"""What the templates are given: how numbers, times and structures read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import metadata
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from dashboards.diagram import GREEK
from dashboards.numbers import MISSING, decimal_text, interval_text, scientific, seconds_text, signed, verdict_text
from dashboards.style import DARK_OF
from space.structure import Structure

SECTIONS = {
    "overview": ("Overview", ""),
    "leaderboard": ("Leaderboard", "/leaderboard"),
    "frontier": ("Frontier", "/frontier"),
    "taxonomy": ("Taxonomy", "/taxonomy"),
    "trials": ("Trials", "/trials"),
    "rungs": ("Rungs", "/rungs"),
    "steering": ("Steering", "/steering"),
    "checks": ("Checks", "/checks"),
    "provenance": ("Provenance", "/provenance"),
    "optuna": ("Optuna", "/optuna"),
}
"""The pages of a study: titles and the ends of their paths."""


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A template as a page."""
    known = {"sections": SECTIONS, "study": None, "section": "", "plots": {}, "versions": {}, "dark": json.dumps(dict(DARK_OF))}
    return HTMLResponse(_environment().get_template(template).render(known | values | {"path": request.url.path}), status)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dashboards.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "flops": lambda value: MISSING if value is None else scientific(value),
        "seconds": seconds_text,
        "decimals": lambda value, digits=3: MISSING if value is None else decimal_text(value, digits),
        "signed": signed,
        "verdict": verdict_text,
        "percent": lambda value: MISSING if value is None else f"{100 * value:.0f} %",
        "count": lambda value: f"{int(value):,}".replace(",", "\u202f"),
        "multiplier": lambda value: MISSING if value is None else decimal_text(math.exp(value), 2),
        "when": when,
        "interval": interval,
        "tone": tone,
        "key": quoted,
        "query": urlencode,
        "version": cache(metadata.version),
    }
    return environment


@lru_cache(maxsize=4096)
def quoted(key: str) -> str:
    """A key as part of an address."""
    return quote(key, safe="")


def when(seconds: float | None) -> str:
    """Epoch seconds as a date and a time in UTC."""
    return MISSING if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def interval(row: Mapping[str, Any], name: str, digits: int = 2) -> str:
    """A column of the leaderboard with its interval."""
    value, low, high = (math.nan if row.get(key) is None else row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return interval_text(value, low, high, digits)


def tone(row: Mapping[str, Any]) -> str:
    """Whether a row's interval says better than dense, worse, or neither."""
    low, high = row["multiplier_low"], row["multiplier_high"]
    return "good" if low is not None and low > 1 else "bad" if high is not None and high < 1 else "open"


def exponents(structure: Structure) -> list[tuple[str, str]]:
    """The exponents of a structure with their letters; of more than two factors with their edges, those above 0."""
    if structure.factors <= 2:
        letters = [GREEK[edge] for edge in structure.edges]
        return list(zip(letters, map(str, structure.theta), strict=True))
    return [(edge, str(value)) for edge, value in zip(structure.edges, structure.theta, strict=True) if value]


def _setting(value: Any) -> str:
    """A setting as JSON, large numbers as people write them."""
    large = isinstance(value, float) and math.isfinite(value) and abs(value) >= 1e7
    return f"{value:.4g}".replace("e+", "e") if large else json.dumps(value)


def edge_order(edge: str) -> tuple[int, int, str]:
    """Input edges, output edges, then those among the factors; each by number of factors (`space.edges`)."""
    return "XY".find(edge[0]) % 3, len(edge), edge


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `outer.inner`: text."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else _setting(value)
    return found
