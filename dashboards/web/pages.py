"""The pages: HTML written by the server, complete without a script but for the plots."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from dashboards.coordinates import TITLES as LAYERS
from dashboards.coordinates import slopes, transfer_text
from dashboards.diagram import CAPTION as DIAGRAM_CAPTION
from dashboards.diagram import diagram_data, diagram_facts, diagram_svg
from dashboards.foresight import foresight_text
from dashboards.laws import surface_text
from dashboards.layer_rates import CAPTION as LAYER_CAPTION
from dashboards.web import records, summaries, tables, views
from dashboards.web.api import LARGEST, Numbers, StudyId, TrialNumber, numbers, study_of
from dashboards.web.asked import Asked, leaders
from dashboards.web.drawings import PLOTS
from dashboards.web.rows import trial_rows
from dashboards.web.state import State, state_of
from dashboards.web.structure_plots import moved
from dashboards.web.trial_plots import foreseen, rates
from dashboards.web.views import render
from space.errors import StructureError
from space.structure import Structure
from storage.schema import TRIAL_KINDS, TRIAL_STATES
from storage.studies import StudyRecord

PATIENCE = 0.25
"""Seconds that a page waits for a study that is read for the first time."""

LATEST = 8
"""Trials that ended last, on the overview."""

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(request: Request) -> Response:
    """The studies of the database; where there is one, it."""
    lines = records.studies(state_of(request).database)
    if len(lines) == 1:
        return RedirectResponse(f"/studies/{lines[0].id}", 303)
    return render(request, "studies.html", studies=lines, chosen=[], differences=[])


@router.get("/studies")
def compare(request: Request, study: Annotated[list[int], Query(max_length=8)] = []) -> Response:  # noqa: B006 - FastAPI copies it
    """Studies side by side."""
    state = state_of(request)
    wanted = [number for number in dict.fromkeys(study) if 0 < number <= LARGEST]
    chosen = [records.overview(state.database, study_of(state, number), state.watch.snapshot(number)) for number in wanted]
    differences = summaries.differences([overview.study for overview in chosen])
    lines = records.studies(state.database)
    return render(
        request,
        "studies.html",
        studies=lines,
        chosen=chosen,
        differences=differences,
        plots={"best": PLOTS["best"]} if chosen else {},
    )


@router.get("/studies/{study}")
def overview(request: Request, study: StudyId) -> Response:
    """How a study stands, live."""
    state, record = _known(request, study)
    snapshot = state.watch.snapshot(study)
    found = records.overview(state.database, record, snapshot)
    latest = tables.page(snapshot, tables.TrialQuery(sort="finished", size=LATEST)).rows
    return _page(
        request,
        record,
        "overview.html",
        "overview",
        found=found,
        latest=trial_rows(study, snapshot, latest),
        plots=["progress", "steering"],
        best=summaries.best_trial(snapshot),
    )


@router.get("/studies/{study}/leaderboard")
def leaderboard(request: Request, study: StudyId) -> Response:
    """Structures, best first: by the laws, or, while they are being fitted, by the values of their trials."""
    state, record = _known(request, study)
    snapshot = state.watch.snapshot(study)
    fit = state.fitting.get(study, snapshot.fit_version, "board")
    found = fit.found or {"rows": [], "laws": None, "forecast": None, "surface": None}
    return _page(
        request,
        record,
        "leaderboard.html",
        "leaderboard",
        fit=fit,
        rows=found["rows"][: summaries.ROWS],
        more=max(len(found["rows"]) - summaries.ROWS, 0),
        laws=found["laws"],
        forecast=found["forecast"],
        surface=surface_text(found["surface"]) if found["surface"] else "",
        measured=summaries.measured(snapshot) if not found["rows"] else [],
        plots=["multipliers", "seconds", "curves"],
    )


@router.get("/studies/{study}/frontier")
def frontier(
    request: Request, study: StudyId, structure: str = "", exclude: Numbers = "", everything: bool = False
) -> Response:
    """Loss against compute; of one structure, with its law, what was left out of it, and what if trials were left out."""
    state, record = _known(request, study)
    snapshot = state.watch.snapshot(study)
    key = _key(structure)
    law = None
    if key:
        left_out = sorted(set(numbers(exclude)))
        law = state.fitting.get(study, snapshot.fit_version, "law", key=key, exclude=left_out)
    rows = (state.fitting.get(study, snapshot.fit_version, "board").found or {}).get("rows", [])
    choices = leaders(snapshot, rows, summaries.CHOICES)
    names = {
        known: snapshot.structures.names[snapshot.structures.row[known]]
        for known in choices
        if known in snapshot.structures.row
    }
    given = {"structure": key, "exclude": exclude, "everything": "1" if everything else ""}
    return _page(
        request,
        record,
        "frontier.html",
        "frontier",
        key=key,
        name=_name(key),
        names=names,
        exclude=exclude,
        everything=everything,
        law=law,
        counts=summaries.reasons(law),
        question=urlencode({name: value for name, value in given.items() if value}),
        plots=["law", "residuals"] if key else ["frontier"],
    )


@router.get("/studies/{study}/taxonomy")
def taxonomy(request: Request, study: StudyId) -> Response:
    """Where structures lie."""
    _, record = _known(request, study)
    names = ["taxonomy", "omega-psi", "psi-nu", "omega-nu", "simplex-input", "simplex-output"]
    return _page(request, record, "taxonomy.html", "taxonomy", plots=names)


@router.get("/studies/{study}/structure")
def structure(
    request: Request,
    study: StudyId,
    key: Annotated[str, Query(max_length=200)],
    d_in: Annotated[int, Query(ge=1, le=65536)] = 256,
    d_out: Annotated[int, Query(ge=1, le=65536)] = 256,
) -> Response:
    """A structure: its diagram and sizes at a width, its einsum, its place, its standing, its trials."""
    state, record = _known(request, study)
    try:
        one = Structure.parse(key)
        data = diagram_data(one, d_in, d_out)
    except StructureError as error:
        return trouble(request, 422, str(error))
    snapshot = state.watch.snapshot(study)
    rows = (state.fitting.get(study, snapshot.fit_version, "board").found or {}).get("rows", [])
    place = snapshot.structures.row.get(one.key, -2)
    mine = np.flatnonzero(snapshot.structure == place)
    return _page(
        request,
        record,
        "structure.html",
        "leaderboard",
        structure=one,
        data=data,
        svg=diagram_svg(data),
        facts=diagram_facts(data),
        diagram_caption=DIAGRAM_CAPTION,
        standing=next((row for row in rows if row["key"] == one.key), None),
        trials=trial_rows(study, snapshot, mine[: summaries.ROWS].tolist()),
        count=len(mine),
        shown=summaries.ROWS,
        exponents=views.exponents(one),
        plots=[],
    )


@router.get("/studies/{study}/trials")
def trials(request: Request, study: StudyId, query: Annotated[tables.TrialQuery, Query()]) -> Response:
    """The trial table."""
    state, record = _known(request, study)
    snapshot = state.watch.snapshot(study)
    page = tables.page(snapshot, query)
    lists = {name: summaries.present(snapshot, name) for name in ("rung", "width")}
    return _page(
        request,
        record,
        "trials.html",
        "trials",
        query=query,
        page=page,
        rows=trial_rows(study, snapshot, page.rows),
        kinds=TRIAL_KINDS,
        states=TRIAL_STATES,
        plots=[],
        **lists,
    )


@router.get("/studies/{study}/trials/{number}")
def trial(request: Request, study: StudyId, number: TrialNumber) -> Response:
    """All that is recorded of a trial."""
    state, record = _known(request, study)
    found = records.trial(state.database, study, number)
    if found is None:
        return trouble(request, 404, f"this study has no trial {number}")
    last = len(state.watch.snapshot(study)) - 1
    structure = Structure.parse(found.structure["key"]) if found.structure else None
    sizes = found.row.get("sizes") or {}
    return _page(
        request,
        record,
        "trial.html",
        "trials",
        found=found,
        number=number,
        last=last,
        exponents=views.exponents(structure) if structure is not None else [],
        sizes={edge: sizes[edge] for edge in sorted(sizes, key=views.edge_order) if sizes[edge] > 1},
        settings=views.flat(found.row.get("config") or {}),
        layers=LAYERS,
        plots=["trial"],
    )


@router.get("/studies/{study}/rungs")
def rungs(request: Request, study: StudyId) -> Response:
    """What each rung of compute saw, and which structures went up."""
    state, record = _known(request, study)
    lines, stops = summaries.rungs(state.watch.snapshot(study)), records.stops(state.database, study)
    return _page(request, record, "rungs.html", "rungs", rungs=lines, stops=stops, plots=["rungs"])


@router.get("/studies/{study}/steering")
def steering(request: Request, study: StudyId) -> Response:
    """Does the search learn?"""
    state, record = _known(request, study)
    kinds = summaries.kinds(state.watch.snapshot(study))
    words = foresight_text(foreseen(Asked(state.watch, state.fitting, state.foresight, record)))
    plots = ["steering", "share", "foresight"]
    return _page(request, record, "steering.html", "steering", kinds=kinds, foreseen=words, plots=plots)


@router.get("/studies/{study}/checks")
def checks(request: Request, study: StudyId) -> Response:
    """Does the learning rate transfer: coordinates, the rates that were tried, what the rules make of them for each factor."""
    state, record = _known(request, study)
    asked = Asked(state.watch, state.fitting, state.foresight, record)
    found = sorted({rate for places in rates(asked).values() for rate, _, _ in places})
    coordinates = moved(asked)
    return _page(
        request,
        record,
        "checks.html",
        "checks",
        rates=found,
        base=record.settings.get("trial", {}),
        layers=summaries.layers(record, asked.snapshot, leaders(asked.snapshot, asked.rows())),
        caption=LAYER_CAPTION,
        kinds=list(LAYERS.values()),
        slopes=slopes(coordinates),
        transfer=transfer_text(coordinates),
        plots=["coordinates", *(["rates"] if len(found) > 1 else [])],
    )


@router.get("/studies/{study}/provenance")
def provenance(request: Request, study: StudyId) -> Response:
    """What was asked for, with what, by which versions, on which data."""
    state, record = _known(request, study)
    return _page(
        request,
        record,
        "provenance.html",
        "provenance",
        settings=views.flat(record.settings),
        url=state.database.url_shown,
        plots=[],
    )


@router.get("/studies/{study}/optuna")
def optuna(request: Request, study: StudyId) -> Response:
    """The way to Optuna's own dashboard."""
    state, record = _known(request, study)
    return _page(request, record, "optuna.html", "optuna", refusal=state.optuna.refusal(), plots=[])


