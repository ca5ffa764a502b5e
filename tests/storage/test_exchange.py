"""Studies between labs: what is exported comes back as it was, and what does not fit is explained and changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text, update

from space.errors import StudyError
from space.structure import Structure
from storage import queries, results
from storage.claims import Claim
from storage.coordinates import movements
from storage.database import Database
from storage.decisions import Decision, decisions_frame
from storage.exchange import ADDED, MANIFEST, export_study, schema
from storage.exported import ImportRefusedError
from storage.filters import Filters
from storage.frames import answer
from storage.importing import Imported, import_files
from storage.ledger import Ledger
from storage.schema import Trial
from storage.status import status
from storage.studies import PlannedTrial, StudyRecord, create_study, open_study

NOW = ["created", "optuna_number", "study"]
SETTINGS = {"rungs": [{"flops": 1e9, "width": 16}], "trial": {"lr": 0.003}, "seed": 7}


class Point:
    def __init__(self, step: int, loss: float, flops: float) -> None:
        self.step, self.tokens, self.flops, self.loss = step, 64 * step, flops, loss
        self.train_loss, self.seconds, self.warmup = math.nan, 0.1 * step, step == 1


class Look:
    step, qkv, out, up, down, head = 16, 0.5, 0.1, 0.75, 0.25, 1.0


def make(database: Database, name: str = "mine", seed: int = 7, corpus: str = "ab12") -> StudyRecord:
    plan = [PlannedTrial("baseline", Structure.parse("dense"), 0, 16, {"lr": 0.003})]
    plan += [PlannedTrial("known", Structure.parse(s), 0, 32, {"lr": 0.003}) for s in ("monarch", "kronecker", "low_rank:1/2")]
    settings = SETTINGS | {"seed": seed}
    return create_study(database, name, settings, 6, plan, seed=seed, corpus_fingerprint=corpus, target_compute=1e9)


def live(database: Database, study: StudyRecord, trials: int = 2) -> None:
    """The first trials end, the next one fails after a crash, one stays with its driver."""
    ledger = Ledger(database, study.id)
    driver = ledger.join()
    for number in range(trials):
        claim = ledger.claim(driver)
        assert isinstance(claim, Claim)
        ledger.record(claim, [Point(1, 5.0, 1e8), Point(4, 4.5 - number / 10, 4e8), Point(8, 4.0 - number / 10, 8e8)])
        end = {"loss": 4.0 - number / 10, "flops": 8e8, "tokens": 512, "steps": 8, "seconds": 0.8}
        ledger.finish(claim, "completed", **end, coordinates=[Look()])  # type: ignore[arg-type]
    ledger.set_values({one.trial_id: one.number / 10 for one in ledger.unsettled()})
    crashed = ledger.claim(driver)
    assert isinstance(crashed, Claim)
    ledger.record(crashed, [Point(1, 5.0, 1e8)])
    ledger.requeue(crashed, "its worker died")
    again = ledger.claim(driver)
    assert isinstance(again, Claim)
    ledger.finish(again, "failed", loss=None, flops=2e8, tokens=64, steps=1, seconds=0.2, error="out of memory")
    ledger.claim(driver)


@pytest.fixture
def study(database: Database) -> StudyRecord:
    made = make(database)
    live(database, made)
    return made


@pytest.fixture
def file(database: Database, study: StudyRecord, tmp_path: Path) -> Path:
    return exported(database, "mine", tmp_path / "mine.parquet")


@pytest.fixture
def other(tmp_path: Path, migrated: Callable[[str], str], backend: str) -> Any:
    """Another lab's database."""
    with Database.open(migrated(backend)) as opened:
        yield opened


def exported(database: Database, name: str, path: Path) -> Path:
    with path.open("wb") as target:
        export_study(database, name, target)
    return path


def counts(database: Database) -> dict[str, int]:
    tables = ("studies", "structures", "drivers", "trials", "attempts", "points", "coordinates", "totals")
    with database.reading() as session:
        return {name: session.scalar(text(f"SELECT count(*) FROM einsearch_{name}")) or 0 for name in tables}


