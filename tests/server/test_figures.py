"""What the GET endpoints say, against figures worked out by hand."""

from __future__ import annotations

import time
from typing import Any

import pytest
from server.conftest import Clock, call, event, get, request, send

from agentpulse.server import LocalServer

DAY = 86_400.0
NOON = time.time() // DAY * DAY - DAY / 2
"""Noon of yesterday, in UTC."""


def ids(reply: dict[str, Any]) -> list[str]:
    return [each["id"] for each in reply["events"]]


def test_events_are_listed_the_latest_first(server: LocalServer):
    send(server, *(event(ts=NOON + second, id=f"e{second}") for second in (3, 1, 4, 2)))

    assert ids(get(server, "/v1/events")) == ["e4", "e3", "e2", "e1"]


def test_events_can_be_asked_for_by_kind_session_and_time(server: LocalServer):
    send(
        server,
        event("alert", NOON, id="a", session="s/1:x"),
        event("event", NOON + 1, id="b", session="s/1:x"),
        event("event", NOON + 2, id="c", session="other"),
        event("event", NOON + 3, id="d"),
    )

    assert ids(get(server, "/v1/events?kind=event")) == ["d", "c", "b"]
    assert ids(get(server, "/v1/events?session=s/1:x")) == ["b", "a"]
    assert ids(get(server, f"/v1/events?since={NOON + 1!r}")) == ["d", "c", "b"]
    assert ids(get(server, f"/v1/events?kind=event&session=other&since={NOON}")) == ["c"]
    assert ids(get(server, "/v1/events?kind=cron")) == []
    assert ids(get(server, "/v1/events?kind='%20OR%201=1")) == []


