"""Figures: sessions, and for a period totals, models, days, top sessions, the health of crons.

Cost is summed over `llm_call`, not over the `cost` events, which are sums of the same calls. A cost
that is unknown is not 0: it is in no sum and counted as unpriced, and a sum of nothing but unknown
costs is None. Times are in seconds since 1970, days in UTC, costs in USD.
"""

# ruff: noqa: S608  # queries are put together from texts of the server's, and values are bound
from __future__ import annotations

import json
from typing import cast

from agentpulse.server._runs import LOST, fates, open_runs
from agentpulse.server._storage import Row, Storage

PERIODS = {"24h": 86_400.0, "7d": 7 * 86_400.0, "30d": 30 * 86_400.0}
"""Seconds by the name of a period."""

_ALIVE = 20 * 60.0
_TOP = 20
_SUMS = """
    count(calls.seq) AS calls,
    coalesce(sum(calls.failed), 0) AS errors,
    coalesce(sum(calls.tokens), 0) AS tokens,
    CASE WHEN count(calls.seq) = 0 THEN 0.0 ELSE sum(calls.cost_usd) END AS cost_usd,
    count(calls.seq) FILTER (
        WHERE calls.cost_usd IS NULL AND (calls.tokens IS NOT NULL OR NOT calls.failed)
    ) AS unpriced
"""
"""Of calls. One that failed without any usage most likely costs nothing, and isn't unpriced."""
_CALLS = "calls JOIN events USING (seq) WHERE ts >= :since"


# Beside max(), SQLite takes the other columns from the row that has the maximum.
_CRON_HEALTH = f"""
    {open_runs()},
    ended AS (
        SELECT job, ended_at AS over_at, status, duration_ms, coalesce(error, error_type) AS error
        FROM runs WHERE ended_at >= :since
        UNION ALL SELECT job, seen_at, '{LOST}', NULL, '{LOST}'
        FROM open_runs WHERE is_lost AND seen_at >= :since),
    last AS (SELECT job, max(over_at) AS last_run_ts, status AS last_status,
        duration_ms AS last_duration_ms FROM ended GROUP BY job),
    failed AS (SELECT job, max(over_at), error AS last_error
        FROM ended WHERE status <> 'ok' GROUP BY job)
    SELECT job, status, count(*) AS count, last_run_ts, last_status, last_duration_ms, last_error
    FROM ended JOIN last USING (job) LEFT JOIN failed USING (job)
    GROUP BY job, status ORDER BY job, status
"""
"""A row for each job and status of its runs that ended, or were last seen, in the period.

The last values are of the job, whatever the row's status; the error is that of its latest run that
failed, which may be older than its last.
"""
_TOP_SESSIONS = f"""
    WITH top AS (
        SELECT session, count(*) AS events, max(ts) AS last_ts, {_SUMS}
        FROM events LEFT JOIN calls USING (seq)
        WHERE ts >= :since AND session IS NOT NULL
        GROUP BY session ORDER BY cost_usd DESC, tokens DESC, last_ts DESC LIMIT {_TOP})
    SELECT top.*, label, type FROM top LEFT JOIN sessions USING (session)
    ORDER BY cost_usd DESC, tokens DESC, last_ts DESC
"""
"""The sessions that cost most in the period, and then those that used most.

Each has its own calls alone, so that those of a nested session count once.
"""
_LISTS = {
    "cron_health": _CRON_HEALTH,
    "top_sessions": _TOP_SESSIONS,
    "model_costs": f"""SELECT provider, model, {_SUMS} FROM {_CALLS}
        GROUP BY provider, model ORDER BY cost_usd DESC, tokens DESC, model""",
    # The days with calls.
    "daily_spend": f"""SELECT date(ts, 'unixepoch') AS day, {_SUMS} FROM {_CALLS}
        GROUP BY day ORDER BY day""",
}


def call_totals(storage: Storage, since: float) -> Row:
    """The sums of all calls since a time, those of input and output apart."""
    names = ("input_tokens", "cached_tokens", "output_tokens")
    parts = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in names)
    return storage.row(f"SELECT {_SUMS}, {parts} FROM {_CALLS}", {"since": since})