def changed(
    file: Path, *, manifest: dict[str, Any] | None = None, rows: Callable[[list[dict[str, Any]]], Any] | None = None
) -> Path:
    """The file with another manifest, or with other rows."""
    table = pq.read_table(file)
    held = json.loads(table.schema.metadata[MANIFEST]) | (manifest or {})
    content = table.to_pylist()
    if rows is not None:
        rows(content)
    again = pa.Table.from_pylist(content, schema().with_metadata({MANIFEST: json.dumps(held).encode()}))
    path = file.with_name("changed.parquet")
    pq.write_table(again, path)
    return path


def assert_refused(database: Database, path: Path, reason: str, **how: Any) -> None:
    before = counts(database)
    with pytest.raises(ImportRefusedError, match=reason) as caught:
        import_files(database, [path], **how)
    assert str(path) in str(caught.value) and "nothing was imported" in str(caught.value)
    assert counts(database) == before


def test_a_study_comes_back_as_it_was(database: Database, study: StudyRecord, file: Path, other: Database) -> None:
    assert import_files(other, [file]) == [Imported("mine", added=4, completed=0, known=0)]
    mine, theirs = (answer(db, queries.trials(Filters(study="mine"))) for db in (database, other))
    mine.loc[mine["state"] == "running", "state"] = "queued"
    mine["created"] = theirs["created"]
    assert mine.equals(theirs)
    assert queries.points_frame(database, "mine").equals(queries.points_frame(other, "mine"))
    looks = [movements(db, open_study(db, "mine").id) for db in (database, other)]
    assert len(looks[0]) == 2 and looks[0] == looks[1]
    failures = [answer(db, queries.attempts(failed=True)).drop(columns=["ended"]) for db in (database, other)]
    assert failures[0].equals(failures[1]) and failures[0]["error"].tolist() == ["its worker died", "out of memory"]
    there, here = open_study(other, "mine"), open_study(database, "mine")
    assert (there.settings, there.seed, there.created, there.code_commit) == (
        here.settings,
        here.seed,
        here.created,
        here.code_commit,
    )
    assert status(other, "mine").flops == pytest.approx(status(database, "mine").flops)


def test_importing_twice_changes_nothing(file: Path, other: Database) -> None:
    import_files(other, [file])
    before = counts(other)
    assert import_files(other, [file, file])[1] == Imported("mine", added=0, completed=0, known=4)
    assert counts(other) == before


def test_an_imported_study_goes_on_and_comes_home(database: Database, file: Path, other: Database, tmp_path: Path) -> None:
    """The other lab finishes the trial that was under way; at home it is known as running until its driver gave it back."""
    import_files(other, [file])
    ledger = Ledger(other, open_study(other, "mine").id)
    claim = ledger.claim(ledger.join())
    assert isinstance(claim, Claim) and (claim.number, claim.attempt) == (3, 2)
    ledger.finish(claim, "completed", loss=3.0, flops=9e8, tokens=512, steps=8, seconds=0.9)
    back = exported(other, "mine", tmp_path / "back.parquet")
    assert_refused(database, back, "trial 3 is running here")
    home = Ledger(database, open_study(database, "mine").id)
    home.reap(lease_seconds=-1)
    assert import_files(database, [back]) == [Imported("mine", added=0, completed=1, known=3)]
    assert queries.trials_frame(database, "mine").iloc[3]["loss"] == 3.0
    assert status(database, "mine").done == 4


def test_trials_that_ended_otherwise_are_a_conflict(file: Path, other: Database) -> None:
    import_files(other, [file])
    with other.session() as session:
        session.execute(update(Trial).where(Trial.number == 1).values(loss=2.5))
    assert_refused(other, file, r"1 of its trials are not what .*trial 1: loss 3.9 in the file, 2.5 here; .*--as NAME")
    assert import_files(other, [file], name="theirs")[0].added == 4


def test_a_study_of_other_settings_is_a_conflict(file: Path, other: Database) -> None:
    make(other, "mine", seed=8)
    assert_refused(other, file, r"exists here with other settings: seed: given 7, recorded 8; settings.seed.*--as NAME")


