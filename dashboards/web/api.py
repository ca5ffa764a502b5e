"""The JSON interface, version 1: read only, the same numbers as the pages."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from dashboards.diagram import diagram_data
from dashboards.web import models, records, tables
from dashboards.web.asked import Asked
from dashboards.web.drawings import PLOTS, Plot, figure_of, rows_of
from dashboards.web.snapshot import Snapshot
from dashboards.web.state import State, state_of
from space.errors import StructureError
from space.structure import Structure
from storage.schema import TRIAL_KINDS, TRIAL_STATES
from storage.studies import StudyRecord

VERSION = "/api/v1"
LARGEST = 2**31 - 1
WAIT = 20.0

StudyId = Annotated[int, Path(ge=1, le=LARGEST, description="Number of a study, from /studies.")]
TrialNumber = Annotated[int, Path(ge=0, le=LARGEST)]
Size = Annotated[int, Query(ge=1, le=65536)]
Text = Annotated[str, Field(max_length=200)]
PlotName = Annotated[str, Path(json_schema_extra={"enum": list(PLOTS)})]
Numbers = Annotated[str, Field(pattern=r"^(\d{1,9}(,\d{1,9}){0,99})?$", description="Numbers, with commas between them.")]


class PlotQuery(BaseModel):
    """What a plot is asked for, where it applies; `everything` draws all points instead of a sample."""

    structure: Text = ""
    exclude: Numbers = ""
    trial: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    beside: Numbers = ""
    everything: bool = False

    def asked(self, request: Request, study: int, wait: float = 0.0) -> Asked:
        """The request for a plot of a study, which may wait so many seconds for a fit; 404 where there is no such study."""
        state = state_of(request)
        record = study_of(state, study)
        others = tuple(study_of(state, other) for other in dict.fromkeys(numbers(self.beside)) if other != study)
        left_out = tuple(sorted(set(numbers(self.exclude))))
        chosen = (self.structure, left_out, self.trial, others, self.everything, wait)
        return Asked(state.watch, state.fitting, state.foresight, record, *chosen)


router = APIRouter(prefix=VERSION, responses={404: {"model": models.Problem}, 503: {"model": models.Problem}})


def study_of(state: State, study: int) -> StudyRecord:
    """The study of an id, or 404."""
    record = records.find(state.database, study)
    if record is None:
        raise HTTPException(404, f"no study {study} in this database")
    return record


@router.get("/studies", summary="All studies, newest first")
def list_studies(request: Request) -> list[records.StudyLine]:
    """Each with how far it is and what it has spent."""
    return records.studies(state_of(request).database)


@router.get("/studies/{study}", summary="How a study stands")
def read_study(request: Request, study: StudyId) -> models.StudyStatus:
    """Its states, rate, compute, failures by cause, drivers and leases."""
    state = state_of(request)
    found = records.overview(state.database, study_of(state, study), state.watch.snapshot(study))
    return models.StudyStatus(
        id=study,
        name=found.study.name,
        budget=found.study.budget,
        target_compute=found.study.target_compute,
        states=dict(found.states),
        done=found.done,
        flops=found.flops,
        seconds=found.seconds,
        rate=found.rate,
        left=found.left,
        causes=[models.Cause(state=a, cause=b, attempts=c) for a, b, c in found.causes],
        drivers=[models.DriverAnswer.model_validate(driver) for driver in found.drivers],
        now=found.now,
        versions=state.versions(study),
    )


@router.get("/studies/{study}/trials", summary="A page of the trial table")
def list_trials(request: Request, study: StudyId, query: Annotated[tables.TrialQuery, Query()]) -> models.TrialTable:
    """Filtered, sorted and cut by the server."""
    state = state_of(request)
    snapshot = state.watch.snapshot(study_of(state, study).id)
    page = tables.page(snapshot, query)
    rows = [trial_row(snapshot, row) for row in page.rows]
    return models.TrialTable(trials=rows, matching=page.matching, page=query.page, pages=page.pages)


def trial_row(snapshot: Snapshot, row: int) -> models.TrialRow:
    """A row of the snapshot as an answer."""
    values: dict[str, Any] = {name: _number(column[row]) for name, column in snapshot.numbers.items()}
    structure = int(snapshot.structure[row])
    known = structure >= 0
    place = snapshot.structures.place[structure].tolist() if known else [None] * 3
    return models.TrialRow(
        kind=TRIAL_KINDS[snapshot.kind[row]],
        state=TRIAL_STATES[snapshot.state[row]],
        structure=snapshot.structures.names[structure] if known else None,
        key=snapshot.structures.keys[structure] if known else None,
        **dict(zip(("omega", "psi", "nu"), place, strict=True)),
        **values,
    )


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


@router.get("/studies/{study}/trials/{number}", summary="All that is recorded of a trial")
def read_trial(request: Request, study: StudyId, number: TrialNumber) -> models.TrialAnswer:
    """The ledger's row, the structure, the attempts, the evaluations and the coordinate checks."""
    state = state_of(request)
    found = records.trial(state.database, study_of(state, study).id, number)
    if found is None:
        raise HTTPException(404, f"study {study} has no trial {number}")
    return models.TrialAnswer(
        trial=dict(found.row),
        structure=None if found.structure is None else dict(found.structure),
        attempts=[dict(attempt) for attempt in found.attempts],
        points=[dict(point) for point in found.points],
        coordinates=[dict(look) for look in found.coordinates],
    )


