"""Sessions, put together from the events that name them."""

from __future__ import annotations

import json
from typing import cast

from agentpulse.server.protocol import Data
from agentpulse.server.reading import number, text
from agentpulse.server.storage import Row, Storage

MOST = 500
"""Sessions in one answer: those with the latest events."""


def sessions(storage: Storage, since: float = 0.0) -> list[Row]:
    """The sessions with an event since a time, the latest first, each with the sums of all of it.

    What only a session's own start and end say (label, type, status, duration) is None for one that
    came without them.
    """
    rows = storage.rows(
        """SELECT session, agent, count(*) AS events, min(ts) AS first_ts, max(ts) AS last_ts,
                count(calls.seq) AS calls, coalesce(sum(calls.failed), 0) AS errors,
                coalesce(sum(calls.tokens), 0) AS tokens,
                CASE WHEN count(calls.seq) = 0 THEN 0.0 ELSE sum(calls.cost_usd) END AS cost_usd
            FROM events LEFT JOIN calls USING (seq)
            WHERE session IS NOT NULL
            GROUP BY session HAVING max(ts) >= ? ORDER BY last_ts DESC LIMIT ?""",
        (since, MOST),
    )
    told = _told(storage, since)
    return [{**row, **_described(told.get(cast("str", row["session"]), []))} for row in rows]


def transcript(storage: Storage, session: str) -> object:
    """The messages of a session's latest conversation; None where there are none."""
    found, _ = storage.events(kind="transcript", session=session, limit=1)
    return cast("Data", found[0]["data"]).get("messages") if found else None


def _told(storage: Storage, since: float) -> dict[str, list[Data]]:
    """What the starts and ends of the sessions say, in order."""
    told: dict[str, list[Data]] = {}
    for row in storage.rows(
        """SELECT session, data FROM events WHERE kind = 'session' AND session IN
            (SELECT session FROM events WHERE session IS NOT NULL AND ts >= ?) ORDER BY ts, seq""",
        (since,),
    ):
        told.setdefault(cast("str", row["session"]), []).append(
            json.loads(cast("str", row["data"]))
        )
    return told


def _described(told: list[Data]) -> Row:
    merged: Data = {}
    for data in told:
        merged.update({name: value for name, value in data.items() if value is not None})
    has_ended = any(data.get("action") == "end" for data in told)
    return {
        "label": text(merged, "label"),
        "type": text(merged, "type"),
        "job_name": text(merged, "job_name"),
        "status": text(merged, "status"),
        "is_running": bool(told) and not has_ended,
        "duration_ms": number(merged, "duration_ms"),
    }
