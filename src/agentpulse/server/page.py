"""The page at `/`: the latest calls and what they come to, complete without its script.

Everything on it was sent by somebody, so all of it is escaped, and the page may load nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from starlette.requests import Request
from starlette.responses import Response

from agentpulse.server.formats import dollars, duration, whole
from agentpulse.server.protocol import Data
from agentpulse.server.reading import count, number, text
from agentpulse.server.reports import PERIODS, call_totals
from agentpulse.server.storage import Storage

MOST = 200
"""Calls on the page."""


def calls_page(request: Request, storage: Storage, period: str) -> Response:
    """The calls of a period ("24h", "7d", "30d") as HTML."""
    since = time.time() - PERIODS[period]
    events, more = storage.events(kind="llm_call", since=since, limit=MOST)
    nonce = secrets.token_urlsafe(16)
    html = _template().render(
        address=str(request.base_url).rstrip("/"),
        calls=[_call(event) for event in events],
        has_more=more is not None,
        nonce=nonce,
        period=period,
        periods=PERIODS,
        totals=call_totals(storage, since),
    )
    headers = {"Content-Security-Policy": _policy(nonce)}
    return Response(html, media_type="text/html", headers=headers)


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("agentpulse.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # jinja2 leaves the type of its filters open.
    filters = cast("dict[str, Callable[..., str]]", environment.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(dollars=dollars, whole=whole, duration=duration)
    return environment.get_template("calls.html")


def _call(event: Data) -> dict[str, object]:
    """What the page says of a call. What makes no sense in its data is left out."""
    data = cast("Data", event["data"])
    ended = datetime.fromtimestamp(cast("float", event["ts"]), UTC)
    reasons = data.get("finish_reasons")
    answered, asked = text(data, "model"), text(data, "request_model")
    return {
        "time": ended.isoformat(timespec="milliseconds"),
        "time_shown": ended.strftime("%Y-%m-%d %H:%M:%S"),
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
