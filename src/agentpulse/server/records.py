"""What is computed with, in tables beside the events: calls, sessions and cron runs.

A session and a run are one row each, however many events tell of it and in whatever order these
come: what starts fills in what isn't known yet, and what ends has the last word.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from agentpulse.server.protocol import Event
from agentpulse.server.reading import Column, call_columns, instant, run_columns, session_columns

_INSERT_CALL = "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SAME = 0.001
"""Seconds by which two tellings of one start may differ, having been rounded."""

_Row = Mapping[str, Column]


def record(cursor: sqlite3.Cursor, seq: int, event: Event) -> None:
    """Records an event that was kept just now, under its number. The rows are `sqlite3.Row`s."""
    if event.kind == "llm_call":
        cursor.execute(_INSERT_CALL, (seq, *call_columns(event.data)))
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
    told = {
        "session": event.session,
        "agent": event.agent,
        **session_columns(event.data, event.session),
    }
    if event.data.get("action") == "start":
        told |= {"started_at": event.ts if started_at is None else started_at}
        row = _with_start(known, told)
    else:  # of this sort alone an older sender has one, and without an action
        told |= {"started_at": started_at, "ended_at": event.ts}
        row = _with_end(known, told)
    if row is not None:
        _write(cursor, "sessions", row)


def _with_start(known: _Row | None, told: _Row) -> _Row | None:
    if known is None:
        return told
    later = _seconds(told, "started_at") - _seconds(known, "started_at")
    if later > _SAME:
        return told
    return {**told, **_certain(known)} if later >= -_SAME else None


def _with_end(known: _Row | None, told: dict[str, Column]) -> _Row | None:
    says_start = told["started_at"] is not None
    if not says_start:
        lasted = told["duration_ms"] or 0.0
        told["started_at"] = _seconds(told, "ended_at") - float(lasted) / 1000
    if known is None:
        return told
    if says_start:
        later = _seconds(told, "started_at") - _seconds(known, "started_at")
    else:
        later = min(_seconds(told, "ended_at") - _seconds(known, "started_at"), 0.0)
    if later > _SAME:
        return told
    if later < -_SAME:
        return None
    return {**known, **_certain(told), "started_at": known["started_at"]}


def _record_start_of_run(cursor: sqlite3.Cursor, event: Event) -> None:
    told = run_columns(event.data)
    run_id = told["run_id"] or event.session
    if run_id is None:
        return  # nothing could ever say that it has ended
    started_at = told["started_at"]
    row = {
        "job": told["job"],
        "run_id": run_id,
        "agent": event.agent,
        "started_at": event.ts if started_at is None else started_at,
        "schedule": told["schedule"],
        "timezone": told["timezone"],
        "max_runtime_s": told["max_runtime_s"],
    }
    known = _known_run(cursor, row)
    _write(cursor, "runs", {**row, **_certain(known or {})})


def _record_end_of_run(cursor: sqlite3.Cursor, event: Event) -> None:
    told = run_columns(event.data)
    row = {**told, "agent": event.agent, "ended_at": event.ts}
    row["status"] = told["status"] or "unknown"
    known = _known_run(cursor, row)
    row = {**(known or {}), **_certain(row)}
    if row.get("started_at") is None:
        row["started_at"] = event.ts - float(told["duration_ms"] or 0.0) / 1000
    _write(cursor, "runs", row)


def _known_run(cursor: sqlite3.Cursor, row: _Row) -> _Row | None:
    if row["run_id"] is None:
        return None
    query = "SELECT * FROM runs WHERE job = ? AND run_id = ?"
    return _found(cursor, query, row["job"], row["run_id"])


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
    value = row[name]
    return float(value) if value is not None else 0.0
