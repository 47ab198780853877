"""What goes wrong around a call: the call is untouched, and one clear message tells of it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest
from fakes.sdk import KEY, Receiver
from opentelemetry.sdk.trace import TracerProvider

import agentpulse

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_763_884_800,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
WITHOUT_USAGE = {name: value for name, value in ANSWER.items() if name != "usage"}


class Api:
    """An OpenAI API that always gives the same answer."""

    content_type = "application/json"
    body = json.dumps(ANSWER).encode()

    def __init__(self) -> None:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", api.content_type)
                self.send_header("Content-Length", str(len(api.body)))
                self.end_headers()
                self.wfile.write(api.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    thread = threading.Thread(target=api.server.serve_forever, args=(0.01,))
    thread.start()
    yield api
    api.server.shutdown()
    api.server.server_close()
    thread.join()


Call = Callable[..., Any]


@pytest.fixture
def call(api: Api) -> Call:
    """Asks the API by the real client; returns what came of it, an exception too."""

    def call(model: str = "gpt-4o") -> Any:
        with openai.OpenAI(api_key="sk-test", base_url=api.url, max_retries=0) as client:
            try:
                return client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hello"}]
                )
            except (openai.OpenAIError, ValueError) as error:
                return type(error), str(error)

    return call


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """What our loggers said, from a level on."""
    caplog.set_level(logging.DEBUG, logger="agentpulse")

    def said(level: int = logging.WARNING) -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.name.startswith("agentpulse") and record.levelno >= level
        ]

    return said


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key(status: int, receiver: Receiver, provider: TracerProvider, call, said):
    receiver.status = status
    bare = call()

    agentpulse.init(api_key=KEY, endpoint=receiver.endpoint, tracer_provider=provider)
    ours = call()
    agentpulse.flush(timeout=2)
    agentpulse.shutdown()

    assert ours == bare
    (message,) = said()
    assert "check AGENTPULSE_API_KEY" in message
    assert KEY not in message


def test_no_key(provider: TracerProvider, call, said):
    bare = call()

    agentpulse.init(tracer_provider=provider)
    ours = call()

    assert ours == bare
    (message,) = said()
    assert message.startswith("AgentPulse is off, because it has no API key")


def test_an_endpoint_that_refuses(refusing: str, provider: TracerProvider, call, said):
    bare = call()

    agentpulse.init(endpoint=refusing, tracer_provider=provider)
    ours = call()
    agentpulse.flush(timeout=10)
    stats = agentpulse.stats()
    agentpulse.shutdown()

    assert ours == bare
    (message,) = said()
    assert "did not reach AgentPulse" in message
    assert "unreachable" in message
    assert stats.ended == stats.accepted + stats.queued + sum(stats.dropped.values()) == 2


def test_a_malformed_setting(provider: TracerProvider, call, said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AGENTPULSE_FLUSH_INTERVAL", "ten")
    bare = call()

    agentpulse.init(api_key=KEY, tracer_provider=provider)
    ours = call()

    assert ours == bare
    (message,) = said()
    assert message == (
        "AgentPulse is off until this is corrected: AGENTPULSE_FLUSH_INTERVAL is 'ten'; "
        "expected seconds as a number from 0.01 to 86400, for example 5."
    )


def test_a_model_nobody_knows(api: Api, receiver: Receiver, provider: TracerProvider, call, said):
    api.body = json.dumps({**ANSWER, "model": "my-own-1"}).encode()
    bare = call("my-own-1")

    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    ours = [call("my-own-1"), call("my-own-1")]
    assert agentpulse.flush()

    assert ours == [bare, bare]
    (message,) = said()
    assert message.startswith("No price is known of the model 'my-own-1', so the cost of its calls")
    assert agentpulse.stats().unpriced == {"my-own-1": 2}
    data = receiver.of_kind("llm_call")[0]["data"]
    assert (data["tokens"], data["cost_usd"]) == (5, None)


UNMETERED = [
    pytest.param("application/json", json.dumps(WITHOUT_USAGE).encode(), id="no usage"),
    pytest.param("application/json", b"[1, 2]", id="another JSON"),
    pytest.param("text/html", b"<p>Log in first.</p>", id="a web page"),
]


@pytest.mark.parametrize(("content_type", "body"), UNMETERED)
def test_an_answer_without_usage(
    content_type: str,
    body: bytes,
    api: Api,
    receiver: Receiver,
    provider: TracerProvider,
    call,
    said,
    caplog: pytest.LogCaptureFixture,
):
    api.content_type, api.body = content_type, body
    bare = call()

    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    caplog.clear()
    ours = call()
    assert agentpulse.flush()

    assert (type(ours), ours) == (type(bare), bare)
    assert said(logging.DEBUG) == [
        "'chat gpt-4o' reported no usage: its tokens and cost are unknown"
    ]
    (event,) = receiver.of_kind("llm_call")
    assert (event["data"]["tokens"], event["data"]["cost_usd"]) == (None, None)
    assert event["data"]["status"] == "success"


def test_an_answer_that_is_not_json_raises_as_ever_and_the_event_tells_of_it(
    api: Api,
    receiver: Receiver,
    provider: TracerProvider,
    call,
    said,
    caplog: pytest.LogCaptureFixture,
):
    api.body = b'{"id": '
    bare = call()

    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider)
    caplog.clear()
    ours = call()
    assert agentpulse.flush()

    assert ours == bare == (json.JSONDecodeError, "Expecting value: line 1 column 8 (char 7)")
    # The client's exception is the message to the program, and the event the one to its owner.
    assert said(logging.DEBUG) == []
    (event,) = receiver.of_kind("llm_call")
    assert event["data"]["status"] == "error"
    assert event["data"]["error_type"] == "JSONDecodeError"
    assert "error" not in event["data"]
