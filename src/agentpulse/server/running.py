"""What runs now: sessions, cron runs and agents that started and didn't end.

A process that was killed leaves its starts without ends, so these may be long dead.
"""

from __future__ import annotations

from agentpulse.server.storage import Row, Storage

_RUNNING = """
    SELECT session, agent, type, label AS name, started_at FROM sessions WHERE ended_at IS NULL
    UNION ALL
    SELECT session, agent, 'agent', json_extract(data, '$.name'), ts
    FROM events AS start
    WHERE kind = 'span_start' AND ts >= :since AND span_id IS NOT NULL
        AND json_extract(data, '$.span_kind') = 'agent'
        AND NOT EXISTS (
            SELECT 1 FROM events WHERE kind = 'span_end' AND span_id = start.span_id
        )
    ORDER BY started_at DESC LIMIT :most
"""


def running(storage: Storage, *, since: float, most: int) -> list[Row]:
    """The latest first; agents only where they started since a time in seconds since 1970."""
    return storage.rows(_RUNNING, {"since": since, "most": most})
