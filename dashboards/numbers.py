"""Numbers as people read them: FLOPs, seconds, multipliers with their intervals."""

from __future__ import annotations

import math
import re

MISSING = "–"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def flops_text(flops: float) -> str:
    """FLOPs in two digits: `flops_text(3.21e11)` is `'3.2e11'`."""
    if not math.isfinite(flops):
        return MISSING
    mantissa, exponent = f"{flops:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if flops else "0"


def scientific(value: float) -> str:
    """The same in print: `scientific(3.21e11)` is `'3.2×10¹¹'`."""
    text = flops_text(value)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{mantissa}×10{exponent.translate(SUPERSCRIPTS)}"


def seconds_text(seconds: float | None) -> str:
    """Seconds as `'0.8s'`, `'45s'`, `'1m 23s'`, `'2h 05m'` or `'3d 04h'`."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def decimal_text(value: float, digits: int = 3) -> str:
    """A number with `digits` decimals, or a dash when it is not known."""
    return f"{value:.{digits}f}" if math.isfinite(value) else MISSING


def verdict_text(verdict: str) -> str:
    """A verdict as people read it: `L∞` for `L_inf`, `2.0×` for `2.0x`."""
    return re.sub(r"(\d)x\b", r"\1×", verdict.replace("L_inf", "L∞"))


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, or a dash when it is not known: `signed(-0.5)` is `'−0.50'`."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def interval_text(value: float, low: float, high: float, digits: int = 2) -> str:
    """A value with its interval, `'1.32 [1.10, 1.55]'`; `'1.32 [1.10, ?]'` without an upper end; alone without any."""
    if math.isfinite(value) and math.isfinite(low) and math.isnan(high):
        return f"{decimal_text(value, digits)} [{decimal_text(low, digits)}, ?]"
    if not (math.isfinite(low) and math.isfinite(high)) or not math.isfinite(value):
        return decimal_text(value, digits)
    return f"{decimal_text(value, digits)} [{decimal_text(low, digits)}, {decimal_text(high, digits)}]"


def count_text(count: float, noun: str) -> str:
    """`count_text(1, 'trial')` is `'1 trial'`; `count_text(1200, 'trial')` is `'1 200 trials'`."""
    number = f"{int(count):,}".replace(",", "\u202f")
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"