def test_of_several_files_all_or_none(file: Path, other: Database) -> None:
    broken = changed(file, rows=lambda rows: rows[1].update(loss=math.nan))
    before = counts(other)
    with pytest.raises(ImportRefusedError, match="loss is nan"):
        import_files(other, [file, broken])
    assert counts(other) == before


def test_the_laws_of_an_imported_study_are_those_of_the_original(
    database: Database, study: StudyRecord, other: Database, tmp_path: Path
) -> None:
    ledger = Ledger(database, study.id)
    stopped = ledger.claim(ledger.join())
    assert isinstance(stopped, Claim)
    ledger.propose(stopped, Structure.parse("monarch"), 0, 32, {"lr": 0.003})
    judged = [Decision(4, 2e8, 4.6, 8e8, 3.9, 4.0), Decision(6, 3e8, 4.5, 8e8, 4.3, 4.0)]
    points = [Point(1, 5.0, 1e8), Point(4, 4.6, 2e8), Point(6, 4.5, 3e8)]
    end = {"loss": 4.5, "flops": 3e8, "tokens": 384, "steps": 6, "seconds": 0.6}
    assert ledger.finish(stopped, "truncated", **end, points=points, decisions=judged)  # type: ignore[arg-type]
    file = exported(database, "mine", tmp_path / "stopped.parquet")
    import_files(other, [file])
    assert decisions_frame(database, "mine").equals(decisions_frame(other, "mine"))
    curves = [results.runs(db, open_study(db, "mine")) for db in (database, other)]
    assert curves[0][-1].loss[-1] == 4.3 and [run.loss[-1] for run in curves[0]] == [run.loss[-1] for run in curves[1]]
    fits = [results.lawset(db, open_study(db, "mine")).to_dict() for db in (database, other)]
    assert fits[0] == fits[1]


def test_a_file_of_the_first_format_is_still_read(file: Path, other: Database) -> None:
    table = pq.read_table(file).drop_columns(list(ADDED))
    manifest = json.loads(table.schema.metadata[MANIFEST]) | {"format": 1}
    pq.write_table(table.replace_schema_metadata({MANIFEST: json.dumps(manifest).encode()}), file)
    assert import_files(other, [file]) == [Imported("mine", added=4, completed=0, known=0)]
    assert counts(other)["points"] == 7 and counts(other)["coordinates"] == 0


def theta_of(rows: list[dict[str, Any]], *theta: float) -> None:
    rows[1]["theta"] = list(theta)


