"""A failure of pricing, content or naming costs that field, never the event."""

from __future__ import annotations

import json
import pkgutil
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, CostEnrichingExporter, Stats, calculate_cost
from agentpulse_exporter import _values as shield
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._ledger.ledger import Ledger
from agentpulse_exporter._pricing import PriceOverrides, cost
from agentpulse_exporter._pricing.table import price_table
from agentpulse_exporter._wire import copies, event, mapper
from agentpulse_exporter._wire.mapper import Mapper
from fakes.pipe import CALL, KEY, Pipe
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

SAYING = {
    "user.id": "ada",
    "agentpulse.metadata.team": "night",
    "gen_ai.input.messages": '[{"role": "user", "content": "What is new?"}]',
}
SPOKEN = '[{"role": "user", "parts": [{"type": "text", "content": "What is new?"}]}]'
MISSING = FileNotFoundError(2, "No such file or directory", "prices.json")
DAMAGED: dict[str, Any] = {
    "missing": MISSING,
    "unreadable": PermissionError(13, "Permission denied", "prices.json"),
    "no loader": None,
    "empty": b"",
    "half": b'{"source": "genai-prices", "providers": {"open',
    "no text": b"\xff\xfe\x00",
    "no object": b"[]",
    "no providers": b'{"source": "x", "date": "x"}',
    "another shape": b'{"source": "x", "date": "x", "providers": {"openai": 5}}',
    "endless": b"[" * 100_000,
}


@pytest.fixture(autouse=True)
def failures_end_at_the_shield(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shield, "strict", False)
    monkeypatch.setattr(shield, "_warned", set[str]())


