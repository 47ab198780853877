"""What the page says of an event, a job, and what runs. What makes no sense in it is left out."""

from __future__ import annotations

from typing import cast

from agentpulse.server.protocol import Data
from agentpulse.server.reading import count, number, text
from agentpulse.server.storage import Row

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
