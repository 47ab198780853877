"""A client of another family, instrumented by hand: the example of CONTRIBUTING.md, whole."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from agentpulse_instrumentation import (
    InputContent,
    LibraryInstrumentor,
    Observer,
    Operation,
    Patches,
    Recording,
    Table,
    aobserved,
    begin,
    observed,
)
from agentpulse_instrumentation._engine import patching
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation

# The library: one method that answers, one that streams, an exception with a code of its own.


OUT = "out_of_toys"


class ToyError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(f"the toy broke: {code}")
        self.code = code


class Client:
    seen: trace.Span

    def generate(self, *, model: str, prompt: str) -> dict[str, Any]:
        self.seen = trace.get_current_span()
        if prompt == "break":
            raise ToyError(OUT)
        return {"id": "toy_1", "text": "Hello!", "end": "stop", "tokens": {"in": 3, "out": 2}}

    def stream(self, *, model: str, prompt: str) -> Iterator[dict[str, Any]]:
        yield {"id": "toy_2", "text": "Hel"}
        if prompt == "break":
            raise ToyError(OUT)
        yield {"text": "lo!", "end": "stop", "tokens": {"in": 3, "out": 2}}


# The instrumentor: what the library is, in tables and functions.


def _messages(answer: Any) -> list[dict[str, Any]]:
    parts = [{"type": "text", "content": answer["text"]}]
    return [{"role": "assistant", "parts": parts}]


def _finish_reasons(answer: Any) -> list[str | None]:
    return [answer.get("end")]


def _input(request: Any) -> InputContent:
    parts = [{"type": "text", "content": request["prompt"]}]
    return InputContent([{"role": "user", "parts": parts}])


class Toys:
    """Makes of chunks what `generate` would have returned."""

    def __init__(self, keeps_content: bool) -> None:
        self._keeps_content = keeps_content
        self._answer: dict[str, Any] = {}
        self._characters = 0

    def add(self, chunk: Any) -> None:
        self._characters += len(chunk["text"])
        so_far = self._answer.get("text", "") if self._keeps_content else ""
        self._answer |= {**chunk, "text": so_far + chunk["text"]}

    def answer(self) -> Any:
        return self._answer or None

    def is_complete(self) -> bool:
        return "end" in self._answer

    def reported_usage(self) -> bool:
        return "tokens" in self._answer

    def received_characters(self) -> int:
        return self._characters


GENERATE = Operation(
    name="chat",
    request=Table({"model": ("gen_ai.request.model", str)}),
    answer=Table(
        {
            "id": ("gen_ai.response.id", str),
            "tokens.in": ("gen_ai.usage.input_tokens", int),
            "tokens.out": ("gen_ai.usage.output_tokens", int),
        }
    ),
    finish_reasons=_finish_reasons,
    accumulator=Toys,
    input_content=_input,
    output_content=_messages,
    estimates_usage=True,
)
TOY_MAKER = {"gen_ai.provider.name": "toy_maker"}


def _generate(original: Callable[..., Any], recording: Recording) -> Callable[..., Any]:
    @functools.wraps(original)
    def generate(self: Client, **request: Any) -> Any:
        with begin(recording, GENERATE, request, TOY_MAKER) as invocation:
            answer = original(self, **request)
        invocation.answered(answer)
        return answer

    return generate


def _stream(original: Callable[..., Any], recording: Recording) -> Callable[..., Any]:
    @functools.wraps(original)
    def stream(self: Client, **request: Any) -> Any:
        with begin(recording, GENERATE, request, TOY_MAKER, stream=True) as invocation:
            chunks = original(self, **request)
        return observed(chunks, Observer(invocation))

    return stream


def _code(error: BaseException) -> str | None:
    return error.code if isinstance(error, ToyError) else None


class ToyInstrumentor(LibraryInstrumentor):
    """Records every call of the toy library."""

    library = "toys"
    supported = "toys >= 1"
    defining = "toys.client"
    read_error = _code

    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        patches.replace(module, "Client.generate", lambda each: _generate(each, recording))
        patches.replace(module, "Client.stream", lambda each: _stream(each, recording))


@pytest.fixture
def instrument_toys(spans: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("toys.client")
    kind = type("Client", (), {name: vars(Client)[name] for name in ("generate", "stream")})
    monkeypatch.setattr(ToyError, "__module__", "toys.client")
    monkeypatch.setattr(module, "Client", kind, raising=False)
    monkeypatch.setitem(sys.modules, "toys", ModuleType("toys"))
    monkeypatch.setitem(sys.modules, "toys.client", module)
    instrumentor = ToyInstrumentor()

    def instrument(**more: Any) -> Any:
        instrumentor.instrument(skip_dep_check=True, tracer_provider=spans.provider, **more)
        return kind()

    yield instrument
    instrumentor.uninstrument()
    assert vars(kind)["generate"] is Client.generate


@pytest.fixture
def recording(instrument_toys: Any) -> Recording:
    """That of the instrumentor, switched on."""
    instrument_toys()
    recording = ToyInstrumentor().recording
    assert recording is not None
    return recording


ASKED = {"model": "bear", "prompt": "Hi"}
ANSWERED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "toy_maker",
    "gen_ai.request.model": "bear",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.response.id": "toy_1",
    "gen_ai.usage.input_tokens": 3,
    "gen_ai.usage.output_tokens": 2,
}


def test_a_call_is_one_span_current_while_the_client_works(
    instrument_toys: Any, spans: Any
) -> None:
    client = instrument_toys()
    answer = client.generate(**ASKED)

    (span,) = spans()
    assert answer["text"] == "Hello!"
    assert client.seen.get_span_context().is_valid
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert span == {"name": "chat bear", "kind": "CLIENT", "attributes": ANSWERED}


def test_a_stream_is_the_same_span(instrument_toys: Any, spans: Any) -> None:
    texts = [chunk["text"] for chunk in instrument_toys().stream(**ASKED)]

    (span,) = spans()
    assert texts == ["Hel", "lo!"]
    assert span["attributes"].pop("gen_ai.response.time_to_first_chunk") > 0
    assert span["attributes"].pop("gen_ai.request.stream") is True
    assert span["attributes"] == {**ANSWERED, "gen_ai.response.id": "toy_2"}


def test_content_is_captured_where_the_user_asks_for_it(instrument_toys: Any, spans: Any) -> None:
    client = instrument_toys(capture_messages=True)
    client.generate(**ASKED)
    list(client.stream(**ASKED))

    for span in spans():
        assert "Hi" in span["attributes"]["gen_ai.input.messages"]
        assert "Hello!" in span["attributes"]["gen_ai.output.messages"]


@pytest.mark.parametrize("method", ["generate", "stream"])
def test_an_error_is_the_callers_own_and_has_the_librarys_code(
    method: str, instrument_toys: Any, spans: Any
) -> None:
    with pytest.raises(ToyError):
        list(getattr(instrument_toys(), method)(model="bear", prompt="break"))

    (span,) = spans()
    assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", "out_of_toys")
    assert "the toy broke" not in str(span)


@pytest.mark.parametrize(
    ("reads", "error_type"), [(lambda _: 1 // 0, "ToyError"), (lambda _: 429, "429")]
)
def test_an_error_whose_code_cannot_be_read_is_still_one(
    reads: Any,
    error_type: str,
    instrument_toys: Any,
    spans: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    monkeypatch.setattr(ToyInstrumentor, "read_error", staticmethod(reads))
    with pytest.raises(ToyError):
        instrument_toys().generate(model="bear", prompt="break")

    (span,) = spans()
    assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", error_type)


_add = Toys.add


def _fails(*_given: object) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("method", "fails"),
    [
        ("__init__", _fails),
        ("add", lambda toys, chunk: _add(toys, chunk) if "end" not in chunk else _fails()),
        ("answer", _fails),
        ("is_complete", _fails),
        ("reported_usage", _fails),
    ],
)
def test_an_accumulator_that_raises_costs_the_answer_alone(
    method: str, fails: Any, instrument_toys: Any, spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    monkeypatch.setattr(Toys, method, fails)
    texts = [chunk["text"] for chunk in instrument_toys().stream(**ASKED)]

    (span,) = spans()
    assert texts == ["Hel", "lo!"]
    assert "status" not in span


@pytest.mark.parametrize("method", ["generate", "stream"])
@pytest.mark.parametrize("function", ["finish_reasons", "output_content", "more_from_answer"])
def test_a_function_that_raises_costs_what_it_reads_and_no_usage(
    function: str,
    method: str,
    instrument_toys: Any,
    spans: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    monkeypatch.setitem(globals(), "GENERATE", replace(GENERATE, **{function: _fails}))
    list(getattr(instrument_toys(capture_messages=True), method)(**ASKED))

    (span,) = spans()
    found = span["attributes"]
    assert "status" not in span
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, 2)
    reasons = found.get("gen_ai.response.finish_reasons")
    assert reasons == (None if function == "finish_reasons" else ["stop"])


@pytest.mark.parametrize("method", ["failure", "finish_reasons"])
def test_a_stream_that_is_cut_is_an_error_whatever_raises(
    method: str, recording: Recording, spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    operation = replace(GENERATE, **{method: _fails})
    invocation = begin(recording, operation, ASKED, TOY_MAKER, stream=True)
    assert list(observed(iter([{"text": "Hel"}]), Observer(invocation))) == [{"text": "Hel"}]

    (span,) = spans()
    assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", "stream_cut")
    assert span["attributes"]["agentpulse.usage.estimated"] is True


def test_a_library_that_gives_one_chunk_again_is_read_chunk_by_chunk(
    recording: Recording, spans: Any
) -> None:

    def chunks() -> Any:
        chunk: dict[str, Any] = {}
        for text in ("Hel", "lo!"):
            chunk["text"] = text
            yield chunk
        chunk |= {"text": "", "end": "stop"}
        yield chunk

    invocation = begin(recording, GENERATE, ASKED, TOY_MAKER, stream=True)
    for chunk in observed(chunks(), Observer(invocation, at_once=1)):
        chunk.clear()

    (span,) = spans()
    assert "status" not in span
    assert span["attributes"]["gen_ai.usage.output_tokens"] == 2


def test_what_a_client_does_while_its_stream_is_read_can_be_inside_the_span(
    recording: Recording, spans: Any
) -> None:
    with recording.tracer.start_as_current_span("around") as around:
        with begin(recording, GENERATE, ASKED, TOY_MAKER, stream=True) as invocation:
            for _ in range(2):
                with suppress(ZeroDivisionError), invocation.current():
                    assert trace.get_current_span() is invocation.span
                    _fails()
        assert trace.get_current_span() is around
        assert invocation.is_open
        invocation.ended()


def test_a_stream_that_its_caller_closes_closes_what_it_was_made_of(
    recording: Recording, spans: Any
) -> None:
    inner = Client().stream(**ASKED)
    outer = observed(inner, Observer(begin(recording, GENERATE, ASKED, TOY_MAKER, stream=True)))
    next(outer)
    assert isinstance(outer, Generator)
    outer.close()

    assert list(inner) == []
    assert len(spans()) == 1


def test_a_stream_left_as_its_loop_ends_is_no_error(recording: Recording, spans: Any) -> None:

    async def chunks() -> Any:
        yield {"text": "Hel"}
        yield {"text": "lo!"}

    async def leaves() -> None:
        invocation = begin(recording, GENERATE, ASKED, TOY_MAKER, stream=True)
        async for _ in aobserved(chunks(), Observer(invocation)):
            break  # the loop ends, and cancels the task that closes the stream

    asyncio.run(leaves())
    (span,) = spans()
    assert "status" not in span
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["error"]


def test_a_preview_of_a_supported_version_is_recorded(
    spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "version", lambda _: "2.0.0rc1")
    monkeypatch.setattr(ToyInstrumentor, "supported", "pytest < 3")
    instrumentor = ToyInstrumentor()
    instrumentor.instrument_if_installed(tracer_provider=spans.provider)
    is_on = instrumentor.is_instrumented_by_opentelemetry
    instrumentor.uninstrument()
    assert is_on


@pytest.mark.parametrize("options", [{}, {"skip_dep_check": True}])
def test_an_unsupported_version_is_named_unless_it_is_wanted(
    options: dict[str, bool], spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyInstrumentor, "supported", "pytest < 1")
    monkeypatch.setattr(patching, "warn_once", lambda _: None)
    instrumentor = ToyInstrumentor()
    instrumentor.instrument(tracer_provider=spans.provider, **options)
    is_on = instrumentor.is_instrumented_by_opentelemetry
    problems = dict(instrumentor.not_recorded)
    instrumentor.uninstrument()

    assert is_on is bool(options)
    assert list(problems) == ([] if options else ["toys"])


def test_a_subclass_of_an_instrumentor_leaves_its_parents_errors_alone(
    instrument_toys: Any, spans: Any
) -> None:
    type("Other", (ToyInstrumentor,), {"read_error": staticmethod(lambda _: "other")})
    with pytest.raises(ToyError):
        instrument_toys().generate(model="bear", prompt="break")

    (span,) = spans()
    assert span["attributes"]["error.type"] == "out_of_toys"


def test_a_call_that_ends_twice_is_one_span(recording: Recording, spans: Any) -> None:
    invocation = begin(recording, GENERATE, ASKED, TOY_MAKER)
    invocation.ended({"gen_ai.response.id": "toy_1"})
    invocation.failed(ValueError())

    (span,) = spans()
    assert "status" not in span
    assert span["attributes"]["gen_ai.response.id"] == "toy_1"


def test_a_layer_that_learns_late_gives_the_times_the_call_had(
    recording: Recording, spans: Any
) -> None:
    parent = recording.tracer.start_span("chain")
    around = trace.set_span_in_context(parent)
    invocation = begin(recording, GENERATE, ASKED, TOY_MAKER, parent=around, start_time=1_000)
    invocation.ended(end_time=3_000)

    (span,) = spans.finished()
    assert (span.start_time, span.end_time) == (1_000, 3_000)
    assert span.parent == parent.get_span_context()


def test_where_nothing_is_recorded_a_call_begins_nothing(instrument_toys: Any, spans: Any) -> None:
    client = instrument_toys()
    with suppress_instrumentation():
        client.generate(**ASKED)
        assert list(client.stream(**ASKED))
    assert spans() == []


@pytest.mark.parametrize(("field", "tokens"), [("prompt", 1), ("question", None)])
def test_missing_usage_is_estimated_by_the_text_of_known_fields_alone(
    field: str, tokens: int | None, recording: Recording, spans: Any
) -> None:
    invocation = begin(recording, GENERATE, {field: "Why?"}, TOY_MAKER, stream=True)
    chunks = observed(iter([{"text": "Hel"}, {"text": "lo!"}]), Observer(invocation))
    next(chunks)
    del chunks

    (span,) = spans()
    assert span["attributes"].get("gen_ai.usage.input_tokens") == tokens
    assert span["attributes"]["gen_ai.usage.output_tokens"] == 1
    assert span["attributes"]["agentpulse.usage.estimated"] is True