BROKEN: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "a loss that is not a number": (lambda rows: rows[1].update(loss=math.nan), "trial 1: loss is nan"),
    "a negative loss": (lambda rows: rows[1].update(loss=-0.5), r"trial 1: loss is -0.5; it must be finite and not negative"),
    "a negative change": (lambda rows: rows[0]["coordinates"][0].update(up=-1.0), "trial 0, coordinate check: up is -1.0"),
    "a negative loss on the way": (lambda rows: rows[0]["points"][1].update(loss=-1.0), "trial 0, evaluation: loss is -1.0"),
    "a decision without a bound": (
        lambda rows: rows[0].update(decisions=[dict.fromkeys(schema().field("decisions").type.value_type.names)]),
        "trial 0, decision: step is missing",
    ),
    "infinite compute": (lambda rows: rows[1].update(flops=math.inf), "trial 1: flops is inf"),
    "compute that nobody spent": (lambda rows: rows[1].update(flops=9e8), "its attempts 800000000.0 together"),
    "an unknown state": (lambda rows: rows[1].update(state="done"), "state is 'done'; allowed: queued"),
    "a missing number": (lambda rows: rows[1].update(number=None), "number is missing"),
    "a theta off the simplex": (lambda rows: theta_of(rows, 0.6, 0, 0.5, 0, 0.5, 0.5, 0), "trial 1: theta is broken"),
    "a theta in another order": (lambda rows: theta_of(rows, 0, 0.5, 0.5, 0, 0.5, 0.5, 0), "trial 1: theta"),
    "a theta of another structure": (lambda rows: theta_of(rows, 0.5, 0.5, 0, 0.5, 0.5, 0, 0), "is not that of its structure"),
    "a theta that is not a number": (lambda rows: theta_of(rows, math.nan, 0, 0.5, 0, 0.5, 0.5, 0), "theta is broken"),
    "a structure that is none": (lambda rows: rows[1].update(key="mnarch"), "did you mean 'monarch'"),
    "a key that is not canonical": (lambda rows: rows[1].update(key="monarch"), "is not in canonical form"),
    "completed without a loss": (lambda rows: rows[1].update(loss=None), "a row of it cannot be .*measured"),
    "a trial twice": (lambda rows: rows.append(dict(rows[0], attempts=rows[0]["attempts"])), "a row of it cannot be"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_is_named(file: Path, other: Database, case: str) -> None:
    change, reason = BROKEN[case]
    assert_refused(other, changed(file, rows=change), reason)


def test_what_is_no_export_is_refused(file: Path, other: Database, tmp_path: Path) -> None:
    notes, plain = tmp_path / "notes.parquet", tmp_path / "plain.parquet"
    notes.write_text("these are my notes")
    pq.write_table(pa.table({"loss": [1.0]}), plain)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(file.read_bytes()[:-100])
    assert_refused(other, notes, "is not a Parquet file")
    assert_refused(other, cut, "is not a Parquet file")
    assert_refused(other, plain, "is not the export of a study")
    assert_refused(other, tmp_path / "none.parquet", "there is no such file")


def test_a_manifest_that_does_not_fit_is_refused(file: Path, other: Database) -> None:
    held = json.loads(pq.read_schema(file).metadata[MANIFEST])
    order = ["XB", "XA", *held["theta_order"][2:]]
    assert_refused(other, changed(file, manifest={"theta_order": order}), "its theta is in the order .*'XB', 'XA'")
    assert_refused(other, changed(file, manifest={"format": 99}), "is of a newer einsearch")
    assert_refused(other, changed(file, manifest={"flop_convention": "paper_macs"}), "'paper_macs' and 'train_flops'")
    unknown = {"flop_convention": "macs", "study": held["study"] | {"flop_convention": "macs"}}
    assert_refused(other, changed(file, manifest=unknown), "its FLOP convention is 'macs'; known are train_flops")


def test_conventions_never_mix(file: Path, other: Database) -> None:
    make(other, "here")
    held = json.loads(pq.read_schema(file).metadata[MANIFEST])
    paper = {"flop_convention": "paper_macs", "study": held["study"] | {"flop_convention": "paper_macs"}}
    assert_refused(other, changed(file, manifest=paper), "counts FLOPs as paper_macs, the studies here as train_flops")


def test_pooled_trials_join_a_study_once(database: Database, file: Path, other: Database, tmp_path: Path) -> None:
    live(other, make(other, "ours", seed=8))
    budget = open_study(other, "ours").budget
    assert import_files(other, [file], into="ours") == [Imported("ours", added=3, completed=0, known=0)]
    assert import_files(other, [file], into="ours") == [Imported("ours", added=0, completed=0, known=3)]
    assert open_study(other, "ours").budget == budget + 3
    frame = queries.trials_frame(other, "ours")
    assert frame["number"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert frame["loss"].tolist()[4:6] == [4.0, 3.9] and frame["value"].isna().tolist()[4:] == [True] * 3
    pooled = exported(other, "ours", tmp_path / "ours.parquet")
    assert import_files(database, [pooled], into="mine") == [Imported("mine", added=3, completed=0, known=3)], (
        "its own are known"
    )


def test_what_cannot_be_compared_is_not_pooled(file: Path, other: Database) -> None:
    make(other, "ours", seed=8, corpus="cd34")
    assert_refused(other, file, "corpus_fingerprint: given 'ab12', recorded 'cd34'", into="ours")
    with pytest.raises(StudyError, match="no study 'nope'"):
        import_files(other, [file], into="nope")
