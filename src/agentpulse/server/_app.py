"""The local server's addresses: the ingest API, its other endpoints, and the page."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentpulse import __version__
from agentpulse.server._pages import calls_page, closed_page
from agentpulse.server._protocol import LOCAL, Event, Plan, read_batch, read_heartbeat
from agentpulse.server._reports import PERIODS, sessions, stats, transcript
from agentpulse.server._requests import OPENING, Access, Guard, Refusal, answer, failure, read_json
from agentpulse.server._runs import crons
from agentpulse.server._storage import MAX_EVENTS, Cursor, Storage

SERVICE = "agentpulse-local"
"""The server's name in `/v1/health`."""

_DAY = 86_400.0
_Endpoint = Callable[[Request], Awaitable[Response]]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints over one storage."""

    storage: Storage
    access: Access
    plan: Plan = LOCAL

    def routes(self) -> list[Route]:
        """All addresses. Without the key only `/v1/health` answers, and those of a browser."""
        return [
            Route("/v1/ingest", self._writing(read_batch), methods=["POST"]),
            Route("/v1/heartbeat", self._writing(read_heartbeat), methods=["POST"]),
            Route("/v1/health", self._health),
            Route("/v1/events", self._reading(self._events)),
            Route("/v1/stats", self._reading(self._stats)),
            Route("/v1/sessions", self._reading(self._sessions)),
            # The key of a session may have a slash in it.
            Route("/v1/sessions/{session:path}/transcript", self._reading(self._transcript)),
            Route("/v1/crons", self._reading(self._crons)),
            Route("/", self._page_for_a_browser),
            Route(f"{OPENING}{{code}}", self._open),
        ]

    def _writing(self, read: Callable[[object, Plan], list[Event]]) -> _Endpoint:
        async def write(request: Request) -> Response:
            self.access.verify(request)
            events = read(await read_json(request), self.plan)
            await run_in_threadpool(self._add, events)
            return answer({"accepted": len(events)})

        return write

    def _reading(self, read: Callable[[Request], object]) -> _Endpoint:
        async def reading(request: Request) -> Response:
            self.access.verify(request)
            return answer(await run_in_threadpool(read, request))

        return reading

    def _add(self, events: list[Event]) -> None:
        most = self.plan.events_in_a_day
        try:
            if most is not None:
                # By when they arrived, not by when they happened.
                query = "SELECT count(*) AS n FROM events WHERE received >= ?"
                today = self.storage.row(query, (time.time() - _DAY,))["n"]
                if today + len(events) > most:
                    raise Refusal(429, f"The limit of {most} events in 24 hours is reached.")
            self.storage.add(events)
        except sqlite3.Error as error:
            raise Refusal(503, f"The database can't be written: {error}.") from error

    async def _health(self, _request: Request) -> Response:
        return answer({"status": "ok", "service": SERVICE, "version": __version__})

    def _events(self, request: Request) -> object:
        query = request.query_params
        events, last = self.storage.events(
            kind=query.get("kind"),
            session=query.get("session"),
            since=_since(request),
            before=_given(request, "before", _cursor, "the next of an answer"),
            limit=_given(request, "limit", _limit, f"a whole number from 1 to {MAX_EVENTS}") or 100,
        )
        return {"events": events, "next": last and f"{last[0]!r}:{last[1]}"}

    def _stats(self, request: Request) -> object:
        since, now = _since(request), time.time()
        if since is None:
            period = _given(request, "period", PERIODS.__getitem__, f"one of {', '.join(PERIODS)}")
            since = now - (period or PERIODS["24h"])
        return stats(self.storage, since, now)

    def _sessions(self, request: Request) -> object:
        return {"sessions": sessions(self.storage, time.time(), _since(request) or 0.0)}

    def _transcript(self, request: Request) -> object:
        session = request.path_params["session"]
        messages = transcript(self.storage, session)
        if messages is None:
            raise Refusal(
                404, "There is no transcript of this session; capture_messages sends them."
            )
        return {"session": session, "messages": messages}

    def _crons(self, _request: Request) -> object:
        return {"crons": crons(self.storage, time.time())}

    async def _page_for_a_browser(self, request: Request) -> Response:
        try:
            self.access.verify(request)
        except Refusal as refusal:
            if "text/html" not in request.headers.get("Accept", ""):
                raise
            return closed_page(request, refusal.status)
        period = request.query_params.get("period")
        known = period if period in PERIODS else "24h"
        return await run_in_threadpool(calls_page, request, self.storage, known)

    async def _open(self, request: Request) -> Response:
        # Those who ask for the head alone, to check a link, don't open anything.
        cookie = None if request.method == "HEAD" else self.access.open(request.path_params["code"])
        if cookie is not None or self.access.is_opened(request):
            return RedirectResponse("/", 303, {"Set-Cookie": cookie} if cookie else None)
        return closed_page(request, 401)


def make_app(api: Api) -> Starlette:
    """The application, for any ASGI server that listens on 127.0.0.1."""

    async def explain(_request: Request, error: Exception) -> Response:
        return failure(error)

    return Starlette(
        routes=api.routes(),
        middleware=[Middleware(Guard)],
        exception_handlers={Refusal: explain, HTTPException: explain, Exception: explain},
    )


def _given(request: Request, name: str, read: Callable[[str], _T], expected: str) -> _T | None:
    """A parameter of the query as it is read; None where it isn't there."""
    text = request.query_params.get(name)
    try:
        return None if text is None else read(text)
    except (LookupError, ValueError):
        raise Refusal(400, f"{name} is {text!r}; expected {expected}.") from None


def _since(request: Request) -> float | None:
    return _given(request, "since", _finite, "seconds since 1970 as a number")


def _finite(text: str) -> float:
    if not math.isfinite(seconds := float(text)):
        raise ValueError
    return seconds


def _limit(text: str) -> int:
    if (limit := int(text[:9])) < 1:
        raise ValueError
    return min(limit, MAX_EVENTS)


def _cursor(text: str) -> Cursor:
    ts, _, arrival = text.partition(":")
    return float(ts), int(arrival[:18])
