"""When a job is due, also where clocks change, and which of its runs were late or missed."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from agentpulse.server._schedules import (
    MOST_DUE,
    Punctuality,
    Schedule,
    ScheduleError,
    judge,
    read_schedule,
)

HOUR = 3600.0
DAY = 24 * HOUR


def at(text: str) -> float:
    """A time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(times: list[float]) -> list[str]:
    return [f"{datetime.fromtimestamp(time, UTC):%m-%d %H:%M}" for time in times]


def coming(schedule: Schedule, since: float, count: int) -> list[float]:
    times = [since]
    for _ in range(count):
        following = schedule.after(times[-1])
        assert following is not None
        times.append(following)
    return times[1:]


@pytest.mark.parametrize(
    ("expression", "zone", "expected"),
    [
        ("0 3 * * *", None, "11-24 03:00"),
        ("0 3 * * *", "UTC", "11-24 03:00"),
        ("0 3 * * *", "Europe/Berlin", "11-24 02:00"),
        ("0 3 * * *", "America/New_York", "11-23 08:00"),
        ("0 3 * * *", "UTC+02:00", "11-24 01:00"),
        ("0 3 * * *", "UTC-05:30", "11-23 08:30"),
        ("  30   4 * * MON ", None, "11-24 04:30"),
        ("@hourly", None, "11-23 08:00"),
        ("@Daily", None, "11-24 00:00"),
        ("@weekly", None, "11-30 00:00"),
        ("@monthly", None, "12-01 00:00"),
        ("@yearly", None, "01-01 00:00"),
    ],
)
def test_the_next_time_is_that_of_the_jobs_zone(expression: str, zone: str | None, expected: str):
    following = read_schedule(expression, zone).after(at("2025-11-23 07:30:15"))

    assert following is not None
    assert shown([following]) == [expected]


def test_a_time_is_neither_after_nor_before_itself():
    hourly = read_schedule("0 * * * *", None)
    noon = at("2025-11-23 12:00")

    assert hourly.after(noon) == noon + HOUR
    assert hourly.between(noon - HOUR, noon) == [noon - HOUR]
    assert hourly.between(noon - HOUR, noon + 0.5) == [noon, noon - HOUR]


# In Berlin, 2025-03-30 has no 02:00 to 03:00, and 2025-10-26 has it twice.
@pytest.mark.parametrize(
    ("expression", "since", "expected"),
    [
        ("30 2 * * *", "2025-03-29 00:00", ["03-29 01:30", "03-30 01:00", "03-31 00:30"]),
        ("30 2 * * *", "2025-10-25 00:00", ["10-25 00:30", "10-26 00:30", "10-27 01:30"]),
        ("0 2,3 * * *", "2025-03-29 12:00", ["03-30 01:00", "03-31 00:00", "03-31 01:00"]),
        ("*/30 * * * *", "2025-10-25 23:59", ["10-26 00:00", "10-26 00:30", "10-26 01:00"]),
        ("0 * * * *", "2025-03-29 23:59", ["03-30 00:00", "03-30 01:00", "03-30 02:00"]),
    ],
)
def test_where_clocks_change_a_job_is_due_once_and_looking_back_finds_the_same(
    expression: str, since: str, expected: list[str]
):
    schedule = read_schedule(expression, "Europe/Berlin")

    times = coming(schedule, at(since), 3)

    assert shown(times) == expected
    assert schedule.between(at(since), times[-1] + 1) == times[::-1]


