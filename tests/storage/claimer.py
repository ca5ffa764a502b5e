"""A driver as a process of its own, or several at once: `claimer.py URL STUDY_ID MODE [COUNT]`.

`finish` runs trials until none is left to claim and prints their numbers, `hang` claims two and waits to be
killed, `create` makes the database and a study and prints the study's id and its number of trials. Several are forked
before any of them opens the database, so that they share the imports and nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

import alembic.command  # noqa: F401 - loaded once, for all
from sqlalchemy import func, select

from space.structure import Structure
from storage.claims import Claim
from storage.database import Database
from storage.ledger import Ledger
from storage.schema import Trial
from storage.studies import PlannedTrial, create_study


def main(url: str, study: str, mode: str) -> None:
    with Database.open(url, create=mode == "create") as database:
        if mode == "create":
            create(database)
        else:
            drive(Ledger(database, int(study)), mode)


def create(database: Database) -> None:
    plan = [PlannedTrial("known", Structure.parse(name), 0, 64, {}) for name in ("monarch", "kronecker")]
    study = create_study(database, "race", {"lr": 0.1}, 5, plan, seed=1, corpus_fingerprint="ab", target_compute=1e15)
    with database.reading() as session:
        print(study.id, session.scalar(select(func.count()).select_from(Trial)), flush=True)


def drive(ledger: Ledger, mode: str) -> None:
    driver = ledger.join()
    claims = 0
    while mode == "finish" or claims < 2:
        claim = ledger.claim(driver)
        if not isinstance(claim, Claim):
            break
        os.write(1, f"{claim.number}\n".encode())  # one write, or the lines of two processes mix
        claims += 1
        if mode == "finish":
            finish(ledger, claim)
    if mode == "hang":
        signal.pause()
    ledger.leave(driver)


def finish(ledger: Ledger, claim: Claim) -> None:
    if claim.structure is None:
        ledger.propose(claim, Structure.parse("kronecker"), 0, 64, {})
    ledger.finish(claim, "completed", loss=2.0, flops=1.0, tokens=1, steps=1, seconds=0.1)


def forked(*given: str) -> int:
    """The id of a process that does the same at once."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        main(*given)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


if __name__ == "__main__":
    given, count = sys.argv[1:4], int(sys.argv[4]) if len(sys.argv) > 4 else 0
    if not count:
        main(*given)
    children = [forked(*given) for _ in range(count)]
    statuses = [os.waitpid(child, 0)[1] for child in children]
    sys.exit(any(statuses))
