"""From a study to its report."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.study import Study


def write(study: Study, path: Path) -> Path:
    """Write the study's report as one HTML file, and return where it is.

    Raises:
        StudyError: the study is unknown.
        DiskError: the file cannot be written.
    """
    from dashboards.report import ReportBundle, write_report
    from space.errors import DiskError, StudyError
    from storage import queries, results
    from storage.database import Database
    from storage.status import status
    from storage.studies import open_study

    if path.exists() and not path.is_file():
        raise DiskError(f"cannot write the report {path}: it is not a file; choose another place")
    with Database.open(study.db) as database:
        record = open_study(database, study.name)
        now = status(database, study.name)
        try:
            board, laws = results.leaderboard(database, record), results.lawset(database, record)
            forecast = results.forecast(database, record)
        except StudyError:
            board, laws, forecast = results.empty_leaderboard(), None, None
        bundle = ReportBundle(
            study=study.name,
            trials=queries.trials_frame(database, study.name),
            points=queries.points_frame(database, study.name),
            leaderboard=board,
            laws=laws,
            target_compute=record.target_compute,
            task=f"characters of the corpus {record.settings['trial']['corpus']!r}",
            flops_spent=now.flops,
            seconds=now.seconds,
            fingerprint=record.corpus_fingerprint,
            created=datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            settings=record.settings,
            versions=record.versions,
            commands=(shlex.join(["einsearch", "resume", study.name, "--db", now.url_shown]),),
            forecast=forecast,
        )
    return write_report(path, bundle)
