"""Real clients on the fake provider."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import anthropic
import groq
import openai
import pytest
from fakes.provider import FakeProvider


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


LIBRARIES = {"openai": openai, "anthropic": anthropic, "groq": groq}


def error_of(library: str) -> type[Exception]:
    """The base class of a client library's errors."""
    return LIBRARIES[library].APIError


class Clients:
    """A sync and an async client of each library, on one fake provider.

    Each is an attribute with the name of its library, the async one with an `a` before it. To make
    one sends no request: the tests number the answers of the provider.
    """

    def __init__(self, provider: FakeProvider) -> None:
        self._sync: list[Any] = []
        self._async: list[Any] = []
        self._add("openai", openai.OpenAI, openai.AsyncOpenAI, provider.openai_url)
        self._add(
            "anthropic", anthropic.Anthropic, anthropic.AsyncAnthropic, provider.anthropic_url
        )
        self._add("groq", groq.Groq, groq.AsyncGroq, provider.url)

    def _add(self, library: str, kind: Any, akind: Any, url: str) -> None:
        given: dict[str, Any] = {"api_key": "x", "max_retries": 0, "base_url": url}
        # Loading the certificates of the machine takes most of a test's time, and none is needed.
        http = LIBRARIES[library].DefaultHttpxClient(verify=False)
        ahttp = LIBRARIES[library].DefaultAsyncHttpxClient(verify=False)
        self._sync.append(kind(**given, http_client=http))
        self._async.append(akind(**given, http_client=ahttp))
        setattr(self, library, self._sync[-1])
        setattr(self, f"a{library}", self._async[-1])

    def run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Runs it, and closes the async clients while their loop is there."""

        async def and_close() -> None:
            try:
                await coroutine
            finally:
                for client in self._async:
                    await client.close()

        asyncio.run(and_close())

    def close(self) -> None:
        for client in self._sync:
            client.close()


@pytest.fixture
def clients(provider: FakeProvider) -> Iterator[Clients]:
    clients = Clients(provider)
    yield clients
    clients.close()
