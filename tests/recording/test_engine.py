"""The engine by itself, with a toy client: what breaks on our side stays there."""

from __future__ import annotations

import gc
from collections import UserDict
from dataclasses import dataclass, replace
from typing import Any

import pytest
from agentpulse_instrumentation import Operation, Recording, Table
from agentpulse_instrumentation._engine import patching
from agentpulse_instrumentation._engine.body import LONGEST_EVENT, EventDecoder
from agentpulse_instrumentation._engine.client import ClientInstrumentor, RequestWrapper
from agentpulse_instrumentation._engine.content import ContentPolicy
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation._engine.recording import Metrics


@dataclass
class Options:
    """A request as the generated clients describe it."""

    url: str = "/toys"
    method: str = "post"
    json_data: Any = None
    headers: Any = None

    def copy(self, update: dict[str, Any]) -> Options:
        return replace(self, **update)


class Toys:
    """Counts what passes."""

    def __init__(self, keeps_content: bool) -> None:
        self.seen = 0

    def add(self, chunk: Any) -> None:
        self.seen += chunk["toys"]

    def answer(self) -> Any:
        return {"toys": self.seen}

    def is_complete(self) -> bool:
        return True

    def reported_usage(self) -> bool:
        return True

    def received_characters(self) -> int:
        return 0


TOY = Operation(
    name="toy",
    request=Table({"model": ("gen_ai.request.model", str)}),
    answer=Table({"toys": ("toys.count", int)}),
    accumulator=Toys,
)


class Response:
    """As much of an HTTP response as closing it takes."""

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class Stream:
    """A stream as the generated clients have it."""

    def __init__(self, chunks: Any) -> None:
        self.response = Response()
        self._iterator = iter(chunks)

    def __iter__(self) -> Any:
        yield from self._iterator

    def __next__(self) -> Any:
        return next(self._iterator)


class Client:
    _base_url = "http://toys.example:8080/"

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def request(self, cast_to: Any, options: Any, *, stream: bool = False) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


class ToyInstrumentor(ClientInstrumentor):
    """Of a family of its own, whose name is that of the provider."""

    library = "toy maker"


def wrapper(spans: Any, operation: Operation = TOY) -> RequestWrapper:
    tracer, metrics = spans.provider.get_tracer("toys"), Metrics("tests", None)
    recording = Recording(tracer, None, ContentPolicy(), metrics)
    family = ToyInstrumentor()
    family.routes = Routes((operation, "post", "/toys"))
    return RequestWrapper(recording, family)


def instrumented(client: Client, spans: Any, operation: Operation = TOY) -> Any:
    request = wrapper(spans, operation).wrap(Client.request)
    return lambda options=None, **more: request(client, object, options or Options(), **more)


ASKED = Options(json_data={"model": "bear"})


def test_a_call_of_an_operation_is_a_span(spans: Any) -> None:
    answer = {"toys": 3}
    assert instrumented(Client(answer), spans)(ASKED) is answer
    (span,) = spans()
    assert span == {
        "name": "toy bear",
        "kind": "CLIENT",
        "attributes": {
            "gen_ai.operation.name": "toy",
            "gen_ai.provider.name": "toy maker",
            "gen_ai.request.model": "bear",
            "server.address": "toys.example",
            "server.port": 8080,
            "toys.count": 3,
        },
    }


@pytest.mark.parametrize(
    "options", [Options(url="/books"), Options(method="get"), Options(url="/toys/1")]
)
def test_what_is_no_operation_passes_without_a_span(options: Options, spans: Any) -> None:
    assert instrumented(Client(1), spans)(options) == 1
    assert spans() == []


@pytest.mark.parametrize("url", ["/toys", "toys", "/toys?page=2", "https://toys.example/toys"])
def test_a_path_is_found_however_it_is_written(url: str, spans: Any) -> None:
    instrumented(Client({}), spans)(Options(url=url))
    assert [span["name"] for span in spans()] == ["toy"]


def broken(*_arguments: Any) -> Any:
    message = "a mistake of ours"
    raise LookupError(message)


class BrokenToys(Toys):
    add = broken


class BrokenConstants(UserDict[str, Any]):
    keys = broken


NO_MODEL = Table({"model": ("gen_ai.request.model", broken)})
BROKEN = {
    "begin": (replace(TOY, constants=BrokenConstants()), []),
    "convert a field": (replace(TOY, request=NO_MODEL), ["toy"]),
    "read the answer": (replace(TOY, more_from_answer=broken), ["toy bear"]),
    "look for a failure": (replace(TOY, failure=broken), ["toy bear"]),
    "count the choices": (replace(TOY, finish_reasons=broken), ["toy bear"]),
}


