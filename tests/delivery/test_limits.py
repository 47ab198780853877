"""Events are valid whatever was on the spans."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from fakes.pipe import KEY, Pipe
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import ReadableSpan


def test_texts_are_cut_to_the_limits_and_figures_are_not(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(capture_messages=True)
    said = [{"role": "user", "parts": [{"type": "text", "content": "\U0001f600\ud83d" * 40_000}]}]
    sending.call(
        "n" * 9_000,
        **{
            "gen_ai.input.messages": json.dumps(said),
            "session.id": "s" * 2_000,
            "gen_ai.usage.output_tokens": 2**60,
        },
    )
    assert sending.processor.flush()
    (event,) = receiver.of_kind("llm_call")
    assert event["data"]["output_tokens"] == 2**60
    assert len(event["session"]) <= 256


ODD = {
    "not a number": float("nan"),
    "endless": float("-inf"),
    "huge": 10**400,
    "huge and not whole": 1e300,
    "half a character": "a\ud83db",
    "nothing": "a\x00b",
    "bytes": b"\xff",
    "mixed": ["a", 1, None, {"deep": [float("inf")]}],
    "object": object(),
    "\ud83d": "as a name",
    "n" * 9_000: "long name",
}


@pytest.mark.parametrize("operation", ["execute_tool", "chat"])
@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name[:20]))
def test_an_odd_attribute_makes_no_invalid_event(
    receiver: Receiver, operation: str, name: str
) -> None:
    said = {"gen_ai.operation.name": operation, name: ODD[name]}
    assert_taken(receiver, said)
    assert receiver.events[0]["data"]["status"] == "success"


@pytest.mark.parametrize("value", ODD.values(), ids=[ascii(name[:20]) for name in ODD])
@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.request.model",
        "gen_ai.provider.name",
        "gen_ai.usage.input_tokens",
        "gen_ai.input.messages",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.time_to_first_chunk",
        "agentpulse.cost.total",
        "agentpulse.cost.reported",
        "session.id",
        "error.type",
    ],
)
def test_an_odd_value_of_a_known_attribute_makes_no_invalid_event(
    receiver: Receiver, name: str, value: object
) -> None:
    assert_taken(receiver, {"gen_ai.operation.name": "chat", name: value})


def assert_taken(receiver: Receiver, attributes: dict[str, object]) -> None:
    """Spans made without the SDK's checks, as other processors and tests of others make them."""
    exporter = AgentPulseSpanExporter(KEY, receiver.url, "tests", capture_messages=True)
    now = time.time_ns()
    exporter.export([ReadableSpan("odd", attributes=attributes, start_time=now, end_time=now)])
    exporter.shutdown()
    stats = exporter.stats()
    assert (stats.accepted, dict(stats.dropped)) == (1, {})
    assert len(receiver.requests) == 1


def test_what_is_cut_says_so_and_what_just_fits_is_whole(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    texts = {"app.long": "x" * 4_097, "app.short": "y" * 4_096}
    attributes = {"gen_ai.operation.name": "execute_tool", **texts}
    sending.tracer.start_span("tool", attributes=attributes).end()
    assert sending.processor.flush()
    told = receiver.events[0]["data"]["attributes"]
    assert told["app.short"] == texts["app.short"]
    assert len(told["app.long"]) == 4_096
    assert told["app.long"].endswith("… [cut]")


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", '"', "\x01"])
def test_many_long_texts_are_cut_together(
    receiver: Receiver, pipe: Callable[..., Pipe], character: str
) -> None:
    sending = pipe()
    attributes = {f"app.{number}": character * 4_000 for number in range(20)}
    sending.tracer.start_span(
        "tool", attributes={"gen_ai.operation.name": "execute_tool", **attributes}
    ).end()
    assert sending.processor.flush()
    data = receiver.events[0]["data"]
    assert set(data["attributes"]) == {"gen_ai.operation.name", *attributes}
    assert len(json.dumps(data)) > 12_000


def test_a_long_conversation_keeps_its_end(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe(capture_messages=True)
    said = [
        {"role": "user", "parts": [{"type": "text", "content": f"{number} " + "w" * 500}]}
        for number in range(100)
    ]
    sending.call(**{"gen_ai.input.messages": json.dumps(said)})
    assert sending.processor.flush()
    first, *_, last = receiver.of_kind("llm_call")[0]["data"]["messages"]
    assert last["content"].startswith("99 ")
    assert first == {"role": "system", "content": "earlier messages … [cut]"}


def test_long_session_keys_stay_different(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe()
    for end in ("a", "b"):
        sending.call(**{"session.id": "\U0001f600" * 300 + end})
    assert sending.processor.flush()
    assert len({event["session"] for event in receiver.of_kind("llm_call")}) == 2


@pytest.mark.parametrize("nanoseconds", [0, 10**18 * 9, -(10**18)])
def test_a_wrong_clock_makes_no_invalid_event(
    receiver: Receiver, pipe: Callable[..., Pipe], nanoseconds: int
) -> None:
    sending = pipe()
    attributes = {"gen_ai.operation.name": "chat"}
    sending.tracer.start_span("chat", attributes=attributes, start_time=nanoseconds).end()
    sending.tracer.start_span("chat", attributes=attributes).end(end_time=nanoseconds)
    assert sending.processor.flush()
    assert sending.processor.stats().accepted == 2
    assert all(event["data"]["latency_ms"] >= 0 for event in receiver.of_kind("llm_call"))


def test_an_agent_name_with_half_a_character_can_be_sent(receiver: Receiver) -> None:
    exporter = AgentPulseSpanExporter(KEY, receiver.url, "caf\ud83d" + "n" * 1_000)
    exporter.export([ReadableSpan("chat", attributes={"gen_ai.operation.name": "chat"})])
    exporter.shutdown()
    agent = receiver.requests[0]["body"]["agent"]
    assert agent.startswith("caf\ufffdn")
    assert len(agent) <= 256