def stats(storage: Storage, since: float, now: float) -> Row:
    """All figures since a time."""
    values = {"since": since, "now": now}
    totals = call_totals(storage, since)
    sums = {name: totals[name] for name in ("tokens", "calls", "errors", "unpriced")}
    return {
        "gateway_status": _gateway_status(storage, now),
        "events": storage.row("SELECT count(*) AS n FROM events WHERE ts >= :since", values)["n"],
        "cost": {"usd": totals["cost_usd"], **sums},
        **{name: storage.rows(query, values) for name, query in _LISTS.items()},
    }


def _gateway_status(storage: Storage, now: float) -> str:
    """Is "alive" for a heartbeat in the last 20 minutes, "unknown" without any at all."""
    last = storage.row("SELECT max(ts) AS ts FROM events WHERE kind = 'heartbeat'")["ts"]
    if last is None:
        return "unknown"
    return "alive" if last >= now - _ALIVE else "offline"


_MOST = 500
"""Sessions in one answer: those with the latest events."""

_RUNNING = "running"
"""The status of a session without an end, unless it is lost; else the end has the status."""

_SESSIONS = f"""
    {fates()}, own (session, ts) AS (
        SELECT session, max(ts) FROM events WHERE session IS NOT NULL GROUP BY session),
    active (session, ts) AS (
        SELECT session, ts FROM own
        UNION SELECT parent, ts FROM active JOIN sessions USING (session) WHERE parent IS NOT NULL),
    listed (root, last_ts) AS (
        SELECT session, max(active.ts) AS last_ts FROM active JOIN own USING (session)
        GROUP BY session HAVING last_ts >= :since ORDER BY last_ts DESC, session LIMIT :most),
    tree (root, session) AS (
        SELECT root, root FROM listed
        UNION SELECT root, sessions.session FROM tree JOIN sessions ON parent = tree.session),
    summed AS (
        SELECT root, last_ts, min(ts) FILTER (WHERE session = root) AS first_ts,
            count(*) FILTER (WHERE session = root) AS events,
            json_group_array(DISTINCT model) FILTER (WHERE model IS NOT NULL) AS models, {_SUMS}
        FROM listed JOIN tree USING (root) JOIN events USING (session) LEFT JOIN calls USING (seq)
        GROUP BY root)
    SELECT root AS session, label, type, job_name, parent AS parent_session, started_at, ended_at,
        duration_ms, error_type, error, metadata, result, events, first_ts, last_ts, models, calls,
        errors, tokens, cost_usd, unpriced,
        (SELECT agent FROM events WHERE session = root ORDER BY ts DESC, seq DESC LIMIT 1) AS agent,
        CASE WHEN started_at IS NULL OR ended_at IS NOT NULL THEN status
            WHEN coalesce(is_lost, 1) THEN '{LOST}' ELSE '{_RUNNING}' END AS status
    FROM summed LEFT JOIN sessions ON sessions.session = root
        LEFT JOIN fates ON fates.session = root ORDER BY last_ts DESC, root
"""
"""Events of a nested session are events of those around it too.

UNION drops rows that are there already, so that no ring of parents goes on for ever.
"""


def sessions(storage: Storage, now: float, since: float = 0.0, most: int = _MOST) -> list[Row]:
    """The sessions with an event since a time, the latest first.

    The sums are of the whole session and of those nested in it, and so are the models and the time
    of the last event; `events` and `first_ts` are its own. A cost is None where none is known.
    Values of its start and end (label, type, status and the like) are None without these.
    """
    rows = storage.rows(_SESSIONS, {"now": now, "since": since, "most": most})
    for row in rows:
        for name in ("metadata", "result"):
            row[name] = json.loads(row[name] or "null")
        row["models"] = sorted(json.loads(row["models"]))
        row["is_running"] = row["status"] == _RUNNING
    return rows


def transcript(storage: Storage, session: str) -> list[object] | None:
    """The messages of a session's latest conversation; None where there are none."""
    found, _ = storage.events(1, kind="transcript", session=session)
    messages = found[0]["data"].get("messages") if found else None
    return cast("list[object]", messages) if isinstance(messages, list) else None
