"""anthropic makes spans of its own: a call has theirs or ours, never both."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import anthropic
import anthropic._base_client
import pytest
from agentpulse_instrumentation import uninstrument
from fakes import processes
from fakes.provider import FakeProvider, cut, fails
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

pytestmark = pytest.mark.skipif(
    not hasattr(anthropic._base_client.BaseClient, "_set_open_telemetry"),
    reason="anthropic makes spans of its own since 1.14",
)

BODY: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "What is new?"}],
}
OURS, THEIRS = "agentpulse_instrumentation.anthropic", "com.anthropic.sdk.python"


def client_of(provider: FakeProvider, **options: Any) -> Any:
    return anthropic.Anthropic(
        api_key="x", base_url=provider.anthropic_url, max_retries=0, **options
    )


def scopes(spans: Any) -> list[str]:
    """Who made each span that ended since the last look."""
    return [span.instrumentation_scope.name for span in spans.finished()]


def test_a_client_without_the_option_has_our_span_alone(provider: FakeProvider, instrumented: Any):
    spans = instrumented()
    with client_of(provider) as client:
        client.messages.create(**BODY)
        list(client.messages.create(**BODY, stream=True))
        client.messages.with_raw_response.create(**BODY).parse()
        client.beta.messages.create(**BODY)
        with client.messages.stream(**BODY) as stream:
            list(stream)

    assert scopes(spans) == [OURS] * 5


def test_a_client_that_traces_to_our_provider_keeps_its_span_and_has_none_of_ours(
    provider: FakeProvider, instrumented: Any
):
    spans = instrumented()
    with client_of(provider, open_telemetry={"tracer_provider": spans.provider}) as client:
        client.messages.create(**BODY)
        list(client.messages.create(**BODY, stream=True))

    assert scopes(spans) == [THEIRS] * 2


def test_an_async_client_is_treated_alike(provider: FakeProvider, instrumented: Any):
    spans = instrumented()

    async def call(**options: Any) -> None:
        url = provider.anthropic_url
        async with anthropic.AsyncAnthropic(api_key="x", base_url=url, **options) as client:
            await client.messages.create(**BODY)

    asyncio.run(call())
    assert scopes(spans) == [OURS]
    asyncio.run(call(open_telemetry={"tracer_provider": spans.provider}))
    assert scopes(spans) == [THEIRS]


def test_a_client_that_traces_elsewhere_keeps_its_span_there_and_has_ours_here(
    provider: FakeProvider, instrumented: Any
):
    spans = instrumented()
    elsewhere = type(spans)()
    with client_of(provider, open_telemetry={"tracer_provider": elsewhere.provider}) as client:
        client.messages.create(**BODY)

    assert (scopes(spans), scopes(elsewhere)) == ([OURS], [THEIRS])
    elsewhere.provider.shutdown()


@pytest.mark.parametrize("off", [False, {"traces": False}, {"traces": {"enabled": False}}])
def test_a_client_that_was_reported_not_to_trace_itself_has_ours(
    off: Any, provider: FakeProvider, instrumented: Any
):
    spans = instrumented()
    with client_of(provider, open_telemetry=off) as client:
        client.messages.create(**BODY)

    assert scopes(spans) == [OURS]


def test_a_copy_of_a_client_is_treated_as_the_client(provider: FakeProvider, instrumented: Any):
    spans = instrumented()
    with client_of(provider) as client:
        client.with_options(timeout=5).messages.create(**BODY)
        client.copy().with_options(timeout=5).messages.create(**BODY)
        assert scopes(spans) == [OURS] * 2

    with client_of(provider, open_telemetry={"tracer_provider": spans.provider}) as client:
        client.with_options(timeout=5).messages.create(**BODY)
        client.copy().with_options(timeout=5).messages.create(**BODY)
        assert scopes(spans) == [THEIRS] * 2


def test_a_copy_that_is_given_the_option_keeps_its_own_span(
    provider: FakeProvider, instrumented: Any
):
    spans = instrumented()
    with client_of(provider) as client:
        reported = client.with_options(open_telemetry={"tracer_provider": spans.provider})
        reported.messages.create(**BODY)
        assert scopes(spans) == [THEIRS]

        client.messages.create(**BODY)
        assert scopes(spans) == [OURS]


def test_a_call_that_fails_has_one_span_too(provider: FakeProvider, instrumented: Any):
    spans = instrumented()
    provider.script(fails(400), cut(2))
    with client_of(provider) as client:
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**BODY)
        with pytest.raises(Exception, match=r"incomplete|closed"):
            list(client.messages.create(**BODY, stream=True))

    assert scopes(spans) == [OURS] * 2


def test_what_we_do_not_record_keeps_the_native_span(provider: FakeProvider, instrumented: Any):
    spans = instrumented()
    with client_of(provider, open_telemetry={"tracer_provider": spans.provider}) as client:
        client.messages.count_tokens(model=BODY["model"], messages=BODY["messages"])

    assert scopes(spans) == [THEIRS]


def test_a_client_looks_untouched(provider: FakeProvider, instrumented: Any):
    mine = TracerProvider(shutdown_on_exit=False)

    def described() -> Any:
        with client_of(provider, open_telemetry={"tracer_provider": mine}) as reported:
            copied = reported.copy()
            with client_of(provider) as unreported:
                options = [
                    c.open_telemetry for c in (reported, copied, unreported, unreported.copy())
                ]
        return options, [type(option) for option in options], sorted(vars(reported))

    bare = described()
    instrumented()

    assert described() == bare


def test_uninstrumented_the_native_span_is_back(provider: FakeProvider, instrumented: Any):
    spans = instrumented()
    with client_of(provider, open_telemetry={"tracer_provider": spans.provider}) as reported:
        uninstrument()
        reported.messages.create(**BODY)

    assert scopes(spans) == [THEIRS]


# The global provider is set once in a process, so these run in one of their own.

PROGRAM = """
import json, sys
import anthropic
from agentpulse_instrumentation import instrument, uninstrument
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

