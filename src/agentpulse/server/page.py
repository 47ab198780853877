"""The page at `/`: what runs, the latest calls and what they come to, sessions, crons, alerts.

It is complete without its script. Everything on it was sent by somebody, so all of it is escaped,
and the page may load nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from agentpulse.formats import UNKNOWN, dollars, duration, whole
from agentpulse.server.crons import crons
from agentpulse.server.reports import PERIODS, call_totals
from agentpulse.server.running import running
from agentpulse.server.sessions import sessions
from agentpulse.server.shown import shown_call, shown_job, shown_notice
from agentpulse.server.storage import Storage

MOST = 200
"""Calls on the page."""
MOST_BESIDE = 20
"""Of everything else."""


def calls_page(request: Request, storage: Storage, period: str) -> Response:
    """The calls of a period ("24h", "7d", "30d") as HTML, and briefly what there is beside them."""
    now = time.time()
    since = now - PERIODS[period]
    calls, more = storage.events(kind="llm_call", since=since, limit=MOST)
    return _rendered(
        "calls.html",
        address=str(request.base_url).rstrip("/"),
        calls=[shown_call(event) for event in calls],
        has_more=more is not None,
        jobs=[shown_job(job) for job in crons(storage, now)],
        notices=_notices(storage, since),
        now=now,
        period=period,
        periods=PERIODS,
        running=running(storage, now, since=since, most=MOST_BESIDE),
        sessions=sessions(storage, now, since, MOST_BESIDE),
        totals=call_totals(storage, since),
    )


def closed_page(request: Request, status: int) -> Response:
    """What a browser gets that was not opened, or no more: how to open it."""
    return _rendered("closed.html", status, port=request.scope["server"][1])


def _rendered(template: str, status: int = 200, **shown: object) -> Response:
    nonce = secrets.token_urlsafe(16)
    html = _templates().get_template(template).render(nonce=nonce, **shown)
    headers = {"Content-Security-Policy": _policy(nonce)}
    return Response(html, status, media_type="text/html", headers=headers)


def _notices(storage: Storage, since: float) -> list[dict[str, object]]:
    """Alerts, and errors that nobody handled, the latest first."""
    found = [
        event
        for kind in ("alert", "error")
        for event in storage.events(kind=kind, since=since, limit=MOST_BESIDE)[0]
    ]
    found.sort(key=lambda event: cast("float", event["ts"]), reverse=True)
    return [shown_notice(event) for event in found[:MOST_BESIDE]]


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("agentpulse.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # jinja2 leaves the type of its filters open.
    filters = cast("dict[str, Callable[..., str]]", environment.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(dollars=dollars, whole=whole, duration=duration, moment=_moment)
    return environment


def _moment(seconds: float | None) -> str | Markup:
    """A time that the page's script shows in the reader's time zone."""
    if seconds is None:
        return UNKNOWN
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        moment.isoformat(timespec="milliseconds"), moment.strftime("%Y-%m-%d %H:%M:%S")
    )
