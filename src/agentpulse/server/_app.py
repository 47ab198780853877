"""The local server's addresses: the ingest API, its other endpoints, and the page."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agentpulse import __version__
from agentpulse.server import _requests as web
from agentpulse.server._pages import calls_page, closed_page
from agentpulse.server._protocol import Event, read_batch, read_heartbeat
from agentpulse.server._reports import PERIODS, sessions, stats, transcript
from agentpulse.server._runs import crons
from agentpulse.server._storage import MAX_EVENTS, Cursor, Storage

SERVICE = "agentpulse-local"
"""The server's name in `/v1/health`."""


@dataclass(frozen=True, slots=True)
class Api:
    """The endpoints over one storage."""

    storage: Storage
    access: web.Access

    def application(self) -> ASGIApp:
        """All addresses. Without the key only `/v1/health` answers, and those of a browser."""
        routes = [
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
            Route(f"{web.OPENING}{{code}}", self._open),
        ]
        handlers = {HTTPException: web.failure, Exception: web.failure}
        return web.guarded(Starlette(routes=routes, exception_handlers=handlers))

    def _writing(self, read: Callable[[object], list[Event]]) -> Callable[..., Awaitable[Response]]:
        async def write(request: Request) -> Response:
            self.access.verify(request)
            events = read(await web.read_json(request))
            try:
                await run_in_threadpool(self.storage.add, events)
            except sqlite3.Error as error:
                raise web.Refusal(503, f"The database can't be written: {error}.") from error
            return web.answer({"accepted": len(events)})

        return write

    def _reading(self, read: Callable[[Request], object]) -> Callable[[Request], Response]:
        def reading(request: Request) -> Response:
            self.access.verify(request)
            return web.answer(read(request))

        return reading

    async def _health(self, _request: Request) -> Response:
        return web.answer({"status": "ok", "service": SERVICE, "version": __version__})

    def _events(self, request: Request) -> object:
        query = request.query_params
        events, last = self.storage.events(
            _given(request, "limit") or 100,
            _given(request, "since"),
            _given(request, "before"),
            kind=query.get("kind"),
            session=query.get("session"),
        )
        return {"events": events, "next": last and f"{last[0]!r}:{last[1]}"}

    def _stats(self, request: Request) -> object:
        since, now = _given(request, "since"), time.time()
        if since is None:
            since = now - (_given(request, "period") or PERIODS["24h"])
        return stats(self.storage, since, now)

    def _sessions(self, request: Request) -> object:
        return {"sessions": sessions(self.storage, time.time(), _given(request, "since") or 0.0)}

    def _transcript(self, request: Request) -> object:
        session = request.path_params["session"]
        messages = transcript(self.storage, session)
        if messages is None:
            message = "There is no transcript of this session; capture_messages sends them."
            raise web.Refusal(404, message)
        return {"session": session, "messages": messages}

    def _crons(self, _request: Request) -> object:
        return {"crons": crons(self.storage, time.time())}

    def _page_for_a_browser(self, request: Request) -> Response:
        try:
            self.access.verify(request)
        except web.Refusal as refusal:
            if "text/html" not in request.headers.get("Accept", ""):
                raise
            return closed_page(request, refusal.status_code)
        period = request.query_params.get("period")
        known = period if period in PERIODS else "24h"
        return calls_page(request, self.storage, known)

    async def _open(self, request: Request) -> Response:
        # Those who ask for the head alone, to check a link, don't open anything.
        cookie = None if request.method == "HEAD" else self.access.open(request.path_params["code"])
        if cookie is not None or self.access.is_opened(request):
            return RedirectResponse("/", 303, {"Set-Cookie": cookie} if cookie else None)
        return closed_page(request, 401)


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


_PARAMETERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "since": (_finite, "seconds since 1970 as a number"),
    "before": (_cursor, "the next of an answer"),
    "limit": (_limit, f"a whole number from 1 to {MAX_EVENTS}"),
    "period": (PERIODS.__getitem__, f"one of {', '.join(PERIODS)}"),
}
"""Parameters of a query: how each is read, and what is expected."""


def _given(request: Request, name: str) -> Any:
    """A parameter of the query as it is read; None where it isn't there."""
    text = request.query_params.get(name)
    read, expected = _PARAMETERS[name]
    try:
        return None if text is None else read(text)
    except (LookupError, ValueError):
        raise web.Refusal(400, f"{name} is {text!r}; expected {expected}.") from None
