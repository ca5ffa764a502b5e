"""What a report tells, in plain values: the same for the HTML file and for Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dashboards.answer import caveats, leader
from dashboards.coordinates import coordinates_data, transfer_text
from dashboards.diagram import diagram_data, diagram_facts, diagram_svg
from dashboards.foresight import foresight_data, foresight_text
from dashboards.laws import forecast_text, surface_text
from dashboards.numbers import decimal_text, interval_text, scientific, seconds_text, verdict_text
from dashboards.plots import highlighted
from space.structure import Structure

if TYPE_CHECKING:
    from pandas import DataFrame

    from storage.coordinates import Movement
    from storage.laws import HoldOut, LawSet, SurfaceLaw

ALL_ROWS = 300
"""Rows of the leaderboard and of the laws that a report has room for."""

VERDICTS = {
    "single run": "one run stands behind the structure: its luck, and the exponent of its law, are taken from the others",
    "exponent pooled": "the data do not tell its exponent from that of the others, so all share one",
    "own exponent": "its exponent differs from that of the others, and is its own",
    "not identified": "the data do not settle the irreducible loss L∞: within the compute that was run the laws hold, far "
    "beyond it they do not",
    "extrapolated": "the target is so many times the largest compute on its frontier",
    "dense extrapolated": "to reach its loss, dense would need so many times the largest compute that dense was run at",
}
"""Parts of a verdict, and what they mean."""


REPRODUCING = (
    "Weights, batches and proposals follow from the seeds, and each trial's seed from the study's. What a repetition needs "
    "besides is the same data (by its fingerprint), versions and precision. Trials that run beside each other may end in "
    "another order, and proposals after them then differ; one trial at a time (--concurrency 1) keeps the order."
)
"""What a repetition rests on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportBundle:
    """Everything a report is made of; frames have the columns of `storage.queries`.

    `target_compute` in FLOPs; `width` is the one at which structures are drawn; `seconds` is what
    all its trials trained.  `timed` are the laws over seconds; `predictions` what the model of the search foresaw
    (see `dashboards.foresight`); `surface` the law L(N, D) of dense; `movements` the
    coordinate checks.
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
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    forecast: HoldOut | None = None
    timed: LawSet | None = None
    predictions: DataFrame | None = None
    surface: SurfaceLaw | None = None
    movements: Sequence[Movement] = ()


def sentences(bundle: ReportBundle) -> list[str]:
    """Everything to keep in mind beside the answer."""
    said = caveats(bundle.trials, bundle.leaderboard, bundle.laws, bundle.target_compute)
    return [*said, *_tested(bundle)]


def _tested(bundle: ReportBundle) -> list[str]:
    """The laws' own test, and whether they did better than no law at all."""
    test = bundle.forecast
    if test is None:
        return []
    naive = f"assuming that more compute brings nothing would have said {decimal_text(test.baseline, 3)}"
    better = "the law did better" if test.better_than_baseline else "the law did no better"
    return [f"The laws' own test: {forecast_text(test)}; {naive}, so {better}."]


def foreseen(bundle: ReportBundle) -> str:
    """How well the model of the search foresaw its trials; empty where it had nothing to foresee."""
    return foresight_text(foresight_data(bundle.trials, bundle.predictions))


def transfer(bundle: ReportBundle) -> str:
    """What the coordinate checks of dense and the best structures come to."""
    return transfer_text(coordinates_data(bundle.movements, highlighted(bundle.leaderboard)))


def glossary(leaderboard: DataFrame) -> dict[str, str]:
    """The parts of the verdicts of a leaderboard, and what they mean."""
    parts = {part for verdict in leaderboard["verdict"] for part in str(verdict).split(", ")}

    def used(word: str) -> bool:
        return any(part.startswith(word) or part.endswith(word) for part in parts)

    return {word: meaning for word, meaning in VERDICTS.items() if used(word)}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level: `{"trial": {"depth": 3}}` becomes `{"trial.depth": "3"}`."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def facts(bundle: ReportBundle) -> list[tuple[str, str]]:
    """The figures under the answer."""
    done = int((~bundle.trials["state"].isin(["queued", "running"])).sum())
    return [
        (decimal_text(done, 0), "trials finished"),
        (decimal_text(bundle.trials["key"].nunique(), 0), "structures tried"),
        (scientific(bundle.flops_spent), "training FLOPs spent"),
        (scientific(bundle.target_compute), "FLOPs is the target"),
        (seconds_text(bundle.seconds), "of training"),
    ]


def standings(frame: DataFrame) -> list[dict[str, str]]:
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
        "place": " · ".join(decimal_text(row[name], 2) for name in ("omega", "psi", "nu")),
        "trials": str(row["trials"]),
        "flops": scientific(row["flops"]),
        "verdict": verdict_text(row["verdict"]),
        "tone": "good" if row["multiplier_low"] > 1 else "bad" if row["multiplier_high"] < 1 else "open",
    }


def law_table(bundle: ReportBundle) -> dict[str, Any] | None:
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
        "pooling": decimal_text(fits.pooling_p, 2) if math.isfinite(fits.pooling_p) else "",
        "sigma": f"{100 * fits.effect.sigma:.1f} %",
        "surface": "" if bundle.surface is None else surface_text(bundle.surface.to_dict()),
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
        "exponent": decimal_text(entry.law.exponent, 3),
        "range": f"{scientific(entry.law.low)} to {scientific(entry.law.high)}",
        "runs": str(entry.runs),
        "used": str(used),
        "left": left or "none",
        "verdict": verdict_text(entry.verdict) + (f", frontier at the {entry.edge}" if entry.edge else ""),
    }


def diagrams(bundle: ReportBundle) -> list[dict[str, Any]]:
    """The leader as a square layer and as the wide layer of a feed-forward block."""
    best = leader(bundle.leaderboard)
    if best is None:
        return []
    structure = Structure.parse(best.key)
    shapes = [(bundle.width, bundle.width), (bundle.width, 4 * bundle.width)]
    drawn = [diagram_data(structure, *shape) for shape in shapes]
    return [{"data": data, "svg": diagram_svg(data), "facts": diagram_facts(data)} for data in drawn]