@pytest.fixture
def with_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Has `prices.json` hold something else, or raise when it is read."""

    def replace(content: Any) -> None:
        def get_data(package: str, resource: str) -> bytes | None:
            assert (package, resource) == ("agentpulse_exporter._pricing", "prices.json")
            if isinstance(content, Exception):
                raise content
            return content

        monkeypatch.setattr(pkgutil, "get_data", get_data)
        price_table.cache_clear()

    yield replace
    price_table.cache_clear()


def warnings(caplog: pytest.LogCaptureFixture, about: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if about in record.getMessage()]


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_without_a_readable_price_table_calls_are_sent_and_it_is_logged_once(
    content: Any,
    with_table: Callable[[Any], None],
    pipe: Callable[..., Pipe],
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_table(content)
    piped = pipe()
    for _ in range(3):
        piped.call()
    assert piped.processor.flush()

    calls = [event["data"] for event in receiver.of_kind("llm_call")]
    sent = [(each["input_tokens"], each["output_tokens"], each["cost_usd"]) for each in calls]
    assert sent == [(1000, 100, None)] * 3
    (rolled_up,) = [event["data"] for event in receiver.of_kind("cost")]
    assert (rolled_up["calls"], rolled_up["tokens"], rolled_up["cost_usd"]) == (3, 3300, None)
    stats = piped.processor.stats()
    assert (stats.accepted, dict(stats.dropped)) == (3, {})
    assert stats.unpriced == {"gpt-4o-2024-08-06": 3}
    assert calculate_cost("gpt-4o", 1000, 100) is None
    assert len(warnings(caplog, "price table can't be read")) == 1


def ended(**more: Any) -> ReadableSpan:
    """A call in a session, with all attributes that a call may have."""
    now = time.time_ns()
    return ReadableSpan(
        "chat gpt-4o",
        SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)),
        attributes={**CALL, **SAYING, **more},
        start_time=now - 10**9,
        end_time=now,
    )


def exported(receiver: Receiver, *spans: ReadableSpan, **options: Any) -> Stats:
    """What became of the spans at an exporter that captures messages."""
    exporter = AgentPulseSpanExporter(KEY, receiver.url, "tests", capture_messages=True, **options)
    exporter.export(spans)
    exporter.shutdown()
    return exporter.stats()


def test_prices_of_the_users_own_count_without_a_table(
    with_table: Callable[[Any], None], receiver: Receiver
) -> None:
    with_table(MISSING)
    prices = {"gpt-4o*": {"input": 2, "output": 4}}
    inner = InMemorySpanExporter()
    CostEnrichingExporter(inner, prices=prices).export([ended()])
    exported(receiver, ended(), prices=prices)

    (enriched,) = inner.get_finished_spans()
    (sent,) = receiver.of_kind("llm_call")
    assert (enriched.attributes or {})["agentpulse.cost.total"] == pytest.approx(0.0024)
    assert sent["data"]["cost_usd"] == pytest.approx(0.0024)


def test_a_damaged_entry_of_the_table_costs_the_price_of_that_model_alone(
    with_table: Callable[[Any], None], receiver: Receiver
) -> None:
    models = {
        "damaged": {"prices": {"input": "a lot"}},
        "empty": {},
        "odd": {"prices": [["not a date", {"input": 1}], ["no", {}]]},
        "sound": {"prices": {"input": 2, "output": 4}},
    }
    openai = {"name": "OpenAI", "provider_match": "openai", "models": models}
    content = {"source": "a test", "date": "2026-01-01", "providers": {"openai": openai}}
    with_table(json.dumps(content).encode())
    named = [{"gen_ai.request.model": name, "gen_ai.response.model": name} for name in models]
    stats = exported(receiver, *(ended(**{"gen_ai.response.id": "", **name}) for name in named))

    costs = {e["data"]["model"]: e["data"]["cost_usd"] for e in receiver.of_kind("llm_call")}
    assert costs == dict.fromkeys(models) | {"sound": pytest.approx(0.0024)}
    assert stats.dropped == {}


def fails(*_given: Any, **_more: Any) -> Any:
    # The message of a KeyError is the key, which may be content.
    raise KeyError(SPOKEN)


STEPS: dict[str, tuple[Any, str, set[str]]] = {
    # What fails, and the fields of the call that are not known, or left out, then.
    "price": (mapper, "cost_of", {"cost_usd"}),
    "usage": (cost, "counts_of", {"cost_usd"}),
    "messages": (mapper, "conversation", {"messages"}),
    "sum of the session": (Mapper, "_add_up", set()),
    "repeats": (Ledger, "enter", set()),
    "sum of the upload": (event, "_roll_ups", set()),
}


@pytest.mark.parametrize(("owner", "name", "lost"), STEPS.values(), ids=STEPS)
def test_a_step_that_fails_costs_its_field_and_is_logged_once_without_content(
    owner: Any,
    name: str,
    lost: set[str],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    span = ended()
    exported(receiver, span)
    (whole,) = receiver.of_kind("llm_call")
    receiver.events.clear()
    monkeypatch.setattr(owner, name, fails)
    stats = [exported(receiver, span), exported(receiver, span)]

    assert [(each.accepted, dict(each.dropped)) for each in stats] == [(1, {})] * 2
    known = {field: value for field, value in whole["data"].items() if field not in lost}
    for call in receiver.of_kind("llm_call"):
        assert call["id"] == whole["id"]
        sent = call["data"]
        assert {f: v for f, v in sent.items() if f not in lost} == known
        assert [sent.get(field) for field in lost] == [None] * len(lost)
    assert len(warnings(caplog, "AgentPulse could not")) == 1
    assert SPOKEN not in caplog.text


@pytest.mark.parametrize("kind", ["chat", "agent", "session"])
def test_of_a_span_that_cannot_be_read_the_outline_is_sent(
    kind: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mapper, "_parts", fails)
    stats = exported(receiver, ended(**({} if kind == "chat" else {"agentpulse.span.kind": kind})))

    assert (stats.accepted, dict(stats.dropped)) == (1, {})
    (event,) = receiver.events
    assert (event["kind"], event["data"]["name"]) == ("span_end", "chat gpt-4o")
    assert event["data"]["duration_ms"] == pytest.approx(1000)
    assert "What is new?" not in json.dumps(event)


def test_content_of_others_that_cannot_be_read_costs_the_messages_alone(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ReadableSpan(
        "ChatCompletion",
        SpanContext(1, 3, is_remote=False, trace_flags=TraceFlags(1)),
        attributes={
            "openinference.span.kind": "LLM",
            "llm.provider": "openai",
            "llm.model_name": "gpt-4o",
            "llm.token_count.prompt": 1000,
            "llm.token_count.completion": 100,
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "What is new?",
        },
        start_time=time.time_ns(),
        end_time=time.time_ns(),
        instrumentation_scope=InstrumentationScope("openinference.instrumentation.openai"),
    )
    exported(receiver, others)
    monkeypatch.setattr(messages, "_messages", fails)
    stats = exported(receiver, others)

    whole, call = (event["data"] for event in receiver.of_kind("llm_call"))
    assert stats.dropped == {}
    assert whole.pop("messages")
    assert call == whole


def test_what_cannot_be_redacted_is_dropped_all_the_same(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_redacted", fails)
    stats = exported(receiver, ended(), redact=str.upper)

    assert (stats.accepted, dict(stats.dropped)) == (0, {"redaction_failed": 1})
    assert receiver.requests == []


def test_sums_that_no_number_can_say_are_unknown(receiver: Receiver) -> None:
    most = 2**63 - 1
    tokens = {"gen_ai.usage.input_tokens": most, "gen_ai.usage.output_tokens": most}
    large = [
        ended(**{"gen_ai.response.id": str(at), "agentpulse.cost.total": 1e308, **tokens})
        for at in range(2)
    ]
    stats = exported(receiver, *large)

    assert (stats.accepted, dict(stats.dropped)) == (2, {})
    (rolled_up,) = receiver.of_kind("cost")
    assert [rolled_up["data"][name] for name in ("tokens", "cost_usd", "calls")] == [None, None, 2]
    call = receiver.of_kind("llm_call")[0]["data"]
    assert (call["input_tokens"], call["tokens"], call["cost_usd"]) == (most, None, 1e308)


NOT_A_NUMBER = float("nan")


@pytest.mark.parametrize(
    ("arguments", "cost"),
    [
        (("gpt-4o", 1_000_000, None), 2.5),
        (("gpt-4o", True, 0.0), 2.5e-6),
        (("gpt-4o", -5, -5), 0),
        (("gpt-4o", NOT_A_NUMBER, float("inf")), None),
        (("gpt-4o", None, None), None),
        (("gpt-4o", 10**400, 0), None),
        (("gpt-4o", 10**5000, 10**5000), None),
        (("no such model", 10, 10), None),
        (("", 10, 10), None),
        (("\ud800", 10, 10), None),
    ],
)
def test_odd_figures_raise_nothing(arguments: tuple[Any, ...], cost: float | None) -> None:
    assert calculate_cost(*arguments) == (cost if cost is None else pytest.approx(cost))


@pytest.mark.parametrize("at", [0, -1e18, 1e300, float("inf"), NOT_A_NUMBER])
def test_an_odd_time_raises_nothing(at: float) -> None:
    cost = calculate_cost("claude-opus-4-1", 1_000_000, 0, at=at, service_tier="flex")
    assert cost is None or cost > 0


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"model": None}, "model is of type NoneType; expected the name of a model"),
        ({"model": 4}, "model is of type int; expected the name of a model"),
        ({"input_tokens": "1000"}, "input_tokens is of type str; expected a number of tokens"),
        ({"output_tokens": Decimal(5)}, "output_tokens is of type Decimal; expected a number"),
        ({"cache_read_tokens": []}, "cache_read_tokens is of type list; expected a number"),
        ({"provider": 5}, "provider is of type int; expected a text or None"),
        ({"service_tier": b"flex"}, "service_tier is of type bytes; expected a text or None"),
        ({"at": "now"}, "at is of type str; expected seconds since 1970 or None"),
        ({"overrides": {}}, "overrides is of type dict; expected PriceOverrides or None"),
    ],
)
def test_a_wrong_argument_of_calculate_cost_raises(given: dict[str, Any], complaint: str) -> None:
    sound: dict[str, Any] = {"model": "gpt-4o", "input_tokens": 1, "output_tokens": 1}
    with pytest.raises(TypeError, match=f"The argument {complaint}"):
        calculate_cost(**{**sound, **given})


def test_prices_of_ones_own_beyond_all_numbers_cost_nothing_known() -> None:
    overrides = PriceOverrides.load({"gold": {"input": 1e308, "request": Decimal("1e400")}})
    assert calculate_cost("gold", 10**9, 0, overrides=overrides) is None
