"""Whose model it is, as the conventions name it; and what streams are asked for their usage."""

from __future__ import annotations

import importlib
import json
from typing import Any

import anthropic
import groq
import openai
import pytest
from agentpulse_exporter._pricing.table import price_table
from agentpulse_exporter._semconv import provider_name
from agentpulse_instrumentation import GroqInstrumentor
from agentpulse_instrumentation._engine import hosts
from agentpulse_instrumentation._engine.operation import Routes
from agentpulse_instrumentation.openai._chat import CHAT
from fakes.measured import Measured
from fakes.provider import chat

HELLO: Any = [{"role": "user", "content": "What is new?"}]
HOSTS = {
    "https://api.openai.com/v1": ("openai", True),
    "https://api.deepseek.com": ("deepseek", True),
    "https://api.groq.com/openai/v1": ("groq", True),
    "https://api.mistral.ai/v1": ("mistral_ai", False),
    "https://api.x.ai/v1": ("x_ai", True),
    "https://api.perplexity.ai": ("perplexity", False),
    "https://openrouter.ai/api/v1": ("openrouter", False),
    "https://api.together.xyz/v1": ("together", False),
    "http://localhost:11434/v1": ("ollama", False),
    "https://llm.example.com/v1": ("openai", False),
}
"""By address: the provider, and whether its streams are asked for their usage."""


class Answering:
    """An in-process transport that answers as the fake provider, and keeps the bodies."""

    def __init__(self, library: str = "openai") -> None:
        base = importlib.import_module(f"{library}._base_client")
        self.http = getattr(base, "httpx2", None) or base.httpx
        self.bodies: list[dict[str, Any]] = []

    def client(self, url: str) -> openai.OpenAI:
        transport = self.http.MockTransport(self.answer)
        return openai.OpenAI(
            api_key="x", base_url=url, http_client=self.http.Client(transport=transport)
        )

    def answer(self, request: Any) -> Any:
        body = json.loads(request.content)
        self.bodies.append(body)
        reply = chat(body, 1)
        content = b"".join(reply.events) if reply.events else reply.encoded()
        return self.http.Response(
            200, headers={"content-type": reply.content_type}, content=content
        )


@pytest.mark.parametrize("url", HOSTS)
def test_a_host_reports_the_provider(url: str, instrumented: Any) -> None:
    spans = instrumented()
    with Answering().client(url) as client:
        client.chat.completions.create(model="m", messages=HELLO)
    (span,) = spans()
    assert span["attributes"]["gen_ai.provider.name"] == HOSTS[url][0]
    assert span["attributes"]["server.address"] in url


class Unhashable(openai.OpenAI):  # noqa: PLW1641  # that is the test
    """As a dataclass is, and any class with an `__eq__` alone."""

    def __eq__(self, other: object) -> bool:
        return self is other


def test_a_client_that_has_no_hash_is_recorded(instrumented: Any, provider: Any) -> None:
    spans = instrumented()
    with Unhashable(api_key="x", base_url=f"{provider.url}/v1", max_retries=0) as client:
        for _ in range(2):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
            client.base_url = f"{provider.url}/v1/"
    assert [span["attributes"]["gen_ai.request.model"] for span in spans()] == ["gpt-4o"] * 2


@pytest.mark.parametrize("url", [url for url, (_, asked) in HOSTS.items() if asked])
def test_a_stream_is_asked_for_its_usage_and_the_caller_sees_nothing_of_it(
    url: str, instrumented: Any
) -> None:
    bare, observed = Answering(), Answering()
    body: Any = {"model": "gpt-4o", "messages": HELLO, "stream": True}
    with bare.client(url) as client:
        expected = [chunk.to_dict() for chunk in client.chat.completions.create(**body)]
    spans = instrumented()
    with observed.client(url) as client:
        chunks = [chunk.to_dict() for chunk in client.chat.completions.create(**body)]
    assert chunks == expected
    (sent,) = observed.bodies
    assert sent.pop("stream_options") == {"include_usage": True}
    assert [sent] == bare.bodies
    (span,) = spans()
    assert span["attributes"]["gen_ai.usage.output_tokens"] == 33
    assert "agentpulse.usage.estimated" not in span["attributes"]


