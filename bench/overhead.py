"""What instrumentation adds: CPU per call and per stream chunk, beside the bare client and a floor.

The floor is the least that a span can cost: one made by hand with twelve attributes around the bare
call. All three run in turns in one process over an in-process transport, so that they meet the same
machine; the figures are medians over several processes.

    uv run python bench/overhead.py [--processes 5] [--json]

Ratios are what to read: `ours / floor` for a call, µs for a chunk (aim: 1.5 and 0.5, content off).
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
from time import thread_time_ns
from typing import Any

CALLS = 300
STREAMS = 12
CHUNKS = 400
ROUNDS = 9

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "system_fingerprint": "fp_1",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Hello!", "refusal": None},
        }
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 3,
        "total_tokens": 23,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 20,
        "output_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "service_tier": "standard",
    },
}


def chat_events() -> list[dict[str, Any]]:
    head = {key: CHAT[key] for key in ("id", "created", "model", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]}
        for _ in range(CHUNKS - 2)
    ]
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [*chunks, end, {**head, "choices": [], "usage": CHAT["usage"]}]


def message_events() -> list[dict[str, Any]]:
    start = {**MESSAGE, "content": [], "stop_reason": None}
    text = {"type": "text", "text": ""}
    block = {"type": "content_block_start", "index": 0, "content_block": text}
    delta = {"type": "text_delta", "text": " word"}
    usage = {"output_tokens": 400}
    return [
        {"type": "message_start", "message": start},
        block,
        *[{"type": "content_block_delta", "index": 0, "delta": delta}] * (CHUNKS - 5),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]


def body_of(events: list[dict[str, Any]], named: bool) -> bytes:
    lines = []
    for event in events:
        head = f"event: {event['type']}\n" if named else ""
        lines.append(f"{head}data: {json.dumps(event)}\n\n")
    return ("".join(lines) + ("" if named else "data: [DONE]\n\n")).encode()


class Library:
    """One client library with its canned answers."""

    def __init__(self, name: str) -> None:
        import importlib

        self.name = name
        module = importlib.import_module(name)
        base = importlib.import_module(f"{name}._base_client")
        http = getattr(base, "httpx2", None) or base.httpx
        plain = json.dumps(CHAT if name == "openai" else MESSAGE).encode()
        events = chat_events() if name == "openai" else message_events()
        stream = body_of(events, named=name == "anthropic")
        json_type = {"content-type": "application/json"}
        event_type = {"content-type": "text/event-stream"}

        def answer(request: Any) -> Any:
            if b'"stream":true' in request.content.replace(b" ", b""):
                return http.Response(200, headers=event_type, content=stream)
            return http.Response(200, headers=json_type, content=plain)

        kind = module.OpenAI if name == "openai" else module.Anthropic
        transport = http.MockTransport(answer)
        client = kind(api_key="x", http_client=http.Client(transport=transport), max_retries=0)
        messages = [{"role": "user", "content": "Say hello."}]
        if name == "openai":
            self.create = client.chat.completions.create
            self.body = {"model": "gpt-4o-mini", "messages": messages, "temperature": 0.5}
            self.stream_body = {**self.body, "stream_options": {"include_usage": True}}
        else:
            self.create = client.messages.create
            self.body = {"model": "claude-sonnet-4-5", "messages": messages, "max_tokens": 100}
            self.stream_body = self.body

    def call(self) -> None:
        self.create(**self.body)

    def stream(self) -> None:
        for _ in self.create(**self.stream_body, stream=True):
            pass


def floor(tracer: Any, attributes: dict[str, Any], call: Any) -> Any:
    from opentelemetry.trace import SpanKind

    def called() -> None:
        span = tracer.start_span("chat gpt-4o-mini", kind=SpanKind.CLIENT, attributes=attributes)
        call()
        span.end()

    return called


def cpu(times: int, call: Any) -> float:
    """Microseconds of this thread's CPU per run of `call`."""
    gc.collect()
    started = thread_time_ns()
    for _ in range(times):
        call()
    return (thread_time_ns() - started) / times / 1000


def measure(name: str) -> dict[str, float]:
    """The medians of one process for one library."""
    import os

    os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "false"  # the bare client must be bare
    from agentpulse_instrumentation import instrument, uninstrument
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    provider = TracerProvider()
    provider.add_span_processor(SpanProcessor())
    tracer = provider.get_tracer("floor")
    attributes = {f"gen_ai.request.attribute_{n}": f"value {n}" for n in range(12)}
    library = Library(name)
    by_hand = floor(tracer, attributes, library.call)
    samples: dict[str, list[float]] = {}

    def sample(kind: str, figure: float) -> None:
        samples.setdefault(kind, []).append(figure)

    for round_ in range(ROUNDS + 1):
        bare = cpu(CALLS, library.call)
        bare_stream = cpu(STREAMS, library.stream)
        floored = cpu(CALLS, by_hand)
        instrument([name], tracer_provider=provider, capture_messages=False)
        ours = cpu(CALLS, library.call)
        ours_stream = cpu(STREAMS, library.stream)
        uninstrument()
        if round_:  # the first round warms up
            sample("bare_call_us", bare)
            sample("floor_adds_us", floored - bare)
            sample("ours_adds_us", ours - bare)
            sample("bare_chunk_us", bare_stream / CHUNKS)
            # What a stream's call costs is no part of its chunks.
            sample("ours_adds_chunk_us", (ours_stream - bare_stream - (ours - bare)) / CHUNKS)
    return {kind: statistics.median(figures) for kind, figures in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=("openai", "anthropic"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    results = {}
    for name in ("openai", "anthropic"):
        runs = []
        for _ in range(arguments.processes):
            command = [sys.executable, __file__, "--measure", name]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            runs.append(json.loads(output))
        figures = {kind: statistics.median(run[kind] for run in runs) for kind in runs[0]}
        figures["ours_by_floor"] = figures["ours_adds_us"] / figures["floor_adds_us"]
        results[name] = {kind: round(figure, 3) for kind, figure in figures.items()}
    if arguments.json:
        print(json.dumps(results))
        return
    for name, figures in results.items():
        print(name)
        for kind, figure in figures.items():
            print(f"  {kind:20} {figure:10.3f}")


if __name__ == "__main__":
    main()
