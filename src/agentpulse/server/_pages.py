"""The page at `/`: running sessions, the latest calls and their totals, sessions, crons, alerts.

It is complete without its script. All content comes from other programs, so all of it is escaped,
and the page may load nothing.
"""

# ruff: noqa: S608  # queries are put together from texts of the server's, and values are bound
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

from agentpulse._output import UNKNOWN, dollars, duration, whole
from agentpulse.server._protocol import Data, count, number, text
from agentpulse.server._reports import PERIODS, call_totals, sessions
from agentpulse.server._runs import crons, fates
from agentpulse.server._storage import Row, Storage

_LAST_RUN = (
    "started_at", "over_at", "status", "duration_ms", "cost_usd", "error_type", "summary",
)  # fmt: skip


def _call(event: Data) -> Row:
    """A call on the page. Values of a wrong type in its data are missing."""
    data: Data = event["data"]
    reasons = data.get("finish_reasons")
    reasons = cast("list[object]", reasons) if isinstance(reasons, list) else []
    answered, requested = text(data, "model"), text(data, "request_model")
    counts = ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")
    return {
        **{name: event.get(name) for name in ("ts", "agent", "session")},
        **{name: text(data, name) for name in ("operation", "provider", "error_type", "error")},
        **{name: count(data, name) for name in counts},
        **{name: number(data, name) for name in ("cost_usd", "latency_ms", "ttft_ms")},
        "model": answered or requested,
        # "gpt-4o" answered by "gpt-4o-2024-08-06" is no news.
        "requested": requested if answered and not answered.startswith(requested or "") else None,
        "is_estimated": data.get("estimated") is True,
        "has_failed": data.get("status") == "error",
        "finish_reasons": [each for each in reasons if isinstance(each, str)],
    }


def _notice(event: Data) -> Row:
    """An alert, or an error that nobody handled."""
    data: Data = event["data"]
    if event["kind"] == "alert":
        level, title, detail = text(data, "severity"), text(data, "title"), text(data, "message")
    else:
        level, title, detail = "error", text(data, "error_type"), text(data, "error")
    return {
        **{name: event.get(name) for name in ("ts", "agent", "session")},
        "level": level or "warning",
        "is_bad": level in ("error", "critical"),
        "title": title,
        "detail": detail if detail != title or event["kind"] == "error" else None,
    }


def _job(job: Row) -> Row:
    """A cron job: its last run, and its punctuality."""
    last: Row | None = job["last_run"]
    has_overlong = any(run["exceeds_max_runtime"] for run in job["running"])
    failed = last is not None and last["status"] != "ok"
    return {
        **job,
        "last_run": last or dict.fromkeys(_LAST_RUN),
        "is_lost": last is not None and last["ended_at"] is None,
        "has_overlong": has_overlong,
        "is_bad": failed or has_overlong or job["overdue_since"] is not None,
    }


_AGENTS = """
    FROM events AS start
    WHERE kind = 'span_start' AND ts >= :since AND span_id IS NOT NULL
        AND json_extract(data, '$.span_kind') = 'agent'
        AND NOT EXISTS (
            SELECT 1 FROM events WHERE kind = 'span_end' AND span_id = start.span_id
        )
        AND NOT EXISTS (
            SELECT 1 FROM sessions WHERE session = start.session AND ended_at >= start.ts
        )
"""
_BEGUN = (
    f"UNION ALL SELECT 'span ' || span_id, session, agent, NULL, ts, received, NULL, NULL {_AGENTS}"
)
_RUNNING = f"""
    {fates(_BEGUN)}, listed (key, session, agent, type, name, started_at) AS (
        SELECT session, session, agent, type, label, started_at FROM sessions
        WHERE ended_at IS NULL
        UNION ALL
        SELECT 'span ' || span_id, session, agent, 'agent', json_extract(data, '$.name'), ts
        {_AGENTS}
    )
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
    calls, more = storage.events(kind="llm_call", since=since, limit=_MAX_CALLS)
    return _rendered(
        "calls.html",
        address=str(request.base_url).rstrip("/"),
        calls=[_call(event) for event in calls],
        has_more=more is not None,
        jobs=[_job(job) for job in crons(storage, now)],
        notices=_notices(storage, since),
        now=now,
        period=period,
        periods=PERIODS,
        running=storage.rows(_RUNNING, {"now": now, "since": since, "most": _MAX_OTHERS}),
        sessions=sessions(storage, now, since, _MAX_OTHERS),
        totals=call_totals(storage, since),
    )


def closed_page(request: Request, status: int) -> Response:
    """How to open a browser, for one that was not opened, or no longer is."""
    return _rendered("closed.html", status, port=request.scope["server"][1])


def _rendered(template: str, status: int = 200, **values: object) -> Response:
    nonce = secrets.token_urlsafe(16)
    html = _templates().get_template(template).render(nonce=nonce, **values)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy}
    return Response(html, status, media_type="text/html", headers=headers)


def _notices(storage: Storage, since: float) -> list[Row]:
    """Alerts, and errors that nobody handled, the latest first."""
    found = [
        event
        for kind in ("alert", "error")
        for event in storage.events(kind=kind, since=since, limit=_MAX_OTHERS)[0]
    ]
    found.sort(key=lambda event: event["ts"], reverse=True)
    return [_notice(event) for event in found[:_MAX_OTHERS]]


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
