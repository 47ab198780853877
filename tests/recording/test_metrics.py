"""The GenAI metrics of the conventions, where a program has a meter provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agentpulse_instrumentation import instrument, uninstrument
from fakes.measured import Measured
from fakes.pipe import becomes_true
from fakes.provider import FakeProvider, answers, cut, fails
from modes import STREAMED, Mode
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 40}]}
NAME = "gen_ai.client.inference"


@pytest.fixture
def metrics(spans: Any) -> Iterator[Measured]:
    read = Measured()
    instrument(tracer_provider=spans.provider, meter_provider=read.provider)
    yield read
    read.provider.shutdown()


def test_a_call_is_measured_by_the_conventions(
    clients: Any, metrics: Measured, spans: Any, provider: FakeProvider
) -> None:
    clients.openai.chat.completions.create(**CHAT)
    reported = metrics()
    (span,) = spans.finished()
    # A call is billed after its last byte was sent, which its caller may have read before.
    assert becomes_true(lambda: len(provider.bill) == 1)
    (charge,) = provider.bill

    unit, duration = reported[f"{NAME}.duration"]
    assert unit == "s"
    assert duration.count == 1
    assert duration.sum == pytest.approx((span.end_time - span.start_time) / 1e9)
    of_server = {
        name: span.attributes[name]
        for name in (
            "gen_ai.operation.name",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "server.address",
            "server.port",
        )
    }
    of_call = {
        **of_server,
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": span.attributes["openai.response.system_fingerprint"],
    }
    assert dict(duration.attributes) == of_call
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    unit, used = reported[f"{NAME}.usage.input_tokens"]
    assert (unit, used.value) == ("{token}", charge.input_tokens)
    assert dict(used.attributes) == {**of_call, "gen_ai.token.modality": "unknown"}
    assert reported[f"{NAME}.usage.cache_read.input_tokens"][1].value == charge.cached_tokens
    assert reported[f"{NAME}.operation.output_tokens"][1].sum == charge.output_tokens
    assert f"{NAME}.time_to_first_chunk" not in reported
    assert "gen_ai.client.operation.duration" not in reported


def test_a_stream_is_measured_to_its_first_chunk(
    clients: Any, metrics: Measured, spans: Any
) -> None:
    list(clients.openai.chat.completions.create(**CHAT, stream=True))
    reported = metrics()
    (span,) = spans()
    first = reported[f"{NAME}.time_to_first_chunk"][1]
    assert first.sum == span["attributes"]["gen_ai.response.time_to_first_chunk"]
    assert reported[f"{NAME}.duration"][1].sum >= first.sum


@pytest.mark.parametrize("mode", STREAMED, ids=lambda mode: mode.name)
@pytest.mark.parametrize("library", ["openai", "anthropic"])
def test_each_chunk_after_the_first_is_timed_however_the_stream_is_read(
    library: str, mode: Mode, clients: Any, metrics: Measured
) -> None:
    resource = clients.openai.chat.completions
    body, model = CHAT, "gpt-4o"
    if library == "anthropic":
        resource, model = clients.anthropic.messages, "claude-haiku-4-5"
        body = {**CHAT, "model": model, "max_tokens": 9}
    chunks = list(resource.create(**body, stream=True))
    (_, first) = metrics()[f"{NAME}.time_per_output_chunk"]
    mode.run(resource, body)
    (unit, times) = metrics()[f"{NAME}.time_per_output_chunk"]

    assert unit == "s"
    assert first.count == len(chunks) - 1
    assert times.count == 2 * first.count
    assert times.attributes["gen_ai.request.model"] == model
    assert times.attributes["gen_ai.response.model"].startswith(model)
    assert times.attributes["server.address"] == "127.0.0.1"
    assert "openai.response.service_tier" not in times.attributes


def test_what_is_not_streamed_has_no_chunks(clients: Any, metrics: Measured) -> None:
    clients.openai.chat.completions.create(**CHAT)
    assert f"{NAME}.time_per_output_chunk" not in metrics()


@pytest.mark.parametrize("stream", [False, True])
def test_samplers_thin_out_traces_and_not_figures(
    stream: bool, clients: Any, metrics: Measured, spans: Any
) -> None:
    def call() -> None:
        # Hosts that are not known are not asked for the usage of a stream.
        asked = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        list(clients.openai.chat.completions.create(**CHAT, **asked))

    def figures() -> dict[str, Any]:
        return {
            name: [(dict(point.attributes), getattr(point, "count", None)) for point in points]
            for name, (_, *points) in metrics().items()
        }

    call()
    whole = figures()
    uninstrument()
    thinning = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    again = Measured()
    instrument(tracer_provider=thinning, meter_provider=again.provider)
    metrics = again
    call()
    assert len(spans()) == 1
    assert figures() == whole
    assert f"{NAME}.usage.output_tokens" in whole


def test_a_program_without_a_tracer_provider_is_measured(clients: Any, spans: Any) -> None:
    measured = Measured()
    instrument(meter_provider=measured.provider)
    clients.openai.chat.completions.create(**CHAT)
    (_, duration) = measured()[f"{NAME}.duration"]
    assert duration.count == 1
    assert 0 < duration.sum < 60


def test_tokens_are_split_by_modality_as_far_as_that_is_known(
    clients: Any, metrics: Measured, provider: FakeProvider
) -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"audio_tokens": 30, "image_tokens": 20, "cached_tokens": 40},
        "completion_tokens_details": {"audio_tokens": 50},
    }
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
    provider.script(answers({"id": "x", "model": "gpt-4o", "choices": [choice], "usage": usage}))
    clients.openai.chat.completions.create(**CHAT)
    reported = metrics()

    def by_modality(kind: str) -> dict[str, int]:
        _, *points = reported[f"{NAME}.usage.{kind}"]
        return {point.attributes["gen_ai.token.modality"]: point.value for point in points}

    assert by_modality("input_tokens") == {"audio": 30, "image": 20, "unknown": 50}
    assert by_modality("output_tokens") == {"audio": 50}
    assert by_modality("cache_read.input_tokens") == {"unknown": 40}
    assert reported[f"{NAME}.operation.input_tokens"][1].sum == 100


def test_a_failure_is_reported_by_its_kind_and_has_no_tokens(
    clients: Any, metrics: Measured, provider: FakeProvider
) -> None:
    provider.script(fails(500))
    with pytest.raises(Exception, match="500"):
        clients.openai.chat.completions.create(**CHAT)
    reported = metrics()
    assert reported[f"{NAME}.duration"][1].attributes["error.type"] == "server_error"
    assert [*reported] == [f"{NAME}.duration"]


def test_what_is_only_estimated_is_not_counted(
    clients: Any, metrics: Measured, provider: FakeProvider
) -> None:
    provider.script(cut(3))
    with pytest.raises(Exception, match=r".*"):
        list(clients.openai.chat.completions.create(**CHAT, stream=True))
    assert not [name for name in metrics() if name.endswith("tokens")]


def test_other_calls_of_clients_have_a_metric_of_their_own(clients: Any, metrics: Measured) -> None:
    clients.openai.embeddings.create(model="text-embedding-3-small", input="x")
    reported = metrics()
    ((_, duration),) = reported.values()
    assert [*reported] == ["gen_ai.client.operation.duration"]
    assert duration.attributes["gen_ai.operation.name"] == "embeddings"


def test_without_a_meter_provider_nothing_is_measured(clients: Any, instrumented: Any) -> None:
    spans = instrumented()
    clients.openai.chat.completions.create(**CHAT)
    assert len(spans()) == 1
