"""What `sizing` measures with: recorded calls of models, in any number."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
from agentpulse_instrumentation import instrument, uninstrument
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from agentpulse.demo.provider import FakeProvider, Reply

MODEL = "gpt-4o-mini"
PROMPT, ANSWER = 2_000, 1_000
"""Characters of a prompt and of its answer."""
IN_A_REQUEST = 100
WORDS = sorted(set(Path(__file__).parent.with_name("README.md").read_text("utf-8").split()))
DICE = random.Random(1)


def text(length: int) -> str:
    """Words in no order, for compression to find in it about what it finds in people's words."""
    return " ".join(DICE.choices(WORDS, k=length // 2))[:length]


def as_from_a_provider(reply: Reply) -> Reply:
    """The answer with an id, words and usage of its own, for these are what compresses least."""
    body = json.loads(reply.encoded())
    body["id"] = f"chatcmpl-{DICE.randbytes(15).hex()}"
    body["choices"][0]["message"]["content"] = text(ANSWER)
    body["usage"] |= {
        "prompt_tokens": DICE.randrange(300, 900),
        "completion_tokens": DICE.randrange(300),
    }
    return replace(reply, body=body)


def call(client: openai.OpenAI, provider: FakeProvider) -> None:
    """A call of a model, made with the real client."""
    provider.script(as_from_a_provider)
    messages: Any = [{"role": "user", "content": text(PROMPT)}]
    client.chat.completions.create(model=MODEL, messages=messages)


class Spans:
    """Spans of calls, with the attributes that our instrumentation gave one.

    Their ids and tokens differ as those of real calls do: calls that are alike in all are compared
    with each other, to be sent once.
    """

    def __init__(self) -> None:
        memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(memory))
        instrument(["openai"], tracer_provider=provider, capture_messages=False)
        with FakeProvider() as fake, openai.OpenAI(api_key="x", base_url=fake.openai_url) as client:
            call(client, fake)
        uninstrument()
        (span,) = memory.get_finished_spans()
        self._attributes = dict(span.attributes or {})

    def make(self, provider: TracerProvider, number: int) -> None:
        """Makes so many on a provider."""
        tracer = provider.get_tracer("agentpulse_instrumentation.openai")
        prefix = f"chatcmpl-{time.time_ns():x}"
        for n in range(number):
            attributes = {
                **self._attributes,
                "gen_ai.response.id": f"{prefix}{n:08x}",
                "gen_ai.usage.input_tokens": 300 + n * 7919 % 6007,
                "gen_ai.usage.output_tokens": n * 104729 % 293,
            }
            tracer.start_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes).end()

    def ended(self, number: int) -> list[ReadableSpan]:
        """So many, as an exporter gets them."""
        memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(memory))
        self.make(provider, number)
        return list(memory.get_finished_spans())


def requests(numbers: range) -> Iterator[bytes]:
    """Uploads of calls, ten in each session, 100 in each request; the numbers are their ids."""
    for start in numbers[::IN_A_REQUEST]:
        body = {"agent": "bench", "sdk_version": "2", "batch_id": str(start)}
        body["events"] = [_event(n) for n in range(start, start + IN_A_REQUEST)]
        yield gzip.compress(json.dumps(body).encode(), 5)


def _event(n: int) -> dict[str, Any]:
    now = time.time()
    data = {
        "name": f"chat {MODEL}",
        "operation": "chat",
        "provider": "openai",
        "model": f"{MODEL}-2024-07-18",
        "request_model": MODEL,
        "response_id": f"chatcmpl-{n:012x}",
        "input_tokens": 120,
        "output_tokens": 30,
        "tokens": 150,
        "cost_usd": 0.000036,
        "latency_ms": 812.5,
        "streaming": False,
        "status": "success",
        "finish_reasons": ["stop"],
        "started_at": now - 0.8125,
    }
    place = {"trace_id": f"{n:032x}", "span_id": f"{n:016x}", "session": f"daily:{n // 10:x}"}
    return {"kind": "llm_call", "ts": now, "id": f"{n:016x}-llm_call", **place, "data": data}
