"""The log events of the conventions, and content by OpenTelemetry's variables."""

from __future__ import annotations

import gc
import json
import logging
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from agentpulse_instrumentation._engine import patching
from fakes.logs import Logs
from fakes.provider import FakeProvider, answers, cut, fails
from modes import EVERY, PLAIN, Mode, has_helper
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EMIT = "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"
DETAILS = "gen_ai.client.inference.operation.details"
EXCEPTION = "gen_ai.client.operation.exception"
SPOKEN = [{"role": "user", "content": "What is new?"}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": SPOKEN}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": SPOKEN}
INPUT = [{"role": "user", "parts": [{"type": "text", "content": "What is new?"}]}]


@pytest.fixture
def recorded(spans: Any, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Instruments with these words in OpenTelemetry's two variables."""

    def begin(content: str | None = None, emit: str | None = None, **options: Any) -> Logs:
        for name, word in ((CONTENT, content), (EMIT, emit)):
            if word is not None:
                monkeypatch.setenv(name, word)
        given = {"tracer_provider": spans.provider, "logger_provider": logs.provider}
        instrument(**{**given, **options})
        return logs

    return begin


@pytest.mark.parametrize(
    ("content", "emit", "given", "on_span", "events", "on_event"),
    [
        (None, None, None, False, 0, False),
        ("NO_CONTENT", None, None, False, 0, False),
        ("SPAN_ONLY", None, None, True, 0, False),
        ("EVENT_ONLY", None, None, False, 1, True),
        ("span_and_event", None, None, True, 1, True),
        ("NO_CONTENT", "true", None, False, 1, False),
        ("SPAN_ONLY", "TRUE", None, True, 1, False),
        ("EVENT_ONLY", "false", None, False, 0, False),
        ("SPAN_AND_EVENT", "false", None, True, 0, False),
        ("SPAN_AND_EVENT", None, False, False, 0, False),
        ("EVENT_ONLY", "true", True, True, 1, False),
        ("true", None, None, False, 0, False),
        ("SPAN_AND_EVENT", "perhaps", None, True, 1, True),
    ],
)
def test_variables_say_where_content_goes_unless_it_was_stated_in_code(
    content: str | None,
    emit: str | None,
    given: bool | None,
    on_span: bool,
    events: int,
    on_event: bool,
    clients: Any,
    spans: Any,
    recorded: Any,
) -> None:
    logs = recorded(content, emit, capture_messages=given)
    clients.openai.chat.completions.create(**CHAT)
    (span,) = spans()
    reported = logs.taken()

    assert ("gen_ai.input.messages" in span["attributes"]) is on_span
    assert ("gen_ai.output.messages" in span["attributes"]) is on_span
    assert [event["name"] for event in reported] == [DETAILS] * events
    for event in reported:
        assert ("gen_ai.input.messages" in event["attributes"]) is on_event
        assert ("gen_ai.output.messages" in event["attributes"]) is on_event


@pytest.mark.parametrize(
    ("content", "emit", "spoken"),
    [
        ("yes", None, f"{CONTENT} is 'yes', which has no effect; it takes one of NO_CONTENT, "),
        (None, "maybe", f"{EMIT} is 'maybe', which has no effect; it takes one of TRUE, FALSE."),
    ],
)
def test_a_word_that_a_variable_does_not_take_is_stated_once(
    content: str | None, emit: str | None, spoken: str, recorded: Any, caplog: Any
) -> None:
    recorded(content, emit)
    assert caplog.text.count(spoken) == 1
    assert caplog.text.count("WARNING") == 1


@pytest.mark.parametrize("mode", EVERY, ids=lambda mode: mode.name)
@pytest.mark.parametrize("library", ["openai", "anthropic"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_inference_is_one_event_that_says_what_its_span_does(
    library: str, mode: Mode, is_async: bool, clients: Any, spans: Any, recorded: Any
) -> None:
    logs = recorded("SPAN_AND_EVENT")
    client = getattr(clients, f"a{library}" if is_async else library)
    resource = client.chat.completions if library == "openai" else client.messages
    body = CHAT if library == "openai" else MESSAGE
    has_helper(resource, mode)
    if is_async:
        clients.run(mode.arun(resource, body))
    else:
        mode.run(resource, body)
    gc.collect()
    (span,) = spans.finished()
    (event,) = logs.taken()

    assert (event["name"], event["severity"], event["number"]) == (DETAILS, "DEBUG", 5)
    assert (event["trace"], event["span"]) == (span.context.trace_id, span.context.span_id)
    of_span = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in span.attributes.items()
    }
    (input_stated, output_stated) = (
        event["attributes"].pop(f"gen_ai.{name}.messages") for name in ("input", "output")
    )
    assert input_stated == INPUT
    assert output_stated[0]["parts"][0]["type"] == "text"
    del of_span["gen_ai.input.messages"], of_span["gen_ai.output.messages"]
    assert event["attributes"] == of_span


def test_the_event_of_a_stream_comes_when_that_is_over(
    clients: Any, spans: Any, recorded: Any
) -> None:
    logs = recorded("EVENT_ONLY")
    stream = clients.openai.chat.completions.create(**CHAT, stream=True)
    next(stream)
    assert logs.taken() == []
    stream.close()
    (event,) = logs.taken()
    (span,) = spans()

    assert event["attributes"]["gen_ai.response.finish_reasons"] == ["error"]
    assert event["attributes"]["gen_ai.output.messages"]
    assert "gen_ai.output.messages" not in span["attributes"]


def test_the_event_is_emitted_while_its_span_is_open(
    clients: Any, spans: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = recorded(emit="true")
    open_then: list[bool] = []

    def look(record: Any) -> None:
        open_then.append(trace.get_current_span(record.log_record.context).is_recording())

    monkeypatch.setattr(logs, "on_emit", look)
    clients.openai.chat.completions.create(**CHAT)
    assert open_then == [True]


@pytest.mark.parametrize("content", ["NO_CONTENT", "EVENT_ONLY"])
def test_an_exception_is_an_event_too_whose_text_is_content(
    content: str, clients: Any, provider: FakeProvider, spans: Any, recorded: Any
) -> None:
    logs = recorded(content, "true")
    provider.script(fails(400, "invalid_request_error"))
    with pytest.raises(Exception, match="invalid_request_error") as raised:
        clients.openai.chat.completions.create(**CHAT)
    (span,) = spans.finished()
    exception, details = logs.taken()
    text = exception["attributes"].pop("exception.message", None)
    stack = exception["attributes"].pop("exception.stacktrace", None)

    assert (exception["name"], exception["severity"], exception["number"]) == (
        *(EXCEPTION, "WARN"),
        13,
    )
    assert exception["attributes"] == {"exception.type": "openai.BadRequestError"}
    assert exception["span"] == details["span"] == span.context.span_id
    assert details["attributes"]["error.type"] == "invalid_request_error"
    assert span.status.description is None
    if content == "NO_CONTENT":
        assert (text, stack) == (None, None)
    else:
        assert text == str(raised.value)
        assert stack.rstrip().endswith(text)


def test_a_stream_that_breaks_is_reported_by_both_events(
    clients: Any, provider: FakeProvider, spans: Any, recorded: Any
) -> None:
    logs = recorded(emit="true")
    provider.script(cut(3))
    with pytest.raises(Exception, match=r".*"):
        list(clients.openai.chat.completions.create(**CHAT, stream=True))
    assert [event["name"] for event in logs.taken()] == [EXCEPTION, DETAILS]


def test_other_calls_of_clients_have_no_details(
    clients: Any, provider: FakeProvider, recorded: Any
) -> None:
    logs = recorded("EVENT_ONLY")
    clients.openai.embeddings.create(model="text-embedding-3-small", input="x")
    assert logs.taken() == []
    provider.script(fails(500))
    with pytest.raises(Exception, match="500"):
        clients.openai.embeddings.create(model="text-embedding-3-small", input="x")
    assert [event["name"] for event in logs.taken()] == [EXCEPTION]


def test_a_logger_provider_that_is_set_later_counts(
    clients: Any, logs: Logs, recorded: Any
) -> None:
    recorded("EVENT_ONLY", logger_provider=None)
    clients.openai.chat.completions.create(**CHAT)
    set_logger_provider(logs.provider)
    clients.openai.chat.completions.create(**CHAT)
    assert [event["name"] for event in logs.taken()] == [DETAILS]


def test_without_a_logger_provider_content_for_events_goes_nowhere(
    clients: Any, spans: Any, recorded: Any
) -> None:
    recorded("EVENT_ONLY", logger_provider=None)
    clients.openai.chat.completions.create(**CHAT)
    list(clients.openai.chat.completions.create(**CHAT, stream=True))
    assert "What is new?" not in "".join(span.to_json() for span in spans.finished())


def test_what_a_sampler_drops_is_an_event_all_the_same(clients: Any, recorded: Any) -> None:
    thinning = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    logs = recorded("EVENT_ONLY", tracer_provider=thinning)
    list(clients.openai.chat.completions.create(**CHAT, stream=True))
    (event,) = logs.taken()

    assert event["attributes"]["gen_ai.usage.output_tokens"] > 0
    assert event["attributes"]["gen_ai.output.messages"]


def test_content_is_reported_as_it_was_when_the_call_was_made(
    clients: Any, provider: FakeProvider, recorded: Any
) -> None:
    logs = recorded("EVENT_ONLY")
    parameters: dict[str, Any] = {"type": "object", "maximum": 2**70, "odd": None, "deep": [1.5]}
    before = {**parameters, "maximum": str(2**70)}
    function = {"name": "search", "parameters": parameters}
    stream = clients.openai.chat.completions.create(
        **CHAT, tools=[{"type": "function", "function": function}], stream=True
    )
    parameters.clear()
    list(stream)
    (event,) = logs.taken()

    (tool,) = event["attributes"]["gen_ai.tool.definitions"]
    assert tool == {"type": "function", "name": "search", "parameters": before}


def test_a_logger_that_fails_costs_the_event_and_no_more(
    clients: Any, spans: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    caplog.set_level(logging.DEBUG, "agentpulse")
    logs = recorded(emit="true")

    def broken(_record: Any) -> None:
        raise OSError

    monkeypatch.setattr(logs, "on_emit", broken)
    assert clients.openai.chat.completions.create(**CHAT).id
    assert len(spans()) == 1
    assert "AgentPulse could not emit an event: OSError" in caplog.text


def test_a_provider_that_fails_costs_the_events_and_no_span(
    clients: Any, spans: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "strict", False)
    logs = recorded("SPAN_AND_EVENT")

    def broken(*_given: object, **_more: object) -> None:
        raise OSError

    monkeypatch.setattr(logs.provider, "get_logger", broken)
    assert clients.openai.chat.completions.create(**CHAT).id
    (span,) = spans()
    assert "gen_ai.output.messages" in span["attributes"]


def test_an_answer_of_a_shape_nobody_expects_is_an_event_too(
    clients: Any, provider: FakeProvider, recorded: Any
) -> None:
    logs = recorded("EVENT_ONLY")
    provider.script(answers({"id": "x", "choices": [{"index": 0, "message": {"content": 7}}]}))
    PLAIN.run(clients.openai.chat.completions, CHAT)
    (event,) = logs.taken()
    assert event["attributes"]["gen_ai.response.id"] == "x"


class Captures(SpanProcessor):
    """As another product does, for its own backend."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        span.set_attribute("input.value", "canary")
        span.set_attribute("session.id", "day:1")


def test_what_others_put_on_spans_is_on_no_event(clients: Any, spans: Any, recorded: Any) -> None:
    spans.provider.add_span_processor(Captures())
    logs = recorded("NO_CONTENT", "true")
    clients.openai.chat.completions.create(**CHAT, stop=["canary"])
    (event,) = logs.taken()
    assert "canary" not in json.dumps(event)
    assert event["attributes"]["session.id"] == "day:1"


class AsksAgain(LogRecordProcessor):
    """A processor that asks a model what it thinks of each event."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask

    def on_emit(self, log_record: Any) -> None:
        self._ask()

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def test_a_processor_that_asks_a_model_is_not_recorded_that(
    clients: Any, provider: Any, spans: Any, recorded: Any
) -> None:
    logs = recorded("NO_CONTENT", "true")
    create = clients.openai.chat.completions.create
    logs.provider.add_log_record_processor(AsksAgain(lambda: create(**CHAT)))
    create(**CHAT)
    assert (len(provider.requests), len(logs.taken())) == (2, 1)


class Leaves(AsksAgain):
    def on_emit(self, log_record: Any) -> None:
        raise SystemExit


def test_a_processor_that_ends_the_program_leaves_the_call_reported(
    clients: Any, spans: Any, recorded: Any
) -> None:
    logs = recorded("NO_CONTENT", "true")
    logs.provider.add_log_record_processor(Leaves(None))
    with pytest.raises(SystemExit):
        clients.openai.chat.completions.create(**CHAT)
    assert len(spans) == 1
