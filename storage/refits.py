"""Laws that were kept, made again from the ledger by their hash.

settings   method, seed, draws, level, target compute (FLOPs), FLOP convention, trials ("0-4,7": numbers, by ranges)
payload    settings; the laws on both axes, with the points used and left out by run; the leaderboard; the law
           L(N, D) of dense; the laws' own test
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from space.errors import StudyError
from storage import laws
from storage.books import METHOD
from storage.curves import runs
from storage.database import Database
from storage.fits import DRAWS, LEVEL, stored_fits
from storage.laws.run import json_value
from storage.studies import StudyRecord


def refit(database: Database, study: StudyRecord, digest: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The laws kept under a hash, or the beginning of it, and the same laws fitted anew from the ledger's points.

    Raises:
        StudyError: there is none, or several; it was fitted by another version of the method or under another FLOP
            convention; or a trial of it is gone.
    """
    found = [fit for fit in stored_fits(database, study.id, "laws") if fit.hash.startswith(digest)]
    if len(found) != 1:
        known = ", ".join(fit.hash[:12] for fit in stored_fits(database, study.id, "laws")) or "none"
        raise StudyError(f"{len(found)} fits of study {study.name!r} begin with {digest!r}; it has {known}")
    kept: dict[str, Any] = found[0].payload
    settings = kept["settings"]
    _check(study, settings)
    return kept, fit_payload(database, study, settings)


def fit_settings(study: StudyRecord, numbers: Sequence[int]) -> dict[str, Any]:
    """What decides the numbers of a fit of these trials (sorted)."""
    return {
        "method": METHOD,
        "seed": study.seed,
        "draws": DRAWS,
        "level": LEVEL,
        "target_compute": study.target_compute,
        "flop_convention": study.flop_convention,
        "trials": ranges(numbers),
    }


def fit_payload(database: Database, study: StudyRecord, settings: dict[str, Any]) -> dict[str, Any]:
    """Fit the laws by the settings from the points of the ledger. Raises StudyError where a trial is gone."""
    wanted = numbers_of(settings["trials"])
    found = runs(database, study, numbers=wanted)
    missing = set(wanted) - {int(run.run_id) for run in found}
    if missing:
        gone = ranges(sorted(missing))
        raise StudyError(f"study {study.name!r} no longer has the curves of trials {gone}: its fit cannot be made again")
    target, seed = settings["target_compute"], settings["seed"]
    fitted = laws.Book.of(found).both(draws=settings["draws"], seed=seed)
    test = laws.hold_out(found, draws=settings["draws"], seed=seed)
    board = laws.rank(fitted["compute"], fitted["seconds"], target, settings["level"])
    payload = {
        "settings": settings,
        "laws": {axis: fits.to_dict() for axis, fits in fitted.items()},
        "leaderboard": [row.to_dict() for row in board],
        "surface": laws.surface_law(found, target).to_dict(),
        "hold_out": None if test is None else test.to_dict(),
    }
    values: dict[str, Any] = json_value(payload)
    return values


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as ranges.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][1] + 1:
            pieces[-1][1] = number
        else:
            pieces.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in pieces)


def numbers_of(text: str) -> list[int]:
    """What `ranges` wrote."""
    ends = [piece.split("-") for piece in text.split(",") if piece]
    return [number for end in ends for number in range(int(end[0]), int(end[-1]) + 1)]


def _check(study: StudyRecord, settings: dict[str, Any]) -> None:
    if settings["method"] != METHOD:
        raise StudyError(
            f"the fit was made by version {settings['method']} of the method, this is version {METHOD}; record the laws again"
        )
    if settings["flop_convention"] != study.flop_convention:
        raise StudyError(
            f"the fit counts FLOPs as {settings['flop_convention']}, study {study.name!r} as {study.flop_convention}:"
            " they cannot be compared"
        )
