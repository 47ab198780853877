"""Asks a local server that runs, in this process or in another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import TypedDict, cast

from agentpulse.server.app import SERVICE
from agentpulse.server.local import ADDRESS

_SECONDS = 10.0
_SECONDS_TO_GREET = 1.0
_MAX_ANSWER = 1 << 20


def is_ours(port: int) -> bool:
    """Whether what listens on the port is a local server of AgentPulse."""
    return _get(port, "/v1/health", _SECONDS_TO_GREET).get("service") == SERVICE


class Sums(TypedDict):
    """What calls came to."""

    usd: float | None
    tokens: int
    calls: int
    errors: int
    unpriced: int


def calls_since(port: int, since: float) -> Sums | None:
    """The sums of the calls since a time in seconds since 1970; None where it doesn't say."""
    sums = _get(port, f"/v1/stats?since={since!r}", _SECONDS).get("cost")
    return cast("Sums", sums) if isinstance(sums, dict) else None


def _get(port: int, path: str, seconds: float) -> Mapping[str, object]:
    connection = HTTPConnection(ADDRESS, port, timeout=seconds)
    try:
        connection.request("GET", path)
        told: object = json.loads(connection.getresponse().read(_MAX_ANSWER))
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return cast("Mapping[str, object]", told) if isinstance(told, dict) else {}
