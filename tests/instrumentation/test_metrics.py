"""The GenAI metrics of the conventions, where a program has a meter provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from fakes.pipe import becomes_true
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from agentpulse.demo.provider import FakeProvider
from agentpulse.demo.provider.reply import cut, fails

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 40}]}
NAME = "gen_ai.client.inference"


class Read:
    """The metrics as they are now."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader])

    def __call__(self) -> dict[str, Any]:
        """By name: unit, and what each of its points has."""
        data: Any = self.reader.get_metrics_data()
        return {
            metric.name: [metric.unit, *metric.data.data_points]
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def metrics(spans: Any) -> Iterator[Read]:
    read = Read()
    instrument(tracer_provider=spans.provider, meter_provider=read.provider)
    yield read
    read.provider.shutdown()


def test_a_call_is_measured_by_the_conventions(
    clients: Any, metrics: Read, spans: Any, provider: FakeProvider
) -> None:
    clients.openai.chat.completions.create(**CHAT)
    told = metrics()
    (span,) = spans.finished()
    # A call is billed after its last byte was sent, which its caller may have read before.
    assert becomes_true(lambda: len(provider.bill) == 1)
    (charge,) = provider.bill

    unit, duration = told[f"{NAME}.duration"]
    assert unit == "s"
    assert duration.count == 1
    assert duration.sum == pytest.approx((span.end_time - span.start_time) / 1e9)
    of_call = {
        name: span.attributes[name]
        for name in (
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "server.address",
            "server.port",
            "openai.response.service_tier",
            "openai.response.system_fingerprint",
        )
    }
    assert dict(duration.attributes) == of_call
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    unit, used = told[f"{NAME}.usage.input_tokens"]
    assert (unit, used.value) == ("{token}", charge.input_tokens)
    assert dict(used.attributes) == {**of_call, "gen_ai.token.modality": "unknown"}
    assert told[f"{NAME}.usage.cache_read.input_tokens"][1].value == charge.cached_tokens
    assert told[f"{NAME}.operation.output_tokens"][1].sum == charge.output_tokens
    assert f"{NAME}.time_to_first_chunk" not in told
    assert "gen_ai.client.operation.duration" not in told


def test_a_stream_is_measured_to_its_first_chunk(clients: Any, metrics: Read, spans: Any) -> None:
    list(clients.openai.chat.completions.create(**CHAT, stream=True))
    told = metrics()
    (span,) = spans()
    first = told[f"{NAME}.time_to_first_chunk"][1]
    assert first.sum == span["attributes"]["gen_ai.response.time_to_first_chunk"]
    assert told[f"{NAME}.duration"][1].sum >= first.sum


def test_a_failure_is_told_by_its_kind_and_has_no_tokens(
    clients: Any, metrics: Read, provider: FakeProvider
) -> None:
    provider.script(fails(500))
    with pytest.raises(Exception, match="500"):
        clients.openai.chat.completions.create(**CHAT)
    told = metrics()
    assert told[f"{NAME}.duration"][1].attributes["error.type"] == "server_error"
    assert [*told] == [f"{NAME}.duration"]


def test_what_is_only_estimated_is_not_counted(
    clients: Any, metrics: Read, provider: FakeProvider
) -> None:
    provider.script(cut(3))
    with pytest.raises(Exception, match=r".*"):
        list(clients.openai.chat.completions.create(**CHAT, stream=True))
    assert not [name for name in metrics() if name.endswith("tokens")]


def test_other_calls_of_clients_have_a_metric_of_their_own(clients: Any, metrics: Read) -> None:
    clients.openai.embeddings.create(model="text-embedding-3-small", input="x")
    told = metrics()
    ((_, duration),) = told.values()
    assert [*told] == ["gen_ai.client.operation.duration"]
    assert duration.attributes["gen_ai.operation.name"] == "embeddings"


def test_without_a_meter_provider_nothing_is_measured(clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    clients.openai.chat.completions.create(**CHAT)
    assert len(spans()) == 1
