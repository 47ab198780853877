"""Cron jobs: the last run of each, those under way, how often it succeeds, when it is due."""

# ruff: noqa: S608  # queries are put together from texts of the server's, and values are bound
from __future__ import annotations

from collections import defaultdict
from typing import cast

from agentpulse.server._schedules import EARLY, ScheduleError, judge, read_schedule
from agentpulse.server._storage import Row, Storage

# Whether what started and didn't end still runs, or is lost. One rule, for every figure and page.
#
# A process that is killed says nothing. So what it began runs only as long as something shows
# that it lives: an event of the session, or of one nested in it, or a heartbeat of a process that
# was there when the session started. The latest of these must have come after all that says
# otherwise:
#
# - two heartbeats ago, as often as the program's start says that they come; a day ago where it
#   sends none, or nothing is known of it;
# - the end of its `max_runtime`;
# - the next start of the same job, or the next session of the same name after the program was
#   started again (not any start of it: processes that it starts are the same program).
#
# So a run that takes longer than it may, or overlaps with the next, isn't lost while it shows life.
# An end that comes after all has the last word.

LOST = "lost"
"""The status of what started and will not say how it ended."""

_HEARTBEAT = 300.0
_LEAST_SILENCE = 60.0
_MOST_SILENCE = 86_400.0
_SAME = 1.0
"""Seconds within which a session may start after its process, as a heartbeat reckons that."""

_SILENCE = f"""coalesce(
    (SELECT max(2 * nullif(coalesce(json_extract(data, '$.heartbeat_interval'), {_HEARTBEAT}), 0),
        {_LEAST_SILENCE})
    FROM events WHERE kind = 'sdk_init' AND agent = begun.agent AND ts <= begun.started_at
    ORDER BY ts DESC LIMIT 1),
    {_MOST_SILENCE})"""
_NEXT_RUN = """(
    SELECT min(started_at) FROM runs
    WHERE job = begun.job AND agent = begun.agent AND started_at > begun.started_at
)"""
_NEXT_START = """
    SELECT ts FROM events
    WHERE kind = 'sdk_init' AND agent = begun.agent AND ts > begun.started_at
        AND json_extract(data, '$.program') = (
            SELECT json_extract(data, '$.program') FROM events
            WHERE kind = 'sdk_init' AND agent = begun.agent AND ts <= begun.started_at
            ORDER BY ts DESC LIMIT 1
        )
    ORDER BY ts LIMIT 1
"""
_NEXT_SESSION = f"""(
    SELECT min(started_at) FROM sessions
    WHERE agent = begun.agent AND label = begun.label AND started_at >= ({_NEXT_START})
)"""


def fates(more: str = "") -> str:
    """The beginning of a query with `:now` that has a table `fates (session, is_lost, seen_at)`.

    It has a row for each session that is open, and each run without a session. What isn't in it is
    over. `more` has other things that began: as a SELECT of the columns of `begun`.
    """
    return f"""WITH RECURSIVE begun (
        session, parent, agent, label, started_at, received, job, most
    ) AS (
        SELECT sessions.session, parent, sessions.agent, label, sessions.started_at, NULL, runs.job,
            max_runtime_s
        FROM sessions LEFT JOIN runs ON runs.job = job_name AND run_id = sessions.session
        WHERE sessions.ended_at IS NULL
        UNION ALL
        SELECT run_id, NULL, agent, NULL, started_at, NULL, job, max_runtime_s FROM runs
        WHERE ended_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM sessions WHERE session = run_id AND job_name = runs.job)
        {more}
    ), nested (session, root) AS (
        -- What is nested in another lives and dies with it.
        SELECT session, session FROM begun WHERE received IS NULL AND NOT EXISTS (
            SELECT 1 FROM sessions AS around
            WHERE around.session = begun.parent AND around.ended_at IS NULL
        )
        UNION
        SELECT child.session, root FROM nested JOIN sessions AS child ON parent = nested.session
        WHERE child.ended_at IS NULL
    ), within (session, root) AS (
        SELECT * FROM nested
        UNION ALL
        SELECT begun.session, coalesce(root, begun.session)
        FROM begun LEFT JOIN nested ON nested.session = parent WHERE received IS NOT NULL
    ), judged (root, agent, started_at, is_session, seen_at, over_at) AS (
        SELECT root, max(agent) FILTER (WHERE session = root),
            max(started_at) FILTER (WHERE session = root),
            max(received IS NULL) FILTER (WHERE session = root),
            max(coalesce(received, (
                SELECT received FROM events WHERE events.session = begun.session
                ORDER BY ts DESC LIMIT 1
            ), started_at)),
            max(max(
                :now - {_SILENCE},
                coalesce(CASE WHEN started_at + most < :now THEN started_at + most END, 0),
                coalesce(CASE WHEN job IS NULL THEN {_NEXT_SESSION} ELSE {_NEXT_RUN} END, 0)
            )) FILTER (WHERE session = root)
        FROM within JOIN begun USING (session) GROUP BY root
    ), fates (session, is_lost, seen_at) AS (
        SELECT within.session, seen_at <= over_at AND NOT EXISTS (
            SELECT 1 FROM events
            WHERE kind = 'heartbeat' AND events.agent = judged.agent AND ts > over_at
                AND coalesce(ts - json_extract(data, '$.uptime_s'), 0)
                    <= judged.started_at + {_SAME}
                AND (coalesce(json_extract(data, '$.active_sessions'), 1) > 0 OR NOT is_session)
        ), seen_at
        FROM judged JOIN within USING (root)
    )"""


def open_runs() -> str:
    """As `fates`, with a table `open_runs` beside: the runs without an end, and their fate.

    It has the columns of `runs`, `is_lost`, and `seen_at`, when the last event of it came.
    """
    return f"""{fates()}, open_runs AS (
        SELECT runs.*, coalesce(is_lost, 1) AS is_lost, coalesce(seen_at, started_at) AS seen_at
        FROM runs LEFT JOIN fates ON session = run_id WHERE ended_at IS NULL
    )"""


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
