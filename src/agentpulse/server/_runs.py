"""Cron jobs: the last run of each, those under way, how often it succeeds, when it is due.

Sessions and runs that started and didn't end still run, or are lost, by one rule for every figure
and page. A process that is killed sends no end. So its sessions run only as long as there is a sign
of life: an event of the session, or of one nested in it, or a heartbeat of a process that was there
when the session started. The latest of these must be later than all of

- two heartbeats ago, by the interval in the start of the program; a day ago where it sends none, or
  nothing is known of it;
- the end of its `max_runtime`;
- the next start of the same job, or the next session of the same name after the program was
  started again (not any start of it: processes that it starts are the same program).

So a run that takes longer than it may, or overlaps with the next, isn't lost while it shows life.
An end that comes after all has the last word.
"""

# ruff: noqa: S608  # queries are put together from texts of the server's, and values are bound
from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict

from agentpulse.server._schedules import EARLY, MOST_DUE, ScheduleError, judge, read_schedule
from agentpulse.server._storage import Row, Storage

LOST = "lost"
"""The status of a run that started, and for which no end is expected any more."""

_HEARTBEAT = 300.0
_LEAST_SILENCE = 60.0
_MOST_SILENCE = 86_400.0
_SAME = 1.0
"""Seconds within which a session may start after its process, by its heartbeat."""

_PROGRAM = """FROM events WHERE kind = 'sdk_init' AND agent = begun.agent
    AND ts <= begun.started_at ORDER BY ts DESC LIMIT 1"""
"""The start of the program."""
_SILENCE = f"""coalesce(
    (SELECT max(2 * nullif(coalesce(json_extract(data, '$.heartbeat_interval'), {_HEARTBEAT}), 0),
        {_LEAST_SILENCE}) {_PROGRAM}), {_MOST_SILENCE})"""
_NEXT_RUN = """(SELECT min(started_at) FROM runs
    WHERE job = begun.job AND agent = begun.agent AND started_at > begun.started_at)"""
_NEXT_SESSION = f"""(SELECT min(started_at) FROM sessions
    WHERE agent = begun.agent AND label = begun.label AND started_at >= (
        SELECT ts FROM events
        WHERE kind = 'sdk_init' AND agent = begun.agent AND ts > begun.started_at
            AND json_extract(data, '$.program')
                = (SELECT json_extract(data, '$.program') {_PROGRAM})
        ORDER BY ts LIMIT 1))"""


def fates(more: str = "") -> str:
    """The beginning of a query with `:now` that has a table `fates (session, is_lost, seen_at)`.

    It has a row for each session that is open, and each run without a session. The others are
    over. What is nested in a session lives and dies with it. `more` has other things that began:
    as a SELECT of the columns of `begun`.
    """
    return f"""WITH RECURSIVE
    begun (session, parent, agent, label, started_at, received, job, most) AS (
        SELECT sessions.session, parent, sessions.agent, label, sessions.started_at, NULL, runs.job,
            max_runtime_s
        FROM sessions LEFT JOIN runs ON runs.job = job_name AND run_id = sessions.session
        WHERE sessions.ended_at IS NULL
        UNION ALL
        SELECT run_id, NULL, agent, NULL, started_at, NULL, job, max_runtime_s FROM runs
        WHERE ended_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM sessions WHERE session = run_id AND job_name = runs.job)
        {more}),
    nested (session, root) AS (
        SELECT session, session FROM begun WHERE NOT EXISTS (
            SELECT 1 FROM sessions AS around
            WHERE around.session = begun.parent AND around.ended_at IS NULL)
        UNION SELECT begun.session, root FROM nested JOIN begun ON parent = nested.session),
    judged (root, agent, started_at, is_session, seen_at, over_at) AS (
        SELECT root, max(agent) FILTER (WHERE session = root),
            max(started_at) FILTER (WHERE session = root),
            max(received IS NULL) FILTER (WHERE session = root),
            max(coalesce(received, (
                SELECT received FROM events WHERE events.session = begun.session
                ORDER BY ts DESC LIMIT 1), started_at)),
            max(max(
                :now - {_SILENCE},
                coalesce(CASE WHEN started_at + most < :now THEN started_at + most END, 0),
                coalesce(CASE WHEN job IS NULL THEN {_NEXT_SESSION} ELSE {_NEXT_RUN} END, 0)
            )) FILTER (WHERE session = root)
        FROM nested JOIN begun USING (session) GROUP BY root),
    fates (session, is_lost, seen_at) AS (
        SELECT nested.session, seen_at <= over_at AND NOT EXISTS (
            SELECT 1 FROM events
            WHERE kind = 'heartbeat' AND events.agent = judged.agent AND ts > over_at
                AND coalesce(ts - json_extract(data, '$.uptime_s'), 0) <= started_at + {_SAME}
                AND (coalesce(json_extract(data, '$.active_sessions'), 1) > 0 OR NOT is_session)
        ), seen_at
        FROM judged JOIN nested USING (root))"""


