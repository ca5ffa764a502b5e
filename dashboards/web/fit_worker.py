"""The helper process that fits laws for the web page: `python -m dashboards.web.fit_worker`.

One JSON object a line on stdin, one JSON object a line on stdout. The server starts it when a page wants laws; it ends
when nobody has asked for a while. So the server itself never loads scipy or pandas. It begins with what drivers have kept
of the laws, reads the curves of those structures only that have new results, and writes nothing.
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
from storage.books import book
from storage.curves import runs
from storage.database import Database
from storage.laws.frontier import frontier, fronts
from storage.laws.run import AXES, by_structure
from storage.studies import StudyRecord, read_study

IDLE_SECONDS = 300.0
_KEPT = 4
_NICE = 10
"""The page comes first, and so do the trials of this machine."""
_POINTS = 6000
NO_DENSE = "no dense trial has a result (or you have left it out), so nothing can be compared with dense yet"


class Fitter:
    """Fits of one database, the latest few kept."""

    def __init__(self, url: str) -> None:
        self.database = Database.open(url)
        self._fits: dict[Any, laws.LawSet] = {}

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request: `want` is `board`, `curves` or `law`."""
        with self.database.reading() as session:
            record = read_study(session, asked["study"])
        if asked["want"] == "board":
            return self._board(record, asked["version"])
        fits = self._fit(record, asked["version"], asked.get("exclude", []))
        if asked["want"] == "curves":
            known = [key for key in asked["keys"] if key in fits.laws]
            return {"curves": {key: _curve(fits, key, record.target_compute) for key in known}}
        return self._law(record, fits, asked["key"], asked.get("exclude", []))

    def book(self, record: StudyRecord) -> laws.Book:
        """The book of a study as the ledger stands: only structures with new results are read again."""
        found = book(self.database, record)
        if found is None:
            raise StudyError(NO_DENSE)
        return found

    def _fit(self, record: StudyRecord, version: str, exclude: list[int]) -> laws.LawSet:
        place = record.id, version, tuple(exclude)
        if place not in self._fits:
            whole = self.book(record)
            chosen = self._without(whole, record, exclude) if exclude else whole
            while len(self._fits) >= _KEPT:
                self._fits.pop(next(iter(self._fits)))
            self._fits[place] = chosen.laws(draws=results.DRAWS, seed=record.seed)
        return self._fits[place]

    def _without(self, whole: laws.Book, record: StudyRecord, exclude: list[int]) -> laws.Book:
        """The book as it would be without some trials."""
        touched = {run.structure for run in runs(self.database, record, numbers=exclude)}
        left = [run for run in runs(self.database, record, structures=touched) if int(run.run_id) not in exclude]
        kept = {key: front for key, front in whole.fronts.items() if key not in touched}
        found = kept | fronts(by_structure(left))
        if laws.DENSE not in found:
            raise StudyError(NO_DENSE)
        tables = {axis: {key: table for key, table in whole.tables[axis].items() if key in kept} for axis in AXES}
        return laws.Book(found, tables)

    def _board(self, record: StudyRecord, version: str) -> dict[str, Any]:
        """The leaderboard as rows, the laws without their draws and points, their own test, the law L(N, D) of dense."""
        board = results.leaderboard(self.database, record, lambda: self.book(record))
        shown = self._fit(record, version, []).to_dict(points=False)
        forecast = results.forecast(self.database, record)
        surface = results.surface(self.database, record).to_dict()
        rows = [{str(name): _json(value) for name, value in row.items()} for row in board.to_dict("records")]
        test = None if forecast is None else forecast.to_dict()
        return {"rows": rows, "laws": shown, "forecast": test, "surface": surface}

    def _law(self, record: StudyRecord, fits: laws.LawSet, key: str, exclude: list[int]) -> dict[str, Any]:
        """One structure's law: its curve and band, and each point with what became of it and its distance from the law."""
        if key not in fits.laws:
            return {"error": "this structure has no run that could enter a law yet"}
        entry, all_runs = fits.laws[key], runs(self.database, record, structures=[key])
        mine = [run for run in all_runs if run.usable and int(run.run_id) not in exclude]
        judged = frontier(mine)
        compute, loss = np.exp(judged.x), np.exp(judged.log_loss)
        residual = judged.log_loss - np.log(entry.law.predict(compute))
        numbers = [int(mine[owner].run_id) for owner in judged.run]
        lines = zip(numbers, compute.tolist(), loss.tolist(), judged.reason, residual.tolist(), strict=True)
        points = [line for line in lines if np.isfinite(line[2])]
        value, draws = laws.log_multiplier(fits, key, record.target_compute)
        low, high = np.quantile(draws, [0.05, 0.95])
        return {
            "curve": _curve(fits, key, record.target_compute),
            "points": points[:: -(-len(points) // _POINTS)],
            "verdict": entry.verdict,
            "edge": entry.edge,
            "runs": entry.runs,
            "multiplier": [float(np.exp(number)) for number in (value, low, high)],
            "l_inf": [fits.l_inf, *fits.l_inf_interval],
            "exponent": entry.law.exponent,
        }


def _curve(fits: laws.LawSet, key: str, target: float) -> dict[str, Any]:
    return law_curve(fits, key, target)._asdict()


def _json(value: Any) -> Any:
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