def new():
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return memory, provider

memory, world = new()
trace.set_tracer_provider(world)
own_memory, own = new()
URL, BODY = sys.argv[1], json.loads(sys.argv[2])

def calls(memory=memory, **options):
    with anthropic.Anthropic(api_key="x", base_url=URL, **options) as client:
        client.messages.create(**BODY)
        list(client.messages.create(**BODY, stream=True))
    return scopes(memory)

def scopes(memory):
    found = [span.instrumentation_scope.name for span in memory.get_finished_spans()]
    memory.clear()
    return found
"""


def result_of(provider: FakeProvider, code: str) -> Any:
    given = provider.anthropic_url, json.dumps(BODY)
    done = processes.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + code, *given], env=dict(os.environ)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_on_the_global_provider_a_call_has_our_span_and_theirs_is_back_afterwards(
    provider: FakeProvider,
):
    assert not isinstance(trace.get_tracer_provider(), TracerProvider)
    assert result_of(
        provider,
        """
bare = calls()
instrument()
ours = calls()
uninstrument()
print(json.dumps([bare, ours, calls()]))
""",
    ) == [[THEIRS] * 2, [OURS] * 2, [THEIRS] * 2]


def test_recorded_on_a_provider_of_its_own_a_call_has_no_native_span_on_the_global_one(
    provider: FakeProvider,
):
    assert result_of(
        provider,
        """
instrument(tracer_provider=own)
print(json.dumps([calls(), scopes(own_memory)]))
""",
    ) == [[], [OURS] * 2]


def test_an_explicit_option_counts_the_global_provider_as_its_own(provider: FakeProvider):
    """Whoever gives the option, even an empty one, asks for the client's spans."""
    assert result_of(
        provider,
        """
instrument()
same = calls(open_telemetry={})
named = calls(open_telemetry={"tracer_provider": world})
uninstrument()
instrument(tracer_provider=own)
apart = calls(open_telemetry={})
print(json.dumps([same, named, apart, scopes(own_memory)]))
""",
    ) == [[THEIRS] * 2, [THEIRS] * 2, [THEIRS] * 2, [OURS] * 2]
