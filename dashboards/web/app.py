"""The application: every route behind the gate, and what goes wrong said in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from dashboards.web import api, live, optuna_views, pages
from dashboards.web.fitting import Fitting
from dashboards.web.library import plotly_js
from dashboards.web.security import Gate
from dashboards.web.state import State
from dashboards.web.watch import Watch
from space.errors import EinsearchError
from storage.database import Database

ABOUT = (
    "Read-only access to the studies of one einsearch database. Losses are in nats per token, compute in FLOPs of the study's "
    "convention, times in epoch seconds; a compute multiplier is how many times its compute a dense model needs."
)
THREADS = 4
"""Requests answered at once; each thread keeps memory of its own."""


def create_app(
    database: Database, url: str, *, token: str | None, hosts: frozenset[str], foresight: Sequence[str] | None = None
) -> ASGIApp:
    """The page over an open database.

    Args:
        url: the database's URL, for the helper processes, which open it themselves.
        token: what every request has to bring; None where none is wanted.
        hosts: the names under which the page may be asked for.
        foresight: the command of a helper that says what the search foresaw, for `dashboards.web.fitting`; None without one.
    """
    watch = Watch(database)
    foreseeing = None if foresight is None else Fitting(url, watch.tell, foresight)
    state = State(database, watch, Fitting(url, watch.tell), foreseeing, optuna_views.OptunaViews(database, url))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        watch.start()
        yield
        state.close()

    paths = {"openapi_url": f"{api.VERSION}/openapi.json", "docs_url": None, "redoc_url": None}
    app = FastAPI(title="einsearch", version="1", description=ABOUT, lifespan=lifespan, **paths)  # type: ignore[arg-type]
    app.state.shared = state
    for part in (api.router, pages.router, live.router, optuna_views.router):
        app.include_router(part)
    app.mount("/assets", StaticFiles(packages=[("dashboards.web", "static")]))
    app.add_api_route("/plotly.js", plotly_js, include_in_schema=False)
    _errors(app)
    return Gate(app, token, hosts)


def _errors(app: FastAPI) -> None:
    """Errors as JSON under /api, as a page elsewhere."""

    def answer(request: Request, status: int, detail: Any) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": detail}, status)
        return pages.trouble(request, status, detail)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, error.detail)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [{"loc": list(one["loc"]), "msg": one["msg"], "type": one["type"]} for one in error.errors()]
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": found}, 422)
        words = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in found)
        return pages.trouble(request, 422, words)

    @app.exception_handler(pages.StillReading)
    def reading(request: Request, error: pages.StillReading) -> Response:
        return pages.waiting(request, error.record)

    @app.exception_handler(EinsearchError)
    def ours(request: Request, error: EinsearchError) -> Response:
        return answer(request, 503, str(error))
