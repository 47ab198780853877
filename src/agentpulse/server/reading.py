"""Reads the data of an event, which may be anything, as what it should be. Pure."""

from __future__ import annotations

import json

from agentpulse.server.protocol import Data, clean

_TOO_MUCH = 1e12  # above it there is no usage, and sums would leave what a database can hold
_LATEST = 253_402_300_799.0  # the last second of the year 9999

Column = str | int | float | None


def number(data: Data, name: str) -> float | None:
    """An amount from 0 to what is sensible; None for everything else, which is unknown."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _TOO_MUCH else None


def instant(data: Data, name: str) -> float | None:
    """A time in seconds since 1970, as far as calendars go; None for everything else."""
    seconds = number(data, name)
    return seconds if seconds is not None and seconds <= _LATEST else None


def count(data: Data, name: str) -> int | None:
    """As `number`, a whole one."""
    value = number(data, name)
    return None if value is None else int(value)


def text(data: Data, name: str) -> str | None:
    """A text that isn't empty; None for everything else."""
    value = data.get(name)
    return clean(value) if isinstance(value, str) and value else None


def call_columns(data: Data) -> tuple[Column, ...]:
    """What is computed with of a call, in the order of the table `calls`."""
    used_in, used_out = count(data, "input_tokens"), count(data, "output_tokens")
    tokens = count(data, "tokens")
    if tokens is None and (used_in, used_out) != (None, None):
        tokens = (used_in or 0) + (used_out or 0)
    return (
        text(data, "provider"),
        text(data, "model") or text(data, "request_model"),
        used_in,
        count(data, "cache_read_tokens"),
        used_out,
        tokens,
        number(data, "cost_usd"),
        number(data, "latency_ms"),
        number(data, "ttft_ms"),
        int(data.get("status") == "error"),
    )


def session_columns(data: Data, session: str) -> dict[str, Column]:
    """What the start or the end of a session says of it, by the names of the table `sessions`."""
    parent = text(data, "parent_session")
    return {
        "label": text(data, "label"),
        "type": text(data, "type"),
        "job_name": text(data, "job_name"),
        "parent": parent if parent != session else None,
        "status": text(data, "status"),
        "error_type": text(data, "error_type"),
        "error": text(data, "error"),
        "duration_ms": number(data, "duration_ms"),
        "metadata": _json(data, "metadata"),
        "result": _json(data, "result"),
    }


def run_columns(data: Data) -> dict[str, Column]:
    """What the start or the end of a cron run says of it, by the names of the table `runs`."""
    return {
        "job": text(data, "job") or "unknown",
        "run_id": text(data, "run_id"),
        "started_at": instant(data, "started_at"),
        "status": text(data, "status"),
        "duration_ms": number(data, "duration_ms"),
        "cost_usd": number(data, "cost_usd"),
        "tokens": count(data, "tokens"),
        "calls": count(data, "calls"),
        "summary": text(data, "summary"),
        "error_type": text(data, "error_type"),
        "error": text(data, "error"),
        "schedule": text(data, "schedule"),
        "timezone": text(data, "timezone"),
        "max_runtime_s": number(data, "max_runtime_s"),
    }


def _json(data: Data, name: str) -> str | None:
    value = data.get(name)
    return None if value is None else json.dumps(value, separators=(",", ":"))