def open_runs() -> str:
    """As `fates`, with a table `open_runs` beside: the runs without an end, and their fate.

    It has the columns of `runs`, `is_lost`, and `seen_at`, when the last event of it came.
    """
    return f"""{fates()}, open_runs AS (
        SELECT runs.*, coalesce(is_lost, 1) AS is_lost, coalesce(seen_at, started_at) AS seen_at
        FROM runs LEFT JOIN fates ON session = run_id WHERE ended_at IS NULL
    )"""


_MAX_LISTED = 20
"""Runs under way, and missed times, that are listed of a job."""

# Beside max(), SQLite takes the other columns from the row that has the maximum.
_JOBS = """
    SELECT job, max(started_at), agent, schedule, timezone, max_runtime_s,
        count(ended_at) AS ended,
        count(*) FILTER (WHERE ended_at IS NOT NULL AND status <> 'ok') AS failed
    FROM runs GROUP BY job ORDER BY job
"""
_OF_RUNNING = ("run_id", "agent", "started_at", "duration_ms")
_OF_LAST = (
    *_OF_RUNNING, "ended_at", "cost_usd", "tokens", "calls", "summary", "error_type", "error",
    "status", "over_at",
)  # fmt: skip
_RUN = (
    "job, run_id, agent, started_at, ended_at, cost_usd, tokens, calls, summary, error_type, error"
)
_RUNS = f"""
    {open_runs()}
    SELECT job, {_RUN}, max_runtime_s, status, duration_ms, max(ended_at) AS over_at,
        0 AS is_running FROM runs WHERE ended_at IS NOT NULL GROUP BY job
    UNION ALL
    SELECT job, {_RUN}, max_runtime_s, '{LOST}',
        iif(is_lost, duration_ms, max(:now - started_at, 0) * 1000), seen_at, NOT is_lost
    FROM open_runs ORDER BY started_at DESC
"""
"""Of each job the run that ended last, and all without an end."""
_STARTS = """
    SELECT started_at FROM runs WHERE job = :job AND started_at > (
        SELECT coalesce(max(started_at), 0) FROM runs
        WHERE job = :job AND (schedule IS NOT :schedule OR timezone IS NOT :timezone)
    ) ORDER BY started_at DESC LIMIT :most
"""
"""The latest runs under the current schedule, since it was last another."""


def crons(storage: Storage, now: float) -> list[Row]:
    """Each job: its counts, its last run, those under way, and how it keeps to its schedule.

    A run that is lost counts as one that failed. `over_at` of the last run is when it ended, or was
    last seen.

    Schedule and zone are those of the run that started last. Where they can't be read,
    `schedule_error` has the reason, and nothing is expected.
    """
    runs: defaultdict[object, list[Row]] = defaultdict(list)
    for run in storage.rows(_RUNS, {"now": now}):
        runs[run["job"]].append(run)
    jobs = [_counted(job, runs[job["job"]]) for job in storage.rows(_JOBS)]
    return [{**job, **_punctuality(storage, job, now)} for job in jobs]


def _counted(job: Row, known: list[Row]) -> Row:
    running = [run for run in known if run["is_running"]]
    listed = running[:_MAX_LISTED]
    over = [run for run in known if not run["is_running"]]
    last = max(over, key=lambda run: run["over_at"], default=None)
    lost = sum(run["ended_at"] is None for run in over)
    runs, failures = job["ended"] + lost, job["failed"] + lost
    return {
        **{name: job[name] for name in ("job", "agent", "schedule", "timezone", "max_runtime_s")},
        "runs": runs,
        "failures": failures,
        "lost": lost,
        "success_rate": (runs - failures) / runs if runs else None,
        "last_run": last and _values(last, _OF_LAST, "exceeded_max_runtime"),
        "running": [_values(run, _OF_RUNNING, "exceeds_max_runtime") for run in listed],
        "running_count": len(running),
    }


def _values(run: Row, names: tuple[str, ...], exceeds: str) -> Row:
    """Values of a run and, by the name `exceeds`, whether it took too long; None: unknown."""
    lasted, most = run["duration_ms"], run["max_runtime_s"]
    is_too_long = None if lasted is None or most is None else lasted > most * 1000
    return {**{name: run[name] for name in names}, exceeds: is_too_long}


def _punctuality(storage: Storage, job: Row, now: float) -> Row:
    figures = ("next_expected_at", "expected", "late", "missed", "overdue_since", "schedule_error")
    answer: Row = {**dict.fromkeys(figures), "missed_at": []}
    if job["schedule"] is None:
        return answer
    try:
        schedule = read_schedule(job["schedule"], job["timezone"])
    except ScheduleError as error:
        return {**answer, "schedule_error": str(error)}
    rows = storage.rows(_STARTS, {**job, "most": 2 * MOST_DUE})
    starts = [row["started_at"] for row in reversed(rows)]
    times = schedule.between(starts[0] - EARLY, now) if starts else []
    found = judge(times, starts, upcoming=schedule.after(now), now=now)
    missed = found.missed_at
    return {**answer, **asdict(found), "missed": len(missed), "missed_at": missed[:_MAX_LISTED]}