@pytest.mark.parametrize(
    "expression", ["* * * * *", "*/7 3-5 * * *", "15 2 * * SUN", "0 0 1,15 * *", "30 2 L * *"]
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Sao_Paulo", "UTC+05:45"])
def test_looking_back_finds_what_looking_ahead_does(expression: str, zone: str):
    schedule = read_schedule(expression, zone)
    since = at("2025-03-28 13:37:30")

    times = coming(schedule, since, 150)

    assert all(one < other for one, other in pairwise(times))
    assert schedule.between(since, times[-1] + 1) == times[::-1]


def test_looking_back_ends_where_the_job_began_or_after_so_many_times():
    now = at("2025-11-23 12:00:30")
    minutely = read_schedule("* * * * *", None)

    assert len(minutely.between(now - 10 * 60, now)) == 10
    assert len(minutely.between(0, now)) == MOST_DUE
    assert read_schedule("0 0 29 2 *", None).between(now - DAY, now) == []


@pytest.mark.parametrize(
    "expression",
    ["", "0 3", "* * * * * *", "60 * * * *", "0 0 31 2 *", "@reboot", "a b c d e", "*/0 * * * *",
     "1-0 * * * *", f"{'9' * 5000} * * * *", "² * * * *", "0;3 * * * *"],
)  # fmt: skip
def test_the_error_of_a_wrong_schedule_has_an_example(expression: str):
    with pytest.raises(ScheduleError, match="expected a cron expression of five fields"):
        read_schedule(expression, None)


@pytest.mark.parametrize(
    "zone",
    ["Mars/Base", "", "..", "../../etc/passwd", "/etc/passwd", "Europe", "UTC+25:00", "UTC+2",
     "a\0b", "x" * 5000, "ž", "UTC+01:60"],
)  # fmt: skip
def test_the_error_of_a_wrong_zone_has_an_example(zone: str):
    with pytest.raises(ScheduleError, match="expected a name as 'Europe/Berlin' or an offset"):
        read_schedule("@daily", zone)


NOON = at("2025-11-23 12:00")


def punctuality(expression: str, starts: list[float], now: float) -> Punctuality:
    schedule = read_schedule(expression, None)
    times = schedule.between(starts[0] - 5, now)
    return judge(times, starts, upcoming=schedule.after(now), now=now)


@pytest.mark.parametrize(
    ("delay", "kept"),
    [
        (-4.9, "in time"),
        (0.0, "in time"),
        (359.0, "in time"),
        (361.0, "late"),
        (3594.0, "late"),
        (3596.0, "missed"),  # so close before the next time that it is that one's
        (math.inf, "missed"),
    ],
)
def test_an_hourly_job_has_six_minutes_of_grace(delay: float, kept: str):
    starts = sorted({NOON - HOUR, NOON + delay, NOON + HOUR} - {math.inf})

    found = punctuality("0 * * * *", starts, NOON + HOUR + 600)

    assert found == Punctuality(
        next_expected_at=NOON + 2 * HOUR,
        expected=3,
        late=int(kept == "late"),
        missed_at=[NOON] if kept == "missed" else [],
    )


@pytest.mark.parametrize(
    ("expression", "grace"), [("* * * * *", 60.0), ("0 * * * *", 360.0), ("0 12 * * *", HOUR)]
)
def test_a_run_is_missed_only_once_the_grace_is_over(expression: str, grace: float):
    first = coming(read_schedule(expression, None), NOON - 2 * DAY, 1)[0]
    due = coming(read_schedule(expression, None), first, 1)[0]

    waiting = punctuality(expression, [first], due + grace - 0.5)
    over = punctuality(expression, [first], due + grace)

    assert (waiting.expected, waiting.missed_at, waiting.overdue_since) == (1, [], None)
    assert (over.expected, over.missed_at, over.overdue_since) == (2, [due], due)


def test_a_job_is_overdue_since_the_first_time_after_which_nothing_started():
    starts = [NOON - 9 * HOUR, NOON - 6 * HOUR]

    found = punctuality("0 * * * *", starts, NOON + 600)

    assert len(found.missed_at) == 8
    assert found.overdue_since == NOON - 5 * HOUR
    assert punctuality("0 * * * *", [*starts, NOON + 590], NOON + 600).overdue_since is None


def test_a_run_stands_for_one_time_only():
    found = punctuality("* * * * *", [NOON, NOON + 120, NOON + 121], NOON + 150)

    assert (found.expected, found.missed_at) == (3, [NOON + 60])
