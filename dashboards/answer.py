"""What a study found, in one sentence, and what to keep in mind about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from dashboards.numbers import count_text, decimal_text, interval_text, scientific, verdict_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from storage.laws import LawSet

Strength = Literal["none", "open", "thin", "clear"]
WEAK = ("single run", "not identified", "extrapolated", "another decade")
"""Parts of a verdict that make an answer thin."""
_EFFECTS = {
    "diverged": "left out of the laws and the leaderboard",
    "failed": "left out of the laws and the leaderboard",
    "truncated": "stopped early, counted as far as they got",
}


class Leader(NamedTuple):
    """The first structure of the leaderboard after dense is set aside."""

    key: str
    name: str
    multiplier: float
    low: float
    high: float
    verdict: str

    @property
    def interval(self) -> str:
        """`1.32 [1.10, 1.55]`."""
        return interval_text(self.multiplier, self.low, self.high)


class Answer(NamedTuple):
    """The sentence, and how far it can be trusted."""

    sentence: str
    strength: Strength


def leader(leaderboard: DataFrame) -> Leader | None:
    """The best structure that is not dense, None before any has a multiplier."""
    rows = leaderboard[(leaderboard["key"] != "dense") & leaderboard["multiplier"].notna()]
    names = ["key", "structure", "multiplier", "multiplier_low", "multiplier_high", "verdict"]
    first = next(rows[names].itertuples(index=False, name=None), None)
    return None if first is None else Leader(*first)


def answer(leaderboard: DataFrame, target: float) -> Answer:
    """One sentence for a study's target compute (FLOPs), honest where the interval holds 1 or the evidence
    is thin.
    """
    best = leader(leaderboard)
    at = f"At {scientific(target)} FLOPs"
    if best is None:
        return Answer("No structure can be compared with dense yet.", "none")
    if best.low > 1:
        found = f"{at}, a dense model needs {best.interval} times the compute of {best.name} to reach its loss"
        weak = any(part in best.verdict for part in WEAK)
        return Answer(
            f"{found}; the evidence is thin ({verdict_text(best.verdict)})." if weak else f"{found}.",
            "thin" if weak else "clear",
        )
    if best.high < 1:
        return Answer(
            f"{at}, no structure beats dense: the best, {best.name}, has a compute multiplier of {best.interval}.",
            "clear",
        )
    why = "an interval that holds 1" if math.isfinite(best.low) else "no interval yet"
    found = f"{at}, nothing is decided: {best.name} leads with a compute multiplier of {best.interval}"
    return Answer(f"{found}, {why}, so dense may be as good.", "open")


def caveats(trials: DataFrame, leaderboard: DataFrame, laws: LawSet | None, target: float) -> list[str]:
    """Sentences a careful reader wants beside the answer; none that does not apply."""
    best = leader(leaderboard)
    found = [*_law_caveats(laws, best, target), *_selection(leaderboard)]
    for state, effect in _EFFECTS.items():
        count = int((trials["state"] == state).sum())
        if count:
            found.append(f"{count_text(count, 'trial')} {state}: {effect}.")
    if "seconds_multiplier" in leaderboard and best is not None:
        found.append(_time(leaderboard, best))
    found.append(
        "Multipliers count training FLOPs on this data, at these widths and this depth. They say nothing "
        "about other data or about scales far beyond the target."
    )
    return found


def _law_caveats(laws: LawSet | None, best: Leader | None, target: float) -> list[str]:
    if laws is None:
        return ["No law has been fitted: that takes dense runs to compare with."]
    found = []
    if not laws.l_inf_identified:
        low, high = laws.l_inf_interval
        found.append(
            f"The data do not settle the irreducible loss ({decimal_text(laws.l_inf, 2)} nats, 90 % interval "
            f"{decimal_text(low, 2)} to {decimal_text(high, 2)}): do not extrapolate these laws."
        )
    if best is None or best.key not in laws.laws:
        return found
    entry = laws.laws[best.key]
    if entry.runs < 3:
        found.append(f"{best.name} rests on {count_text(entry.runs, 'run')}: repeat it before relying on it.")
    if target > 1.05 * entry.law.high:
        times = decimal_text(target / entry.law.high, 1)
        found.append(f"The target is {times} times the largest compute on the frontier of {best.name}.")
    if entry.edge is not None:
        found.append(f"The frontier of {best.name} touches the {entry.edge} that was run: its optimum may lie outside.")
    return found


def _selection(leaderboard: DataFrame) -> list[str]:
    """The best of many is flattered by luck."""
    many = len(leaderboard)
    if many < 5:
        return []
    return [
        f"The leader was picked among {many} structures, so its multiplier is more likely too high than "
        "too low; a fresh run with another seed is the test."
    ]


def _time(leaderboard: DataFrame, best: Leader) -> str:
    row = leaderboard[leaderboard["key"] == best.key].iloc[0]
    ends = float(row["seconds_multiplier_low"]), float(row["seconds_multiplier_high"])
    measured = interval_text(float(row["seconds_multiplier"]), *ends)
    where = "In seconds on the machine that ran it"
    return f"{where}, the multiplier of {best.name} is {measured}: FLOPs are not time."
