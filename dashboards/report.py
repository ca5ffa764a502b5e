"""A study's report: one HTML file that opens offline and holds everything it shows.

plotly.js is written into the file once; figures are JSON in it; nothing is loaded from anywhere.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.answer import answer, caveats, leader
from dashboards.diagram import CAPTION as DIAGRAM_CAPTION
from dashboards.diagram import diagram_data, diagram_facts, diagram_svg
from dashboards.laws import forecast_text
from dashboards.numbers import interval_text, plain, scientific, seconds_text
from dashboards.plots import Plot, plots
from dashboards.style import DARK_OF
from space.errors import DiskError
from space.structure import Structure

if TYPE_CHECKING:
    from pandas import DataFrame

    from storage.laws import HoldOut, LawSet

ROWS = 12
"""Rows of the leaderboard and of the laws that are in sight; the others open on demand."""
ALL_ROWS = 300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportBundle:
    """Everything a report is made of; frames have the columns of `storage.queries`.

    `target_compute` in FLOPs; `width` is the one at which structures are drawn; `seconds` is what
    all its trials trained.
    """

    study: str
    trials: DataFrame
    points: DataFrame
    leaderboard: DataFrame
    laws: LawSet | None
    target_compute: float
    width: int = 256
    task: str = "this task"
    flops_spent: float = 0.0
    seconds: float = 0.0
    fingerprint: str = ""
    created: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    forecast: HoldOut | None = None


def write_report(path: str | os.PathLike[str], bundle: ReportBundle) -> Path:
    """Write the report, whole or not at all, and return its path; the folder is made where it is missing.

    Raises:
        DiskError: when the file cannot be written; an older report at that place is left as it was.
    """
    target = Path(path)
    html = report_html(bundle)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, html)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"cannot write the report {target}: {reason}; choose another place or make room") from error
    return target


def _tested(bundle: ReportBundle) -> list[str]:
    """The laws' own test, as a caveat."""
    return [f"The laws' own test: {forecast_text(bundle.forecast)}."] if bundle.forecast is not None else []


def _replace(target: Path, text: str) -> None:
    """Write beside the target, then rename over it."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise


def report_html(bundle: ReportBundle) -> str:
    """The report as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    folder = Environment(loader=PackageLoader("dashboards"), autoescape=True, undefined=StrictUndefined)
    drawn = plots(bundle.trials, bundle.points, bundle.leaderboard, bundle.laws, bundle.target_compute)
    return folder.get_template("report.html").render(
        bundle=bundle,
        answer=answer(bundle.leaderboard, bundle.target_compute),
        facts=_facts(bundle),
        plots=drawn,
        figures=script_json(figures_json(drawn)),
        plotly=files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8"),
        leaderboard=_leaderboard(bundle.leaderboard),
        laws=_laws(bundle),
        diagrams=_diagrams(bundle),
        diagram_caption=DIAGRAM_CAPTION,
        caveats=[*caveats(bundle.trials, bundle.leaderboard, bundle.laws, bundle.target_compute), *_tested(bundle)],
        visible=ROWS,
        settings=flat(bundle.settings),
    )


def figures_json(drawn: Mapping[str, Plot]) -> dict[str, Any]:
    """What templates/figures.js draws: the figures by name, and the partner of each colour on a dark page."""
    return {
        "figures": {n: json.loads(plot.figure.to_json()) for n, plot in drawn.items()},
        "dark": dict(DARK_OF),
    }


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level: `{"trial": {"depth": 3}}` becomes `{"trial.depth": "3"}`."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def _facts(bundle: ReportBundle) -> list[tuple[str, str]]:
    """The figures under the answer."""
    done = int((~bundle.trials["state"].isin(["queued", "running"])).sum())
    return [
        (plain(done, 0), "trials finished"),
        (plain(bundle.trials["key"].nunique(), 0), "structures tried"),
        (scientific(bundle.flops_spent), "training FLOPs spent"),
        (scientific(bundle.target_compute), "FLOPs is the target"),
        (seconds_text(bundle.seconds), "of training"),
    ]


def _leaderboard(frame: DataFrame) -> list[dict[str, str]]:
    """Rows of the leaderboard as text, best first."""
    return [_standing(row) for row in frame.head(ALL_ROWS).to_dict("records")]


def _standing(row: Mapping[Any, Any]) -> dict[str, str]:
    def interval(name: str, digits: int = 2) -> str:
        return interval_text(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)

    return {
        "structure": row["structure"],
        "multiplier": interval("multiplier"),
        "time": interval("seconds_multiplier") if "seconds_multiplier" in row else "",
        "loss": interval("loss", 3),
        "place": " · ".join(plain(row[name], 2) for name in ("omega", "psi", "nu")),
        "trials": str(row["trials"]),
        "flops": scientific(row["flops"]),
        "verdict": row["verdict"],
        "tone": "good" if row["multiplier_low"] > 1 else "bad" if row["multiplier_high"] < 1 else "open",
    }


def _laws(bundle: ReportBundle) -> dict[str, Any] | None:
    """The shared parameters and one row for each structure, in the order of the leaderboard."""
    fits = bundle.laws
    if fits is None:
        return None
    names = dict(zip(bundle.leaderboard["key"], bundle.leaderboard["structure"], strict=True))
    order = [key for key in names if key in fits.laws]
    return {
        "l_inf": interval_text(fits.l_inf, *fits.l_inf_interval, 3),
        "identified": fits.l_inf_identified,
        "exponent": interval_text(fits.exponent, *fits.exponent_interval, 3),
        "pooling": plain(fits.pooling_p, 2) if math.isfinite(fits.pooling_p) else "",
        "sigma": f"{100 * fits.effect.sigma:.1f} %",
        "rows": [_law(fits, key, names[key]) for key in order[:ALL_ROWS]],
    }


def _law(fits: LawSet, key: str, name: str) -> dict[str, str]:
    entry = fits.laws[key]
    used = sum(report.used for report in entry.points)
    reasons: dict[str, int] = {}
    for report in entry.points:
        for reason, count in report.left_out.items():
            reasons[reason] = reasons.get(reason, 0) + count
    left = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return {
        "structure": name,
        "exponent": plain(entry.law.exponent, 3),
        "range": f"{scientific(entry.law.low)} to {scientific(entry.law.high)}",
        "runs": str(entry.runs),
        "used": str(used),
        "left": left or "none",
        "verdict": entry.verdict + (f", frontier at the {entry.edge}" if entry.edge else ""),
    }


def _diagrams(bundle: ReportBundle) -> list[dict[str, Any]]:
    """The leader as a square layer and as the wide layer of a feed-forward block."""
    best = leader(bundle.leaderboard)
    if best is None:
        return []
    structure = Structure.parse(best.key)
    shapes = [(bundle.width, bundle.width), (bundle.width, 4 * bundle.width)]
    drawn = [diagram_data(structure, *shape) for shape in shapes]
    return [{"data": data, "svg": diagram_svg(data), "facts": diagram_facts(data)} for data in drawn]
