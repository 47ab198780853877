"""A call that is recorded by a span made by hand, on the tracer provider that is there."""

from __future__ import annotations

from opentelemetry import trace

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.cache_read.input_tokens": 400,
    "gen_ai.usage.output_tokens": 100,
}


def tell() -> None:
    tracer = trace.get_tracer("somebody's")
    tracer.start_span("chat gpt-4o", kind=trace.SpanKind.CLIENT, attributes=CALL).end()


if __name__ == "__main__":
    tell()
