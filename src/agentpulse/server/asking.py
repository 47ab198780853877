"""Asks a local server that runs, in this process or in another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import TypedDict, cast

from agentpulse_exporter.local_key import key_file, read_key

from agentpulse.server.app import SERVICE
from agentpulse.server.local import ADDRESS

_SECONDS = 10.0
_SECONDS_TO_GREET = 1.0
_MAX_ANSWER = 1 << 20
_CHECK = "/v1/sessions?since=1e11"
"""It needs the key, and lists nothing."""


def is_ours(port: int) -> bool:
    """Whether what listens on the port is a local server of AgentPulse."""
    return _get(port, "/v1/health", _SECONDS_TO_GREET).get("service") == SERVICE


def usable_key(port: int) -> str | None:
    """The key that the local server on the port takes, as far as this user has it."""
    try:
        known = [read_key(key_file(port))]
    except RuntimeError:  # the user has no home
        known = []
    known.append(os.environ.get("AGENTPULSE_API_KEY", "").strip())
    taken = (key for key in known if key and "sessions" in _get(port, _CHECK, _SECONDS, key))
    return next(taken, None)


class Sums(TypedDict):
    """What calls came to."""

    usd: float | None
    tokens: int
    calls: int
    errors: int
    unpriced: int


def calls_since(port: int, key: str, since: float) -> Sums | None:
    """The sums of the calls since a time in seconds since 1970; None where it doesn't say."""
    sums = _get(port, f"/v1/stats?since={since!r}", _SECONDS, key).get("cost")
    return cast("Sums", sums) if isinstance(sums, dict) else None


def _get(port: int, path: str, seconds: float, key: str | None = None) -> Mapping[str, object]:
    connection = HTTPConnection(ADDRESS, port, timeout=seconds)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        connection.request("GET", path, headers=headers)
        told: object = json.loads(connection.getresponse().read(_MAX_ANSWER))
    except (OSError, HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return cast("Mapping[str, object]", told) if isinstance(told, dict) else {}
