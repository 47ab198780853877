"""What instrumentation adds: CPU per call and per stream chunk, beside the bare client and a floor.

The floor is the least that a span can cost: one made by hand with twelve attributes, current during
the bare call. All three run in one process over an in-process transport, shuffled anew in each
round, because what ran before leaves its mark (some 10 µs) on what runs next; the figures are
medians over several processes.

    uv run python bench/overhead.py [--processes 5] [--json]

Ratios are what to read: `ours / floor` for a call, µs for a chunk (aim: 1.5 and 0.5, content off).
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
from time import thread_time_ns
from typing import Any

CALLS = 2000
STREAMS = 60
CHUNKS = 400

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

        transport = http.MockTransport(answer)
        kind = module.OpenAI if name == "openai" else module.Anthropic
        # A class of its own, so that the bare client stays bare while the library is instrumented.
        bare = type("Bare", (kind,), {"request": base.SyncAPIClient.request})
        messages = [{"role": "user", "content": "Say hello."}]
        self.body: dict[str, Any] = {"messages": messages, "model": "gpt-4o-mini"}
        self.stream_body = {**self.body, "stream_options": {"include_usage": True}}
        if name == "anthropic":
            self.body = {"messages": messages, "model": "claude-sonnet-4-5", "max_tokens": 100}
            self.stream_body = self.body
        clients = [
            made(api_key="x", http_client=http.Client(transport=transport), max_retries=0)
            for made in (bare, kind)
        ]
        self.bare, self.observed = (
            each.chat.completions if name == "openai" else each.messages for each in clients
        )

    def call(self, resource: Any) -> None:
        resource.create(**self.body)

    def stream(self, resource: Any) -> None:
        for _ in resource.create(**self.stream_body, stream=True):
            pass


def cpu(call: Any, *arguments: Any) -> float:
    """Microseconds of this thread's CPU for one run."""
    started = thread_time_ns()
    call(*arguments)
    return (thread_time_ns() - started) / 1000


def medians(rounds: int, kinds: dict[str, Any]) -> dict[str, float]:
    """The median of each kind; each round runs every kind once, in an order of its own."""
    gc.collect()
    gc.freeze()
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    order = list(kinds)
    dice = random.Random(1)
    for round_ in range(rounds + rounds // 10):
        dice.shuffle(order)
        for kind in order:
            took = cpu(kinds[kind])
            if round_ >= rounds // 10:  # the first runs warm up
                samples[kind].append(took)
    return {kind: statistics.median(taken) for kind, taken in samples.items()}


def measure(name: str) -> dict[str, float]:
    """The figures of one process for one library."""
    import os

    os.environ["ANTHROPIC_OPEN_TELEMETRY"] = "false"  # the bare client must be bare
    from agentpulse_instrumentation import instrument
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import SpanKind

    provider = TracerProvider()
    provider.add_span_processor(SpanProcessor())
    tracer = provider.get_tracer("floor")
    attributes = {f"gen_ai.request.attribute_{n}": f"value {n}" for n in range(12)}
    library = Library(name)
    instrument([name], tracer_provider=provider, capture_messages=False)

    def floor() -> None:
        with tracer.start_as_current_span(
            "chat gpt-4o-mini", kind=SpanKind.CLIENT, attributes=attributes
        ):
            library.call(library.bare)

    calls = medians(
        CALLS,
        {
            "bare": lambda: library.call(library.bare),
            "floor": floor,
            "ours": lambda: library.call(library.observed),
        },
    )
    streams = medians(
        STREAMS,
        {
            "bare": lambda: library.stream(library.bare),
            "ours": lambda: library.stream(library.observed),
        },
    )
    added = calls["ours"] - calls["bare"]
    return {
        "bare_call_us": calls["bare"],
        "floor_adds_us": calls["floor"] - calls["bare"],
        "ours_adds_us": added,
        "bare_chunk_us": streams["bare"] / CHUNKS,
        # What a stream's call costs is no part of its chunks.
        "ours_adds_chunk_us": (streams["ours"] - streams["bare"] - added) / CHUNKS,
    }


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
