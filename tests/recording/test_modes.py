"""One call, one span, the same whichever way the call is made."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import modes
import pytest
from agentpulse_instrumentation import INSTRUMENTORS
from fakes.clients import error_of
from fakes.provider import answers, broken, cut, ended, fails, held_by, is_no_json
from modes import Mode

HELLO = [{"role": "user", "content": "What is new?"}]
RULES = [{"type": "text", "text": "Be brief. " * 9, "cache_control": {"type": "ephemeral"}}]


@dataclass(frozen=True)
class Renamed:
    """A resource, and what it has for raw answers, with the method of another name as `create`."""

    resource: Any
    method: str

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.resource, self.method if name == "create" else name)
        return Renamed(found, self.method) if name.startswith("with_") else found


@dataclass(frozen=True)
class Case:
    """One operation: what is called, with what, and what its span says."""

    library: str
    path: str
    body: dict[str, Any]
    span: dict[str, Any]
    modes: tuple[Mode, ...]
    stream_body: dict[str, Any] = field(default_factory=dict)
    method: str = "create"
    marks: tuple[pytest.MarkDecorator, ...] = ()

    def resource(self, clients: Any, *, asynchronous: bool = False) -> Any:
        found = getattr(clients, f"a{self.library}" if asynchronous else self.library)
        for name in self.path.split("."):
            found = getattr(found, name, None)
        if found is None:
            pytest.skip(f"this version of {self.library} has no {self.path}")
        return found if self.method == "create" else Renamed(found, self.method)

    def expected(self, *, streams: bool) -> dict[str, Any]:
        name, *attributes = self.span["name"], self.span["attributes"]
        reported = {**attributes[0], **({"gen_ai.request.stream": True} if streams else {})}
        return {"name": name, "kind": "CLIENT", "attributes": dict(sorted(reported.items()))}


CHAT = Case(
    "openai",
    "chat.completions",
    {"model": "gpt-4o", "messages": HELLO, "temperature": 1, "max_tokens": 50, "seed": 7},
    {
        "name": "chat gpt-4o",
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.request.seed": 7,
            "gen_ai.request.temperature": 1.0,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.usage.cache_read.input_tokens": 5,
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 33,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "openai.api.type": "chat_completions",
            "openai.response.service_tier": "default",
            "openai.response.system_fingerprint": "fp_fake",
            "server.address": "127.0.0.1",
        },
    },
    modes.EVERY,
    {"stream_options": {"include_usage": True}},
)
RESPONSE = Case(
    "openai",
    "responses",
    {"model": "gpt-4o", "input": "What is new?", "max_output_tokens": 50},
    {
        "name": "chat gpt-4o",
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.finish_reasons": ["completed"],
            "gen_ai.response.id": "resp_1",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.usage.cache_read.input_tokens": 0,
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 57,
            "gen_ai.usage.reasoning.output_tokens": 28,
            "openai.api.type": "responses",
            "openai.response.service_tier": "default",
            "server.address": "127.0.0.1",
        },
    },
    modes.EVERY,
)
COMPLETION = Case(
    "openai",
    "completions",
    {"model": "gpt-3.5-turbo-instruct", "prompt": "What is new?"},
    {
        "name": "text_completion gpt-3.5-turbo-instruct",
        "attributes": {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-3.5-turbo-instruct",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.id": "cmpl-1",
            "gen_ai.response.model": "gpt-3.5-turbo-instruct",
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 20,
            "server.address": "127.0.0.1",
        },
    },
    (*modes.WHOLE, *modes.STREAMED),
    {"stream_options": {"include_usage": True}},
)
EMBEDDINGS = Case(
    "openai",
    "embeddings",
    {"model": "text-embedding-3-small", "input": "What is new?", "encoding_format": "float"},
    {
        "name": "embeddings text-embedding-3-small",
        "attributes": {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.encoding_formats": ["float"],
            "gen_ai.request.model": "text-embedding-3-small",
            "gen_ai.response.model": "text-embedding-3-small",
            "gen_ai.usage.input_tokens": 4,
            "server.address": "127.0.0.1",
        },
    },
    modes.WHOLE,
)
MESSAGE = Case(
    "anthropic",
    "messages",
    {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": HELLO, "system": RULES},
    {
        "name": "chat claude-haiku-4-5",
        "attributes": {
            "anthropic.response.service_tier": "standard",
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 10,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.model": "claude-haiku-4-5",
            "gen_ai.response.finish_reasons": ["end_turn"],
            "gen_ai.response.id": "msg_1",
            "gen_ai.response.model": "claude-haiku-4-5-20251001",
            "gen_ai.usage.cache_read.input_tokens": 30,
            "gen_ai.usage.cache_write.input_tokens": 10,
            "gen_ai.usage.input_tokens": 51,
            "gen_ai.usage.output_tokens": 32,
            "server.address": "127.0.0.1",
        },
    },
    modes.EVERY,
)
BETA_MESSAGE = Case(
    "anthropic",
    "beta.messages",
    MESSAGE.body,
    MESSAGE.span,
    (*modes.WHOLE, *modes.STREAMED),
)
GROQ_CHAT = Case(
    "groq",
    "chat.completions",
    {"model": "llama-3.3-70b-versatile", "messages": HELLO, "max_completion_tokens": 50},
    {
        "name": "chat llama-3.3-70b-versatile",
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "groq",
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.model": "llama-3.3-70b-versatile",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.model": "llama-3.3-70b-versatile",
            "gen_ai.usage.cache_read.input_tokens": 5,
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 33,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "openai.response.system_fingerprint": "fp_fake",
            "server.address": "127.0.0.1",
        },
    },
    (*modes.WHOLE, *modes.STREAMED),
)
IMAGE = Case(
    "openai",
    "images",
    {"model": "gpt-image-1", "prompt": "a cat"},
    {
        "name": "generate_content gpt-image-1",
        "attributes": {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.output.type": "image",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-image-1",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 1056,
            "gen_ai.usage.text.input_tokens": 12,
            "server.address": "127.0.0.1",
        },
    },
    modes.WHOLE,
    method="generate",
)
CASES = {
    "chat": CHAT,
    "responses": RESPONSE,
    "completions": COMPLETION,
    "embeddings": EMBEDDINGS,
    "images": IMAGE,
    "messages": MESSAGE,
    "beta messages": BETA_MESSAGE,
    "chat of groq": GROQ_CHAT,
}
EVERY = [
    pytest.param(case, mode, id=f"{name}, {mode.name}", marks=case.marks)
    for name, case in CASES.items()
    for mode in case.modes
]
PLAIN = [pytest.param(case, id=name, marks=case.marks) for name, case in CASES.items()]
STREAMED = [
    pytest.param(case, id=name, marks=case.marks)
    for name, case in CASES.items()
    if modes.STREAM in case.modes
]


def body_of(case: Case, mode: Mode) -> dict[str, Any]:
    return {**case.body, **(case.stream_body if mode.streams else {})}


def test_every_instrumentor_goes_through_the_modes():
    elsewhere = {name: Path(__file__).parents[1] / path for name, path in modes.ELSEWHERE.items()}
    assert all(path.is_file() for path in elsewhere.values())
    assert {case.library for case in CASES.values()} | set(elsewhere) == set(INSTRUMENTORS)


def without_times(span: dict[str, Any]) -> dict[str, Any]:
    """The span without what differs from run to run; a stream has the time to its first chunk."""
    attributes = dict(span["attributes"])
    assert attributes.pop("server.port", 0) > 0
    if attributes.get("gen_ai.request.stream"):
        assert attributes.pop("gen_ai.response.time_to_first_chunk", 0) > 0
    return {**span, "attributes": attributes}


@pytest.mark.parametrize(("case", "mode"), EVERY)
def test_a_call_is_one_span(case: Case, mode: Mode, clients: Any, instrumented: Any) -> None:
    resource = case.resource(clients)
    modes.has_helper(resource, mode)
    spans = instrumented()
    mode.run(resource, body_of(case, mode))
    (span,) = spans()
    assert without_times(span) == case.expected(streams=mode.streams)


@pytest.mark.parametrize(("case", "mode"), EVERY)
def test_an_async_call_is_the_same_span(
    case: Case, mode: Mode, clients: Any, instrumented: Any
) -> None:
    resource = case.resource(clients, asynchronous=True)
    modes.has_helper(resource, mode)
    spans = instrumented()
    clients.run(mode.arun(resource, body_of(case, mode)))
    (span,) = spans()
    assert without_times(span) == case.expected(streams=mode.streams)


@pytest.mark.parametrize(("case", "mode"), EVERY)
def test_an_error_of_the_provider_is_its_type_and_status(
    case: Case, mode: Mode, clients: Any, provider: Any, instrumented: Any
) -> None:
    resource = case.resource(clients)
    modes.has_helper(resource, mode)
    spans = instrumented()
    provider.script(fails(429, "rate_limit_error"))
    with pytest.raises(Exception, match="rate_limit_error"):
        mode.run(resource, body_of(case, mode))
    (span,) = spans()
    assert span["status"] == "ERROR"
    assert "description" not in span
    assert span["attributes"]["http.response.status_code"] == 429
    assert span["attributes"]["error.type"] == "rate_limit_error"
    assert not [name for name in span["attributes"] if name.startswith("gen_ai.usage")]


@pytest.mark.parametrize("case", STREAMED)
def test_a_stream_that_the_network_cut_is_an_error(
    case: Case, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(cut(4))
    with pytest.raises(Exception, match=r".") as raised:
        modes.stream(case.resource(clients), body_of(case, modes.STREAM))
    (span,) = spans()
    assert span["status"] == "ERROR"
    assert span["attributes"]["error.type"].endswith(type(raised.value).__name__)
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["error"]


@pytest.mark.parametrize("case", STREAMED)
def test_a_stream_that_the_server_ended_early_is_an_error(
    case: Case, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(ended(4))
    modes.stream(case.resource(clients), body_of(case, modes.STREAM))
    (span,) = spans()
    assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", "stream_cut")
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["error"]


@pytest.mark.parametrize("case", STREAMED)
def test_an_error_inside_a_stream_is_an_error(
    case: Case, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(broken(4))
    # Some clients raise here, some hand the event out.
    with contextlib.suppress(error_of(case.library)):
        modes.stream(case.resource(clients), body_of(case, modes.STREAM))
    (span,) = spans()
    assert span["status"] == "ERROR"
    assert span["attributes"]["error.type"] == "overloaded_error"


@pytest.mark.parametrize("case", STREAMED)
def test_a_stream_that_the_caller_left_is_no_error(
    case: Case, clients: Any, instrumented: Any
) -> None:
    spans = instrumented()
    for number, _ in enumerate(
        case.resource(clients).create(**body_of(case, modes.STREAM), stream=True)
    ):
        if number == 3:
            break
    gc.collect()
    (span,) = spans()
    assert "status" not in span
    assert "error.type" not in span["attributes"]
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["error"]
    assert span["attributes"]["agentpulse.usage.estimated"] is True
    assert span["attributes"]["gen_ai.usage.input_tokens"] > 0


@pytest.mark.parametrize("case", STREAMED)
def test_a_closed_stream_ends_its_span_at_once(case: Case, clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    stream = case.resource(clients).create(**body_of(case, modes.STREAM), stream=True)
    next(iter(stream))
    stream.close()
    assert len(spans()) == 1
    del stream
    gc.collect()
    assert spans() == []


@pytest.mark.parametrize("case", STREAMED)
def test_a_stream_dropped_unread_ends_its_span(case: Case, clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    stream = case.resource(clients).create(**body_of(case, modes.STREAM), stream=True)
    assert spans() == []
    del stream
    gc.collect()
    (span,) = spans()
    assert "status" not in span


@pytest.mark.parametrize("case", STREAMED)
def test_an_async_stream_that_is_left_ends_its_span(
    case: Case, clients: Any, instrumented: Any
) -> None:
    spans = instrumented()

    async def leave() -> None:
        resource = case.resource(clients, asynchronous=True)
        stream = await resource.create(**body_of(case, modes.STREAM), stream=True)
        async for _ in stream:
            break
        await stream.close()

    clients.run(leave())
    (span,) = spans()
    assert "status" not in span


@pytest.mark.parametrize("case", STREAMED)
def test_a_cancelled_task_ends_its_span_with_the_cancellation(
    case: Case, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    gate = threading.Semaphore(1)
    provider.script(held_by(gate))

    async def cancel() -> None:
        resource = case.resource(clients, asynchronous=True)
        reading = asyncio.Event()

        async def read() -> None:
            stream = await resource.create(**body_of(case, modes.STREAM), stream=True)
            async for _ in stream:
                reading.set()

        task = asyncio.ensure_future(read())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clients.run(cancel())
    for _ in range(50):
        gate.release()
    (span,) = spans()
    assert span["status"] == "ERROR"
    assert span["attributes"]["error.type"].endswith("CancelledError")


@pytest.mark.parametrize("case", PLAIN)
def test_an_answer_of_another_shape_is_a_span_of_the_request(
    case: Case, clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(answers({"unheard": "of"}))
    # Embeddings: the client itself misses the data.
    with contextlib.suppress(ValueError, TypeError):
        modes.plain(case.resource(clients), case.body)
    (span,) = spans()
    assert span["name"] == case.span["name"]
    assert not [name for name in span["attributes"] if name.startswith("gen_ai.usage")]


def test_an_answer_that_is_no_json_is_the_callers_to_see(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    provider.script(is_no_json)
    answer = clients.openai.chat.completions.create(**CHAT.body)
    assert answer == "<html>Please log in.</html>"
    (span,) = spans()
    assert span["name"] == "chat gpt-4o"


def test_a_response_that_is_fetched_has_no_requested_model(clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    clients.openai.responses.retrieve("resp_1")

    (span,) = spans()
    reported = span["attributes"]
    assert (span["name"], reported["gen_ai.response.id"]) == ("fetch_response", "resp_1")
    assert "gen_ai.response.model" in reported
    assert "gen_ai.request.model" not in reported


@pytest.mark.unconventional("no model was asked for, and the answer doesn't say which one it was")
def test_an_image_of_whatever_model_is_a_span_without_one(clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    clients.openai.images.generate(prompt="a cat")

    (span,) = spans()
    assert span["name"] == "generate_content"
    assert "gen_ai.request.model" not in span["attributes"]


@pytest.mark.parametrize(
    ("library", "path", "case"),
    [("openai", "/chat/completions", CHAT), ("anthropic", "/v1/messages", MESSAGE)],
)
def test_fields_that_a_model_does_not_declare_count_in_streams_as_in_plain_answers(
    library: str, path: str, case: Case, clients: Any, instrumented: Any
) -> None:
    spans, client = instrumented(), getattr(clients, library)
    module = importlib.import_module(library)
    # A client of another version, or of another host, declares other fields: this one has none.
    bare = type("Bare", (module.BaseModel,), {})
    client.post(path, cast_to=bare, body=case.body)
    body = {**body_of(case, modes.STREAM), "stream": True}
    list(client.post(path, cast_to=bare, body=body, stream=True, stream_cls=module.Stream[bare]))

    plain, streamed = spans()
    assert streamed["attributes"].pop("gen_ai.request.stream") is True
    for span in (plain, streamed):
        # Each answer has its own.
        del span["attributes"]["gen_ai.response.id"]
        span["attributes"].pop("gen_ai.response.time_to_first_chunk", None)
    assert plain == streamed
