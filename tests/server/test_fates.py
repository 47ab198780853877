"""What a killed process left open: it runs while something shows life, and is lost after that."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import pytest
from fakes import processes
from server.conftest import NOW, Clock, event, get, request, send
from server.test_page import Page

from agentpulse.server import LocalServer

MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0


@pytest.fixture(autouse=True)
def _now(clock: Clock) -> None:
    clock.now = NOW


def init(ts: float, program: str = "agent.py", **data: Any) -> dict[str, Any]:
    return event("sdk_init", ts, data={"program": program, "heartbeat_interval": 300.0, **data})


def heartbeat(ts: float, started: float, sessions: int = 1) -> dict[str, Any]:
    """A sign of life of a process that started at a time."""
    return event("heartbeat", ts, data={"uptime_s": ts - started, "active_sessions": sessions})


def start(ts: float, key: str, **data: Any) -> dict[str, Any]:
    values = {"action": "start", "label": key, "type": "session", "started_at": ts, **data}
    return event("session", ts, session=key, data=values)


def run(ts: float, key: str, job: str = "cleanup", **data: Any) -> list[dict[str, Any]]:
    """What the SDK sends as a cron run starts."""
    values = {"span_kind": "cron", "job": job, "run_id": key, "started_at": ts, **data}
    return [
        event("span_start", ts, session=key, data=values),
        start(ts, key, type="cron", job_name=job),
    ]


def finish(ts: float, key: str, job: str = "cleanup", status: str = "ok") -> list[dict[str, Any]]:
    session = {"action": "end", "type": "cron", "job_name": job, "status": "success"}
    return [
        event("cron", ts, session=key, data={"job": job, "run_id": key, "status": status}),
        event("session", ts, session=key, data=session),
    ]


def agent(ts: float, span_id: str, **place: Any) -> dict[str, Any]:
    return event(
        "span_start", ts, span_id=span_id, data={"span_kind": "agent", "name": span_id}, **place
    )


class Reports:
    """What the server says now, everywhere that it says it."""

    def __init__(self, server: LocalServer, clock: Clock, now: float) -> None:
        clock.now = now
        html = request(server, "GET", "/?period=30d").text
        self.page = Page(html)
        self.running = {
            row["Name"].split()[0] for row in self.page.tables.get("Running now", [])[1:]
        }
        self.sessions = {
            each["session"]: each["status"] for each in get(server, "/v1/sessions")["sessions"]
        }
        self.jobs = {each["job"]: each for each in get(server, "/v1/crons")["crons"]}
        self.health = {
            (row["job"], row["status"]): row["count"]
            for row in get(server, "/v1/stats?period=30d")["cron_health"]
        }

    def counts(self, job: str = "cleanup") -> tuple[int, int, int, int]:
        """Runs, failures, lost and running ones."""
        found = self.jobs[job]
        return found["runs"], found["failures"], found["lost"], found["running_count"]


def test_a_run_is_running_and_then_lost_wherever_it_is_reported(server: LocalServer, clock: Clock):
    send(server, init(NOW), *run(NOW + 1, "r1", max_runtime_s=HOUR))

    reports = Reports(server, clock, NOW + 9 * MINUTE)
    assert (reports.counts(), reports.sessions, reports.running) == (
        (0, 0, 0, 1),
        {"r1": "running"},
        {"r1"},
    )
    assert (reports.health, reports.jobs["cleanup"]["last_run"]) == ({}, None)

    reports = Reports(server, clock, NOW + 11 * MINUTE)
    assert (reports.counts(), reports.sessions, reports.running) == (
        (1, 1, 1, 0),
        {"r1": "lost"},
        set(),
    )
    assert reports.health == {("cleanup", "lost"): 1}
    job = reports.jobs["cleanup"]
    assert (job["success_rate"], job["running"]) == (0.0, [])
    last = job["last_run"]
    assert (last["status"], last["ended_at"], last["over_at"]) == ("lost", None, NOW)
    (row,) = reports.page.rows("Crons")
    assert row["Status"].startswith("lost no sign of life since ")
    assert row["Runs"].startswith("1 1 failed, 1 of them lost")
    (session,) = reports.page.rows("Sessions")
    assert session["Status"] == "lost"
    rows = [attributes for tag, attributes in reports.page.elements if tag == "tr"]
    assert [row.get("class") for row in rows].count("bad") == 2
    (health,) = get(server, "/v1/stats?period=30d")["cron_health"]
    assert (health["last_status"], health["last_error"]) == ("lost", "lost")


@pytest.mark.parametrize(
    ("signs", "is_alive"),
    [
        ([], False),
        ([heartbeat(NOW + 25 * MINUTE, NOW)], True),
        ([heartbeat(NOW + 19 * MINUTE, NOW)], False),
        # Of a process that was started after it, or of one that has nothing under way.
        ([heartbeat(NOW + 25 * MINUTE, NOW + 20 * MINUTE)], False),
        ([heartbeat(NOW + 25 * MINUTE, NOW, sessions=0)], False),
        ([event("heartbeat", NOW + 25 * MINUTE, data={})], True),
        ([event("llm_call", NOW + 25 * MINUTE, session="s1")], True),
        ([event("event", NOW + 25 * MINUTE, session="inner")], True),
        ([event("event", NOW + 25 * MINUTE, session="other")], False),
    ],
)
def test_a_session_runs_while_there_are_signs_of_life(
    signs: list[dict[str, Any]], is_alive: bool, server: LocalServer, clock: Clock
):
    send(server, init(NOW), start(NOW, "s1"), start(NOW + 1, "inner", parent_session="s1"))
    send(server, start(NOW, "other"))
    for sign in signs:
        clock.now = sign["ts"]
        send(server, sign)

    reports = Reports(server, clock, NOW + 30 * MINUTE)

    status = "running" if is_alive else "lost"
    # What is nested in another lives and dies with it.
    assert (reports.sessions["s1"], reports.sessions["inner"]) == (status, status)
    assert reports.running >= {"s1", "inner"} if is_alive else not reports.running & {"s1", "inner"}


def test_a_sign_of_another_agent_is_none(server: LocalServer, clock: Clock):
    send(server, init(NOW), start(NOW, "s1"))
    clock.now = NOW + 25 * MINUTE
    send(server, heartbeat(clock.now, NOW), agent="another")

    assert Reports(server, clock, NOW + 26 * MINUTE).sessions == {"s1": "lost"}


@pytest.mark.parametrize(
    ("interval", "silent", "is_alive"),
    [
        (60.0, 1.9 * MINUTE, True),
        (60.0, 2.1 * MINUTE, False),
        (3600.0, 1.9 * HOUR, True),
        (3600.0, 2.1 * HOUR, False),
        (0.5, 0.9 * MINUTE, True),  # none come sooner than batches do
        (0.5, 1.1 * MINUTE, False),
        (None, 9.9 * MINUTE, True),  # of an earlier version, which doesn't say
        (None, 10.1 * MINUTE, False),
        (0, 0.9 * DAY, True),  # it sends none
        (0, 1.1 * DAY, False),
        ("odd", 0.9 * MINUTE, True),
        (-5, 0.9 * MINUTE, True),
    ],
)
def test_it_may_be_silent_for_two_heartbeats(
    interval: object, silent: float, is_alive: bool, server: LocalServer, clock: Clock
):
    send(server, init(NOW, heartbeat_interval=interval), start(NOW, "s1"))

    reports = Reports(server, clock, NOW + silent)

    assert reports.sessions == {"s1": "running" if is_alive else "lost"}


def test_of_a_program_that_nothing_is_known_of_a_day_is_waited_for(
    server: LocalServer, clock: Clock
):
    send(server, start(NOW, "s1"), *run(NOW, "r1"))

    assert set(Reports(server, clock, NOW + 0.9 * DAY).sessions.values()) == {"running"}
    assert set(Reports(server, clock, NOW + 1.1 * DAY).sessions.values()) == {"lost"}


def test_past_its_max_runtime_a_run_is_lost_unless_it_shows_life(server: LocalServer, clock: Clock):
    send(server, init(NOW), *run(NOW, "dead", "a", max_runtime_s=60))
    send(server, *run(NOW, "alive", "b", max_runtime_s=60))
    clock.now = NOW + 61
    send(server, event("event", clock.now, session="alive"))

    reports = Reports(server, clock, NOW + 62)

    assert (reports.counts("a"), reports.counts("b")) == ((1, 1, 1, 0), (0, 0, 0, 1))
    assert reports.jobs["b"]["running"][0]["exceeds_max_runtime"] is True
    dead, alive = reports.page.rows("Crons")
    assert dead["Status"].startswith("lost")
    assert alive["Status"] == "no run ended yet 1 running, longer than it may"
    assert reports.running == {"alive"}


def test_the_next_start_of_the_job_shows_that_a_run_is_lost(server: LocalServer, clock: Clock):
    send(server, init(NOW), *run(NOW, "r1"), *run(NOW, "other", "backup"))
    clock.now = NOW + MINUTE
    send(server, init(clock.now), *run(clock.now, "r2"))

    reports = Reports(server, clock, NOW + 61)
    assert (reports.counts(), reports.counts("backup")) == ((1, 1, 1, 1), (0, 0, 0, 1))
    assert reports.sessions == {"r1": "lost", "r2": "running", "other": "running"}

    clock.now = NOW + 90
    send(server, *finish(clock.now, "r2"))
    reports = Reports(server, clock, NOW + 91)
    assert reports.counts() == (2, 1, 1, 0)
    assert reports.jobs["cleanup"]["success_rate"] == 0.5
    assert reports.jobs["cleanup"]["last_run"]["run_id"] == "r2"
    assert reports.health == {("cleanup", "lost"): 1, ("cleanup", "ok"): 1}


def test_runs_that_overlap_are_not_lost_while_they_show_life(server: LocalServer, clock: Clock):
    send(server, init(NOW), *run(NOW, "r1"), *run(NOW, "r0"))
    clock.now = NOW + MINUTE
    send(server, init(clock.now), *run(clock.now, "r2"))
    clock.now = NOW + 2 * MINUTE
    send(server, event("llm_call", clock.now, session="r1"))

    reports = Reports(server, clock, NOW + 121)
    assert reports.sessions == {"r0": "lost", "r1": "running", "r2": "running"}

    # A heartbeat of the first process stands for all that it has under way.
    send(server, heartbeat(clock.now, NOW))
    assert Reports(server, clock, NOW + 122).sessions["r0"] == "running"


def test_the_job_of_another_agent_is_another_job(server: LocalServer, clock: Clock):
    send(server, init(NOW), *run(NOW, "r1"))
    clock.now = NOW + MINUTE
    send(server, init(clock.now), *run(clock.now, "r2"), agent="another")

    assert Reports(server, clock, NOW + 61).counts() == (0, 0, 0, 2)


@pytest.mark.parametrize(
    ("again", "is_alive"),
    [
        ([init(NOW + MINUTE), start(NOW + 61, "s2", label="s1")], False),
        # A worker of it, perhaps, or another program of this name.
        ([init(NOW + MINUTE), start(NOW + 61, "s2", label="another")], True),
        ([init(NOW + MINUTE, program="another.py"), start(NOW + 61, "s2", label="s1")], True),
        ([init(NOW + MINUTE, program=None), start(NOW + 61, "s2", label="s1")], True),
        # Another one of the same process.
        ([start(NOW + 61, "s2", label="s1"), init(NOW + 62)], True),
        (
            [
                init(NOW + MINUTE),
                start(NOW + 61, "s2", label="s1"),
                event("llm_call", NOW + 62, session="s1"),
            ],
            True,
        ),
    ],
)
def test_a_program_that_starts_again_shows_that_its_session_is_lost(
    again: list[dict[str, Any]], is_alive: bool, server: LocalServer, clock: Clock
):
    send(server, init(NOW), start(NOW, "s1"), agent(NOW, "clerk", session="s1"))
    for each in again:
        clock.now = each["ts"]
        send(server, each)

    reports = Reports(server, clock, NOW + 63)

    assert reports.sessions == {"s1": "running" if is_alive else "lost", "s2": "running"}
    assert ("clerk" in reports.running) is is_alive


def test_an_agent_lives_and_dies_with_its_session(server: LocalServer, clock: Clock):
    send(server, init(NOW), start(NOW, "s1"), *run(NOW, "r1", max_runtime_s=60))
    send(server, agent(NOW, "of-session", session="s1"), agent(NOW, "of-run", session="r1"))
    send(server, agent(NOW, "of-none"), agent(NOW, "of-another", session="unknown"))
    clock.now = NOW + 61
    send(server, *finish(clock.now, "r1"))

    reports = Reports(server, clock, NOW + 62)
    assert reports.running == {"s1", "of-session", "of-none", "of-another"}

    clock.now = NOW + 9 * MINUTE
    send(server, heartbeat(clock.now, NOW, sessions=0))
    reports = Reports(server, clock, NOW + 11 * MINUTE)
    assert reports.running == {"of-none", "of-another"}


def test_an_end_that_comes_after_all_has_the_last_word(server: LocalServer, clock: Clock):
    send(server, init(NOW), *run(NOW, "r1"), start(NOW, "s1"))
    reports = Reports(server, clock, NOW + HOUR)
    assert (reports.counts(), reports.sessions["s1"]) == ((1, 1, 1, 0), "lost")

    send(server, *finish(NOW + HOUR, "r1"))
    send(server, event("session", NOW + HOUR, session="s1", data={"action": "end", "status": "x"}))

    reports = Reports(server, clock, NOW + HOUR)
    assert (reports.counts(), reports.sessions) == ((1, 0, 0, 0), {"r1": "success", "s1": "x"})
    assert reports.health == {("cleanup", "ok"): 1}


def test_a_run_of_which_only_the_start_is_known_is_judged_too(server: LocalServer, clock: Clock):
    values = {"span_kind": "cron", "job": "cleanup", "run_id": "r1"}
    send(server, init(NOW), event("span_start", NOW, session="r1", data=values))
    assert Reports(server, clock, NOW + 9 * MINUTE).counts() == (0, 0, 0, 1)
    assert Reports(server, clock, NOW + 11 * MINUTE).counts() == (1, 1, 1, 0)

    # Its session is over, so it is too, and its outcome is unknown.
    end = {"action": "end", "status": "success", "job_name": "cleanup"}
    send(server, event("session", NOW, session="r1", data=end))
    assert Reports(server, clock, NOW + MINUTE).counts() == (1, 1, 1, 0)


def test_rings_of_parents_and_what_makes_no_sense_do_no_harm(server: LocalServer, clock: Clock):
    send(
        server,
        start(NOW, "a", parent_session="b"),
        start(NOW, "b", parent_session="a"),
        event("heartbeat", NOW, data={"uptime_s": "long", "active_sessions": [1]}),
        event("sdk_init", NOW, data={"program": {"a": 1}, "heartbeat_interval": {"a": 1}}),
    )

    assert Reports(server, clock, NOW + 1).sessions == {"a": "lost", "b": "lost"}


KILLED = """
import agentpulse, os, signal
agentpulse.init(agent_name="job")
with agentpulse.cron("nightly", schedule="0 3 * * *", max_runtime=1):
    with agentpulse.session("inner"):
        agentpulse.flush()
        if "KILL" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL")
def test_a_program_that_is_killed_is_not_green(
    server: LocalServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENTPULSE_ENDPOINT", server.url)
    clock.now = time.time()
    command = [sys.executable, "-c", KILLED]
    killed = processes.run(command, env={**os.environ, "KILL": "1"})
    assert killed.returncode == -signal.SIGKILL
    started = max(each["ts"] for each in server.events("span_start"))
    clock.now = started + 1.5

    (job,) = get(server, "/v1/crons")["crons"]
    assert (job["runs"], job["failures"], job["running_count"]) == (1, 1, 0)
    assert {each["status"] for each in get(server, "/v1/sessions")["sessions"]} == {"lost"}

    clock.now = time.time()
    processes.run(command, check=True)
    (job,) = get(server, "/v1/crons")["crons"]
    assert (job["runs"], job["failures"], job["success_rate"]) == (2, 1, 0.5)
    assert job["last_run"]["status"] == "ok"
