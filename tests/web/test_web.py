"""FastAPI under `opentelemetry-instrument`, gunicorn with two preloaded workers."""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import processes
from fakes.pipe import becomes_true
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

BIN = Path(sys.executable).parent
REQUESTS, MOST_REQUESTS, WORKERS = 40, 2000, 2


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:  # an address of this machine
        return json.load(answer)


def answers(url: str) -> bool:
    try:
        asked(url)
    except OSError:
        return False
    return True


UVICORN = ("--preload", "--worker-class", "uvicorn_worker.UvicornWorker")


@contextmanager
def serving(
    app: str,
    *,
    under: tuple[str, ...] = ("opentelemetry-instrument",),
    options: tuple[str, ...] = UVICORN,
    path: str = "/openapi.json",
    **variables: str,
) -> Iterator[str]:
    """The address of an application whose server ends with the block, as SIGTERM ends it."""
    # It is given the socket, for a port that is free now may be another program's then.
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    before = [str(BIN / under[0]), *under[1:]] if under else []
    command = [
        *(*before, str(BIN / "gunicorn"), app, "--workers", str(WORKERS), *options),
        *("--bind", f"fd://{listening.fileno()}"),
    ]
    with processes.running(
        command,
        cwd=Path(__file__).parent,
        env={**os.environ, **variables},
        pass_fds=[listening.fileno()],
    ) as server:
        listening.close()
        assert becomes_true(lambda: answers(f"{url}{path}"), processes.LIMIT)
        yield url
        server.terminate()
        _, spoken = processes.ended(server)
    assert "Traceback" not in spoken, spoken


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[list[Any], Receiver]]:
    """What was answered to requests, and what was reported by then."""
    with Receiver() as receiver, FakeProvider() as provider:
        environ = {
            "AGENTPULSE_ENDPOINT": receiver.url,
            "AGENTPULSE_FLUSH_INTERVAL": "0.2",
            "AGENTPULSE_EXPORT_ALL_SPANS": "true",
            # So that addresses are reported.
            "AGENTPULSE_CAPTURE_MESSAGES": "true",
            "PROVIDER_URL": provider.url,
        }
        with serving("app:app", **environ) as url:
            reported: list[Any] = []
            while len(reported) < REQUESTS or len({each["pid"] for each in reported}) < WORKERS:
                # Whoever is up first may have all of the first ones.
                reported.append(asked(f"{url}/{('ask', 'aask')[len(reported) % 2]}"))
                assert len(reported) < MOST_REQUESTS
            assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == len(reported))
        yield reported, receiver


def test_what_the_workers_reported_last_arrives_where_their_application_flushes() -> None:
    with Receiver() as receiver, FakeProvider() as provider:
        environ = {
            "AGENTPULSE_ENDPOINT": receiver.url,
            "AGENTPULSE_FLUSH_INTERVAL": "60",
            "PROVIDER_URL": provider.url,
        }
        with serving("flushing:app", **environ) as url:
            reported = [asked(f"{url}/aask")["id"] for _ in range(4)]
        calls = [event["data"]["response_id"] for event in receiver.of_kind("llm_call")]
        assert sorted(calls) == sorted(reported)


def test_calls_of_both_workers_arrive_in_the_trace_of_their_request(served: Any) -> None:
    reported, receiver = served
    traces = {each["id"]: each["trace"] for each in reported}
    assert len({each["pid"] for each in reported}) == WORKERS
    calls = receiver.of_kind("llm_call")
    assert {call["data"]["response_id"]: call["trace_id"] for call in calls} == traces


def test_each_call_is_inside_the_span_of_its_request(served: Any) -> None:
    _, receiver = served
    spans = {event["span_id"]: event for event in receiver.events if "span_id" in event}
    for call in receiver.of_kind("llm_call"):
        around = []
        inside = call.get("parent_span_id")
        while inside is not None:
            around.append(spans[inside]["data"]["name"])
            inside = spans[inside].get("parent_span_id")
        assert around[-1] in ("GET /ask", "GET /aask")


def test_our_own_uploads_are_in_no_span(served: Any) -> None:
    _, receiver = served
    port = receiver.url.rpartition(":")[2]
    spans = receiver.of_kind("span_end")
    assert {"GET /ask", "GET /aask", "GET"} <= {event["data"]["name"] for event in spans}
    assert receiver.requests
    assert not [event for event in spans if f":{port}" in json.dumps(event["data"])]


def test_the_requests_of_a_call_are_inside_it(served: Any) -> None:
    _, receiver = served
    calls = {event["span_id"] for event in receiver.of_kind("llm_call")}
    posts = [event for event in receiver.of_kind("span_end") if event["data"]["name"] == "POST"]
    assert len(posts) == len(calls) >= REQUESTS
    assert {event["parent_span_id"] for event in posts} == calls
