"""GET /v1/crons: each job's last run, those under way, how often it succeeds, when it is due."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from server.conftest import Clock, event, get, request, send

from agentpulse.server import LocalServer

HOUR = 3600.0
FULL = time.time() // HOUR * HOUR
"""A full hour."""
NOW = FULL + 600
"""What the server's clock shows throughout."""


@pytest.fixture(autouse=True)
def _now(clock: Clock) -> None:
    clock.now = NOW


def begin(ts: float, run_id: str, job: str = "cleanup", **data: Any) -> dict[str, Any]:
    values = {"span_kind": "cron", "name": job, "job": job, "run_id": run_id, "started_at": ts}
    return event("span_start", ts, session=run_id, data={**values, **data})


def finish(
    started_at: float, run_id: str | None, job: str = "cleanup", *, lasts: float = 1.0, **data: Any
) -> dict[str, Any]:
    values = {"job": job, "status": "ok", "started_at": started_at, "duration_ms": lasts * 1000}
    ids = {"run_id": run_id} if run_id else {}
    return event("cron", started_at + lasts, session=run_id, data={**values, **ids, **data})


def crons(server: LocalServer) -> dict[str, dict[str, Any]]:
    return {job["job"]: job for job in get(server, "/v1/crons")["crons"]}


def cleanup(server: LocalServer) -> dict[str, Any]:
    (job,) = get(server, "/v1/crons")["crons"]
    assert job["job"] == "cleanup"
    return job


def test_a_job_has_its_last_run_and_its_success_rate(server: LocalServer):
    send(
        server,
        finish(NOW - 900, "r1", status="fail", error="older"),
        finish(NOW - 600, "r2"),
        finish(NOW - 300, "r3"),
        begin(NOW - 100, "r4"),
        finish(
            NOW - 100, "r4", lasts=20, status="fail", error_type="TimeoutError", error="too slow",
            summary="12 of 20 deleted", cost_usd=0.25, tokens=150, calls=2, max_runtime_s=10,
        ),
        finish(NOW - 50, "b1", "backup"),
    )  # fmt: skip

    assert list(crons(server)) == ["backup", "cleanup"]
    assert crons(server)["cleanup"] == {
        "job": "cleanup", "agent": "mailer", "runs": 4, "failures": 2, "lost": 0,
        "success_rate": 0.5,
        "last_run": {
            "run_id": "r4", "agent": "mailer", "started_at": NOW - 100, "ended_at": NOW - 80,
            "over_at": NOW - 80,
            "status": "fail", "duration_ms": 20_000.0, "cost_usd": 0.25, "tokens": 150, "calls": 2,
            "summary": "12 of 20 deleted", "error_type": "TimeoutError", "error": "too slow",
            "exceeded_max_runtime": True,
        },
        "running": [], "running_count": 0, "schedule": None, "timezone": None,
        "max_runtime_s": 10.0, "schedule_error": None, "next_expected_at": None, "expected": None,
        "late": None, "missed": None, "missed_at": [], "overdue_since": None,
    }  # fmt: skip
    assert crons(server)["backup"]["success_rate"] == 1.0
    assert crons(server)["backup"]["last_run"]["cost_usd"] is None
    assert crons(server)["backup"]["last_run"]["exceeded_max_runtime"] is None


def test_what_started_and_did_not_end_is_under_way(server: LocalServer):
    send(
        server,
        begin(NOW - 100, "r1", max_runtime_s=3600),
        begin(NOW - 90, "r2", max_runtime_s=5),
        begin(NOW - 80, "r3"),
        begin(NOW - 70, "r4"),
        finish(NOW - 70, "r4"),
    )

    job = cleanup(server)

    assert [(run["run_id"], run["started_at"]) for run in job["running"]] == [
        ("r3", NOW - 80), ("r2", NOW - 90), ("r1", NOW - 100),
    ]  # fmt: skip
    assert [run["exceeds_max_runtime"] for run in job["running"]] == [None, True, False]
    assert job["running"][0]["duration_ms"] == 80_000
    assert job["running_count"] == 3
    assert (job["runs"], job["success_rate"], job["last_run"]["run_id"]) == (1, 1.0, "r4")


def test_a_job_that_never_ended_a_run_has_no_last_one(server: LocalServer):
    send(server, begin(NOW - 100, "r1"))

    job = cleanup(server)
    assert (job["runs"], job["success_rate"], job["last_run"]) == (0, None, None)
    assert len(job["running"]) == 1


def test_only_some_of_many_that_were_killed_are_listed(server: LocalServer):
    send(server, *(begin(NOW - 100 - number, f"r{number}") for number in range(25)))

    job = cleanup(server)
    assert job["running_count"] == 25
    assert [run["run_id"] for run in job["running"]] == [f"r{number}" for number in range(20)]


@pytest.mark.parametrize("first", ["start", "end"])
def test_start_and_end_of_a_run_make_one_run_in_whatever_order(first: str, server: LocalServer):
    events = [
        begin(NOW - 9, "r1", schedule="0 3 * * *", max_runtime_s=60),
        finish(NOW - 9, "r1", summary="done"),
    ]
    for each in events if first == "start" else reversed(events):
        send(server, each)

    job = cleanup(server)
    assert (job["runs"], job["running"]) == (1, [])
    assert (job["last_run"]["started_at"], job["last_run"]["summary"]) == (NOW - 9, "done")
    assert (job["schedule"], job["max_runtime_s"]) == ("0 3 * * *", 60.0)


