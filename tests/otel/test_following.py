"""A provider that stands in for others, as Logfire's proxy does, and gets another one behind it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.collector import Collector
from fakes.pipe import CALL
from fakes.sdk import Receiver
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import agentpulse


class Proxy(trace.TracerProvider):
    """Stands in for the provider of its last set-up."""

    provider: Any = trace.NoOpTracerProvider()

    def set_provider(self, provider: Any) -> None:
        self.provider = provider

    def set_up(self) -> None:
        if isinstance(self.provider, TracerProvider):
            self.provider.shutdown()
        self.set_provider(TracerProvider(shutdown_on_exit=False))

    def get_tracer(self, *arguments: Any, **more: Any) -> Any:
        return self.provider.get_tracer(*arguments, **more)

    def add_span_processor(self, processor: SpanProcessor) -> None:
        if isinstance(self.provider, TracerProvider):
            self.provider.add_span_processor(processor)


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


def call(proxy: Proxy, name: str) -> None:
    proxy.get_tracer("program").start_span(name, attributes=CALL).end()


def test_a_proxy_with_nothing_behind_it_is_refused(proxy: Proxy, receiver: Receiver) -> None:
    with pytest.raises(agentpulse.SettingTypeError, match=r"stands in for a .*NoOpTracerProvider"):
        agentpulse.init(endpoint=receiver.endpoint, tracer_provider=proxy)


def test_the_next_provider_is_joined_too_and_left_in_the_end(
    proxy: Proxy, receiver: Receiver
) -> None:
    proxy.set_up()
    client = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=proxy, auto_patch=False)
    call(proxy, "first")
    open_meanwhile = proxy.get_tracer("program").start_span("across", attributes=CALL)
    proxy.set_up()
    assert client.joined is not None
    assert len(client.joined.processors) == 2
    open_meanwhile.end()
    call(proxy, "second")
    assert agentpulse.shutdown()
    assert proxy.provider._active_span_processor._span_processors == ()
    assert "set_provider" not in vars(proxy)
    told = [event["data"]["name"] for event in receiver.of_kind("llm_call")]
    assert told == ["first", "across", "second"]
    assert agentpulse.stats().accepted == 4  # sdk_init too


def test_what_goes_elsewhere_goes_on_with_its_figures(proxy: Proxy, receiver: Receiver) -> None:
    proxy.set_up()
    with Collector() as collector:
        client = agentpulse.init(
            endpoint=receiver.endpoint,
            otlp_endpoint=collector.url,
            tracer_provider=proxy,
            auto_patch=False,
        )
        call(proxy, "first")
        open_meanwhile = proxy.get_tracer("program").start_span("across", attributes=CALL)
        proxy.set_up()
        assert client.joined is not None
        assert len(client.joined.processors) == 3
        open_meanwhile.end()
        call(proxy, "second")
        assert agentpulse.flush()
        assert [span["name"] for span in collector.spans] == ["first", "across", "second"]
        taken = agentpulse.Stats(ended=3, accepted=3)
        assert agentpulse.stats().elsewhere == {collector.url: taken}
        assert agentpulse.shutdown()


def test_a_provider_that_is_shut_down_twice_is_followed_once(
    proxy: Proxy, receiver: Receiver
) -> None:
    proxy.set_up()
    client = agentpulse.init(
        endpoint=receiver.endpoint,
        otlp_endpoint=receiver.endpoint,
        tracer_provider=proxy,
        auto_patch=False,
    )
    proxy.provider.shutdown()
    proxy.set_up()
    assert client.joined is not None
    assert len(client.joined.processors) == 3
    call(proxy, "once")
    agentpulse.shutdown()
    assert proxy.provider._active_span_processor._span_processors == ()
    assert [event["data"]["name"] for event in receiver.of_kind("llm_call")] == ["once"]
    assert agentpulse.stats().ended == 2  # sdk_init too


def test_of_providers_that_follow_each_other_quickly_the_last_is_joined(
    proxy: Proxy, receiver: Receiver
) -> None:
    proxy.set_up()
    client = agentpulse.init(endpoint=receiver.endpoint, tracer_provider=proxy, auto_patch=False)
    for _ in range(200):
        proxy.set_up()
    assert client.joined is not None
    assert len(client.joined.processors) == 2
    call(proxy, "after all")
    assert agentpulse.shutdown()
    assert [event["data"]["name"] for event in receiver.of_kind("llm_call")] == ["after all"]


def test_what_can_not_be_sent_by_otlp_takes_nothing_else_with_it(
    proxy: Proxy,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unusable(*_args: object, **_settings: object) -> None:
        raise ValueError

    monkeypatch.setattr(OTLPSpanExporter, "__init__", unusable)
    proxy.set_up()
    agentpulse.init(
        endpoint=receiver.endpoint,
        otlp_endpoint=receiver.endpoint,
        tracer_provider=proxy,
        auto_patch=False,
    )
    call(proxy, "told")
    assert agentpulse.shutdown()
    assert len(receiver.of_kind("llm_call")) == 1
    assert "Nothing is sent by OTLP: ValueError" in caplog.text


def test_a_provider_of_the_program_that_is_shut_down_ends_it(
    receiver: Receiver, provider: TracerProvider
) -> None:
    agentpulse.init(endpoint=receiver.endpoint, tracer_provider=provider, auto_patch=False)
    provider.get_tracer("program").start_span("chat", attributes=CALL).end()
    provider.shutdown()
    assert len(receiver.of_kind("llm_call")) == 1
