"""The fitted laws as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dashboards.numbers import decimal_text, flops_text, interval_text, seconds_text
from dashboards.tables import aligned
from space.structure import Structure

if TYPE_CHECKING:
    from storage.laws import HoldOut, LawSet, StructureLaw


def laws_text(fits: LawSet, forecast: HoldOut | None = None, *, width: int | None = None) -> str:
    """The shared parameters of the laws and their own test, then one line for each structure with its verdict."""
    tested = f"\ntest   {forecast_text(forecast)}" if forecast is not None else ""
    return f"{_shared(fits)}{tested}\n\n{_each(fits, width)}"


def forecast_text(forecast: HoldOut) -> str:
    """What the laws made of the largest dense compute, which they had not seen, in one sentence."""
    predicted = interval_text(forecast.predicted, forecast.low, forecast.high, 3)
    inside = "inside" if forecast.low <= forecast.observed <= forecast.high else "outside"
    return (
        f"dense at {flops_text(forecast.compute)} FLOPs, forecast from smaller runs: {predicted} nats; observed"
        f" {decimal_text(forecast.observed, 3)}, {inside} the interval"
    )


def surface_text(found: Mapping[str, Any]) -> str:
    """What the law L(N, D) of the dense runs says at the target compute, from `SurfaceLaw.to_dict`, in one sentence."""
    fitted = found["surface"]
    if fitted is None:
        return f"{found['verdict']} of dense models for it"
    powers = f"N^−{decimal_text(fitted['alpha'], 2)} and D^−{decimal_text(fitted['beta'], 2)}"
    if found["best_params"] is None:
        return f"falls as {powers}, but is {found['verdict']} by these data"
    best = f"at the target the best dense model spends {flops_text(found['best_params'])} MACs on a token"
    return f"falls as {powers}; {best}, for a loss of {decimal_text(found['loss'], 3)} nats; {found['verdict']}"


def _shared(fits: LawSet) -> str:
    """The parameters that all structures share."""
    known = "" if fits.l_inf_identified else ", not identified by these data"
    p_value = f", p = {decimal_text(fits.pooling_p, 2)} for one exponent for all"
    lines = [
        f"loss = L_inf + b {'C' if fits.axis == 'compute' else 'S'}^-a",
        f"L_inf  {interval_text(fits.l_inf, *fits.l_inf_interval, 3)} nats{known}",
        f"a      {interval_text(fits.exponent, *fits.exponent_interval, 3)}",
        f"runs   differ by {100 * fits.effect.sigma:.1f} % of the loss",
    ]
    lines[2] += p_value if math.isfinite(fits.pooling_p) else ""
    return "\n".join(lines)


def _each(fits: LawSet, width: int | None) -> str:
    """The exponent, the range and the evidence of each structure."""
    unit = flops_text if fits.axis == "compute" else seconds_text
    entries = list(fits.laws.values())
    columns = {
        "structure": [Structure.parse(entry.key).name for entry in entries],
        "a": [decimal_text(entry.law.exponent, 3) for entry in entries],
        "runs": [str(entry.runs) for entry in entries],
        "range": [f"{unit(entry.law.low)} to {unit(entry.law.high)}" for entry in entries],
        "points": [_points(entry) for entry in entries],
        "verdict": [entry.verdict for entry in entries],
    }
    return aligned(columns, {"a", "runs", "points"}, width, below="verdict")


def _points(entry: StructureLaw) -> str:
    """Points on the frontier of all."""
    used = sum(report.used for report in entry.points)
    return f"{used} of {used + sum(sum(report.left_out.values()) for report in entry.points)}"
