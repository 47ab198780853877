"""Events in SQLite: each is stored once, and found again.

Beside the events are tables to compute with: calls, sessions and cron runs. A session and a run are
one row each, however many events report it and in whatever order these come: a start fills in
values that aren't known yet, and an end replaces them.

One connection, one statement at a time: SQLite has one writer anyhow, and no query here takes long
enough for a second reader to be worth its while. `_reports` computes figures from the same tables.
"""

# ruff: noqa: S608  # statements are put together from texts of this module, and values are bound
from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from agentpulse.server._protocol import Data, Event, call_columns, run_columns, session_columns

MEMORY = ":memory:"
MAX_EVENTS = 1000
"""Events in one answer."""
APPLICATION = 0x41505053
"""The `PRAGMA application_id` of our files: "APPS", which nobody else writes."""
VERSION = 4
"""The `PRAGMA user_version` of files with these tables."""

Row = dict[str, Any]
Parameters = Sequence[object] | Mapping[str, object]
Cursor = tuple[float, int]
"""The position of an event in the order of time: `ts` and, where they are equal, its arrival."""

# Events are kept as they came. Their data may hold anything, so values to compute with have columns
# of their own types beside it, where NULL is unknown, which isn't 0. Times are in seconds since
# 1970, metadata and result are JSON, and a session or a run without an end still runs.
_TABLES = """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, id TEXT UNIQUE, kind TEXT NOT NULL, ts REAL NOT NULL,
        received REAL NOT NULL, agent TEXT NOT NULL, session TEXT, trace_id TEXT, span_id TEXT,
        parent_span_id TEXT, data TEXT NOT NULL);
    CREATE INDEX events_by_time ON events (ts);
    CREATE INDEX events_by_kind ON events (kind, ts);
    CREATE INDEX events_by_session ON events (session, ts) WHERE session IS NOT NULL;
    CREATE INDEX spans_ended ON events (span_id) WHERE kind = 'span_end';
    CREATE INDEX starts_by_agent ON events (agent, ts) WHERE kind = 'sdk_init';

    CREATE TABLE calls (
        seq INTEGER PRIMARY KEY REFERENCES events (seq), provider TEXT, operation TEXT, model TEXT,
        request_model TEXT, input_tokens INTEGER, cached_tokens INTEGER, output_tokens INTEGER,
        reasoning_tokens INTEGER, tokens INTEGER, cost_usd REAL, latency_ms REAL, ttft_ms REAL,
        failed INTEGER NOT NULL, estimated INTEGER NOT NULL, error_type TEXT, error TEXT,
        finish_reasons TEXT NOT NULL);

    CREATE TABLE sessions (
        session TEXT PRIMARY KEY, agent TEXT NOT NULL, label TEXT, type TEXT, job_name TEXT,
        parent TEXT, status TEXT, error_type TEXT, error TEXT, started_at REAL NOT NULL,
        ended_at REAL, duration_ms REAL, metadata TEXT, result TEXT);
    CREATE INDEX sessions_by_parent ON sessions (parent) WHERE parent IS NOT NULL;
    CREATE INDEX sessions_running ON sessions (started_at) WHERE ended_at IS NULL;
    CREATE INDEX sessions_by_label ON sessions (agent, label, started_at);

    CREATE TABLE runs (
        job TEXT NOT NULL, run_id TEXT, agent TEXT NOT NULL, started_at REAL NOT NULL,
        ended_at REAL, status TEXT, duration_ms REAL, cost_usd REAL, tokens INTEGER,
        calls INTEGER, summary TEXT, error_type TEXT, error TEXT, schedule TEXT, timezone TEXT,
        max_runtime_s REAL, UNIQUE (job, run_id));
    CREATE INDEX runs_by_start ON runs (job, started_at, schedule, timezone);
    CREATE INDEX runs_by_end ON runs (job, ended_at, status);
    CREATE INDEX runs_open ON runs (run_id) WHERE ended_at IS NULL
"""
_KEYS = {"sessions": "session", "runs": "job, run_id"}
_REMEDY = "Choose another by --database."
_SAME = 0.001
"""Seconds by which two reports of one start may differ, having been rounded."""


class DatabaseError(Exception):
    """The database can't be used; the message gives the reason and the remedy."""


