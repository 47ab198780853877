"""The events that a program records by itself: events, metrics, alerts, signs of life."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from agentpulse_instrumentation._engine import patching
from fakes.pipe import becomes_true
from fakes.program import Init
from fakes.receiver import Receiver
from fakes.sdk import Receiver as SdkReceiver
from fakes.sdk import Run
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

import agentpulse


@pytest.mark.parametrize(
    ("record", "kind", "data"),
    [
        (
            lambda: agentpulse.event("sent", {"count": 5, "to": ["ada"], "none": None}),
            "event",
            {"name": "sent", "count": 5, "to": ["ada"]},
        ),
        (
            lambda: agentpulse.event("sent", {"name": "another"}),
            "event",
            {"name": "sent", "name_": "another"},
        ),
        (
            lambda: agentpulse.metric("queue", 3, {"of": "mail"}),
            "metric",
            {"name": "queue", "value": 3, "tags": {"of": "mail"}},
        ),
        (
            lambda: agentpulse.alert("disk full", "critical", {"free": 0}),
            "alert",
            {
                "title": "disk full",
                "message": "disk full",
                "severity": "critical",
                "details": {"free": 0},
            },
        ),
        (
            lambda: agentpulse.memory_report("MEMORY.md", 1200, 40),
            "memory",
            {"file": "MEMORY.md", "size_bytes": 1200, "lines": 40},
        ),
    ],
)
def test_events_arrive_with_their_session(
    started: Init, record: Callable[[], None], kind: str, data: dict[str, Any]
) -> None:
    events = started()
    with agentpulse.session("s") as session, agentpulse.task("step"):
        record()
    record()
    inside, outside = (event for event in events() if event["kind"] == kind)
    assert inside["data"] == outside["data"] == data
    assert inside["session"] == session.id
    (step,) = (event for event in events() if event["kind"] == "span_end")
    assert inside["parent_span_id"] == step["span_id"]
    assert "session" not in outside


def test_a_heartbeat_counts_the_sessions_under_way(started: Init) -> None:
    events = started()
    with agentpulse.session("a"), agentpulse.cron("b"):
        agentpulse.heartbeat({"queue": 4})
    agentpulse.heartbeat()
    busy, idle = (event["data"] for event in events() if event["kind"] == "heartbeat")
    assert (busy["active_sessions"], busy["queue"]) == (2, 4)
    assert idle["active_sessions"] == 0
    assert 0 <= busy["uptime_s"] <= idle["uptime_s"]


def test_a_heartbeat_counts_sessions_by_decorator(started: Init) -> None:
    events = started()

    @agentpulse.session("a")
    def work() -> Iterator[None]:
        agentpulse.heartbeat()
        yield

    @agentpulse.cron("b")
    def run() -> None:
        list(work())

    run()
    agentpulse.heartbeat()
    beats = [event["data"] for event in events() if event["kind"] == "heartbeat"]
    assert [each["active_sessions"] for each in beats] == [2, 0]


def test_heartbeats_are_sent_by_themselves(
    strict_receiver: Receiver, provider: TracerProvider
) -> None:
    agentpulse.init(
        endpoint=strict_receiver.url,
        tracer_provider=provider,
        auto_patch=False,
        heartbeat_interval=0.01,
        flush_interval=0.01,
    )
    assert becomes_true(lambda: len(strict_receiver.of_kind("heartbeat")) >= 3)
    agentpulse.shutdown()
    ids = [event["id"] for event in strict_receiver.of_kind("heartbeat")]
    assert len(set(ids)) == len(ids)


def test_a_metric_is_a_gauge_of_opentelemetry_too(
    started: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics, "get_meter", meters.get_meter)
    started()
    agentpulse.metric("queue", 3, {"of": "mail"})
    agentpulse.metric("queue", 5.5, {"of": "mail"})
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (metric.name, point.value, point.attributes) == ("queue", 5.5, {"of": "mail"})


METERED_LATER = """
import gc, agentpulse
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
agentpulse.init(auto_patch=False)
for size in range(3):
    agentpulse.metric("queue", size)
gauges = sum("Gauge" in type(each).__name__ for each in gc.get_objects())
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
agentpulse.metric("queue", 7)
(metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
print(gauges, metric.name, [point.value for point in metric.data.data_points])
"""


def test_a_gauge_is_made_once_also_before_there_is_a_meter_provider(
    receiver: SdkReceiver, run_program: Run
) -> None:
    done = run_program(METERED_LATER, AGENTPULSE_ENDPOINT=receiver.endpoint)
    assert (done.stdout, done.stderr) == ("1 queue [7]\n", "")


def test_the_client_has_the_same_methods(started: Init) -> None:
    events = started()
    client = agentpulse.get_client()
    assert client is not None

    @client.tool("add")
    def add(a: int, b: int) -> int:
        return a + b

    with client.session("s") as session, client.cron("c"), client.agent("a"):
        assert add(1, 2) == 3
        client.event("e")
        client.alert("a")
        client.metric("m", 1)
        client.heartbeat()
        client.memory_report("f", 1)
        client.set_metadata(a=1)
        client.set_user("u")
    kinds = {event["kind"] for event in events()}
    assert kinds >= {"session", "cron", "span_end", "event", "alert", "metric", "memory"}
    assert session.id in {event.get("session") for event in events()}


def test_odd_arguments_raise_nothing(started: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching, "strict", False)
    events = started()
    odd: Any = 5
    agentpulse.event("sent", odd)
    agentpulse.event("sent", {odd: object(), "text": "\ud800"})
    agentpulse.metric("queue", 1, odd)
    agentpulse.memory_report(odd, 1)
    agentpulse.set_metadata(of=object())
    agentpulse.heartbeat(odd)
    received = [(event["kind"], event["data"]) for event in events()]
    vital = received.pop()[1]
    assert received == [
        ("event", {"name": "sent", "value": 5}),
        ("event", {"name": "sent", "5": "<object>", "text": "\ufffd"}),
        ("metric", {"name": "queue", "value": 1, "tags": {"value": 5}}),
        ("memory", {"file": "5", "size_bytes": 1}),
    ]
    assert vital["value"] == 5


def test_a_figure_of_any_kind_is_a_number(started: Init) -> None:
    class Scalar:
        """As those of numerical libraries."""

        def __float__(self) -> float:
            return 2.5

    events = started()
    figures: list[Any] = [Decimal("1.5"), Scalar(), Fraction(1, 4), 3]
    for figure in figures:
        agentpulse.metric("queue", figure)
    assert [event["data"]["value"] for event in events()] == [1.5, 2.5, 0.25, 3]
