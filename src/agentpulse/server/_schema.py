"""The tables of the local server's database: their rows, and the migration of older files.

Beside the events are tables to compute with: calls, sessions and cron runs. A session and a run are
one row each, however many events report it and in whatever order these come: a start fills in
values that aren't known yet, and an end replaces them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing

from agentpulse.server._protocol import (
    Column,
    Event,
    call_columns,
    instant,
    run_columns,
    session_columns,
)

_SAME = 0.001
"""Seconds by which two reports of one start may differ, having been rounded."""

_Row = Mapping[str, Column]


def record(cursor: sqlite3.Cursor, seq: int, event: Event) -> None:
    """Records an event that was stored just now, under its number. The rows are `sqlite3.Row`s."""
    if event.kind == "llm_call":
        _write(cursor, "calls", {"seq": seq, **call_columns(event.data)})
    elif event.kind == "session":
        _record_session(cursor, event)
    elif event.kind == "cron":
        _record_end_of_run(cursor, event)
    elif event.kind == "span_start" and event.data.get("span_kind") == "cron":
        _record_start_of_run(cursor, event)


def _record_session(cursor: sqlite3.Cursor, event: Event) -> None:
    """A key that is used again stands for the run of the session that started last."""
    if event.session is None:
        return
    known = _found(cursor, "SELECT * FROM sessions WHERE session = ?", event.session)
    started_at = instant(event.data, "started_at")
    row = {
        "session": event.session,
        "agent": event.agent,
        **session_columns(event.data, event.session),
    }
    if event.data.get("action") == "start":
        row |= {"started_at": event.ts if started_at is None else started_at}
        written = _with_start(known, row)
    else:  # an older sender has ends alone, and without an action
        row |= {"started_at": started_at, "ended_at": event.ts}
        written = _with_end(known, row)
    if written is not None:
        _write(cursor, "sessions", written)


def _with_start(known: _Row | None, row: _Row) -> _Row | None:
    if known is None:
        return row
    later = _seconds(row, "started_at") - _seconds(known, "started_at")
    if later > _SAME:
        return row
    return {**row, **_certain(known)} if later >= -_SAME else None


def _with_end(known: _Row | None, row: dict[str, Column]) -> _Row | None:
    has_start = row["started_at"] is not None
    if not has_start:
        row["started_at"] = _seconds(row, "ended_at") - _seconds(row, "duration_ms") / 1000
    if known is None:
        return row
    if has_start:
        later = _seconds(row, "started_at") - _seconds(known, "started_at")
    else:
        later = min(_seconds(row, "ended_at") - _seconds(known, "started_at"), 0.0)
    if later > _SAME:
        return row
    if later < -_SAME:
        return None
    return {**known, **_certain(row), "started_at": known["started_at"]}


def _record_start_of_run(cursor: sqlite3.Cursor, event: Event) -> None:
    sent = run_columns(event.data)
    run_id = sent["run_id"] or event.session
    if run_id is None:
        return  # no event could ever end it
    row = {
        **{name: sent[name] for name in ("job", "schedule", "timezone", "max_runtime_s")},
        "run_id": run_id,
        "agent": event.agent,
        "started_at": event.ts if sent["started_at"] is None else sent["started_at"],
    }
    _write(cursor, "runs", {**row, **_certain(_known_run(cursor, row))})


def _record_end_of_run(cursor: sqlite3.Cursor, event: Event) -> None:
    sent = run_columns(event.data)
    sent |= {"agent": event.agent, "ended_at": event.ts, "status": sent["status"] or "unknown"}
    row = {**_known_run(cursor, sent), **_certain(sent)}
    if row.get("started_at") is None:
        row["started_at"] = event.ts - _seconds(sent, "duration_ms") / 1000
    _write(cursor, "runs", row)


def _known_run(cursor: sqlite3.Cursor, row: _Row) -> _Row:
    if row["run_id"] is None:
        return {}
    query = "SELECT * FROM runs WHERE job = ? AND run_id = ?"
    return _found(cursor, query, row["job"], row["run_id"]) or {}


def _found(cursor: sqlite3.Cursor, query: str, *key: Column) -> _Row | None:
    row = cursor.execute(query, key).fetchone()
    return None if row is None else dict(row)


def _write(cursor: sqlite3.Cursor, table: str, row: _Row) -> None:
    marks = ", ".join("?" * len(row))
    query = f"INSERT OR REPLACE INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608  # names of this module
    cursor.execute(query, tuple(row.values()))


def _certain(row: _Row) -> _Row:
    return {name: value for name, value in row.items() if value is not None}


def _seconds(row: _Row, name: str) -> float:
    return float(row[name] or 0.0)


APPLICATION = 0x41505053
"""The `PRAGMA application_id` of our files: "APPS", which nobody else writes."""

_MIGRATIONS = (
    """
    -- Events as they came. The data may hold anything, so values to compute with have columns of
    -- their own types beside it.
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        id TEXT UNIQUE,
        kind TEXT NOT NULL,
        ts REAL NOT NULL,
        received REAL NOT NULL,
        agent TEXT NOT NULL,
        session TEXT,
        trace_id TEXT,
        span_id TEXT,
        parent_span_id TEXT,
        data TEXT NOT NULL
    );
    CREATE INDEX events_by_time ON events (ts);
    CREATE INDEX events_by_kind ON events (kind, ts);
    CREATE INDEX events_by_session ON events (session, ts) WHERE session IS NOT NULL;
    CREATE INDEX events_by_arrival ON events (received);

    -- NULL is unknown, which isn't 0.
    CREATE TABLE calls (
        seq INTEGER PRIMARY KEY REFERENCES events (seq),
        provider TEXT,
        model TEXT,
        input_tokens INTEGER,
        cached_tokens INTEGER,
        output_tokens INTEGER,
        tokens INTEGER,
        cost_usd REAL,
        latency_ms REAL,
        ttft_ms REAL,
        failed INTEGER NOT NULL
    );
    CREATE TABLE cron_runs (
        seq INTEGER PRIMARY KEY REFERENCES events (seq),
        job TEXT NOT NULL,
        status TEXT NOT NULL,
        duration_ms REAL,
        error TEXT
    );
    """,
    """
    -- Sessions and runs, by all their events. Times are in seconds since 1970, metadata and result
    -- are JSON, and without an end it still runs.
    DROP TABLE cron_runs;
    CREATE TABLE sessions (
        session TEXT PRIMARY KEY,
        agent TEXT NOT NULL,
        label TEXT,
        type TEXT,
        job_name TEXT,
        parent TEXT,
        status TEXT,
        error_type TEXT,
        error TEXT,
        started_at REAL NOT NULL,
        ended_at REAL,
        duration_ms REAL,
        metadata TEXT,
        result TEXT
    );
    CREATE INDEX sessions_by_parent ON sessions (parent) WHERE parent IS NOT NULL;
    CREATE INDEX sessions_running ON sessions (started_at) WHERE ended_at IS NULL;
    CREATE TABLE runs (
        job TEXT NOT NULL,
        run_id TEXT,
        agent TEXT NOT NULL,
        started_at REAL NOT NULL,
        ended_at REAL,
        status TEXT,
        duration_ms REAL,
        cost_usd REAL,
        tokens INTEGER,
        calls INTEGER,
        summary TEXT,
        error_type TEXT,
        error TEXT,
        schedule TEXT,
        timezone TEXT,
        max_runtime_s REAL,
        UNIQUE (job, run_id)
    );
    CREATE INDEX runs_by_start ON runs (job, started_at, schedule, timezone);
    CREATE INDEX runs_by_end ON runs (job, ended_at, status);
    CREATE INDEX spans_ended ON events (span_id) WHERE kind = 'span_end';
    """,
    """
    -- For runs that a killed program didn't end: when it was started, and what began after that.
    CREATE INDEX sessions_by_label ON sessions (agent, label, started_at);
    CREATE INDEX starts_by_agent ON events (agent, ts) WHERE kind = 'sdk_init';
    CREATE INDEX runs_open ON runs (run_id) WHERE ended_at IS NULL;
    """,
)
"""The script that leads to version n is the n-th; a script that was released is never edited."""
_WITH_RECORDS = 2


class DatabaseError(Exception):
    """The database can't be used; the message gives the reason and the remedy."""


