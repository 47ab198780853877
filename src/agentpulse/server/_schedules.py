"""Schedules of cron jobs: when runs are due, and which of them came late or never.

A run belongs to the time at which it was due where it starts within a grace of it: a tenth of the
time to the next one, at least 60 seconds and at most an hour. After that, and before the next one
is due, it is late. Where nothing has started by then, the run is missed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MOST_DUE = 500
"""Times before now that are looked at: eight hours of a job that runs each minute."""
EARLY = 5.0
"""Seconds that a run may start before it is due, because no two clocks agree."""

_NAMED = {
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    "@hourly": "0 * * * *",
}
_FIELDS = 5


class ScheduleError(ValueError):
    """The schedule or its time zone can't be read; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due, in seconds since 1970. Changes of the clock are those of its zone."""

    expression: str
    """Of five fields."""
    zone: tzinfo

    def after(self, seconds: float) -> float | None:
        """The next time after this one; None where there is none in 50 years."""
        times = CronSim(self.expression, datetime.fromtimestamp(seconds, self.zone))
        return next((due.timestamp() for due in times), None)

    def between(self, since: float, now: float) -> list[float]:
        """The times before now and since a first one, the latest first; the latest `MOST_DUE`."""
        times: list[float] = []
        start = datetime.fromtimestamp(now, self.zone)
        for due in CronSim(self.expression, start, reverse=True):
            seconds = due.timestamp()
            if seconds < since or len(times) == MOST_DUE:
                break
            # Two times that a change of the clock makes one are due once.
            if not times or seconds < times[-1]:
                times.append(seconds)
        return times


@dataclass(slots=True)
class Punctuality:
    """How the runs of a job compare with its schedule. Times are in seconds since 1970."""

    next_expected_at: float | None
    expected: int = 0
    """Times that were due, and whose grace is over or whose run has started."""
    late: int = 0
    missed_at: list[float] = field(default_factory=list[float])
    """The latest first."""
    overdue_since: float | None = None
    """The earliest of the missed times after which nothing has started at all."""


def read_schedule(expression: str, zone: str | None) -> Schedule:
    """A schedule as it travels: five fields or a name as `@daily`, and the zone's name or offset.

    Raises:
        ScheduleError: One of the two makes no sense, or the zone isn't known on this machine.
    """
    named = _NAMED.get(expression.strip().lower(), expression)
    try:
        # Of six fields it takes the first for seconds.
        CronSim(named if len(named.split()) == _FIELDS else "", datetime(2020, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError) as error:  # ValueError for a number of thousands of digits
        expected = "a cron expression of five fields, for example '0 3 * * *'"
        message = f"schedule is {expression!r} ({error}); expected {expected}."
        raise ScheduleError(message) from error
    return Schedule(named, _read_zone(zone))


def judge(
    times: Sequence[float], starts: Sequence[float], *, upcoming: float | None, now: float
) -> Punctuality:
    """Compares the times that were due, the latest first, with the starts of runs, in order.

    A time whose grace isn't over counts only once its run has started.
    """
    found = Punctuality(upcoming)
    following = upcoming or math.inf
    for due in times:
        first = bisect_left(starts, due - EARLY)
        start = starts[first] if first < len(starts) else math.inf
        grace = min(max(0.1 * (following - due), 60.0), 3600.0)
        is_missed = start >= following - EARLY  # it belongs to the next time, or there is none
        following = due
        if is_missed and now < due + grace:
            continue
        found.expected += 1
        if is_missed:
            found.missed_at.append(due)
            if start == math.inf:
                found.overdue_since = due
        elif start > due + grace:
            found.late += 1
    return found


def _read_zone(name: str | None) -> tzinfo:
    if name is None or name == "UTC":
        return UTC
    try:
        if name.startswith(("UTC+", "UTC-")):
            return datetime.strptime(name, "UTC%z").tzinfo or UTC
        return ZoneInfo(name)
    # For a text that is no name, the search for its file fails in any of these ways.
    except (ValueError, KeyError, OSError) as error:
        expected = "a name as 'Europe/Berlin' or an offset as 'UTC+02:00'"
        message = f"timezone is {name!r}, which this machine doesn't know; expected {expected}."
        raise ScheduleError(message) from error
