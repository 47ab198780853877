"""Receivers without gzip: whatever else happens at the first contact, what follows arrives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_exporter._delivery import upload
from fakes.pipe import KEY, Pipe, becomes_true, ended
from fakes.receiver import HANG_UP, Receiver

FAULTS: list[Any] = [413, (429, {"Retry-After": "0"}), 500, 503, HANG_UP]


def codings(receiver: Receiver) -> list[str | None]:
    return [request["headers"].get("Content-Encoding") for request in receiver.requests]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(upload, "FIRST_LOOK", 0.001)
    monkeypatch.setattr(upload, "LAST_LOOK", 0.01)
    monkeypatch.setattr(upload, "PAUSE", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer_to_gzip", [500, HANG_UP])
@pytest.mark.parametrize("fails_before_it_reads", [True, False])
def test_no_order_of_faults_at_first_contact_leaves_what_can_not_be_read(
    answer_to_gzip: int, fails_before_it_reads: bool
) -> None:
    with Receiver(
        reads_gzip=False,
        answer_to_gzip=answer_to_gzip,
        fails_before_it_reads=fails_before_it_reads,
    ) as receiver:
        for faults in permutations(FAULTS, 4):
            receiver.script.extend(faults)
            exporter = AgentPulseSpanExporter(KEY, receiver.url)
            while receiver.script or exporter.sender.has_kept:
                exporter.export(ended(1))
                exporter.force_flush()
            receiver.events.clear()
            exporter.export(ended(1))
            assert receiver.of_kind("llm_call"), faults
            exporter.shutdown()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_at_a_later_look_leaves_nothing_that_can_not_be_read(
    fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_SECONDS_UNTIL_COMPRESSED", 0.0)
    with Receiver(reads_gzip=False) as receiver:
        exporter = AgentPulseSpanExporter(KEY, receiver.url)
        for after in range(6):
            receiver.script.extend([200] * after + [fault])
            while receiver.script or exporter.sender.has_kept:
                exporter.export(ended(1))
                exporter.force_flush()
            receiver.events.clear()
            exporter.export(ended(1))
            assert receiver.of_kind("llm_call")
        exporter.shutdown()


def test_a_receiver_with_gzip_that_fails_at_first_goes_on_with_gzip_in_time(
    receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_SECONDS_UNTIL_COMPRESSED", 0.0)
    receiver.script.extend([500, 503, HANG_UP])
    sending = pipe()
    for _ in range(4):
        sending.call()
        assert sending.processor.flush()
    assert codings(receiver)[-1] == "gzip"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer_to_gzip", [415, 500, 503, 429, HANG_UP])
def test_a_receiver_that_another_without_gzip_replaces_loses_nothing(
    answer_to_gzip: int, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.call()
    assert sending.processor.flush()
    receiver.reads_gzip = False
    receiver.answer_to_gzip = answer_to_gzip
    for _ in range(3):
        sending.call()
        sending.processor.flush()
    assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == 4)
    assert sending.processor.stats().dropped == {}


def test_what_is_answered_alike_teaches_nothing(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([503, 503])
    sending = pipe()
    sending.call()
    assert sending.processor.flush()
    assert codings(receiver) == ["gzip", None, "gzip"]