@router.get("/api")
def documentation(request: Request) -> Response:
    """The JSON interface, described from its own description."""
    description = request.app.openapi()
    return render(request, "api.html", description=description)


def trouble(request: Request, status: int, detail: Any) -> Response:
    """A page that says what went wrong."""
    return render(request, "trouble.html", status, code=status, detail=str(detail))


class StillReading(Exception):
    """A study that is being read for the first time, which takes longer than a visitor should wait for a first page."""

    def __init__(self, record: StudyRecord) -> None:
        self.record = record


def waiting(request: Request, study: StudyRecord) -> Response:
    """A page that asks again by itself."""
    return render(request, "waiting.html", study=study)


def _known(request: Request, study: int) -> tuple[State, StudyRecord]:
    """The shared state and the study; raises StillReading where it is not in memory soon."""
    state = state_of(request)
    record = study_of(state, study)
    if not state.watch.ready(study, PATIENCE):
        raise StillReading(record)
    return state, record


def _page(request: Request, record: StudyRecord, template: str, section: str, plots: list[str], **more: Any) -> Response:
    state = state_of(request)
    drawn = {name: PLOTS[name] for name in plots}
    versions = state.versions(record.id)
    return render(request, template, study=record, section=section, plots=drawn, versions=versions, **more)


def _key(text: str) -> str:
    """The key of a structure that a link names; a text that is none is kept, and found nowhere."""
    try:
        return Structure.parse(text).key if text else ""
    except StructureError:
        return text


def _name(key: str) -> str:
    try:
        return Structure.parse(key).name if key else ""
    except StructureError:
        return key
