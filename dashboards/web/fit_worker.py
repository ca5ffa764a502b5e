"""The helper process that fits laws for the web page: `python -m dashboards.web.fit_worker`.

One JSON object a line on stdin, one JSON object a line on stdout. The server starts it when a page wants laws; it ends
when nobody has asked for a while. So the server itself never loads scipy or pandas.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from dashboards.frontier import law_curve
from space.errors import EinsearchError, StudyError
from storage import laws, results
from storage.database import Database
from storage.laws.frontier import frontier
from storage.studies import StudyRecord, read_study

IDLE_SECONDS = 300.0
_KEPT = 4
_NICE = 10
"""The page comes first, and so do the trials of this machine."""
_POINTS = 6000


class Fitter:
    """Fits of one database, the latest few kept."""

    def __init__(self, url: str) -> None:
        self.database = Database.open(url)
        self._fits: dict[Any, tuple[list[laws.Run], laws.LawSet]] = {}

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request: `want` is `board`, `curves` or `law`."""
        with self.database.reading() as session:
            record = read_study(session, asked["study"])
        runs, fits = self._fit(record, asked["version"], asked.get("exclude", []))
        if asked["want"] == "board":
            return self._board(record, runs, fits)
        if asked["want"] == "curves":
            known = [key for key in asked["keys"] if key in fits.laws]
            return {"curves": {key: _curve(fits, key, record.target_compute) for key in known}}
        return _law(record, runs, fits, asked["key"])

    def _fit(self, record: StudyRecord, version: str, exclude: list[int]) -> tuple[list[laws.Run], laws.LawSet]:
        place = record.id, version, tuple(exclude)
        if place not in self._fits:
            left_out = {str(number) for number in exclude}
            runs = [run for run in results.runs(self.database, record) if run.run_id not in left_out]
            if not any(run.structure == laws.DENSE and run.usable for run in runs):
                raise StudyError(
                    "no dense trial has a result (or you have left it out), so nothing can be compared with dense yet"
                )
            found = runs, laws.laws(runs, seed=record.seed)
            while len(self._fits) >= _KEPT:
                self._fits.pop(next(iter(self._fits)))
            self._fits[place] = found
        return self._fits[place]

    def _board(self, record: StudyRecord, runs: list[laws.Run], fits: laws.LawSet) -> dict[str, Any]:
        """The leaderboard as rows, the laws without their draws, and the laws' own test."""
        board = results.leaderboard(self.database, record)
        forecast = laws.hold_out(runs, seed=record.seed)
        rows = [{str(name): _plain(value) for name, value in row.items()} for row in board.to_dict("records")]
        return {"rows": rows, "laws": fits.to_dict(), "forecast": None if forecast is None else forecast.to_dict()}


def _curve(fits: laws.LawSet, key: str, target: float) -> dict[str, Any]:
    return law_curve(fits, key, target)._asdict()


def _law(record: StudyRecord, runs: list[laws.Run], fits: laws.LawSet, key: str) -> dict[str, Any]:
    """One structure's law: its curve and band, and each point with what became of it and its distance from the law."""
    if key not in fits.laws:
        return {"error": "this structure has no run that could enter a law yet"}
    entry, mine = fits.laws[key], [run for run in runs if run.structure == key and run.usable]
    front = frontier(mine)
    compute, loss = np.exp(front.x), np.exp(front.log_loss)
    residual = front.log_loss - np.log(entry.law.predict(compute))
    numbers = [int(mine[owner].run_id) for owner in front.run]
    points = list(zip(numbers, compute.tolist(), loss.tolist(), front.reason, residual.tolist(), strict=True))
    value, draws = laws.log_multiplier(fits, key, record.target_compute)
    low, high = np.quantile(draws, [0.05, 0.95])
    return {
        "curve": _curve(fits, key, record.target_compute),
        "points": points[:: max(len(points) // _POINTS, 1)],
        "verdict": entry.verdict,
        "edge": entry.edge,
        "runs": entry.runs,
        "multiplier": [float(np.exp(number)) for number in (value, low, high)],
        "l_inf": [fits.l_inf, *fits.l_inf_interval],
        "exponent": entry.law.exponent,
    }


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.nice(_NICE)
    fitters: dict[str, Fitter] = {}
    while select.select([sys.stdin], [], [], IDLE_SECONDS)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        asked = json.loads(line)
        try:
            if asked["url"] not in fitters:
                fitters[asked["url"]] = Fitter(asked["url"])
            answer = fitters[asked["url"]].answer(asked)
        except (EinsearchError, ValueError) as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
