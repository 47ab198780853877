"""Sessions: what each is, whether it runs, and what its calls came to."""

# ruff: noqa: S608  # the queries are put together from texts of this module, and values are bound

from __future__ import annotations

import json
from typing import cast

from agentpulse.server.fates import LOST, fates
from agentpulse.server.protocol import Data
from agentpulse.server.reports import SUMS
from agentpulse.server.storage import Row, Storage

MOST = 500
"""Sessions in one answer: those with the latest events."""

RUNNING = "running"
"""The status of a session that didn't end so far, or "lost"; else it is what its end said."""

_TOLD = f"""label, type, job_name, parent AS parent_session, started_at, ended_at, duration_ms,
    error_type, error, metadata, result,
    CASE WHEN started_at IS NULL OR ended_at IS NOT NULL THEN status
        WHEN coalesce(is_lost, 1) THEN '{LOST}' ELSE '{RUNNING}' END AS status
"""
_SESSIONS = f"""
    {fates()}, own (session, ts) AS (
        SELECT session, max(ts) FROM events WHERE session IS NOT NULL GROUP BY session
    ), active (session, ts) AS (
        -- What happens in a nested session happens in those around it too.
        SELECT session, ts FROM own
        UNION SELECT parent, ts FROM active JOIN sessions USING (session) WHERE parent IS NOT NULL
    ), shown (root, last_ts) AS (
        SELECT session, max(active.ts) AS last_ts FROM active JOIN own USING (session)
        GROUP BY session HAVING last_ts >= :since ORDER BY last_ts DESC, session LIMIT :most
    ), tree (root, session) AS (
        -- UNION leaves out what is there already, so that no ring of parents goes on for ever.
        SELECT root, root FROM shown
        UNION SELECT root, sessions.session FROM tree JOIN sessions ON parent = tree.session
    ), summed AS (
        SELECT root, last_ts, min(ts) FILTER (WHERE session = root) AS first_ts,
            count(*) FILTER (WHERE session = root) AS events,
            json_group_array(DISTINCT model) FILTER (WHERE model IS NOT NULL) AS models, {SUMS}
        FROM shown JOIN tree USING (root) JOIN events USING (session) LEFT JOIN calls USING (seq)
        GROUP BY root
    )
    SELECT root AS session, (
            SELECT agent FROM events WHERE session = root ORDER BY ts DESC, seq DESC LIMIT 1
        ) AS agent, {_TOLD}, events, first_ts, last_ts, models,
        calls, errors, tokens, cost_usd, unpriced
    FROM summed LEFT JOIN sessions ON sessions.session = root
        LEFT JOIN fates ON fates.session = root
    ORDER BY last_ts DESC, root
"""


def sessions(storage: Storage, now: float, since: float = 0.0, most: int = MOST) -> list[Row]:
    """The sessions with an event since a time, the latest first.

    The sums are of the whole session and of those nested in it, and so are the models and the time
    of the last event; `events` and `first_ts` are its own. A cost is None where none is known. What
    only its start and end say (label, type, status and the like) is None for one that came without.
    """
    asked = {"now": now, "since": since, "most": most}
    return [_decoded(row) for row in storage.rows(_SESSIONS, asked)]


def transcript(storage: Storage, session: str) -> list[object] | None:
    """The messages of a session's latest conversation; None where there are none."""
    found, _ = storage.events(kind="transcript", session=session, limit=1)
    messages = cast("Data", found[0]["data"]).get("messages") if found else None
    return cast("list[object]", messages) if isinstance(messages, list) else None


def _decoded(row: Row) -> Row:
    models = cast("list[str]", json.loads(cast("str", row["models"])))
    told = {
        name: json.loads(text) if isinstance(text := row[name], str) else None
        for name in ("metadata", "result")
    }
    return {**row, **told, "models": sorted(models), "is_running": row["status"] == RUNNING}
