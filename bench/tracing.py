"""What a decorator adds to a call: while AgentPulse is off, and beside a hand-made span while on.

    uv run python bench/tracing.py [--json]

The aim: under 2 µs while off, for every sort of function.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import AsyncIterator, Callable, Iterator
from time import thread_time_ns
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind

import agentpulse

CALLS, ROUNDS = 2_000, 30
ATTRIBUTES = {"agentpulse.span.kind": "task", "gen_ai.operation.name": "execute_tool"}


def plain(a: int) -> int:
    return a


def generator(a: int) -> Iterator[int]:
    yield a


async def coroutine(a: int) -> int:
    return a


async def async_generator(a: int) -> AsyncIterator[int]:
    yield a


async def read(function: Any) -> None:
    async for _ in function(1):
        pass


def drive(coroutine_: Any) -> None:
    try:
        coroutine_.send(None)
    except StopIteration:
        pass


USES: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "function": (plain, lambda function: function(1)),
    "generator": (generator, lambda function: list(function(1))),
    "coroutine": (coroutine, lambda function: drive(function(1))),
    "async generator": (async_generator, lambda function: drive(read(function))),
}


def microseconds(use: Callable[[Any], object], function: Any) -> float:
    started = thread_time_ns()
    for _ in range(CALLS):
        use(function)
    return (thread_time_ns() - started) / 1000 / CALLS


def added(kinds: dict[str, tuple[Callable[[Any], object], Any]]) -> dict[str, float]:
    """Medians of what each adds to the first, measured in turns."""
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, (use, function) in kinds.items():
            samples[kind].append(microseconds(use, function))
    medians = {kind: statistics.median(taken) for kind, taken in samples.items()}
    return {kind: median - medians["bare"] for kind, median in medians.items() if kind != "bare"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    decorated = {name: agentpulse.task(function) for name, (function, _) in USES.items()}
    figures = {
        f"off_{name}_us": added({"bare": (use, function), "off": (use, decorated[name])})["off"]
        for name, (function, use) in USES.items()
    }
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    tracer = provider.get_tracer("floor")

    def floor(a: int) -> int:
        with tracer.start_as_current_span("a", kind=SpanKind.INTERNAL, attributes=ATTRIBUTES):
            return plain(a)

    agentpulse.init(
        endpoint="http://127.0.0.1:9",
        tracer_provider=provider,
        auto_patch=False,
        heartbeat_interval=0,
        max_queue_size=100,
        flush_interval=60,
    )
    call = USES["function"][1]
    on = added({"bare": (call, plain), "floor": (call, floor), "on": (call, decorated["function"])})
    agentpulse.shutdown(0)
    figures |= {"floor_us": on["floor"], "on_us": on["on"], "on_by_floor": on["on"] / on["floor"]}
    if arguments.json:
        print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}))
        return
    for name, figure in figures.items():
        print(f"{name:24} {figure:8.3f}")


if __name__ == "__main__":
    main()