def test_runs_of_two_jobs_with_one_id_and_runs_without_one_do_not_mix(server: LocalServer):
    send(
        server,
        finish(NOW - 9, "same", "a"),
        finish(NOW - 9, "same", "b", status="fail"),
        finish(NOW - 8, None, "b"),
        finish(NOW - 8, None, "b"),
        event("cron", NOW - 1, data={"job": "c", "duration_ms": 500}),
    )

    found = crons(server)
    assert [(job["runs"], job["failures"]) for job in found.values()] == [(1, 0), (3, 1), (1, 1)]
    assert found["c"]["last_run"]["started_at"] == NOW - 1.5
    assert found["c"]["last_run"]["status"] == "unknown"


def test_the_last_run_is_the_one_that_ended_last(server: LocalServer):
    send(server, finish(NOW - 500, "long", lasts=400), finish(NOW - 300, "short", lasts=10))

    assert cleanup(server)["last_run"]["run_id"] == "long"


def hourly(*hours_ago: float, **data: Any) -> list[dict[str, Any]]:
    return [
        finish(FULL - ago * HOUR + 5, f"r{ago}", schedule="0 * * * *", **data) for ago in hours_ago
    ]


def test_a_schedule_gives_the_expected_and_the_missed_times(server: LocalServer):
    send(server, *hourly(8, 7, 6, 3, 2))

    job = cleanup(server)

    assert job["next_expected_at"] == FULL + HOUR
    assert job["schedule_error"] is None
    # An hour's grace is six minutes, and ten have gone by.
    assert job["missed_at"] == [FULL, FULL - HOUR, FULL - 4 * HOUR, FULL - 5 * HOUR]
    assert job["missed"] == 4
    assert job["late"] == 0
    assert job["overdue_since"] == FULL - HOUR


def test_a_run_under_way_is_no_missed_one(server: LocalServer):
    send(server, *hourly(2, 1), begin(FULL + 1, "now", schedule="0 * * * *"))

    job = cleanup(server)
    assert (job["expected"], job["missed"], job["overdue_since"]) == (3, 0, None)


def test_only_the_schedule_of_today_is_held_against_a_job(server: LocalServer):
    send(server, finish(FULL - 90 * HOUR, "old", schedule="* * * * *"), *hourly(2, 1, 0))

    job = cleanup(server)
    assert (job["expected"], job["missed"]) == (3, 0)

    send(server, finish(FULL + 10, "moved", schedule="0 * * * *", timezone="Asia/Tokyo"))
    assert cleanup(server)["expected"] <= 1


def test_a_job_that_stopped_long_ago_is_still_overdue(server: LocalServer):
    day = 86_400.0
    send(server, finish(NOW - 100 * day, "r1", schedule="@daily"))

    job = cleanup(server)
    first = datetime.fromtimestamp(job["overdue_since"], UTC)
    assert (first.hour, first.minute) == (0, 0)
    assert 98 * day < NOW - job["overdue_since"] < 100 * day
    assert job["missed"] >= 99
    assert len(job["missed_at"]) == 20


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schedule": "every day"}, "schedule is 'every day' (Wrong number of fields); expected"),
        ({"schedule": "61 * * * *"}, "schedule is '61 * * * *' (Bad minute); expected a cron"),
        ({"schedule": "@daily", "timezone": "Mars/Base"}, "timezone is 'Mars/Base', which this"),
    ],
)
def test_a_wrong_schedule_is_reported_and_harms_no_other_job(
    given: dict[str, str], words: str, server: LocalServer
):
    send(server, *hourly(1), finish(NOW - 9, "b", "broken", **given))

    found = crons(server)

    assert found["broken"]["schedule_error"].startswith(words)
    assert found["broken"]["next_expected_at"] is None
    assert found["broken"]["missed"] is None
    assert found["broken"]["schedule"] == given["schedule"]
    assert found["cleanup"]["next_expected_at"] == FULL + HOUR


ODD = [5, [], {"a": 1}, True, "", None, -1.0, 1e300, 2e11, "x" * 300, "9" * 900, "\ud83d"]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:9].encode("ascii", "replace"))
def test_what_makes_no_sense_in_a_run_is_left_out(odd: object, server: LocalServer):
    fields = (
        "job", "run_id", "started_at", "status", "duration_ms", "cost_usd", "tokens", "calls",
        "summary", "error_type", "error", "timezone", "max_runtime_s",
    )  # fmt: skip
    data = {"span_kind": "cron", **dict.fromkeys(fields, odd)}
    send(server, event("span_start", session="r", data={**data, "schedule": odd}))
    send(server, event("cron", session="r", data={**data, "schedule": odd}))
    send(server, event("cron", session="r", data={**data, "schedule": "@daily"}))
    send(server, event("span_start", data={"span_kind": "cron"}))

    assert len(get(server, "/v1/crons")["crons"]) >= 1
    assert get(server, "/v1/stats")["cron_health"]
    assert request(server, "GET", "/").status == 200
