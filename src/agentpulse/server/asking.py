"""Asks a local server that runs, in this process or in another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import cast

from agentpulse.server.app import SERVICE
from agentpulse.server.local import ADDRESS

_SECONDS = 5.0
_MAX_ANSWER = 1 << 20


def is_ours(port: int) -> bool:
    """Whether what listens on the port is a local server of AgentPulse."""
    return _get(port, "/v1/health").get("service") == SERVICE


def calls_since(port: int, since: float) -> Mapping[str, object]:
    """The sums of the calls since a time (seconds since 1970), or nothing where it doesn't say."""
    sums = _get(port, f"/v1/stats?since={since!r}").get("cost")
    return cast("Mapping[str, object]", sums) if isinstance(sums, dict) else {}


def _get(port: int, path: str) -> Mapping[str, object]:
    connection = HTTPConnection(ADDRESS, port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        told: object = json.loads(connection.getresponse().read(_MAX_ANSWER))
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return cast("Mapping[str, object]", told) if isinstance(told, dict) else {}
