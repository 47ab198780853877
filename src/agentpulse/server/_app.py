"""The local server's addresses: the ingest API, what the hosted API has beside it, and the page."""

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
from agentpulse.server._requests import OPENING, Access, Guard, Refusal, answer, explain, read_json
from agentpulse.server._runs import crons
from agentpulse.server._storage import MAX_EVENTS, Cursor, Storage

SERVICE = "agentpulse-local"
"""How the server names itself in `/v1/health`."""

_DAY = 86_400.0
_USUAL_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints over one storage."""

    storage: Storage
    access: Access
    plan: Plan = LOCAL

    def routes(self) -> list[Route]:
        """All addresses. Without the key only `/v1/health` answers, and what opens a browser."""
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

    def _writing(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def write(request: Request) -> Response:
            self.access.verify(request)
            try:
                return await endpoint(request)
            except sqlite3.Error as error:
                raise Refusal(503, f"The database can't be written: {error}.") from error

        return write

    def _reading(
        self, endpoint: Callable[[Request], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def read(request: Request) -> Response:
            self.access.verify(request)
            return await run_in_threadpool(endpoint, request)

        return read

    async def _ingest(self, request: Request) -> Response:
        events = read_batch(await read_json(request), self.plan)
        await run_in_threadpool(self._add, events)
        return answer({"accepted": len(events)})

    async def _heartbeat(self, request: Request) -> Response:
        event = read_heartbeat(await read_json(request))
        await run_in_threadpool(self._add, [event])
        return answer({"accepted": 1})

    def _add(self, events: list[Event]) -> None:
        most = self.plan.events_in_a_day
        if most is not None:
            today = self.storage.arrived_since(time.time() - _DAY)
            if today + len(events) > most:
                raise Refusal(429, f"The limit of {most} events in 24 hours is reached.")
        self.storage.add(events)

    async def _health(self, _request: Request) -> Response:
        return answer({"status": "ok", "service": SERVICE, "version": __version__})

    def _events(self, request: Request) -> Response:
        asked = request.query_params
        events, place = self.storage.events(
            kind=asked.get("kind"),
            session=asked.get("session"),
            since=_seconds(request, "since"),
            before=_cursor(request),
            limit=_limit(request),
        )
        return answer({"events": events, "next": place and f"{place[0]!r}:{place[1]}"})

    def _stats(self, request: Request) -> Response:
        since, now = _seconds(request, "since"), time.time()
        if since is None:
            since = now - _period(request)
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
    return Starlette(
        routes=api.routes(),
        middleware=[Middleware(Guard)],
        exception_handlers={Refusal: explain, HTTPException: explain, Exception: explain},
    )


def _period(request: Request) -> float:
    name = request.query_params.get("period", "24h")
    if name not in PERIODS:
        raise Refusal(400, f"period is {name!r}; expected one of {', '.join(PERIODS)}.")
    return PERIODS[name]


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
    text = request.query_params.get("limit", str(_USUAL_EVENTS))
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
        raise Refusal(400, f"before is {text!r}; expected what an answer has as next.") from None
