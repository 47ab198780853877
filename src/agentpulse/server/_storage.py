"""Events in SQLite: each is stored once, and found again.

One connection, one statement at a time: SQLite has one writer anyhow, and no query here takes long
enough for a second reader to be worth its while. `_reports` computes figures from the same tables.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from agentpulse.server._protocol import IDS, Data, Event
from agentpulse.server._schema import DatabaseError, prepare, record

MEMORY = ":memory:"
MAX_EVENTS = 1000
"""Events in one answer."""

Row = dict[str, Any]
Parameters = Sequence[object] | Mapping[str, object]
Cursor = tuple[float, int]
"""The position of an event in the order of time: `ts` and, where they are equal, its arrival."""

_COLUMNS = ("kind", "ts", "agent", "session", *IDS)
_INSERT = f"""
    INSERT INTO events ({", ".join(_COLUMNS)}, received, data)
    VALUES ({"?, " * len(_COLUMNS)}?, ?) ON CONFLICT (id) DO NOTHING
"""  # noqa: S608  # of the names above


class Storage:
    """The database; may be used by any number of threads. `close` works once."""

    def __init__(self, database: Path | str) -> None:
        """Opens the database, which is made if it isn't there; ":memory:" leaves no file behind.

        Raises:
            DatabaseError: It can't be opened or used.
        """
        self._lock = threading.Lock()
        self.name = str(database)
        try:
            if self.name != MEMORY:
                # Prompts and answers may be in it, so it is the user's alone.
                Path(database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                Path(database).touch(mode=0o600)
            self._connection = sqlite3.connect(
                self.name, timeout=10, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            message = f"{self.name} can't be opened: {error}. Choose another by --database."
            raise DatabaseError(message) from error
        try:
            prepare(self._connection, self.name)
            self._connection.execute("PRAGMA journal_mode = WAL")
            # With a write-ahead log, only the last events before a power failure are at stake.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            # The first query makes the log's files. Where they can't be made, that fails here, and
            # not when the first event comes.
            self._connection.execute("SELECT 1 FROM events LIMIT 1")
        except BaseException as error:
            self._connection.close()
            if not isinstance(error, sqlite3.Error):
                raise
            message = f"{self.name} can't be used: {error}. Choose another by --database."
            raise DatabaseError(message) from error
        self._connection.row_factory = sqlite3.Row

    def add(self, events: Iterable[Event]) -> None:
        """Stores all events or, where it raises, none; an id that is there already is skipped."""
        now = time.time()
        with self._lock, closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                for event in events:
                    values = [getattr(event, name) for name in _COLUMNS]
                    cursor.execute(_INSERT, (*values, now, event.json))
                    if cursor.rowcount:
                        record(cursor, cast("int", cursor.lastrowid), event)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def rows(self, query: str, parameters: Parameters = ()) -> list[Row]:
        """The rows of a query, by the names of its columns."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, parameters)]

    def row(self, query: str, parameters: Parameters = ()) -> Row:
        """The one row of a query that always has one."""
        (row,) = self.rows(query, parameters)
        return row

    def arrived_since(self, seconds: float) -> int:
        """The number of events that arrived (not: happened) since a time in seconds since 1970."""
        query = "SELECT count(*) AS n FROM events WHERE received >= ?"
        return self.row(query, (seconds,))["n"]

    def events(
        self,
        *,
        kind: str | None = None,
        session: str | None = None,
        since: float | None = None,
        before: Cursor | None = None,
        limit: int = MAX_EVENTS,
    ) -> tuple[list[Data], Cursor | None]:
        """Events, the latest first, and the position to go on `before` where there are more.

        `since` is a time in seconds since 1970, and includes events of that very time.
        """
        conditions = {
            "kind = ?": (kind,),
            "session = ?": (session,),
            "ts >= ?": (since,),
            "(ts, seq) < (?, ?)": before or (None,),
        }
        used = {text: values for text, values in conditions.items() if values != (None,)}
        where = f"WHERE {' AND '.join(used)}" if used else ""
        found = self.rows(
            f"SELECT * FROM events {where} ORDER BY ts DESC, seq DESC LIMIT ?",  # noqa: S608  # of the texts above
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


def _as_sent(row: Row) -> Data:
    """The event of a row as its sender had it, with its agent, without the fields that are NULL."""
    values = {name: row[name] for name in _COLUMNS if row[name] is not None}
    return {**values, "data": json.loads(row["data"])}