class Storage:
    """The database; may be used by any number of threads. `close` works once."""

    def __init__(self, database: Path | str) -> None:
        """Opens the database, which is made if it isn't there; ":memory:" leaves no file behind.

        Raises:
            DatabaseError: It can't be opened or used.
        """
        self._lock = threading.Lock()
        self.name = str(database)
        with ExitStack() as stack:
            try:
                if self.name != MEMORY:
                    # Prompts and answers may be in it, so it is the user's alone.
                    Path(database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    Path(database).touch(mode=0o600)
                self._connection = sqlite3.connect(
                    self.name, timeout=10, isolation_level=None, check_same_thread=False
                )
                stack.enter_context(closing(self._connection))
                self._prepare()
            except (OSError, sqlite3.Error) as error:
                message = f"{self.name} can't be used as a database: {error}. {_REMEDY}"
                raise DatabaseError(message) from error
            stack.pop_all()
        self._connection.row_factory = sqlite3.Row
        self._connection.text_factory = _decoded

    def _prepare(self) -> None:
        execute = self._connection.execute
        with self._connection:
            # Two servers that start at once on one file must not both make the tables.
            execute("BEGIN IMMEDIATE")
            if execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
                # Not executescript, which would commit before it starts.
                for statement in _TABLES.split(";"):
                    execute(statement)
                execute(f"PRAGMA application_id = {APPLICATION}")
                execute(f"PRAGMA user_version = {VERSION}")
        pragmas = ("application_id", "user_version")
        found = [execute(f"PRAGMA {each}").fetchone() for each in pragmas]
        if found != [(APPLICATION,), (VERSION,)]:
            owner = "version of agentpulse" if found[0] == (APPLICATION,) else "program"
            message = f"{self.name} is a database of another {owner}. {_REMEDY}"
            raise DatabaseError(message)
        execute("PRAGMA journal_mode = WAL")
        # With a write-ahead log, only the last events before a power failure are at stake.
        execute("PRAGMA synchronous = NORMAL")
        # The first query makes the log's files. Where they can't be made, that fails here, and not
        # when the first event comes.
        execute("SELECT 1 FROM events LIMIT 1")

    def add(self, events: Iterable[Event]) -> None:
        """Stores all events or, where it raises, none; an id that is there already is skipped."""
        now = time.time()
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for event in events:
                row = {**event._asdict(), "received": now}
                del row["fields"]
                added = self._insert("events", row, "ON CONFLICT (id) DO NOTHING")
                if added.rowcount:
                    self._record(added.lastrowid, event)

    def rows(self, query: str, parameters: Parameters = ()) -> list[Row]:
        """The rows of a query, by the names of its columns."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, parameters)]

    def row(self, query: str, parameters: Parameters = ()) -> Row:
        """The one row of a query that always has one."""
        (row,) = self.rows(query, parameters)
        return row

    def events(
        self, limit: int, since: float | None = None, before: Cursor | None = None, **equal: object
    ) -> tuple[list[Data], Cursor | None]:
        """Events, the latest first, and the position to go on `before` where there are more.

        `since` is a time in seconds since 1970, and includes events of that very time. `equal` has
        values of columns; None stands for any.
        """
        conditions = {
            **{f"{name} = ?": (value,) for name, value in equal.items()},
            "ts >= ?": (since,),
            "(ts, seq) < (?, ?)": before or (None,),
        }
        used = {text: values for text, values in conditions.items() if values != (None,)}
        where = f"WHERE {' AND '.join(used)}" if used else ""
        found = self.rows(
            f"SELECT * FROM events {where} ORDER BY ts DESC, seq DESC LIMIT ?",
            (*(value for values in used.values() for value in values), limit + 1),
        )
        page = found[:limit]
        last = (page[-1]["ts"], page[-1]["seq"]) if found[limit:] else None
        return [_as_sent(row) for row in page], last

    def arrivals(self, kind: str | None = None) -> list[Data]:
        """All events, or those of one kind, in the order in which they arrived."""
        query = "SELECT * FROM events WHERE kind = coalesce(?, kind) ORDER BY seq"
        return [_as_sent(row) for row in self.rows(query, (kind,))]

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._connection.close()

    def _record(self, seq: int | None, event: Event) -> None:
        """Records an event that was stored just now, under its number."""
        if event.kind == "llm_call":
            self._insert("calls", {"seq": seq, **call_columns(event.fields)})
        elif event.kind == "session" and event.session is not None:
            self._record_session(event, event.session)
        elif event.kind == "cron":
            row = run_columns(event.fields)
            row["status"] = row["status"] or "unknown"
            self._merge("runs", event, row, is_end=True)
        elif event.kind == "span_start" and event.fields.get("span_kind") == "cron":
            row = run_columns(event.fields)
            row["run_id"] = row["run_id"] or event.session
            if row["run_id"] is not None:  # else no event could ever end it
                self._merge("runs", event, row, is_end=False)

    def _record_session(self, event: Event, session: str) -> None:
        """A key that is used again stands for the run of the session that started last."""
        row = session_columns(event.fields, session)
        # An older sender has ends alone, without an action and without their start.
        is_end, started_at = event.fields.get("action") != "start", row["started_at"]
        latest = event.ts if started_at is None else started_at
        if started_at is not None or not is_end:
            query = "DELETE FROM sessions WHERE session = ? AND started_at < ?"
            self._connection.execute(query, (session, latest - _SAME))
        self._merge("sessions", event, row, is_end=is_end, latest=latest + _SAME)

    def _merge(
        self, table: str, event: Event, row: Data, *, is_end: bool, latest: float = math.inf
    ) -> None:
        """Adds a start or an end to the row that has its key, or a new one.

        An end replaces values, a start fills in. A row that started after `latest` stays as it is.
        """
        row |= {"agent": event.agent, "ended_at": event.ts if is_end else None}
        if row["started_at"] is None:
            row["started_at"] = event.ts - (row["duration_ms"] or 0) / 1000
        first, second = ("excluded", table) if is_end else (table, "excluded")
        names = row.keys() - {"started_at"}
        changes = ", ".join(f"{name} = coalesce({first}.{name}, {second}.{name})" for name in names)
        merging = f"ON CONFLICT ({_KEYS[table]}) DO UPDATE SET {changes} WHERE started_at <= ?"
        self._insert(table, row, merging, latest)

    def _insert(self, table: str, row: Row, conflict: str = "", *more: object) -> sqlite3.Cursor:
        marks = ", ".join("?" * len(row))
        query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks}) {conflict}"
        return self._connection.execute(query, (*row.values(), *more))


def _decoded(text: bytes) -> str:
    # Data as JSON can spell half a surrogate pair, which is no UTF-8 where SQLite reads it.
    return text.decode(errors="replace")


def _as_sent(row: Row) -> Data:
    """The event of a row as its sender had it, with its agent, without the fields that are NULL."""
    ours = ("seq", "received")
    sent = {name: row[name] for name in row if name not in ours and row[name] is not None}
    return {**sent, "data": json.loads(row["data"])}
