"""POST /v1/ingest: what is taken, what is refused and how, and that nothing counts twice."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from server.conftest import NOW, batch, call, event, get, post, request, send

from agentpulse.server import LocalServer, _requests
from agentpulse.server._requests import MAX_BODY

DAY = 86_400.0


def test_an_event_comes_back_as_it_was_sent_with_its_agent(server: LocalServer):
    sent = {
        "kind": "llm_call",
        "ts": NOW,
        "id": "e1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "parent_span_id": "00f067aa0ba902b7",
        "session": "daily-email:3f9a12cd",
        "data": {"model": "gpt-4o", "cost_usd": None, "tokens": 15, "note": "žluťoučký 🐎"},
    }

    reply = post(server, batch(sent))

    assert (reply.status, reply.json) == (200, {"accepted": 1})
    assert reply.headers["content-type"] == "application/json"
    assert server.events() == [{**sent, "agent": "mailer"}]
    assert get(server, "/v1/events")["events"] == server.events()


def test_events_are_kept_in_the_order_in_which_they_came(server: LocalServer):
    send(server, event(ts=NOW, id="late"), event(ts=NOW - 50, id="early"), event("alert", id="a"))

    assert [each["id"] for each in server.events()] == ["late", "early", "a"]
    assert [each["id"] for each in server.events("alert")] == ["a"]


def test_gzip_and_plain_bodies_are_the_same_to_it(server: LocalServer):
    plain = json.dumps(batch(event(id="e1"))).encode()

    assert post(server, plain).status == 200
    assert post(server, gzip.compress(plain), Content_Encoding="gzip").status == 200
    assert post(server, plain, Content_Encoding="identity").status == 200
    assert len(server.events()) == 1


def test_a_repeated_event_is_accepted_and_counted_once(server: LocalServer):
    first = call(id="c1", tokens=10, cost_usd=0.5)

    send(server, first, call(id="c2", tokens=1, cost_usd=0.25))
    send(server, first)
    send(server, call(id="c1", tokens=99, cost_usd=99.0), call(id="c3", cost_usd=0.25))
    send(server, call(id="c4", cost_usd=1.0), call(id="c4", cost_usd=1.0))

    assert [each["id"] for each in server.events()] == ["c1", "c2", "c3", "c4"]
    assert get(server, "/v1/stats")["cost"] == {
        "usd": 2.0, "tokens": 11, "calls": 4, "errors": 0, "unpriced": 0,
    }  # fmt: skip


def test_a_cron_run_is_counted_once_however_often_it_is_sent(server: LocalServer):
    run = event("cron", id="r1", data={"job": "cleanup", "status": "ok"})

    send(server, run)
    send(server, run)

    assert get(server, "/v1/crons")["crons"][0]["runs"] == 1


def test_events_without_an_id_are_all_different(server: LocalServer):
    send(server, event(), event(), event(id=None), event(id=17))

    assert len(server.events()) == 4


def test_what_it_does_not_know_is_ignored_or_kept_as_data(server: LocalServer):
    odd = event(id="e1", trace_id=5, span_id=["x"], tomorrow={"a": 1}, data={"anything": [1, {}]})

    assert post(server, {**batch(odd), "extra": True}).status == 200

    assert server.events() == [
        {"id": "e1", "kind": "event", "ts": NOW, "agent": "mailer", "data": {"anything": [1, {}]}}
    ]


BAD: dict[str, tuple[int, object]] = {
    "no JSON": (400, b"{"),
    "no UTF-8": (400, b'{"agent": "\xff"}'),
    "nothing": (400, b""),
    "not an object": (400, []),
    "NaN": (400, b'{"events": [{"kind": "event", "ts": NaN, "data": {}}]}'),
    "a number of 5000 digits": (400, b'{"events": %s}' % (b"9" * 5000)),
    "agent is no string": (400, {**batch(event()), "agent": 5}),
    "agent too long": (400, batch(event(), agent="a" * 257)),
    "id too long": (400, batch(event(id="i" * 257))),
    "trace id too long": (400, batch(event(trace_id="i" * 257))),
    "span id too long": (400, batch(event(span_id="i" * 257))),
    "parent's id too long": (400, batch(event(parent_span_id="i" * 257))),
    "no events field": (400, {"agent": "mailer"}),
    "events is an object": (400, {"agent": "mailer", "events": {}}),
    "no events": (400, batch()),
    "an event that is no object": (400, {"agent": "mailer", "events": [event(), None]}),
    "no kind": (400, batch({"ts": NOW, "data": {}})),
    "empty kind": (400, batch(event(""))),
    "kind with a dash": (400, batch(event("llm-call"))),
    "kind with a newline": (400, batch(event("llm_call\n"))),
    "kind in other letters": (400, batch(event("žluť"))),
    "kind too long": (400, batch(event("k" * 65))),
    "kind is a number": (400, batch(event(5))),
    "no ts": (400, batch({"kind": "event", "data": {}})),
    "ts is text": (400, batch(event(ts="now"))),
    "ts is true": (400, batch(event(ts=True))),
    "ts is infinite": (400, b'{"events": [{"kind": "event", "ts": 1e999, "data": {}}]}'),
    "ts in 2019": (400, batch(event(ts=1_577_836_799.9))),
    "ts in milliseconds": (400, batch(event(ts=NOW * 1000))),
    "ts in two days": (400, batch(event(ts=NOW + 2 * DAY))),
    "no data": (400, batch({"kind": "event", "ts": NOW})),
    "data is a list": (400, batch(event(data=[]))),
    "data is text": (400, batch(event(data="text"))),
    "session is a number": (400, batch(event(session=5))),
    "session too long": (400, batch(event(session="s" * 257))),
    "session too long in UTF-16": (400, batch(event(session="🐎" * 129))),
    "data too long": (413, batch(event(data={"text": "x" * 16_384}))),
    "data too long once escaped": (413, batch(event(data={"text": "ž" * 3000}))),
    "501 events": (413, batch(*[event()] * 501)),
    "a body too large": (413, b" " * (MAX_BODY + 1)),
}


@pytest.mark.parametrize(("status", "body"), BAD.values(), ids=BAD.keys())
def test_one_bad_event_refuses_its_whole_batch_with_the_reason(
    status: int, body: Any, empty_server: LocalServer
):
    if isinstance(body, dict) and isinstance(body.get("events"), list) and body["events"]:
        body = {**body, "events": [event(id="good"), *body["events"]]}

    reply = post(empty_server, body)

    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert list(reply.json) == ["error"]
    assert reply.json["error"].endswith(".")
    assert empty_server.events() == []


def test_a_refusal_names_the_event_and_the_field(empty_server: LocalServer):
    reply = post(empty_server, batch(event(), event(), event(ts=5)))

    assert reply.json == {
        "error": "events[2].ts is not a time in seconds since 1970, from 2020 to a day from now."
    }


def test_what_is_just_within_the_limits_is_taken(server: LocalServer):
    fitting = {"text": "x" * (16_384 - len('{"text":""}'))}
    good = [
        event("k" * 64, session="s" * 256),
        event(session="🐎" * 128),
        event(ts=1_577_836_800),
        event(ts=time.time() + DAY - 60),
        event(session=None),
        event(data=fitting),
        event(id="🐎" * 256, trace_id="t" * 256, span_id="s" * 256, parent_span_id="p" * 256),
    ]

    send(server, *good, agent="🐎" * 256)
    assert post(server, batch(*[event()] * 500)).json == {"accepted": 500}
    padded = json.dumps(batch(event())).encode()
    assert post(server, padded + b" " * (MAX_BODY - len(padded))).status == 200

    assert len(server.events()) == len(good) + 501


def most_of_each_text() -> list[dict[str, Any]]:
    """Events that are as long as they may be, in each text that is stored of them."""
    text = "x" * 256
    ids = dict.fromkeys(("trace_id", "span_id", "parent_span_id", "session"), text)
    return [event("k" * 64, id=f"{number:0256}", **ids) for number in range(90)]


def test_the_database_grows_by_no_more_than_a_few_times_what_was_received(tmp_path: Path):
    database = tmp_path / "events.sqlite3"
    bodies = [
        {**batch(*[event("llm_call")] * 500), "agent": "a" * 256},
        {**batch(*[event("llm_call")] * 500), "agent": "a" * 230_000},
        batch(*most_of_each_text(), agent="a" * 256),
        batch(event("session", data={"label": "x" * 16_000, "metadata": ["y" * 100] * 100})),
    ]
    with LocalServer(database=database) as server:
        statuses = [
            post(server, gzip.compress(json.dumps(body).encode()), Content_Encoding="gzip").status
            for body in bodies
        ]

    assert statuses == [200, 400, 200, 413]
    assert database.stat().st_size < 6 * MAX_BODY


def bomb() -> bytes:
    """100 MiB of blanks in 100 KiB."""
    packing = zlib.compressobj(9, wbits=31)
    blanks = b" " * (1 << 20)
    return b"".join(packing.compress(blanks) for _ in range(100)) + packing.flush()


def test_a_small_body_that_inflates_to_a_large_one_is_refused(empty_server: LocalServer):
    body = bomb()
    assert len(body) < MAX_BODY

    reply = post(empty_server, body, Content_Encoding="gzip")

    assert reply.status == 413
    assert reply.json == {"error": f"The decoded body is larger than {MAX_BODY} bytes."}


def test_a_body_as_large_as_may_be_is_taken_by_gzip_too(server: LocalServer):
    body = json.dumps(batch(event())).encode()
    body += b" " * (MAX_BODY - len(body))

    assert post(server, gzip.compress(body), Content_Encoding="gzip").status == 200
    assert post(server, gzip.compress(body + b" "), Content_Encoding="gzip").status == 413


GOOD = gzip.compress(json.dumps(batch(event())).encode())


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"{}", {"Content_Encoding": "gzip"}),
        (400, GOOD[:-9], {"Content_Encoding": "gzip"}),
        (400, GOOD + b"more", {"Content_Encoding": "gzip"}),
        (400, gzip.compress(GOOD), {"Content_Encoding": "gzip"}),
        (400, GOOD, {}),
        (415, GOOD, {"Content_Encoding": "br"}),
        (415, GOOD, {"Content_Encoding": "gzip, gzip"}),
        (415, b"{}", {"Content_Type": "text/plain"}),
        (415, b"{}", {"Content_Type": "application/x-www-form-urlencoded"}),
    ],
)
def test_a_body_in_another_form_is_refused(
    status: int, body: bytes, headers: dict[str, str], empty_server: LocalServer
):
    reply = post(empty_server, body, **headers)

    assert (reply.status, list(reply.json)) == (status, ["error"])
    assert empty_server.events() == []


@pytest.mark.parametrize("depth", [33, 5000, 100_000])
def test_json_that_is_nested_without_end_is_refused(depth: int, server: LocalServer):
    reply = post(server, b'{"events": ' + b"[" * depth + b"]" * depth + b"}")

    assert reply.status == 400
    assert post(server, batch(event(data={"a": [[[[[[[[1]]]]]]]]}))).status == 200


def test_text_that_no_database_can_hold_does_no_harm(server: LocalServer):
    half = "\ud83d"
    odd = event(id=half, session=half, data={"model": half, "huge": 10**400, half: 1})
    body = (
        json.dumps(batch(odd, agent=half)).encode().replace(b'"huge": 1', b'"huge": 1e999, "x": 1')
    )

    assert post(server, body).status == 200

    (kept,) = get(server, "/v1/events")["events"]
    assert (kept["id"], kept["session"], kept["agent"]) == ("\ufffd", "\ufffd", "\ufffd")
    assert kept["data"]["model"] == half
    assert kept["data"]["huge"] is None
    assert request(server, "GET", "/").status == 200
    assert len(get(server, "/v1/sessions")["sessions"]) == 1


def test_many_threads_can_post_and_read_at_once(server: LocalServer):
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for turn in range(20):
                shared = call(id=f"shared-{turn}", tokens=1)
                own = [call(id=f"{thread}-{turn}-{n}", tokens=1) for n in range(5)]
                send(server, shared, *own)
                get(server, "/v1/stats")
        except BaseException as error:  # noqa: BLE001  # raised by the test's thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len({each["id"] for each in server.events()}) == len(server.events()) == 820
    assert get(server, "/v1/stats")["cost"]["tokens"] == 820


@contextmanager
def sending_slowly(server: LocalServer) -> Iterator[socket.socket]:
    """A connection that has sent the beginning of a body."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(
            f"POST /v1/ingest HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"Authorization: Bearer {server.key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"agent":'.encode()
        )
        yield connection


