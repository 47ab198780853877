"""GET /v1/sessions and its transcripts: what each session was, whether it runs, what it cost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from server.conftest import call, event, get, request, send

from agentpulse.server import LocalServer

NOON = time.time() // 86_400.0 * 86_400.0 - 43_200.0
"""Noon of yesterday, in UTC."""


def start(key: str, ts: float = NOON, **data: Any) -> dict[str, Any]:
    return event("session", ts, session=key, data={"action": "start", "started_at": ts, **data})


def end(key: str, ts: float = NOON + 9, **data: Any) -> dict[str, Any]:
    values = {"action": "end", "status": "success", **data}
    return event("session", ts, session=key, data=values)


def sessions(server: LocalServer, query: str = "") -> dict[str, dict[str, Any]]:
    """By their keys, in order."""
    found = get(server, f"/v1/sessions{query}")["sessions"]
    assert len({each["session"] for each in found}) == len(found)
    return {each["session"]: each for each in found}


def sums(session: dict[str, Any]) -> tuple[int, int, float | None]:
    return session["calls"], session["tokens"], session["cost_usd"]


def test_a_session_has_its_values_and_the_sums_of_its_events(server: LocalServer):
    metadata, result = {"user": "u1", "tags": ["a"]}, {"sent": 3}
    send(
        server,
        start("email:1", label="email", type="session", metadata={"user": "u1"}),
        call(NOON + 1, session="email:1", model="gpt-4o", tokens=100, cost_usd=0.5),
        call(NOON + 2, session="email:1", model="gpt-4o", tokens=50, status="error"),
        call(NOON + 2, session="email:1", model="claude", tokens=7, cost_usd=0.25),
        end(
            "email:1", NOON + 3, label="email", type="session", started_at=NOON, status="error",
            error_type="ValueError", error="no", duration_ms=3000, metadata=metadata, result=result,
            cost_usd=99.0, tokens=99, calls=99,
        ),
    )  # fmt: skip

    assert get(server, "/v1/sessions")["sessions"] == [
        {
            "session": "email:1", "agent": "mailer", "label": "email", "type": "session",
            "job_name": None, "parent_session": None, "status": "error", "is_running": False,
            "started_at": NOON, "ended_at": NOON + 3, "duration_ms": 3000.0,
            "error_type": "ValueError", "error": "no", "metadata": metadata, "result": result,
            "events": 5, "first_ts": NOON, "last_ts": NOON + 3, "models": ["claude", "gpt-4o"],
            "calls": 3, "errors": 1, "tokens": 157, "cost_usd": 0.75, "unpriced": 1,
        }
    ]  # fmt: skip


def test_a_start_without_an_end_is_running(server: LocalServer):
    send(server, start("night:2", label="night", type="cron", job_name="cleanup"))

    (night,) = sessions(server).values()
    assert (night["status"], night["is_running"]) == ("running", True)
    assert (night["label"], night["type"], night["job_name"]) == ("night", "cron", "cleanup")
    assert (night["started_at"], night["ended_at"], night["duration_ms"]) == (NOON, None, None)
    assert sums(night) == (0, 0, 0.0)


def test_of_a_session_without_start_and_end_only_its_calls_are_known(server: LocalServer):
    send(server, call(NOON, session="alone", tokens=7, cost_usd=None))

    (alone,) = sessions(server).values()
    assert (alone["status"], alone["is_running"], alone["label"]) == (None, False, None)
    assert (alone["started_at"], alone["metadata"], alone["result"]) == (None, None, None)
    assert sums(alone) == (1, 7, None)


@pytest.mark.parametrize("result", [0, False, "", "text \ud83d", [1, {"a": None}], 1.5])
def test_a_result_comes_back_as_it_was(result: object, server: LocalServer):
    send(server, end("a", result=result))

    assert sessions(server)["a"]["result"] == result


def test_it_does_not_matter_in_which_order_start_and_end_arrive(server: LocalServer):
    send(server, end("a", started_at=NOON, metadata={"final": True}))
    send(server, start("a", label="late", metadata={"final": False}))

    found = sessions(server)["a"]
    assert (found["status"], found["started_at"], found["ended_at"]) == ("success", NOON, NOON + 9)
    assert (found["label"], found["metadata"]) == ("late", {"final": True})


def test_a_key_that_is_used_again_stands_for_what_started_last(server: LocalServer):
    send(server, start("a", label="first"), end("a", NOON + 1, started_at=NOON, result="one"))
    send(server, start("a", NOON + 5, label="again"))

    again = sessions(server)["a"]
    assert (again["status"], again["label"], again["result"]) == ("running", "again", None)
    assert (again["started_at"], again["ended_at"]) == (NOON + 5, None)

    # The end of another that ran beside it is not its own.
    send(server, end("a", NOON + 6, started_at=NOON, result="other"))
    assert sessions(server)["a"]["status"] == "running"

    send(server, end("a", NOON + 7, started_at=NOON + 5, status="error"))
    assert (sessions(server)["a"]["status"], sessions(server)["a"]["result"]) == ("error", None)


def test_an_end_without_a_start_time_ends_the_session_that_runs(server: LocalServer):
    send(server, start("a"), end("a", NOON + 9, duration_ms=5000))
    send(server, end("b", NOON + 9, duration_ms=5000))

    found = sessions(server)
    assert (found["a"]["status"], found["a"]["started_at"]) == ("success", NOON)
    assert (found["b"]["status"], found["b"]["started_at"]) == ("success", NOON + 4)


def test_the_calls_of_nested_sessions_count_in_all_around_them_and_once_each(server: LocalServer):
    send(
        server,
        start("outer"),
        start("middle", NOON + 1, parent_session="outer"),
        start("inner", NOON + 2, parent_session="middle"),
        start("other", NOON + 2, parent_session="outer"),
        call(NOON + 3, session="outer", model="a", tokens=1, cost_usd=0.5),
        call(NOON + 3, session="middle", model="b", tokens=10, cost_usd=0.25),
        call(NOON + 3, session="inner", model="b", tokens=100, cost_usd=None),
        call(NOON + 4, session="other", model="c", tokens=1000, cost_usd=1.0),
        end("inner", NOON + 5, started_at=NOON + 2, parent_session="middle"),
    )

    found = sessions(server)
    assert sums(found["outer"]) == (4, 1111, 1.75)
    assert sums(found["middle"]) == (2, 110, 0.25)
    assert sums(found["inner"]) == (1, 100, None)
    assert sums(found["other"]) == (1, 1000, 1.0)
    assert found["outer"]["models"] == ["a", "b", "c"]
    assert found["outer"]["unpriced"] == 1
    assert [found[key]["events"] for key in ("outer", "middle", "inner")] == [2, 2, 3]
    assert found["inner"]["parent_session"] == "middle"
    # What happened in one happened around it: all the latest first.
    assert [each["last_ts"] - NOON for each in found.values()] == [5, 5, 5, 4]
    assert list(found)[3] == "other"
    # A repeat changes nothing.
    assert get(server, "/v1/stats?period=7d")["cost"]["usd"] == 1.75


def test_parents_in_a_ring_or_unknown_break_nothing(server: LocalServer):
    send(
        server,
        start("a", parent_session="b"),
        start("b", parent_session="a"),
        start("self", parent_session="self"),
        start("orphan", parent_session="gone"),
        *(call(session=key, tokens=1, cost_usd=0.5) for key in ("a", "b", "self", "orphan")),
    )

    found = {key: sums(each) for key, each in sessions(server).items()}
    assert found == {
        "a": (2, 2, 1.0), "b": (2, 2, 1.0), "self": (1, 1, 0.5), "orphan": (1, 1, 0.5),
    }  # fmt: skip


def test_since_finds_what_was_active_since_then_with_the_sums_of_all_of_it(server: LocalServer):
    send(
        server,
        call(NOON, session="old", tokens=1),
        call(NOON, session="new", tokens=1),
        call(NOON + 10, session="new", tokens=2),
        start("around"),
        start("within", NOON + 20, parent_session="around"),
    )

    assert list(sessions(server)) == ["around", "within", "new", "old"]
    found = sessions(server, f"?since={NOON + 10!r}")
    assert list(found) == ["around", "within", "new"]
    assert found["new"]["tokens"] == 3
    assert sessions(server, f"?since={NOON + 21!r}") == {}


ODD = [5, [], {"a": 1}, True, "", None, -1.0, 1e300, "x" * 300]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_what_makes_no_sense_in_a_session_is_left_out(odd: object, server: LocalServer):
    fields = (
        "label", "type", "job_name", "parent_session", "status", "error_type", "error",
        "started_at", "duration_ms", "metadata", "result",
    )  # fmt: skip
    send(
        server,
        event("session", session="a", data={"action": "start", **dict.fromkeys(fields, odd)}),
    )
    send(server, event("session", session="a", data={"action": odd, **dict.fromkeys(fields, odd)}))
    send(server, event("session", data={"action": "start"}))

    assert list(sessions(server)) == ["a"]
    assert request(server, "GET", "/").status == 200


def test_a_transcript_is_the_sessions_latest_conversation(server: LocalServer):
    first, latest = [{"role": "user", "content": "Hi"}], [{"role": "user", "content": "<b>Hi</b>"}]
    send(
        server,
        event("transcript", NOON + 1, session="a/b:1", data={"messages": latest}),
        event("transcript", NOON, session="a/b:1", data={"messages": first}),
        event("transcript", NOON + 2, session="other", data={"messages": []}),
        event("transcript", NOON + 2, session="broken", data={"messages": "text"}),
        event("event", NOON + 3, session="silent"),
    )

    assert get(server, "/v1/sessions/a/b:1/transcript") == {"session": "a/b:1", "messages": latest}
    assert get(server, "/v1/sessions/a%2Fb%3A1/transcript")["messages"] == latest
    assert get(server, "/v1/sessions/other/transcript")["messages"] == []
    for session in ("silent", "broken", "nobody", "a"):
        reply = request(server, "GET", f"/v1/sessions/{session}/transcript")
        assert (reply.status, list(reply.json)) == (404, ["error"])


def test_of_two_transcripts_of_one_moment_the_one_that_came_last_counts(server: LocalServer):
    for text in ("one", "two"):
        send(server, event("transcript", NOON, session="a", data={"messages": [text]}))

    assert get(server, "/v1/sessions/a/transcript")["messages"] == ["two"]