@pytest.mark.parametrize("step", BROKEN)
def test_a_mistake_of_ours_leaves_the_call_alone(
    step: str, spans: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    caplog.set_level("DEBUG", logger="agentpulse")
    operation, names = BROKEN[step]
    answer = {"toys": 3}
    assert instrumented(Client(answer), spans, operation)(ASKED) is answer
    assert [span["name"] for span in spans()] == names
    assert [record.message for record in caplog.records if "LookupError" in record.message]
    assert "a mistake of ours" not in caplog.text


def test_a_mistake_of_ours_leaves_a_stream_alone(
    spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    operation = replace(TOY, accumulator=BrokenToys)
    chunks = [{"toys": number} for number in range(100)]
    stream = instrumented(Client(Stream(chunks)), spans, operation)(ASKED, stream=True)
    assert list(stream) == chunks
    assert len(spans()) == 1


def test_every_chunk_of_a_stream_is_read_once(spans: Any) -> None:
    chunks = [{"toys": 1} for _ in range(100)]
    list(instrumented(Client(Stream(chunks)), spans)(ASKED, stream=True))
    (span,) = spans()
    assert span["attributes"]["toys.count"] == 100


def test_a_stream_that_is_left_reports_what_came(spans: Any) -> None:
    stream = instrumented(Client(Stream([{"toys": 1}] * 100)), spans)(ASKED, stream=True)
    for _ in range(7):
        next(stream)
    del stream
    gc.collect()
    (span,) = spans()
    assert span["attributes"]["toys.count"] == 7


@pytest.mark.parametrize("error", [ValueError("no toys"), KeyboardInterrupt(), SystemExit(3)])
def test_what_the_client_raises_is_the_callers_own(error: BaseException, spans: Any) -> None:
    with pytest.raises(type(error)) as raised:
        instrumented(Client(error), spans)(ASKED)
    assert raised.value is error
    (span,) = spans()
    assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", type(error).__name__)
    assert "no toys" not in str(span)


def test_an_error_inside_a_stream_is_the_callers_own(spans: Any) -> None:
    error = RuntimeError("no more toys")

    def chunks() -> Any:
        yield {"toys": 1}
        raise error

    stream = instrumented(Client(Stream(chunks())), spans)(ASKED, stream=True)
    next(stream)
    with pytest.raises(RuntimeError) as raised:
        next(stream)
    assert raised.value is error
    (span,) = spans()
    assert span["attributes"]["error.type"] == "RuntimeError"
    assert span["attributes"]["toys.count"] == 1


@pytest.mark.anyio
async def test_a_coroutine_that_is_never_awaited_begins_nothing(spans: Any) -> None:
    async def request(_self: Any, _cast_to: Any, _options: Any) -> Any:
        return {}

    observed, client = wrapper(spans).wrap_async(request), Client({})
    coroutine = observed(client, object, ASKED)
    coroutine.close()
    assert spans() == []
    assert await observed(client, object, ASKED) == {}


def test_an_event_too_long_to_be_held_costs_itself_alone():
    decoder = EventDecoder()
    too_long = b'data: {"x": "' + b"a" * LONGEST_EVENT + b'"}\n\n'
    assert list(decoder.feed(too_long)) == []
    assert list(decoder.feed(b'data: {"toys": 3}\n\n')) == [{"toys": 3}]


class AsyncChunks:
    """An async iterator that is no generator, so it can't be closed."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> AsyncChunks:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


class AsyncStream(AsyncChunks):
    def __init__(self, chunks: Any) -> None:
        self.response = Response()
        self._iterator: Any = AsyncChunks(chunks)

    async def __anext__(self) -> Any:
        return await anext(self._iterator)


@pytest.mark.anyio
async def test_an_async_stream_of_whatever_kind_is_read_once(spans: Any) -> None:
    async def request(_self: Any, _cast_to: Any, _options: Any, **_more: Any) -> Any:
        return AsyncStream([{"toys": 1}] * 3)

    stream = await wrapper(spans).wrap_async(request)(Client({}), object, ASKED, stream=True)
    assert [chunk async for chunk in stream] == [{"toys": 1}] * 3
    (span,) = spans()
    assert span["attributes"]["toys.count"] == 3
