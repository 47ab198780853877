"""`flush` and `stop` are True only if it is true, whatever time they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from fakes.pipe import Pipe, becomes_true
from fakes.receiver import Receiver


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 1e10, 10**400])
def test_any_long_timeout_is_as_good_as_another(
    timeout: float, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.call()
    assert sending.processor.flush(timeout)
    assert sending.processor.force_flush(10**12)
    assert sending.processor.force_flush(10**400)
    sending.call()
    assert sending.processor.stop(timeout)
    assert len(receiver.of_kind("llm_call")) == 2


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, math.nan])
def test_no_time_at_all_is_no_error(
    timeout: float, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([(429, {"Retry-After": "60"})] * 2)
    sending = pipe()
    sending.call()
    assert not sending.processor.flush(timeout)
    assert not sending.processor.stop(timeout)


class Unfriendly:
    """A number that isn't one."""

    def __float__(self) -> float:
        raise RuntimeError


@pytest.mark.parametrize("timeout", [None, "60", "soon", Decimal(60), Unfriendly(), [1]])
def test_what_is_no_number_of_seconds_is_no_error(
    timeout: Any, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.call()
    assert sending.processor.flush(timeout)
    sending.processor.force_flush(timeout)
    sending.call()
    assert sending.processor.stop(timeout)
    assert len(receiver.of_kind("llm_call")) == 2


@pytest.mark.parametrize("timeout", [None, "5", "soon", math.nan, math.inf, 10**400, -1])
def test_the_bare_exporter_takes_any_time_too(timeout: Any, receiver: Receiver) -> None:
    exporter = AgentPulseSpanExporter(endpoint=receiver.url, api_key="ap_k")
    assert exporter.force_flush(timeout)
    exporter.shutdown()


def test_a_loss_before_the_flush_is_reported_once(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([500] * 6)
    sending = pipe(max_batch_size=3)
    for _ in range(3):
        sending.call()
    assert becomes_true(lambda: sending.processor.stats().dropped == {"server_error": 3})
    assert not sending.processor.flush()
    assert sending.processor.flush()


def test_every_flush_that_waits_for_a_loss_reports_it(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([500] * 6)
    sending = pipe()
    sending.call()
    queue = sending.processor._queue
    waits = [queue.begin_flush(20) for _ in range(3)]
    assert [wait(20) for wait in waits] == [False, False, False]
    assert sending.processor.flush()


def test_a_flush_sends_the_rest_though_something_is_lost(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([500] * 6)
    sending = pipe(max_batch_size=10)
    sending.processor._queue._is_called = True  # the worker stays asleep meanwhile
    for _ in range(35):
        sending.call()
    assert not sending.processor.flush()
    stats = sending.processor.stats()
    assert (stats.accepted, stats.queued) == (35 - stats.dropped["server_error"], 0)


def test_an_end_after_a_loss_is_no_success_however_often_it_is_asked_for(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([500] * 6)
    sending = pipe()
    sending.call()
    assert not sending.processor.flush()
    sending.call()
    assert sending.processor.flush()
    assert not sending.processor.stop()
    assert not sending.processor.stop()
