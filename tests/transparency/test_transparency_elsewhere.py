"""A caller can't report an instrumented client from a bare one: files, sounds, clouds."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from fakes.provider import FakeProvider
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "What is new?"}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": HELLO}
MESSAGE: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": HELLO}
CLAUDE = "anthropic.claude-haiku-4-5-20251001-v1:0"
FILE = ("x.wav", b"RIFF....WAVE")
KEYS = {"api_key": "x", "max_retries": 0}

Make = Callable[[str, str], Any]
"""A client at an address; the second argument is `Async` or nothing."""


def at_openai(url: str, kind: str) -> Any:
    return getattr(openai, f"{kind}OpenAI")(base_url=f"{url}/v1", **KEYS)


def at_azure(url: str, kind: str) -> Any:
    make = getattr(openai, f"{kind}AzureOpenAI")
    return make(azure_endpoint=url, api_version="2025-01-01", **KEYS)


def at_bedrock(url: str, kind: str) -> Any:
    keys = {"aws_access_key": "x", "aws_secret_key": "x", "aws_region": "us-east-1"}
    make = getattr(anthropic, f"{kind}AnthropicBedrock")
    return make(base_url=url, max_retries=0, **keys)


def at_vertex(url: str, kind: str) -> Any:
    given = {"region": "us-east5", "project_id": "p", "access_token": "x", "max_retries": 0}
    return getattr(anthropic, f"{kind}AnthropicVertex")(base_url=f"{url}/v1", **given)


CALLS: dict[str, tuple[Make, str, dict[str, Any]]] = {
    "images": (at_openai, "images.generate", {"model": "gpt-image-1", "prompt": "a cat"}),
    "image edits": (
        at_openai,
        "images.edit",
        {"model": "gpt-image-1", "prompt": "a", "image": FILE},
    ),
    "moderations": (at_openai, "moderations.create", {"input": "x"}),
    "transcriptions": (
        at_openai,
        "audio.transcriptions.create",
        {"model": "whisper-1", "file": FILE},
    ),
    "translations": (at_openai, "audio.translations.create", {"model": "whisper-1", "file": FILE}),
    "speech": (
        at_openai,
        "audio.speech.create",
        {"model": "tts-1", "voice": "alloy", "input": "What is new?"},
    ),
    "fetched responses": (at_openai, "responses.retrieve", {"response_id": "resp_1"}),
    "models": (at_openai, "models.list", {}),
    "Azure": (at_azure, "chat.completions.create", CHAT),
    "Azure streamed": (at_azure, "chat.completions.create", {**CHAT, "stream": True}),
    "Bedrock": (at_bedrock, "messages.create", {**MESSAGE, "model": CLAUDE}),
    "Bedrock streamed": (
        at_bedrock,
        "messages.create",
        {**MESSAGE, "model": CLAUDE, "stream": True},
    ),
    "Vertex": (at_vertex, "messages.create", MESSAGE),
    "Vertex streamed": (at_vertex, "messages.create", {**MESSAGE, "stream": True}),
}
NOT_RECORDED = {"models"}
RAW = {"Azure streamed", "Bedrock streamed", "Vertex streamed", "models"}
"""Of these, the raw form is tested elsewhere, or is none."""


async def answer(made: Any) -> Any:
    made = await made if inspect.isawaitable(made) else made
    if hasattr(type(made), "__anext__"):
        return type(made), [seen(item) async for item in made]
    if hasattr(type(made), "__next__"):
        return type(made), [seen(item) for item in made]
    return seen(made)


def seen(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return type(value).__qualname__, value.model_dump(), sorted(value.model_fields_set)
    content = getattr(value, "content", None)
    return type(value).__qualname__, content if isinstance(content, bytes) else repr(value)


def outcome(name: str, kind: str, *, raw: bool) -> tuple[Any, list[Any]]:
    """What the caller sees, and what the provider is asked."""
    make, path, body = CALLS[name]
    with FakeProvider() as provider:

        async def call() -> Any:
            client = make(provider.url, kind)
            *resources, method = path.split(".")
            called = client
            for each in resources:
                called = getattr(called, each)
            if raw:
                called = called.with_raw_response
            try:
                return await answer(getattr(called, method)(**body))
            finally:
                closed = client.close()
                if inspect.isawaitable(closed):
                    await closed

        reported = asyncio.run(call())
        # Of files, the boundary between the parts is another one each time.
        asked = [
            (request.method, request.path, sorted(request.headers), request.body)
            for request in provider.requests
        ]
        return reported, asked


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("raw", [False, True], ids=["plain", "raw"])
@pytest.mark.parametrize("kind", ["", "Async"], ids=["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_looks_the_same_to_its_caller_and_to_the_provider(
    name: str, kind: str, raw: bool, instrumented: Any
) -> None:
    if raw and name in RAW:
        pytest.skip("tested where streams are")
    bare = outcome(name, kind, raw=raw)
    spans = instrumented()
    observed = outcome(name, kind, raw=raw)

    assert observed == bare
    assert len(observed[1]) == 1
    assert len(spans()) == (name not in NOT_RECORDED)
