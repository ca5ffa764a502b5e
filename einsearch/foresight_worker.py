"""The helper process that says what the search foresaw of each trial: `python -m einsearch.foresight_worker`.

One JSON object a line on stdin, one JSON object a line on stdout, as `dashboards.web.fitting` speaks. The web page starts it
when somebody wants to see; it ends when nobody has asked for a while. It reads and never writes.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from typing import Any

from einsearch.foresight import FEWEST, MOST, predictions
from space.errors import EinsearchError
from storage.database import Database
from storage.free_sql import sql
from storage.studies import read_study

IDLE_SECONDS = 120.0
_NICE = 10
_RESULTS = f"""
SELECT number, key, rung, value FROM einsearch_trial_view
WHERE study = {{study}} AND value IS NOT NULL AND key <> 'dense' ORDER BY number DESC LIMIT {MOST}
"""


def foresee(database: Database, study: int) -> dict[str, Any]:
    """`predictions`: (trial, mean, standard deviation) of the natural log multiplier that was foreseen; or an `error`."""
    with database.reading() as session:
        record = read_study(session, study)
    quoted = "'" + record.name.replace("'", "''") + "'"
    found = predictions(sql(database, _RESULTS.format(study=quoted)), record)
    if found is None:
        return {"error": f"The search foresees nothing yet: its model needs more than {FEWEST} results of structures."}
    return {"predictions": [[int(number), *rest] for number, *rest in found.to_numpy().tolist()]}


def answer(asked: Mapping[str, Any], databases: dict[str, Database]) -> dict[str, Any]:
    """The answer to one request."""
    try:
        if asked["url"] not in databases:
            databases[asked["url"]] = Database.open(asked["url"])
        return foresee(databases[asked["url"]], asked["study"])
    except (EinsearchError, ValueError) as error:
        return {"error": str(error)}


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.nice(_NICE)
    databases: dict[str, Database] = {}
    while select.select([sys.stdin], [], [], IDLE_SECONDS)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        answers.write(json.dumps(answer(json.loads(line), databases)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
