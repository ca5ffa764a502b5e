"""The ready-made questions to the database. Nothing here writes.

Each is a `Question`, to be read whole (`frames.answer`) or in pieces (`frames.pieces`); the functions that end in
`_frame`, and `select`, read the commonest of them whole. Columns and units: `storage.frames`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import CTE, ColumnElement, Select, and_, exists, func, literal_column, or_
from sqlalchemy import select as choose
from sqlalchemy.orm import aliased

from space.edges import EDGES
from space.errors import ConfigError
from storage.database import Database
from storage.filters import Filters
from storage.frames import (
    ATTEMPT_COLUMNS,
    BEST_COLUMNS,
    COST_COLUMNS,
    POINT_COLUMNS,
    SELECT_COLUMNS,
    STUDY_COLUMNS,
    TRIAL_COLUMNS,
    Question,
    answer,
)
from storage.schema import Attempt, Driver, PointRow, StructureRow, Study, Total, Trial

if TYPE_CHECKING:
    import pandas as pd

Cost = Literal["study", "state", "kind", "structure"]
"""What a cost can be by."""

COSTS: tuple[Cost, ...] = get_args(Cost)

_ALL = Filters()
_ENDED = Total.state.not_in(("queued", "running"))


def trials(filters: Filters = _ALL, limit: int | None = None) -> Question:
    """The trials that match, of one study or of all, by study and number: `SELECT_COLUMNS`."""
    if limit is None:
        wanted = _described().where(*filters.conditions())
    else:  # one index has all that the filters need: it is read until there are enough
        found = _first(filters, limit)
        wanted = _described(source=found, on=_of(found))
    return Question(wanted.order_by(Trial.study_id, Trial.number), SELECT_COLUMNS, filters.study)


def points(filters: Filters, limit: int | None = None) -> Question:
    """The evaluations of the trials that match, by study, trial and step: `POINT_COLUMNS`, after the study if none is given."""
    names = ("step", "tokens", "flops", "loss", "train_loss", "seconds", "warmup")
    first = [] if filters.study else [Study.name]
    columns = [*first, Trial.number, StructureRow.name, StructureRow.key, Trial.rung, Trial.width]
    wanted = (
        choose(*columns, *(getattr(PointRow, name) for name in names))
        .select_from(Trial)
        .join(Study, Study.id == Trial.study_id)
        .join(PointRow, PointRow.trial_id == Trial.id)
        .join(StructureRow, StructureRow.id == Trial.structure_id)
        .where(*([] if limit else filters.conditions()))
        .order_by(Trial.study_id, Trial.number, PointRow.step)
    )
    shown = POINT_COLUMNS if filters.study else {"study": "str"} | POINT_COLUMNS
    return Question(_page(wanted, PointRow, filters, limit), shown, filters.study)


def best(filters: Filters = _ALL, limit: int | None = None) -> Question:
    """The best trial of each structure in each study, best first: `BEST_COLUMNS`.

    That is the one with the highest value, or with the lowest loss while none has a value. Filters choose among trials; the
    last three columns are of all trials of the structure.
    """
    tried = (
        choose(
            Total.study_id,
            Total.structure_id,
            func.sum(Total.trials).label("trials"),
            func.sum(Total.flops).label("flops"),
            func.sum(Total.seconds).label("seconds"),
        )
        .where(Total.structure_id > 0)
        .group_by(Total.study_id, Total.structure_id)
    )
    pair = tried.where(*filters.of_structures().conditions(Total)).subquery()
    one = aliased(Trial)
    mine = choose(one.number).where(one.study_id == pair.c.study_id, one.structure_id == pair.c.structure_id, *filters.met(one))
    valued = mine.where(one.value.is_not(None)).order_by(one.value.desc(), one.number.desc())
    measured = mine.where(_measured(one)).order_by(one.loss, one.number)
    leader = func.coalesce(valued.limit(1).scalar_subquery(), measured.limit(1).scalar_subquery())
    theirs = and_(Trial.study_id == pair.c.study_id, Trial.number == leader)
    wanted = (
        _described(pair.c.trials, pair.c.flops, pair.c.seconds, source=pair, on=theirs)
        .order_by(Trial.value.desc().nulls_last(), Trial.loss, Trial.study_id, Trial.number)
        .limit(limit)
    )
    return Question(wanted, BEST_COLUMNS, filters.study)


def frontier(study: str, filters: Filters = _ALL, limit: int | None = None) -> Question:
    """The trials that no other one beats, with less loss for no more compute, cheapest first: `SELECT_COLUMNS`.

    Each step goes to the cheapest trial with less loss, so that the index on compute is read once, from end to end.
    """
    matching = Filters(**{name: getattr(filters, name) for name in filters.given()} | {"study": study})
    start, after = aliased(Trial), aliased(Trial)
    cheapest = choose(start.id, start.flops, start.loss).where(_measured(start), *matching.conditions(start, each=True))
    first = cheapest.order_by(start.flops, start.loss).limit(1).subquery()
    steps = choose(first.c.id, first.c.flops, first.c.loss).cte("frontier", recursive=True)
    better = (
        choose(after.id)
        .where(_measured(after), after.flops > steps.c.flops, after.loss < steps.c.loss, *matching.conditions(after, each=True))
        .order_by(after.flops, after.loss)
        .limit(1)
    )
    following = aliased(Trial)
    steps = steps.union_all(
        choose(following.id, following.flops, following.loss)
        .select_from(steps)
        .join(following, following.id == better.scalar_subquery())
    )
    wanted = _described(source=steps, on=Trial.id == steps.c.id).order_by(Trial.flops).limit(limit)
    return Question(wanted, SELECT_COLUMNS, study)


def attempts(filters: Filters = _ALL, limit: int | None = None, *, failed: bool = False) -> Question:
    """The attempts at the trials that match, by study, trial and attempt: `ATTEMPT_COLUMNS`.

    With `failed`, those that went wrong: with an error, failed or diverged.
    """
    host = choose(Driver.host).where(Driver.id == Attempt.driver_id).scalar_subquery().label("host")
    tried = [Attempt.attempt, Attempt.state, Attempt.start_flops, Attempt.flops, Attempt.seconds, host]
    ended = [Attempt.started, Attempt.ended, Attempt.error]
    trial = [Trial.number, Trial.kind, StructureRow.name, StructureRow.key, Trial.rung, Trial.width, Trial.state]
    wanted = (
        choose(Study.name, *trial, *tried, *ended)
        .select_from(Attempt)
        .join(Trial, Trial.id == Attempt.trial_id)
        .join(Study, Study.id == Trial.study_id)
        .outerjoin(StructureRow, StructureRow.id == Trial.structure_id)
        .where(*([] if limit else filters.conditions()))
        .order_by(Trial.study_id, Trial.number, Attempt.attempt)
    )
    wrong = [or_(Attempt.error.is_not(None), _among(Attempt.state, "failed", "diverged"))] if failed else []
    return Question(_page(wanted.where(*wrong), Attempt, filters, limit, wrong), ATTEMPT_COLUMNS, filters.study)


def cost(by: Cost, filters: Filters = _ALL, limit: int | None = None) -> Question:
    """What was spent, by study and `by`, dearest first: the study, what it is by, then `COST_COLUMNS`.

    Of the filters, those on the study, the structure, the kind and the state are understood.

    Raises:
        ConfigError: another filter is given, or an unknown `by`.
    """
    if by not in COSTS:
        raise ConfigError(f"a cost by {by!r} was asked for; allowed: {', '.join(COSTS)}")
    for name in ("width", "rung"):
        if getattr(filters, name) is not None:
            raise ConfigError(f"costs are not kept by {name}; filter them by study, structure, kind, state, omega, psi or nu")
    groups: dict[Cost, list[Any]] = {
        "study": [],
        "state": [Total.state],
        "kind": [Total.kind],
        "structure": [func.coalesce(StructureRow.name, "none yet"), func.coalesce(StructureRow.key, "none yet")],
    }
    sums = (func.sum(Total.trials), func.sum(Total.flops).label("flops"), func.sum(Total.seconds))
    wanted = (
        choose(Study.name, *groups[by], *sums)
        .select_from(Total)
        .join(Study, Study.id == Total.study_id)
        .outerjoin(StructureRow, StructureRow.id == Total.structure_id)
        .where(*filters.conditions(Total))
        .group_by(Study.id, Study.name, *groups[by])
        .order_by(literal_column("flops").desc(), Study.id, *groups[by])
        .limit(limit)
    )
    names = {"study": [], "structure": ["structure", "key"]}.get(by, [by])
    return Question(wanted, {"study": "str"} | dict.fromkeys(names, "str") | COST_COLUMNS, filters.study)


def studies(limit: int | None = None) -> Question:
    """All studies, oldest first: `STUDY_COLUMNS`."""
    counted = choose(Total.study_id, func.sum(Total.trials).label("trials"), func.sum(Total.flops).label("flops"))
    counted = counted.add_columns(func.sum(Total.seconds).label("seconds"))
    whole = counted.group_by(Total.study_id).subquery()
    ended = choose(Total.study_id, func.sum(Total.trials).label("done")).where(_ENDED).group_by(Total.study_id).subquery()
    spent = [func.coalesce(column, 0) for column in (whole.c.trials, ended.c.done, whole.c.flops, whole.c.seconds)]
    recorded = [Study.seed, Study.flop_convention, Study.target_compute, Study.corpus_fingerprint, Study.created]
    wanted = (
        choose(Study.name, Study.budget, *spent, *recorded)
        .outerjoin(whole, whole.c.study_id == Study.id)
        .outerjoin(ended, ended.c.study_id == Study.id)
        .order_by(Study.created, Study.id)
        .limit(limit)
    )
    return Question(wanted, STUDY_COLUMNS)


def trials_frame(database: Database, study: str) -> pd.DataFrame:
    """All trials of a study by number: `TRIAL_COLUMNS`. Raises StudyError where there is no such study."""
    return answer(database, trials(Filters(study=study))).drop(columns="study")[list(TRIAL_COLUMNS)]


def points_frame(database: Database, study: str) -> pd.DataFrame:
    """Its evaluations by trial and step: `POINT_COLUMNS`. Raises StudyError where there is no such study."""
    return answer(database, points(Filters(study=study)))


def studies_frame(database: Database) -> pd.DataFrame:
    """All studies, oldest first: `STUDY_COLUMNS`."""
    return answer(database, studies())


def select(database: Database, filters: Filters) -> pd.DataFrame:
    """The trials that match, of one study or of all: `SELECT_COLUMNS`. Raises StudyError for a study that does not exist."""
    return answer(database, trials(filters))


def _page(
    wanted: Select[*tuple[Any, ...]], model: Any, filters: Filters, limit: int | None, only: Sequence[ColumnElement[bool]] = ()
) -> Select[*tuple[Any, ...]]:
    """At most `limit` rows of `model`, which belong to trials, and meet conditions: no more trials than rows are read."""
    if limit is None:
        return wanted
    found = _first(filters, limit, model, only)
    return wanted.join(found, _of(found)).limit(limit)


def _first(filters: Filters, limit: int, has: Any = None, only: Sequence[ColumnElement[bool]] = ()) -> CTE:
    """Study and number of the first trials that match, of those that have rows of a model where one is given, or such rows.

    They are found once, whatever the order in which PostgreSQL's planner, which may know of few rows, joins tables to them.
    """
    one = aliased(Trial)
    found = choose(one.study_id, one.number).where(*filters.conditions(one))
    if has is not None:
        found = found.where(exists().where(has.trial_id == one.id, *only))
    first = found.order_by(one.study_id, one.number).limit(limit).cte("first_trials")
    return first.prefix_with("MATERIALIZED", dialect="postgresql")


def _of(pairs: Any) -> ColumnElement[bool]:
    """The trial is one of those named by study and number: indexes hold these, and the tables need not be looked at."""
    return and_(Trial.study_id == pairs.c.study_id, Trial.number == pairs.c.number)


def _measured(trial: Any) -> ColumnElement[bool]:
    """The trial has a loss that counts."""
    return _among(trial.state, "completed", "truncated")


def _among(column: Any, *words: str) -> ColumnElement[bool]:
    """The column is one of the words, written out: partial indexes serve only conditions that say the same as theirs."""
    return column.in_([literal_column(f"'{word}'") for word in words])  # type: ignore[no-any-return]


def _described(*last: Any, source: Any = None, on: Any = None) -> Select[*tuple[Any, ...]]:
    """Trials with their studies and structures, in the order of `SELECT_COLUMNS`, then the columns given."""
    theta = [getattr(StructureRow, f"theta_{edge.lower()}") for edge in EDGES]
    structure = [StructureRow.name, StructureRow.key, *theta, StructureRow.omega, StructureRow.psi, StructureRow.nu]
    spent = [Trial.steps, Trial.tokens, Trial.flops, Trial.loss, Trial.seconds, Trial.value]
    plan = [Trial.rung, Trial.width, Trial.state, Trial.attempts]
    chosen: Sequence[Any] = [Study.name, Trial.number, Trial.kind, *structure, *plan, *spent]
    rows = choose(*chosen, Trial.optuna_number, Trial.created, Trial.finished, *last)
    rows = rows.select_from(Trial) if source is None else rows.select_from(source).join(Trial, on)
    rows = rows.join(Study, Study.id == Trial.study_id)
    return rows.outerjoin(StructureRow, StructureRow.id == Trial.structure_id)