def test_the_client_of_another_library_is_asked_too(
    instrumented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As groq's would be, if its streams reported their usage only when asked."""
    path = "/openai/v1/chat/completions"
    monkeypatch.setattr(GroqInstrumentor, "routes", Routes((CHAT, "post", path)))
    spans, answering = instrumented(), Answering("groq")
    transport = answering.http.Client(transport=answering.http.MockTransport(answering.answer))
    with groq.Groq(api_key="x", http_client=transport) as client:
        list(client.chat.completions.create(model="llama", messages=HELLO, stream=True))
    assert answering.bodies[0]["stream_options"] == {"include_usage": True}
    (span,) = spans()
    assert "agentpulse.usage.estimated" not in span["attributes"]


def test_the_chunk_that_the_caller_does_not_see_is_not_timed(instrumented: Any) -> None:
    measured, answering = Measured(), Answering()
    instrumented(meter_provider=measured.provider)
    url = next(url for url, (_, asked) in HOSTS.items() if asked)
    with answering.client(url) as client:
        body: Any = {"model": "gpt-4o", "messages": HELLO, "stream": True}
        chunks = list(client.chat.completions.create(**body))
    assert "stream_options" in answering.bodies[0]
    (_, times) = measured()["gen_ai.client.inference.time_per_output_chunk"]
    assert times.count == len(chunks) - 1


def test_a_caller_who_stated_no_is_not_overruled_and_the_tokens_are_estimated(
    instrumented: Any,
) -> None:
    spans = instrumented()
    answering = Answering()
    with answering.client("https://api.openai.com/v1") as client:
        list(
            client.chat.completions.create(
                model="gpt-4o",
                messages=HELLO,
                stream=True,
                stream_options={"include_usage": False},
            )
        )
    assert answering.bodies[0]["stream_options"] == {"include_usage": False}
    (span,) = spans()
    assert span["attributes"]["agentpulse.usage.estimated"] is True
    assert span["attributes"]["gen_ai.usage.output_tokens"] > 0


def test_a_host_that_is_not_known_is_asked_for_nothing(instrumented: Any) -> None:
    instrumented()
    answering = Answering()
    with answering.client("https://llm.example.com/v1") as client:
        list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert "stream_options" not in answering.bodies[0]


def test_azure_bedrock_and_vertex_are_named_by_their_clients(
    provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    with openai.AzureOpenAI(
        azure_endpoint=provider.url, api_key="x", api_version="2024-10-21"
    ) as azure:
        azure.chat.completions.create(model="gpt-4o", messages=HELLO)
    model = "anthropic.claude-haiku-4-5-20251001-v1:0"
    with anthropic.AnthropicBedrock(
        base_url=provider.url, aws_access_key="a", aws_secret_key="b", aws_region="us-east-1"
    ) as bedrock:
        bedrock.messages.create(model=model, max_tokens=9, messages=HELLO)
        list(bedrock.messages.create(model=model, max_tokens=9, messages=HELLO, stream=True))
    with anthropic.AnthropicVertex(
        base_url=provider.url, region="x", project_id="p", access_token="t"
    ) as vertex:
        vertex.messages.create(model="claude-haiku-4-5@20251001", max_tokens=9, messages=HELLO)
    names = ("gen_ai.provider.name", "gen_ai.usage.output_tokens")
    reported = [tuple(span["attributes"][name] for name in names) for span in spans()]
    assert reported == [
        ("azure.ai.openai", 33),
        ("aws.bedrock", 32),
        ("aws.bedrock", 32),
        ("gcp.vertex_ai", 32),
    ]


def test_every_name_of_a_provider_is_read_alike_wherever_a_call_is_recorded():
    ours = hosts._NAMES
    assert ours == {name: provider_name(name) for name in ours}
    # A name of the conventions, and that of a host, is nobody's other name.
    names = hosts._PROVIDERS
    for read in (hosts.provider_named, provider_name):
        assert {name: read(name) for name in names} == {name: name for name in names}


def test_two_names_of_one_provider_have_the_same_prices():
    prices = price_table()
    other = {
        name: provider
        for name, provider in hosts._NAMES.items()
        if prices.provider_id(name) not in (None, prices.provider_id(provider))
    }
    assert other == {}
