"""Cron jobs: the last run of each, those under way, how often it succeeds, when it is due."""

# ruff: noqa: S608  # the queries are put together from texts of the server's, and values are bound

from __future__ import annotations

from collections import defaultdict
from typing import cast

from agentpulse.server.fates import LOST, open_runs
from agentpulse.server.schedules import EARLY, ScheduleError, judge, read_schedule
from agentpulse.server.storage import Row, Storage

MOST_UNDER_WAY = 20
"""Runs under way that are listed of a job."""
MOST_MISSED = 20

_JOBS = f"""
    {open_runs()}, ended AS (
        SELECT job, count(ended_at) AS runs,
            count(*) FILTER (WHERE ended_at IS NOT NULL AND status <> 'ok') AS failures
        FROM runs GROUP BY job
    ), unended AS (
        SELECT job, count(*) FILTER (WHERE is_lost) AS lost,
            count(*) FILTER (WHERE NOT is_lost) AS running_count
        FROM open_runs GROUP BY job
    ), newest AS (
        SELECT job, max(started_at), agent, schedule, timezone, max_runtime_s FROM runs GROUP BY job
    )
    SELECT job, agent, runs + coalesce(lost, 0) AS runs, failures + coalesce(lost, 0) AS failures,
        coalesce(lost, 0) AS lost, coalesce(running_count, 0) AS running_count, schedule, timezone,
        max_runtime_s
    FROM ended JOIN newest USING (job) LEFT JOIN unended USING (job) ORDER BY job
"""
_OF_LAST = """run_id, agent, started_at, ended_at, duration_ms, cost_usd, tokens, calls, summary,
    error_type, error, max_runtime_s"""
_LAST = f"""
    {open_runs()}, last AS (
        SELECT job, max(ended_at) AS over_at, status, {_OF_LAST}
        FROM runs WHERE ended_at IS NOT NULL GROUP BY job
        UNION ALL
        SELECT job, max(seen_at), '{LOST}', {_OF_LAST} FROM open_runs WHERE is_lost GROUP BY job
    )
    SELECT job, max(over_at) AS over_at, status, {_OF_LAST} FROM last GROUP BY job
"""
_UNDER_WAY = f"""
    {open_runs()}
    SELECT job, run_id, agent, started_at, max_runtime_s FROM (
        SELECT *, row_number() OVER (PARTITION BY job ORDER BY started_at DESC) AS place
        FROM open_runs WHERE NOT is_lost
    ) WHERE place <= :most ORDER BY started_at DESC
"""
_UNDER_SCHEDULE = """
    FROM runs WHERE job = :job AND started_at > (
        SELECT coalesce(max(started_at), 0) FROM runs
        WHERE job = :job AND (schedule IS NOT :schedule OR timezone IS NOT :timezone)
    )
"""
"""The runs under the schedule of today, since it was last another."""


def crons(storage: Storage, now: float) -> list[Row]:
    """Each job: its counts, its last run, those under way, and how it keeps to its schedule.

    A run that is lost counts as one that failed. `over_at` of the last run is when it ended, or was
    last seen.

    Schedule and zone are those of the run that started last. Where they can't be read,
    `schedule_error` says why, and nothing is expected.
    """
    last = {row["job"]: _last_run(row) for row in storage.rows(_LAST, {"now": now})}
    under_way: defaultdict[object, list[Row]] = defaultdict(list)
    for row in storage.rows(_UNDER_WAY, {"now": now, "most": MOST_UNDER_WAY}):
        under_way[row["job"]].append(_run_under_way(row, now))
    return [
        {
            **job,
            "success_rate": _success_rate(job),
            "last_run": last.get(job["job"]),
            "running": under_way[job["job"]],
            **_punctuality(storage, job, now),
        }
        for job in storage.rows(_JOBS, {"now": now})
    ]


def _success_rate(job: Row) -> float | None:
    runs, failures = cast("int", job["runs"]), cast("int", job["failures"])
    return (runs - failures) / runs if runs else None


def _last_run(row: Row) -> Row:
    most, lasted = (
        cast("float | None", row["max_runtime_s"]),
        cast("float | None", row["duration_ms"]),
    )
    told = {name: value for name, value in row.items() if name not in ("job", "max_runtime_s")}
    return {**told, "exceeded_max_runtime": _exceeds(lasted, most)}


def _run_under_way(row: Row, now: float) -> Row:
    lasted = max(now - cast("float", row["started_at"]), 0.0) * 1000
    most = cast("float | None", row["max_runtime_s"])
    told = {name: row[name] for name in ("run_id", "agent", "started_at")}
    return {**told, "duration_ms": lasted, "exceeds_max_runtime": _exceeds(lasted, most)}


def _exceeds(milliseconds: float | None, most_seconds: float | None) -> bool | None:
    """None where it isn't known how long it took, or how long it may take."""
    if milliseconds is None or most_seconds is None:
        return None
    return milliseconds > most_seconds * 1000


def _punctuality(storage: Storage, job: Row, now: float) -> Row:
    answer: Row = {
        "schedule_error": None,
        "next_expected_at": None,
        "expected": None,
        "late": None,
        "missed": None,
        "missed_at": [],
        "overdue_since": None,
    }
    if job["schedule"] is None:
        return answer
    try:
        schedule = read_schedule(cast("str", job["schedule"]), cast("str | None", job["timezone"]))
    except ScheduleError as error:
        return {**answer, "schedule_error": str(error)}
    asked = {name: job[name] for name in ("job", "schedule", "timezone")}
    first = cast(
        "float", storage.row(f"SELECT min(started_at) AS ts {_UNDER_SCHEDULE}", asked)["ts"]
    )
    times = schedule.between(first - EARLY, now)
    earliest = times[-1] - EARLY if times else now
    rows = storage.rows(
        f"SELECT started_at {_UNDER_SCHEDULE} AND started_at >= :earliest ORDER BY started_at",
        {**asked, "earliest": earliest},
    )
    starts = [cast("float", row["started_at"]) for row in rows]
    found = judge(times, starts, upcoming=schedule.after(now), now=now)
    return {
        **answer,
        "next_expected_at": found.next_expected_at,
        "expected": found.expected,
        "late": found.late,
        "missed": len(found.missed_at),
        "missed_at": found.missed_at[:MOST_MISSED],
        "overdue_since": found.overdue_since,
    }
