"""One call of LiteLLM, one span, the same whichever way the call is made."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import lite
from fakes.lite import reported

litellm = lite.imported()

HELLO = [{"role": "user", "content": "What is new?"}]
USAGE = {"stream_options": {"include_usage": True}}


@dataclass(frozen=True)
class Case:
    """A function of LiteLLM at one provider, and what its span says."""

    function: str
    at: str
    given: dict[str, Any]
    span: dict[str, Any]
    streams: bool = True
    unnamed: bool = False
    """Whether LiteLLM makes up the id of a stream."""
    stream_given: dict[str, Any] = field(default_factory=dict)

    def expected(self, *, stream: bool) -> dict[str, Any]:
        attributes = {**self.span["attributes"]}
        if stream:
            attributes |= {"gen_ai.request.stream": True}
        return {
            "by": self.span["by"],
            "name": self.span["name"],
            "kind": "CLIENT",
            "attributes": dict(sorted(attributes.items())),
        }


def attributes(provider: str, model: str, **more: Any) -> dict[str, Any]:
    return {
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "server.address": "127.0.0.1",
        **{f"gen_ai.{name.replace('__', '.')}": value for name, value in more.items()},
    }


CLAUDE = "claude-haiku-4-5"
CHAT_OPENAI = Case(
    "completion",
    "openai",
    {"messages": HELLO, "temperature": 1, "max_tokens": 50},
    {
        "by": "openai",
        "name": "chat gpt-4o",
        "attributes": {
            **attributes(
                "openai",
                "gpt-4o",
                operation__name="chat",
                request__max_tokens=50,
                request__temperature=1.0,
                response__finish_reasons=["stop"],
                response__id="chatcmpl-1",
                response__model="gpt-4o-2024-08-06",
                usage__input_tokens=11,
                usage__output_tokens=33,
            ),
            "gen_ai.usage.cache_read.input_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "openai.api.type": "chat_completions",
            "openai.response.service_tier": "default",
            "openai.response.system_fingerprint": "fp_fake",
        },
    },
    stream_given=USAGE,
)
CHAT_ANTHROPIC = Case(
    "completion",
    "anthropic",
    {"messages": HELLO, "temperature": 1, "max_tokens": 50, "stop": ["END"]},
    {
        "by": "litellm",
        "name": f"chat {CLAUDE}",
        "attributes": attributes(
            "anthropic",
            CLAUDE,
            operation__name="chat",
            request__max_tokens=50,
            request__temperature=1.0,
            request__stop_sequences=["END"],
            response__finish_reasons=["stop"],
            response__id="msg_1",
            response__model="claude-haiku-4-5-20251001",
            usage__input_tokens=18,
            usage__output_tokens=32,
        ),
    },
    unnamed=True,
)
TEXT_OPENAI = Case(
    "text_completion",
    "openai",
    {
        "prompt": "What is new?",
        "max_tokens": 50,
        "model": "text-completion-openai/gpt-3.5-turbo-instruct",
    },
    {
        "by": "openai",
        "name": "text_completion gpt-3.5-turbo-instruct",
        "attributes": attributes(
            "openai",
            "gpt-3.5-turbo-instruct",
            operation__name="text_completion",
            request__max_tokens=50,
            response__finish_reasons=["stop"],
            response__id="cmpl-1",
            response__model="gpt-3.5-turbo-instruct",
            usage__input_tokens=3,
            usage__output_tokens=20,
        ),
    },
    stream_given=USAGE,
)
TEXT_ANTHROPIC = Case(
    "text_completion",
    "anthropic",
    {"prompt": "What is new?", "max_tokens": 50},
    {
        "by": "litellm",
        "name": f"text_completion {CLAUDE}",
        "attributes": attributes(
            "anthropic",
            CLAUDE,
            operation__name="text_completion",
            request__max_tokens=50,
            response__finish_reasons=["stop"],
            response__id="msg_1",
            response__model="claude-haiku-4-5-20251001",
            usage__input_tokens=18,
            usage__output_tokens=32,
        ),
    },
    unnamed=True,
)
EMBEDDING = Case(
    "embedding",
    "openai",
    {
        "input": ["What is new?"],
        "model": "openai/text-embedding-3-small",
        "dimensions": 8,
        "encoding_format": "float",
    },
    {
        "by": "openai",
        "name": "embeddings text-embedding-3-small",
        "attributes": attributes(
            "openai",
            "text-embedding-3-small",
            operation__name="embeddings",
            embeddings__dimension__count=8,
            request__encoding_formats=["float"],
            response__model="text-embedding-3-small",
            usage__input_tokens=4,
        ),
    },
    streams=False,
)
RESPONSE = Case(
    "responses",
    "openai",
    {"input": "What is new?", "max_output_tokens": 50},
    {
        "by": "litellm",
        "name": "chat gpt-4o",
        "attributes": {
            **attributes(
                "openai",
                "gpt-4o",
                operation__name="chat",
                request__max_tokens=50,
                response__finish_reasons=["completed"],
                response__id="resp_1",
                response__model="gpt-4o-2024-08-06",
                usage__input_tokens=3,
                usage__output_tokens=57,
            ),
            "gen_ai.usage.cache_read.input_tokens": 0,
            "gen_ai.usage.reasoning.output_tokens": 28,
            "openai.response.service_tier": "default",
        },
    },
)
RESPONSE_ANTHROPIC = Case(
    "responses",
    "anthropic",
    {"input": "What is new?", "max_output_tokens": 50},
    {
        **CHAT_ANTHROPIC.span,
        "attributes": {
            name: value
            for name, value in CHAT_ANTHROPIC.span["attributes"].items()
            if name not in ("gen_ai.request.temperature", "gen_ai.request.stop_sequences")
        },
    },
    unnamed=True,
)
CASES = (
    CHAT_OPENAI,
    CHAT_ANTHROPIC,
    TEXT_OPENAI,
    TEXT_ANTHROPIC,
    EMBEDDING,
    RESPONSE,
    RESPONSE_ANTHROPIC,
)
EVERY_MODE = [
    pytest.param(
        case,
        stream,
        asynchronous,
        id="-".join(
            (
                case.function,
                case.at,
                *(("stream",) if stream else ()),
                "async" if asynchronous else "sync",
            )
        ),
    )
    for case in CASES
    for stream in ((False, True) if case.streams else (False,))
    for asynchronous in (False, True)
]


def call(case: Case, given: dict[str, Any], *, asynchronous: bool) -> None:
    if not asynchronous:
        result = getattr(litellm, case.function)(**given)
        list(result if given.get("stream") else ())
        return

    async def acall() -> None:
        result = await getattr(litellm, f"a{case.function}")(**given)
        if given.get("stream"):
            async for _ in result:
                pass

    asyncio.run(acall())


@pytest.mark.parametrize(("case", "stream", "asynchronous"), EVERY_MODE)
def test_a_call_is_one_span_in_every_mode(
    case: Case, stream: bool, asynchronous: bool, at: Any, recorded: Any
) -> None:
    if case is RESPONSE and stream and lite.is_older_than("1.81.0"):
        pytest.skip("this LiteLLM refuses events without fields that it thinks are required")
    spans = recorded()
    given = {
        **at[case.at],
        **case.given,
        **({"stream": True, **case.stream_given} if stream else {}),
    }
    call(case, given, asynchronous=asynchronous)

    (span,) = spans()
    expected = case.expected(stream=stream)
    for name in optional(case, stream=stream):
        expected["attributes"].pop(name, None)
        span["attributes"].pop(name, None)
    assert span == expected


def optional(case: Case, *, stream: bool) -> list[str]:
    """What LiteLLM reports in some ways of a call, or in some versions, and not in others."""
    names = ["anthropic.response.service_tier"]
    if stream and case.unnamed:
        names.append("gen_ai.response.id")
        if lite.is_older_than("1.106.0"):
            names.append("gen_ai.response.model")
    if case is EMBEDDING:
        names.append("gen_ai.request.encoding_formats")
    return names


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_messages_api_is_one_span(stream: bool, at: Any, recorded: Any) -> None:
    spans = recorded()
    ended: list[Any] = []

    async def acall() -> None:
        given = {**at["anthropic"], "messages": HELLO, "max_tokens": 50, "stream": stream}
        result = await litellm.anthropic_messages(**given)
        if stream:
            async for _ in result:
                pass
            # LiteLLM puts such a stream together in a task of its own, after its end.
            until = time.monotonic() + 60
            while not ended and time.monotonic() < until:
                ended.extend(spans.spans.finished())
                await asyncio.sleep(0.01)

    asyncio.run(acall())
    (span,) = [*map(reported, ended), *spans()]
    attributes = span["attributes"]
    assert (span["by"], span["name"]) == ("litellm", f"chat {CLAUDE}")
    assert attributes["gen_ai.usage.input_tokens"] == 11
    assert attributes["gen_ai.usage.output_tokens"] == 32
    assert attributes.get("gen_ai.request.stream", False) is stream


def test_the_time_to_the_first_chunk_is_recorded(at: Any, recorded: Any) -> None:
    spans = recorded()
    list(litellm.completion(**at["anthropic"], messages=HELLO, stream=True))
    (span,) = spans.finished()
    first = span.attributes["gen_ai.response.time_to_first_chunk"]
    assert 0 < first <= (span.end_time - span.start_time) / 1e9


def test_embeddings_over_its_own_http_are_one_span(provider: Any, recorded: Any) -> None:
    spans = recorded()
    litellm.embedding(
        "voyage/voyage-3",
        ["What is new?"],
        api_key="x",
        api_base=f"{provider.openai_url}/embeddings",
    )
    (span,) = spans()
    assert span == {
        "by": "litellm",
        "name": "embeddings voyage-3",
        "kind": "CLIENT",
        "attributes": {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "voyageai",
            "gen_ai.request.model": "voyage-3",
            "gen_ai.response.model": "voyage-3",
            "gen_ai.usage.input_tokens": 4,
            "server.address": "127.0.0.1",
        },
    }


def test_tokens_of_every_kind_are_recorded(at: Any, provider: Any, recorded: Any) -> None:
    from fakes.provider import answers

    spans = recorded()
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
    }
    spoken = {"id": "msg_a", "type": "message", "role": "assistant", "model": "claude-haiku-4-5"}
    text = {"content": [{"type": "text", "text": "No."}], "stop_reason": "end_turn"}
    provider.script(answers({**spoken, **text, "usage": usage}))
    litellm.completion(**at["anthropic"], messages=HELLO)
    (span,) = spans.finished()
    counted = {n: v for n, v in span.attributes.items() if "usage" in n or "fallback" in n}
    assert counted == {
        "gen_ai.usage.input_tokens": 160,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_write.input_tokens": 50,
        "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 20,
        "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 30,
        "agentpulse.cost.fallback": pytest.approx(0.00013),
    }