def test_a_sender_that_stops_in_the_middle_leaves_nothing(server: LocalServer):
    with sending_slowly(server):
        pass

    send(server, event(id="next"))
    assert [each["id"] for each in server.events()] == ["next"]


def test_a_sender_that_takes_too_long_is_refused(
    empty_server: LocalServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_requests, "SECONDS", 0.1)

    with sending_slowly(empty_server) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_server_that_stops_does_not_wait_for_a_slow_sender(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_requests, "SECONDS", 1000.0)

    with LocalServer() as server, sending_slowly(server):
        server.__exit__(None, None, None)


def test_a_heartbeat_is_an_event(server: LocalServer):
    body = json.dumps({"agent": "mailer", "active_sessions": 2, "uptime_s": 61.5}).encode()

    before = time.time()
    reply = request(server, "POST", "/v1/heartbeat", body, {"Content-Type": "application/json"})

    assert (reply.status, reply.json) == (200, {"accepted": 1})
    (heartbeat,) = server.events("heartbeat")
    assert heartbeat["agent"] == "mailer"
    assert heartbeat["data"] == {"active_sessions": 2, "uptime_s": 61.5}
    assert before <= heartbeat["ts"] <= time.time()


@pytest.mark.parametrize(
    ("status", "body"), [(400, b"[]"), (413, b'{"x": "%s"}' % (b"x" * 20_000))]
)
def test_a_heartbeat_has_the_limits_of_an_event(
    status: int, body: bytes, empty_server: LocalServer
):
    reply = request(
        empty_server, "POST", "/v1/heartbeat", body, {"Content-Type": "application/json"}
    )

    assert reply.status == status
    assert empty_server.events() == []
