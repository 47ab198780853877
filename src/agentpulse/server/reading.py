"""Reads the data of an event, which may be anything, as what it should be. Pure."""

from __future__ import annotations

from agentpulse.server.protocol import Data, clean

_TOO_MUCH = 1e12  # above it there is no usage, and sums would leave what a database can hold

Column = str | int | float | None


def number(data: Data, name: str) -> float | None:
    """An amount from 0 to what is sensible; None for everything else, which is unknown."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _TOO_MUCH else None


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


def run_columns(data: Data) -> tuple[Column, ...]:
    """What is computed with of a cron run, in the order of the table `cron_runs`."""
    return (
        text(data, "job") or "unknown",
        text(data, "status") or "unknown",
        number(data, "duration_ms"),
        text(data, "error"),
    )
