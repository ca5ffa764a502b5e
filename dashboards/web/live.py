"""Server-sent events: a page learns within a second that there is something new, and asks for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from dashboards.web import records
from dashboards.web.state import State, state_of
from space.errors import EinsearchError

PING_SECONDS = 5.0
router = APIRouter()


@router.get("/studies/{study}/events", include_in_schema=False)
async def events(request: Request, study: int) -> StreamingResponse:
    """The versions of a study's parts, now and after each change."""
    state = state_of(request)
    if not 0 < study < 2**31 or await run_in_threadpool(records.find, state.database, study) is None:
        raise HTTPException(404, f"no study {study} in this database")
    return StreamingResponse(_changes(state, study), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _changes(state: State, study: int) -> AsyncIterator[str]:
    """An event for each change, and a ping in between, which tells that the connection lives."""
    queue = state.watch.listen()
    try:
        sent = None
        while True:
            try:
                now = await run_in_threadpool(state.versions, study)
            except EinsearchError as error:
                yield f"event: trouble\ndata: {json.dumps(str(error))}\n\n"
            else:
                yield f"data: {json.dumps(now)}\n\n" if now != sent else ": ping\n\n"
                sent = now
            try:
                await asyncio.wait_for(queue.get(), PING_SECONDS)
            except TimeoutError:
                continue
    finally:
        state.watch.forget(queue)
