"""What runs now: sessions, cron runs and agents that started, didn't end, and aren't lost."""

# ruff: noqa: S608  # the query is put together from texts of the server's, and values are bound

from __future__ import annotations

from agentpulse.server.fates import fates
from agentpulse.server.storage import Row, Storage

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