@router.get("/studies/{study}/leaderboard", summary="Structures by compute multiplier, and the fitted laws")
def read_leaderboard(request: Request, study: StudyId) -> models.Leaderboard:
    """Waits a while for a fit of the present results; `fresh` is false where it is of older ones, or not there yet."""
    state = state_of(request)
    record = study_of(state, study)
    fit = state.fitting.get(study, state.watch.snapshot(record.id).fit_version, "board", WAIT)
    found = fit.found or {}
    return models.Leaderboard(
        fresh=fit.fresh,
        problem=fit.error,
        structures=found.get("rows", []),
        laws=found.get("laws"),
        forecast=found.get("forecast"),
        surface=found.get("surface"),
    )


@router.get("/structures", summary="A structure at a size")
def read_structure(
    text: Annotated[str, Query(max_length=200, description="A name, or theta.")], d_in: Size = 256, d_out: Size = 256
) -> models.StructureAnswer:
    """Its taxonomy, integer sizes, einsum and cost."""
    try:
        structure = Structure.parse(text)
        data = diagram_data(structure, d_in, d_out)
    except StructureError as error:
        raise HTTPException(404, str(error)) from error
    return models.StructureAnswer(
        name=structure.name,
        key=structure.key,
        theta=[float(value) for value in structure.theta],
        omega=float(structure.omega),
        psi=float(structure.psi),
        nu=float(structure.nu),
        d_in=d_in,
        d_out=d_out,
        sizes=data.sizes,
        einsum=data.einsum,
        params=data.params,
        macs=data.macs,
    )


@router.get("/studies/{study}/plots/{name}", summary="A plot as a plotly figure", response_model=models.PlotAnswer)
def read_plot(request: Request, study: StudyId, name: PlotName, query: Annotated[PlotQuery, Query()]) -> Response:
    """The figure, with the sentence that says how to read it; `everything` draws all points instead of a sample."""
    asked, plot = query.asked(request, study), _plot(name)
    head = {"name": name, "title": plot.title, "caption": plot.caption, "version": asked.snapshot.version}
    return Response(json.dumps(head | {"figure": figure_of(plot, asked)}), media_type="application/json")


@router.get(
    "/studies/{study}/plots/{name}/csv",
    summary="What a plot draws, as CSV",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def read_plot_csv(request: Request, study: StudyId, name: PlotName, query: Annotated[PlotQuery, Query()]) -> Response:
    """One row a point: the name of its trace, its coordinates and its text."""
    asked = query.asked(request, study, WAIT)
    out = io.StringIO()
    csv.writer(out).writerows([_safe(cell) for cell in row] for row in rows_of(figure_of(_plot(name), asked)))
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(out.getvalue(), media_type="text/csv", headers=headers)


def _plot(name: str) -> Plot:
    if name not in PLOTS:
        raise HTTPException(404, f"no plot {name!r}; there are {', '.join(PLOTS)}")
    return PLOTS[name]


def numbers(text: str) -> list[int]:
    """The numbers of a text such as `3,17`."""
    return [int(part) for part in text.split(",") if part]


def _safe(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
