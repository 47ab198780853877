"""The local server's addresses: the ingest API, its other endpoints, and the page."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

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
_DEFAULT_EVENTS = 100
_Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints over one storage."""

    storage: Storage
    access: Access
    plan: Plan = LOCAL

    def routes(self) -> list[Route]:
        """All addresses. Without the key only `/v1/health` answers, and those of a browser."""
        return [
            Route("/v1/ingest", self._writing(self._ingest), methods=["POST"]),
            Route("/v1/heartbeat", self._writing(self._heartbeat), methods=["POST"]),
            Route("/v1/health", self._health, methods=["GET"]),
            Route("/v1/events", self._reading(self._events), methods=["GET"]),
            Route("/v1/stats", self._reading(self._stats), methods=["GET"]),
            Route("/v1/sessions", self._reading(self._sessions), methods=["GET"]),
            # The key of a session may have a slash in it.
            Route("/v1/sessions/{session:path}/transcript", self._reading(self._transcript)),
            Route("/v1/crons", self._reading(self._crons), methods=["GET"]),
            Route("/", self._page_for_a_browser, methods=["GET"]),
            Route(f"{OPENING}{{code}}", self._open, methods=["GET"]),
        ]

    def _writing(self, read: Callable[[object], list[Event]]) -> _Endpoint:
        async def write(request: Request) -> Response:
            self.access.verify(request)
            events = read(await read_json(request))
            await run_in_threadpool(self._add, events)
            return answer({"accepted": len(events)})

        return write

    def _reading(self, endpoint: Callable[[Request], Response]) -> _Endpoint:
        async def read(request: Request) -> Response:
            self.access.verify(request)
            return await run_in_threadpool(endpoint, request)

        return read

    def _ingest(self, body: object) -> list[Event]:
        return read_batch(body, self.plan)

    def _heartbeat(self, body: object) -> list[Event]:
        return [read_heartbeat(body)]

    def _add(self, events: list[Event]) -> None:
        most = self.plan.events_in_a_day
        try:
            if most is not None:
                today = self.storage.arrived_since(time.time() - _DAY)
                if today + len(events) > most:
                    raise Refusal(429, f"The limit of {most} events in 24 hours is reached.")
            self.storage.add(events)
        except sqlite3.Error as error:
            raise Refusal(503, f"The database can't be written: {error}.") from error

    async def _health(self, _request: Request) -> Response:
        return answer({"status": "ok", "service": SERVICE, "version": __version__})

    def _events(self, request: Request) -> Response:
        query = request.query_params
        events, last = self.storage.events(
            kind=query.get("kind"),
            session=query.get("session"),
            since=_seconds(request, "since"),
            before=_cursor(request),
            limit=_limit(request),
        )
        return answer({"events": events, "next": last and f"{last[0]!r}:{last[1]}"})

    def _stats(self, request: Request) -> Response:
        since, now = _seconds(request, "since"), time.time()
        if since is None:
            period = request.query_params.get("period", "24h")
            if period not in PERIODS:
                raise Refusal(400, f"period is {period!r}; expected one of {', '.join(PERIODS)}.")
            since = now - PERIODS[period]
        return answer(stats(self.storage, since, now))

    def _sessions(self, request: Request) -> Response:
        since = _seconds(request, "since") or 0.0
        return answer({"sessions": sessions(self.storage, time.time(), since)})

    def _transcript(self, request: Request) -> Response:
        session = request.path_params["session"]
        messages = transcript(self.storage, session)
        if messages is None:
            raise Refusal(
                404, "There is no transcript of this session; capture_messages sends them."
            )
        return answer({"session": session, "messages": messages})

    def _crons(self, _request: Request) -> Response:
        return answer({"crons": crons(self.storage, time.time())})

    async def _page_for_a_browser(self, request: Request) -> Response:
        try:
            self.access.verify(request)
        except Refusal as refusal:
            if "text/html" not in request.headers.get("Accept", ""):
                raise
            return closed_page(request, refusal.status)
        return await run_in_threadpool(self._page, request)

    async def _open(self, request: Request) -> Response:
        # Those who ask for the head alone, to check a link, don't open anything.
        cookie = None if request.method == "HEAD" else self.access.open(request.path_params["code"])
        if cookie is not None:
            return RedirectResponse("/", 303, {"Set-Cookie": cookie})
        if self.access.is_opened(request):
            return RedirectResponse("/", 303)
        return closed_page(request, 401)

    def _page(self, request: Request) -> Response:
        period = request.query_params.get("period", "24h")
        return calls_page(request, self.storage, period if period in PERIODS else "24h")


def make_app(api: Api) -> Starlette:
    """The application, for any ASGI server that listens on 127.0.0.1."""

    async def explain(_request: Request, error: Exception) -> Response:
        return failure(error)

    return Starlette(
        routes=api.routes(),
        middleware=[Middleware(Guard)],
        exception_handlers={Refusal: explain, HTTPException: explain, Exception: explain},
    )


def _seconds(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise Refusal(400, f"{name} is {text!r}; expected seconds since 1970 as a number.")
    return seconds


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(_DEFAULT_EVENTS))
    if not (text.isascii() and text.isdigit()) or not int(text[:9]):
        raise Refusal(400, f"limit is {text!r}; expected a whole number from 1 to {MAX_EVENTS}.")
    return min(int(text[:9]), MAX_EVENTS)


def _cursor(request: Request) -> Cursor | None:
    text = request.query_params.get("before")
    if text is None:
        return None
    ts, _, arrival = text.partition(":")
    try:
        return float(ts), int(arrival[:18])
    except ValueError:
        raise Refusal(400, f"before is {text!r}; expected the next of an answer.") from None
