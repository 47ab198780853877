"""A receiver, and pipes to it that are stopped when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import delivery
from fakes.pipe import Pipe
from fakes.receiver import Receiver


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT", 0.01)


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