def test_all_events_can_be_had_page_by_page_though_new_ones_arrive(server: LocalServer):
    send(server, *(event(ts=NOON + number // 4, id=f"e{number}") for number in range(25)))

    found, pages, place = list[str](), 0, ""
    while place is not None:
        page = get(server, f"/v1/events?limit=10{place and f'&before={place}'}")
        found, pages, place = found + ids(page), pages + 1, page["next"]
        send(server, event(ts=NOON + 100, id=f"new{pages}"))

    assert pages == 3
    assert found == [f"e{number}" for number in reversed(range(25))]


def test_without_more_there_is_no_next_page(server: LocalServer):
    send(server, *(event(id=f"e{number}") for number in range(3)))

    assert get(server, "/v1/events?limit=3")["next"] is None
    assert get(server, "/v1/events?limit=2")["next"] is not None


def test_a_hundred_events_come_unless_asked_for_more_and_never_over_a_thousand(
    server: LocalServer,
):
    for part in range(3):
        send(server, *(event(id=f"{part}-{number}") for number in range(400)))

    assert len(get(server, "/v1/events")["events"]) == 100
    assert len(get(server, "/v1/events?limit=150")["events"]) == 150
    assert len(get(server, "/v1/events?limit=999999999999")["events"]) == 1000
    assert len(server.events()) == 1200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events?limit=0",
        "/v1/events?limit=-1",
        "/v1/events?limit=ten",
        "/v1/events?limit=",
        "/v1/events?since=yesterday",
        "/v1/events?since=nan",
        "/v1/events?since=inf",
        "/v1/events?before=5",
        "/v1/events?before=x:y",
        "/v1/stats?period=1h",
        "/v1/stats?period=",
        "/v1/stats?since=x",
        "/v1/sessions?since=x",
    ],
)
def test_a_question_that_makes_no_sense_is_refused(path: str, empty_server: LocalServer):
    reply = request(empty_server, "GET", path)

    assert (reply.status, list(reply.json)) == (400, ["error"])
    assert "expected" in reply.json["error"]


def test_the_figures_of_nothing_are_zero_and_nothing_is_known_of_the_gateway(
    empty_server: LocalServer,
):
    assert get(empty_server, "/v1/stats") == {
        "gateway_status": "unknown",
        "events": 0,
        "cost": {"usd": 0.0, "tokens": 0, "calls": 0, "errors": 0, "unpriced": 0},
        "cron_health": [],
        "top_sessions": [],
        "model_costs": [],
        "daily_spend": [],
    }
    assert get(empty_server, "/v1/sessions") == {"sessions": []}
    assert get(empty_server, "/v1/crons") == {"crons": []}


def test_stats_sum_up_calls_and_leave_the_roll_ups_alone(server: LocalServer):
    send(
        server,
        event(
            "session",
            NOON - 9,
            session="a",
            data={"action": "start", "label": "email", "type": "cron"},
        ),
        call(NOON, model="gpt-4o", tokens=150, cost_usd=0.5, session="a"),
        call(
            NOON + 60, model="gpt-4o", input_tokens=30, output_tokens=20, cost_usd=0.25, session="b"
        ),
        call(NOON + DAY, model="gpt-4o", tokens=0, cost_usd=0.0, session="b"),
        call(NOON + DAY, model="llama", provider="ollama", tokens=1000, cost_usd=None, session="b"),
        call(NOON + DAY, model="gpt-4o", status="error", error_type="RateLimitError"),
        event("cost", NOON, session="a", data={"model": "gpt-4o", "tokens": 200, "cost_usd": 0.75}),
        event("event", NOON),
    )

    stats = get(server, f"/v1/stats?since={NOON}")

    gpt = {"calls": 4, "errors": 1, "tokens": 200, "cost_usd": 0.75, "unpriced": 0}
    llama = {"calls": 1, "errors": 0, "tokens": 1000, "cost_usd": None, "unpriced": 1}
    assert stats["events"] == 7
    assert stats["cost"] == {"usd": 0.75, "tokens": 1200, "calls": 5, "errors": 1, "unpriced": 1}
    assert stats["model_costs"] == [
        {"provider": "openai", "model": "gpt-4o", **gpt},
        {"provider": "ollama", "model": "llama", **llama},
    ]
    first = {"calls": 1, "errors": 0, "tokens": 150, "cost_usd": 0.5, "unpriced": 0}
    second = {"calls": 3, "errors": 0, "tokens": 1050, "cost_usd": 0.25, "unpriced": 1}
    assert stats["top_sessions"] == [
        {"session": "a", "label": "email", "type": "cron", "events": 2, "last_ts": NOON, **first},
        {"session": "b", "label": None, "type": None, "events": 3, "last_ts": NOON + DAY, **second},
    ]
    yesterday = {"calls": 2, "errors": 0, "tokens": 200, "cost_usd": 0.75, "unpriced": 0}
    today = {"calls": 3, "errors": 1, "tokens": 1000, "cost_usd": 0.0, "unpriced": 1}
    assert stats["daily_spend"] == [
        {"day": day(NOON), **yesterday},
        {"day": day(NOON + DAY), **today},
    ]


def day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def test_a_cost_that_nobody_knows_is_not_zero(server: LocalServer):
    send(server, call(tokens=10, cost_usd=None), call(tokens=5))

    assert get(server, "/v1/stats")["cost"] == {
        "usd": None, "tokens": 15, "calls": 2, "errors": 0, "unpriced": 2,
    }  # fmt: skip
    assert server.events()[0]["data"]["cost_usd"] is None


@pytest.mark.parametrize("senseless", [-1.0, "0.5", True, [1], {"usd": 1}, 1e300, 10**30])
def test_what_is_no_amount_counts_as_unknown(senseless: object, server: LocalServer):
    send(server, call(tokens=senseless, cost_usd=senseless, latency_ms=senseless, model=senseless))
    send(server, call(tokens=2, cost_usd=0.5))

    cost = get(server, "/v1/stats")["cost"]

    assert (cost["usd"], cost["tokens"], cost["calls"]) == (0.5, 2, 2)
    assert request(server, "GET", "/").status == 200


def test_the_periods_end_now(server: LocalServer):
    now = time.time()
    ages = (0.5, 2, 6.9, 7.1, 29, 31)
    send(server, *(call(now - age * DAY, tokens=1, cost_usd=1.0) for age in ages))

    counted = {
        period: get(server, f"/v1/stats?period={period}")["cost"]["calls"]
        for period in ("24h", "7d", "30d")
    }

    assert counted == {"24h": 1, "7d": 3, "30d": 5}
    assert get(server, "/v1/stats")["cost"]["calls"] == 1


@pytest.mark.parametrize(("minutes", "status"), [(19, "alive"), (21, "offline")])
def test_the_gateway_is_alive_for_twenty_minutes_after_a_heartbeat(
    minutes: int, status: str, server: LocalServer
):
    send(server, event("heartbeat", time.time() - 60 * 60))
    send(server, event("heartbeat", time.time() - 60 * minutes))

    assert get(server, "/v1/stats")["gateway_status"] == status


def run(ts: float, job: str, status: str, **data: Any) -> dict[str, Any]:
    return event("cron", ts, data={"job": job, "status": status, **data})


def test_the_health_of_crons_counts_by_status_and_has_the_last_run_of_the_job(
    server: LocalServer, clock: Clock
):
    clock.now = NOON + 60  # a day later, what only started is lost
    send(
        server,
        run(NOON + 2, "cleanup", "ok", duration_ms=1500.0),
        run(NOON, "cleanup", "ok", duration_ms=100.0),
        run(NOON + 1, "cleanup", "fail", duration_ms=50.0, error="disk full"),
        run(NOON - 9, "cleanup", "fail", error="older"),
        run(NOON, "backup", "fail", error_type="TimeoutError"),
        run(NOON, "report", "ok"),
        # What only started has no health yet.
        event("span_start", NOON + 3, data={"span_kind": "cron", "job": "cleanup", "run_id": "r"}),
        event("span_start", NOON + 3, data={"span_kind": "cron", "job": "new", "run_id": "r"}),
    )

    cleanup = {
        "last_run_ts": NOON + 2, "last_status": "ok", "last_duration_ms": 1500.0,
        "last_error": "disk full",
    }  # fmt: skip
    backup = {
        "last_run_ts": NOON, "last_status": "fail", "last_duration_ms": None,
        "last_error": "TimeoutError",
    }  # fmt: skip
    report = {
        "last_run_ts": NOON, "last_status": "ok", "last_duration_ms": None, "last_error": None,
    }  # fmt: skip
    assert get(server, f"/v1/stats?since={NOON}")["cron_health"] == [
        {"job": "backup", "status": "fail", "count": 1, **backup},
        {"job": "cleanup", "status": "fail", "count": 1, **cleanup},
        {"job": "cleanup", "status": "ok", "count": 2, **cleanup},
        {"job": "report", "status": "ok", "count": 1, **report},
    ]
