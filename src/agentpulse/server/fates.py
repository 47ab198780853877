"""Whether what started and didn't end still runs, or is lost. One rule, for every figure and page.

A process that is killed says nothing. So what it began runs only as long as something shows that it
lives: an event of the session, or of one nested in it, or a heartbeat of a process that was there
when the session started. The latest of these must have come after all that says otherwise:

- two heartbeats ago, as often as the program's start says that they come; a day ago where it sends
  none, or nothing is known of it;
- the end of its `max_runtime`;
- the next start of the same job, or the next session of the same name after the program was
  started again (not any start of it: processes that it starts are the same program).

So a run that takes longer than it may, or overlaps with the next, isn't lost while it shows life.
An end that comes after all has the last word.
"""

# ruff: noqa: S608  # the queries are put together from texts of this module, and values are bound

from __future__ import annotations

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
