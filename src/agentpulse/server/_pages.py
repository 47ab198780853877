"""The page at `/`: running sessions, the latest calls and their totals, sessions, crons, alerts.

It is complete without its script. All content comes from other programs, so all of it is escaped,
and the page may load nothing.
"""

# ruff: noqa: S608  # queries are put together from texts of the server's, and values are bound
from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from agentpulse._output import UNKNOWN, dollars, duration, whole
from agentpulse.server._reports import PERIODS, call_totals, sessions
from agentpulse.server._runs import crons, fates
from agentpulse.server._storage import Storage

_NOTHING = defaultdict[str, None](lambda: None)
"""The last run of a job that ended none."""
_CALLS = """
    SELECT ts, agent, session, calls.* FROM events JOIN calls USING (seq)
    WHERE kind = 'llm_call' AND ts >= :since ORDER BY ts DESC, seq DESC LIMIT :most
"""
_NOTICES = """
    SELECT ts, agent, session, kind,
        CASE kind WHEN 'error' THEN 'error' ELSE json_extract(data, '$.severity') END AS level,
        json_extract(data, iif(kind = 'error', '$.error_type', '$.title')) AS title,
        json_extract(data, iif(kind = 'error', '$.error', '$.message')) AS detail
    FROM events WHERE kind IN ('alert', 'error') AND ts >= :since
    ORDER BY ts DESC, seq DESC LIMIT :most
"""
"""Alerts, and errors that nobody handled, the latest first."""
_AGENTS = """
    FROM events AS start WHERE kind = 'span_start' AND ts >= :since AND span_id IS NOT NULL
        AND json_extract(data, '$.span_kind') = 'agent'
        AND NOT EXISTS (SELECT 1 FROM events WHERE kind = 'span_end' AND span_id = start.span_id)
        AND NOT EXISTS (
            SELECT 1 FROM sessions WHERE session = start.session AND ended_at >= start.ts)
"""
_BEGUN = f"""UNION ALL
    SELECT 'span ' || span_id, session, agent, NULL, ts, received, NULL, NULL {_AGENTS}"""
_RUNNING = f"""
    {fates(_BEGUN)}, listed (key, session, agent, type, name, started_at) AS (
        SELECT session, session, agent, type, label, started_at FROM sessions
        WHERE ended_at IS NULL
        UNION ALL SELECT 'span ' || span_id, session, agent, 'agent', json_extract(data, '$.name'),
            ts {_AGENTS})
    SELECT listed.session, agent, type, name, started_at
    FROM listed JOIN fates ON fates.session = key WHERE NOT is_lost
    ORDER BY started_at DESC LIMIT :most
"""
"""Sessions, cron runs and agents that started, didn't end, and aren't lost; the latest first."""

_MAX_CALLS = 200
_MAX_OTHERS = 20
"""Of everything else on the page."""


def calls_page(request: Request, storage: Storage, period: str) -> Response:
    """The calls of a period ("24h", "7d", "30d") as HTML, with sessions, jobs and alerts."""
    now = time.time()
    since = now - PERIODS[period]
    limits = {"since": since, "most": _MAX_OTHERS}
    calls = storage.rows(_CALLS, {"since": since, "most": _MAX_CALLS + 1})
    return _rendered(
        "calls.html",
        address=str(request.base_url).rstrip("/"),
        calls=calls[:_MAX_CALLS],
        has_more=len(calls) > _MAX_CALLS,
        jobs=crons(storage, now),
        nothing=_NOTHING,
        notices=storage.rows(_NOTICES, limits),
        now=now,
        period=period,
        periods=PERIODS,
        running=storage.rows(_RUNNING, {**limits, "now": now}),
        sessions=sessions(storage, now, since, _MAX_OTHERS),
        totals=call_totals(storage, since),
    )


def closed_page(request: Request, status: int) -> Response:
    """How to open a browser, for one that was not opened, or no longer is."""
    return _rendered("closed.html", status, port=request.scope["server"][1])


def _rendered(template: str, status: int = 200, **values: object) -> Response:
    nonce = secrets.token_urlsafe(16)
    html = _TEMPLATES.get_template(template).render(nonce=nonce, **values)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy}
    return Response(html, status, media_type="text/html", headers=headers)


def _moment(seconds: float | None) -> str | Markup:
    """A time that the page's script shows in the reader's time zone."""
    if seconds is None:
        return UNKNOWN
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        moment.isoformat(timespec="milliseconds"), moment.strftime("%Y-%m-%d %H:%M:%S")
    )


_TEMPLATES = Environment(
    loader=PackageLoader("agentpulse.server"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
# jinja2 leaves the type of its filters open.
cast("dict[str, Callable[..., str]]", _TEMPLATES.filters).update(  # pyright: ignore[reportUnknownMemberType]
    dollars=dollars, whole=whole, duration=duration, moment=_moment
)
