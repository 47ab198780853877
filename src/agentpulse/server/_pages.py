"""The page at `/`: what runs, the latest calls and what they come to, sessions, crons, alerts.

It is complete without its script. Everything on it was sent by somebody, so all of it is escaped,
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

# What the page says of an event, a job, and what runs. What makes no sense in it is left out.

_LAST_RUN = (
    "started_at", "over_at", "status", "duration_ms", "cost_usd", "error_type", "summary",
)  # fmt: skip


def shown_call(event: Data) -> dict[str, object]:
    """What the page says of a call. What makes no sense in its data is left out."""
    data = cast("Data", event["data"])
    reasons = data.get("finish_reasons")
    answered, asked = text(data, "model"), text(data, "request_model")
    return {
        "time": event["ts"],
        "agent": event["agent"],
        "session": event.get("session"),
        "operation": text(data, "operation"),
        "provider": text(data, "provider"),
        "model": answered or asked,
        # "gpt-4o" answered by "gpt-4o-2024-08-06" is no news.
        "asked": asked if asked and answered and not answered.startswith(asked) else None,
        "input_tokens": count(data, "input_tokens"),
        "cached_tokens": count(data, "cache_read_tokens"),
        "output_tokens": count(data, "output_tokens"),
        "reasoning_tokens": count(data, "reasoning_tokens"),
        "cost": number(data, "cost_usd"),
        "is_estimated": data.get("estimated") is True,
        "latency_ms": number(data, "latency_ms"),
        "ttft_ms": number(data, "ttft_ms"),
        "has_failed": data.get("status") == "error",
        "error_type": text(data, "error_type"),
        "error": text(data, "error"),
        "finish_reasons": [
            reason for reason in cast("list[object]", reasons) if isinstance(reason, str)
        ]
        if isinstance(reasons, list)
        else [],
    }


def shown_notice(event: Data) -> dict[str, object]:
    """An alert, or an error that nobody handled."""
    data = cast("Data", event["data"])
    place = {name: event.get(name) for name in ("agent", "session")}
    if event["kind"] == "alert":
        level, title = text(data, "severity") or "warning", text(data, "title")
        details = [text(data, "message")] if text(data, "message") != title else []
    else:
        level, title = "error", text(data, "error_type")
        details = [text(data, "error")]
    return {
        **place,
        "time": event["ts"],
        "level": level,
        "is_bad": level in ("error", "critical"),
        "title": title,
        "details": [detail for detail in details if detail],
    }


def shown_job(job: Row) -> dict[str, object]:
    """A cron job: its last run, and how it keeps to its schedule."""
    last = cast("Row | None", job["last_run"])
    failed = last is not None and last["status"] != "ok"
    overlong = [run for run in cast("list[Row]", job["running"]) if run["exceeds_max_runtime"]]
    return {
        **job,
        "last_run": last or dict.fromkeys(_LAST_RUN),
        "is_lost": last is not None and last["ended_at"] is None,
        "has_overlong": bool(overlong),
        "is_bad": failed or bool(overlong) or job["overdue_since"] is not None,
    }


# What runs now: sessions, cron runs and agents that started, didn't end, and aren't lost.

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
    {fates(_BEGUN)}, shown (key, session, agent, type, name, started_at) AS (
        SELECT session, session, agent, type, label, started_at FROM sessions
        WHERE ended_at IS NULL
        UNION ALL
        SELECT 'span ' || span_id, session, agent, 'agent', json_extract(data, '$.name'), ts
        {_AGENTS}
    )
    SELECT shown.session, agent, type, name, started_at
    FROM shown JOIN fates ON fates.session = key WHERE NOT is_lost
    ORDER BY started_at DESC LIMIT :most
"""


def running(storage: Storage, now: float, *, since: float, most: int) -> list[Row]:
    """The latest first; agents only where they started since a time in seconds since 1970."""
    return storage.rows(_RUNNING, {"now": now, "since": since, "most": most})


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