def prepare(connection: sqlite3.Connection, name: str) -> None:
    """Makes the tables, or brings those of an older version up to date.

    Raises:
        DatabaseError: The file is another program's, or of a later version.
    """
    try:
        with connection:
            # Two servers that start at once on one file must not both do it.
            connection.execute("BEGIN IMMEDIATE")
            _migrate(connection, name)
    except sqlite3.Error as error:
        message = f"{name} can't be used as a database: {error}. Choose another by --database."
        raise DatabaseError(message) from error


def _migrate(connection: sqlite3.Connection, name: str) -> None:
    version = _pragma(connection, "user_version")
    has_tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
    if has_tables and _pragma(connection, "application_id") != APPLICATION:
        message = f"{name} is a database of another program. Choose another by --database."
        raise DatabaseError(message)
    if version > len(_MIGRATIONS):
        message = (
            f"{name} was written by a later version of agentpulse (schema {version}, and this one "
            f"knows {len(_MIGRATIONS)}). Update agentpulse-sdk, or choose another by --database."
        )
        raise DatabaseError(message)
    for script in _MIGRATIONS[version:]:
        # Not executescript, which would commit before it starts.
        for statement in script.split(";"):
            connection.execute(statement)
    if version < _WITH_RECORDS:
        _record_again(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _record_again(connection: sqlite3.Connection) -> None:
    """Fills the tables that version 2 has beside the events, of events that came before it."""
    with closing(connection.cursor()) as reading, closing(connection.cursor()) as writing:
        reading.row_factory = writing.row_factory = sqlite3.Row
        for row in reading.execute(
            "SELECT * FROM events WHERE kind IN ('session', 'cron', 'span_start') ORDER BY seq"
        ):
            text: str = row["data"]
            names = ("agent", "kind", "ts", "session")
            event = Event(**{name: row[name] for name in names}, data=json.loads(text), json=text)
            record(writing, row["seq"], event)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
