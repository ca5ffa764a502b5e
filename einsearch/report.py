"""From a study to its report."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboards.story import ReportBundle
    from search.study import Study
    from storage.database import Database
    from storage.studies import StudyRecord

SETTINGS_FILE = "settings.json"
"""What the commands of a report call the file of the settings that it prints."""


def write(study: Study, path: Path, *, markdown: bool = False, figures: bool = True) -> Path:
    """Write the study's report, and return where it is.

    Args:
        markdown: text in Markdown instead of one HTML file.
        figures: of Markdown, whether SVG files are written into a folder beside it.

    Raises:
        StudyError: the study is unknown.
        DiskError: a file cannot be written.
    """
    from dashboards.markdown import write_markdown
    from dashboards.report import write_report
    from space.errors import DiskError

    if path.exists() and not path.is_file():
        raise DiskError(f"cannot write the report {path}: it is not a file; choose another place")
    bundle = gather(study)
    return write_markdown(path, bundle, figures=figures) if markdown else write_report(path, bundle)


def gather(study: Study, *, foresee: bool = True) -> ReportBundle:
    """Everything that reports and figures of a study are made of.

    Args:
        foresee: also fit the model of the search, which takes seconds.

    Raises:
        StudyError: the study is unknown.
    """
    from dashboards.story import ReportBundle
    from einsearch.foresight import predictions
    from storage import queries
    from storage.coordinates import movements
    from storage.database import Database
    from storage.status import status
    from storage.studies import open_study

    with Database.open(study.db) as database:
        record = open_study(database, study.name)
        now = status(database, study.name)
        trials = queries.trials_frame(database, study.name)
        return ReportBundle(
            study=study.name,
            trials=trials,
            points=queries.points_frame(database, study.name),
            target_compute=record.target_compute,
            task=f"characters of the corpus {record.settings['trial']['corpus']!r}",
            flops_spent=now.flops,
            seconds=now.seconds,
            fingerprint=record.corpus_fingerprint,
            created=datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            settings=record.settings,
            versions=record.versions,
            commands=commands(record, now.url_shown),
            predictions=predictions(trials, record) if foresee else None,
            movements=movements(database, record.id),
            provenance=provenance(record, now.url_shown),
            **_laws(database, record),
        )


def _laws(database: Database, record: StudyRecord) -> dict[str, Any]:
    """Leaderboard and laws; none while nothing can be compared."""
    from space.errors import StudyError
    from storage import results

    try:
        return {
            "leaderboard": results.leaderboard(database, record),
            "laws": results.lawset(database, record),
            "timed": results.lawset(database, record, axis="seconds"),
            "forecast": results.forecast(database, record),
            "surface": results.surface(database, record),
        }
    except StudyError:
        return {"leaderboard": results.empty_leaderboard(), "laws": None}


def provenance(record: StudyRecord, database: str) -> dict[str, str]:
    """Where the figures come from; the password of the database is hidden."""
    return {
        "study": record.name,
        "database": database,
        "data fingerprint (SHA-256)": record.corpus_fingerprint,
        "FLOPs counted as": record.flop_convention,
        "target compute (FLOPs)": f"{record.target_compute:.6g}",
        "seed": str(record.seed),
        "budget (trials)": str(record.budget),
    }


def commands(record: StudyRecord, database: str) -> dict[str, tuple[str, ...]]:
    """What to type, by purpose: to look, to go on, and to run the study again from nothing."""
    place = ["--db", database]
    asked = [["einsearch", name, record.name, *place] for name in ("leaderboard", "watch")]
    again = f"""python - <<'END'
import json, einsearch
from search.settings import StudySettings

settings = StudySettings.from_dict(json.load(open({SETTINGS_FILE!r})))
study = einsearch.Study({record.name!r}, db="sqlite:///again.db", trials={record.budget}, settings=settings)
study.run()
study.leaderboard().to_csv("again.csv", index=False)
END"""
    return {
        "Look at it again": tuple(shlex.join(words) for words in asked),
        "Go on with it, with more trials": (shlex.join(["einsearch", "resume", record.name, *place, "--trials", "+20"]),),
        f"Run it again from nothing; {SETTINGS_FILE} holds the settings below": (again,),
    }
