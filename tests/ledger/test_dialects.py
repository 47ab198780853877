"""Spans of other instrumentations give the events that ours would have given.

The fixtures are spans that the real packages made of calls to the fake provider
(`nox -s dialects`); those made by hand say so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agentpulse_exporter import calculate_cost
from agentpulse_exporter._dialects.normalize import current_attributes, is_genai_span
from agentpulse_exporter._wire.mapper import Mapper
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

FIXTURES = Path(__file__).parent / "dialects"
DIALECTS = sorted(path.stem for path in FIXTURES.glob("*.json"))
BY_HAND = ("genai_old", "mlflow", "vercel")
SECOND = 1_000_000_000
CALLED = 1_767_225_600 * SECOND


def context_of(recorded: Mapping[str, Any], which: str) -> SpanContext:
    return SpanContext(recorded["trace"], recorded[which], False, TraceFlags(1))


def read(recorded: Mapping[str, Any], number: int = 0) -> ReadableSpan:
    """A span that was written down."""
    started = CALLED + number * SECOND
    return ReadableSpan(
        name=recorded["name"],
        context=context_of(recorded, "span"),
        parent=context_of(recorded, "parent") if recorded["parent"] else None,
        kind=SpanKind[recorded["kind"]],
        status=Status(StatusCode[recorded["status"]], recorded["description"]),
        attributes={
            name: tuple(value) if isinstance(value, list) else value
            for name, value in recorded["attributes"].items()
        },
        instrumentation_scope=InstrumentationScope(recorded["scope"]),
        start_time=started,
        end_time=started + SECOND // 2,
    )


def fixture(dialect: str) -> Any:
    return json.loads((FIXTURES / f"{dialect}.json").read_text())


def spans(dialect: str) -> list[ReadableSpan]:
    return [read(recorded, number) for number, recorded in enumerate(fixture(dialect)["spans"])]


def events(ended: list[ReadableSpan], **options: Any) -> list[Any]:
    mapper = Mapper(**options)
    mapper.expect(ended)
    return [event for span in ended for event in mapper.events(span)]


def figures(data: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        data["provider"],
        data["input_tokens"] or 0,
        data["output_tokens"] or 0,
        data["cache_read_tokens"] or 0,
        data["cache_write_tokens"] or 0,
    )


def charged(charge: Mapping[str, Any]) -> tuple[Any, ...]:
    counts = (charge[name] for name in ("input", "output", "cached", "written"))
    return (charge["provider"], *counts)


OWN = {"langfuse": [("anthropic", 40, 5, 30, 0)]}
"""Calls that a program records by hand."""
WRONG = {
    # It counts a token too many where an Anthropic answer is streamed.
    "openllmetry": (("anthropic", 102, 32, 66, 21), ("anthropic", 102, 33, 66, 21)),
    # It loses the cached tokens of the same.
    "openlit": (("anthropic", 102, 32, 66, 21), ("anthropic", 15, 32, 0, 0)),
}
"""What an instrumentation itself has wrong: what was billed, and what it records instead."""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_call_is_sent_once_with_the_billed_usage(dialect: str):
    sent = [event.data for event in events(spans(dialect)) if event.head.kind == "llm_call"]
    succeeded = Counter(figures(data) for data in sent if data["status"] == "success")

    expected = Counter(map(charged, fixture(dialect)["bill"])) + Counter(OWN.get(dialect, []))
    if dialect in WRONG:
        billed, wrong = WRONG[dialect]
        expected += Counter([wrong])
        expected -= Counter([billed])
    assert succeeded == expected


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_call_costs_what_it_costs(dialect: str):
    sent = [event.data for event in events(spans(dialect)) if event.head.kind == "llm_call"]

    for data in sent:
        if data["status"] == "error":
            assert data["cost_usd"] is None
            continue
        provider, used_in, used_out, read_tokens, written = figures(data)
        cost = calculate_cost(
            data["model"],
            used_in,
            used_out,
            provider=provider,
            cache_read_tokens=read_tokens,
            cache_write_tokens=written,
        )
        assert data["cost_usd"] == pytest.approx(cost, abs=1e-12)
        assert cost


KINDS = {
    "genai_old": {"agent": 1, "tool": 1, "workflow": 1, "task": 1},
    "langfuse": {"agent": 1, "tool": 1},
    # The spans of streamed requests, whose answers have records of their own.
    "logfire": {"chat": 2},
    "mlflow": {"agent": 1, "tool": 1},
    "pydantic_ai": {"agent": 1, "tool": 1},
    "vercel": {"agent": 1, "tool": 1, "span": 1},
    # Its own spans of HTTP requests.
    "openlit": {"span": 7},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_other_spans_are_sent_by_their_kind(dialect: str):
    sent = [event.data for event in events(spans(dialect)) if event.head.kind == "span_end"]

    assert Counter(data["span_kind"] for data in sent) == KINDS.get(dialect, {})


WITHOUT_MODEL_ASKED_FOR = ("langfuse", "mlflow")
WITHOUT_IDS = ("genai_old", "langfuse", "mlflow")
OF_STREAMS = {"logfire": "in the record of a stream's answer", "openinference": "in a stream's"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_models_and_answers_are_named(dialect: str):
    sent = [event.data for event in events(spans(dialect)) if event.head.kind == "llm_call"]
    chats = [each for each in sent if each["operation"] == "chat" and each["status"] == "success"]

    for data in chats:
        assert data["model"].startswith(("gpt-4o", "claude-haiku-4-5"))
        if dialect not in WITHOUT_MODEL_ASKED_FOR:
            assert data["request_model"] in ("gpt-4o", "claude-haiku-4-5")
        if dialect not in WITHOUT_IDS and not (dialect in OF_STREAMS and data["streaming"]):
            assert data["response_id"].startswith(("chatcmpl-", "msg_"))
    if any(chat["name"] != "own" for chat in chats) and dialect not in WITHOUT_IDS:
        assert any(data["streaming"] for data in sent) or dialect in ("pydantic_ai", "vercel")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_content_is_sent(dialect: str):
    ended = spans(dialect)
    assert any("CANARY" in str(span.attributes) for span in ended) or dialect in (
        "genai",
        "anthropic",
    )

    assert "CANARY" not in "".join(event.json for event in events(ended))
    assert "fake server_error" not in "".join(event.json for event in events(ended))


@pytest.mark.parametrize("dialect", sorted({*DIALECTS} - {"genai", "anthropic"}))
def test_messages_are_sent_where_they_are_captured(dialect: str):
    """The fixtures of the other two have no content on them."""
    sent = [
        event.data
        for event in events(spans(dialect), capture_messages=True)
        if event.head.kind == "llm_call" and event.data["operation"] == "chat"
    ]
    captured = [
        [(each["role"], each["content"]) for each in data["messages"]]
        for data in sent
        if "messages" in data
    ]

    role, prompt = captured[0][0]
    assert (role, prompt[:13]) == ("user", "CANARY-PROMPT")
    assert captured[0][1][0] == "assistant"
    if dialect not in BY_HAND:
        assert any(
            ("assistant", '[tool call search] {"query": "unread"}') in each for each in captured
        )
    if dialect not in (*BY_HAND, "langfuse", "pydantic_ai"):
        # Only these record Anthropic's instructions.
        assert any(each[0][0] == "system" and "CANARY-SYSTEM" in each[0][1] for each in captured)


def test_arguments_and_results_are_sent_where_they_are_captured():
    sent = {}
    for dialect in ("genai_old", "langfuse", "mlflow", "pydantic_ai", "vercel"):
        captured = events(spans(dialect), capture_messages=True)
        sent[dialect] = [
            (event.data["args"], event.data.get("result"))
            for event in captured
            if event.head.kind == "span_end" and "CANARY" in str(event.data.get("args", "x"))
        ]

    assert sent == {
        "genai_old": [("CANARY-ARGS", "CANARY-RESULT")],
        "langfuse": [("CANARY-ARGS", None)],
        "mlflow": [({"q": "CANARY-PROMPT"}, None), ({"q": "CANARY-ARGS"}, "CANARY-RESULT")],
        "pydantic_ai": [],
        "vercel": [("CANARY-ARGS", "CANARY-RESULT")],
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_content_is_sent_as_the_user_redacts_it(dialect: str):
    sent = events(spans(dialect), capture_messages=True, redact=lambda text: "hidden")
    plain = events(spans(dialect), capture_messages=True)

    assert "CANARY" not in "".join(event.json for event in sent)
    figures_of = [
        {**event.data, "messages": None, "attributes": None, "args": 0, "result": 0, "error": 0}
        for event in (*sent, *plain)
    ]
    assert figures_of[: len(sent)] == figures_of[len(sent) :]
    assert [[message["role"] for message in event.data.get("messages", ())] for event in sent] == [
        [message["role"] for message in event.data.get("messages", ())] for event in plain
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_text_of_an_unknown_name_is_sent(dialect: str):
    """A new version may put content under any name."""
    unknown = {f"{word}.something.new": "CANARY" for word in ("llm", "gen_ai", "ai", "langfuse")}
    unknown |= {"url.full": "http://x/?q=CANARY", "http.request.header.x": "CANARY"}
    ended = [
        read({**recorded, "attributes": {**recorded["attributes"], **unknown}})
        for recorded in fixture(dialect)["spans"]
        if recorded["scope"] and not recorded["scope"].startswith("agentpulse")
    ]
    sent = "".join(event.json for event in events(ended))

    assert "CANARY" not in sent or dialect == "genai_old"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_spans_stay_as_they_are(dialect: str):
    ended = spans(dialect)
    before = [(span.name, dict(span.attributes or {})) for span in ended]
    events(ended)

    assert [(span.name, dict(span.attributes or {})) for span in ended] == before


@pytest.mark.parametrize("odd", [None, True, -1, 1e300, "x", "{", "[1]", '{"a": {}}', ("a", "b")])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_odd_values_harm_nothing(dialect: str, odd: Any):
    for recorded in fixture(dialect)["spans"]:
        for name in recorded["attributes"]:
            strange = {**recorded, "attributes": {**recorded["attributes"], name: odd}}
            for event in events([read(strange)]):
                assert json.loads(event.json)


def by_hand(scope: str, **attributes: Any) -> ReadableSpan:
    recorded = {"name": "x", "trace": 1, "span": 2, "parent": None, "kind": "CLIENT"}
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    rest = {"status": "UNSET", "description": None, "scope": scope, "attributes": named}
    return read({**recorded, **rest})


def test_sessions_and_users_of_others_are_ours():
    for dialect in ("genai_old", "mlflow"):
        (call, *_) = [e for e in events(spans(dialect)) if e.head.kind == "llm_call"]
        assert (call.head.session, call.data["user"]) == ("s1", "u1")
    vercel = [e for e in events(spans("vercel")) if e.head.kind == "llm_call"]
    assert vercel[0].head.session == "s1"


@pytest.mark.parametrize(
    ("scope", "attributes", "cost"),
    [
        # Its own figure counts only where no price is known, and 0 means that it doesn't know.
        ("openlit.instrumentation.openai", {"gen_ai__usage__cost": 0}, None),
        ("openlit.instrumentation.openai", {"gen_ai__usage__cost": 0.5}, 0.5),
        ("openinference.instrumentation.x", {"llm__cost__total": 0.25}, 0.25),
        ("pydantic-ai", {"operation__cost": 0.125}, 0.125),
    ],
)
def test_what_others_think_a_call_cost_counts_where_nobody_knows(
    scope: str, attributes: dict[str, Any], cost: float | None
):
    given = {
        "gen_ai__operation__name": "chat",
        "gen_ai__request__model": "nobody-knows",
        "gen_ai__usage__input_tokens": 7,
        **attributes,
    }
    (event,) = events([by_hand(scope, **given)])
    assert event.data["cost_usd"] == cost


def test_cached_tokens_that_were_left_out_of_the_input_are_part_of_it():
    (event,) = events(
        [
            by_hand(
                "agentops",
                gen_ai__operation__name="chat",
                gen_ai__system="anthropic",
                gen_ai__request__model="claude-haiku-4-5",
                gen_ai__usage__prompt_tokens=10,
                gen_ai__usage__completion_tokens=5,
                gen_ai__usage__cache_read_input_tokens=90,
            )
        ]
    )
    assert (event.data["input_tokens"], event.data["cache_read_tokens"]) == (100, 90)


def test_spans_that_are_still_open_are_no_calls():
    pending = by_hand(
        "logfire.openai", gen_ai__operation__name="chat", logfire__span_type="pending_span"
    )
    assert [event.head.kind for event in events([pending])] == ["span_end"]


def test_spans_that_concern_no_agent_are_left_alone():
    web = by_hand("opentelemetry.instrumentation.httpx", http__method="GET")

    assert not is_genai_span(web)
    assert current_attributes(web) == {"http.method": "GET"}
    assert is_genai_span(by_hand("x", openinference__span__kind="CHAIN"))


def test_a_span_of_a_known_instrumentation_counts_though_limits_left_nothing_of_it():
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_span_attributes=0))

    def stripped(scope: str) -> bool:
        span = provider.get_tracer(scope).start_span("chat", attributes={"x": 1})
        span.end()
        return is_genai_span(span)

    assert stripped("openinference.instrumentation.openai")
    assert stripped("agentpulse_instrumentation.openai")
    assert not stripped("logfire")
    assert not stripped("opentelemetry.instrumentation.httpx")


BODY = '{"id": "chatcmpl-9", "object": "chat.completion", "choices": []}'
CONTENT = '{"id": "patient-4711", "diagnosis": "none"}'


@pytest.mark.parametrize(
    ("kind", "value", "content", "response_id"),
    [
        ("LLM", BODY, "yes", "chatcmpl-9"),
        ("LLM", CONTENT, CONTENT, None),
        ("LLM", CONTENT, "", None),
        ("LLM", BODY, BODY, None),
        ("TOOL", BODY, "", None),
        ("CHAIN", BODY, "", None),
    ],
)
def test_an_answers_id_is_taken_from_an_answer_alone(
    kind: str, value: str, content: str, response_id: str | None
):
    given = {
        "openinference.span.kind": kind,
        "output.value": value,
        "llm.output_messages.0.message.content": content,
    }
    (event,) = events([by_hand("openinference.instrumentation.litellm", **given)])
    assert event.data.get("response_id") == response_id
    assert "patient-4711" not in event.json
    assert ("chatcmpl-9" in event.json) is (response_id is not None)


def test_a_field_deep_inside_another_is_not_taken_for_one_at_the_top() -> None:
    given = {"model": "gpt-4o", "metadata": {"model": "gpt-4o-mini"}, "extra": {"model": "x"}}
    usage = {"input": 100, "output": 5, "prompt_tokens_details": {"input": 80}}
    asked = by_hand(
        "openinference.instrumentation.openai",
        openinference__span__kind="LLM",
        llm__invocation_parameters=json.dumps(given),
    )
    counted = by_hand(
        "langfuse-sdk",
        langfuse__observation__type="generation",
        langfuse__observation__usage_details=json.dumps(usage),
    )
    assert current_attributes(asked)["gen_ai.request.model"] == "gpt-4o"
    assert current_attributes(counted)["gen_ai.usage.input_tokens"] == 100
