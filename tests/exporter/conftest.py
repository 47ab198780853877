"""A receiver, and pipes to it that are stopped when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter._delivery import upload
from fakes.pipe import CALL, Pipe
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(upload, "FIRST_LOOK", 0.01)


def ended(number: int) -> list[ReadableSpan]:
    """So many calls that have ended."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for _ in range(number):
        provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
    return list(memory.get_finished_spans())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def pipe(receiver: Receiver) -> Iterator[Callable[..., Pipe]]:
    """Makes a pipe to the receiver, or to another address."""
    made: list[Pipe] = []

    def make(url: str = "", **options: Any) -> Pipe:
        made.append(Pipe(url or receiver.url, **options))
        return made[-1]

    yield make
    for each in made:
        each.processor.stop(timeout=0)
