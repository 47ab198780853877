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


class Clients:
    """One client of each kind, on one fake provider."""

    def __init__(self, provider: FakeProvider) -> None:
        given: dict[str, Any] = {"api_key": "x", "max_retries": 0}
        at_openai = {**given, "base_url": provider.openai_url}
        at_anthropic = {**given, "base_url": provider.anthropic_url}
        # Loading the certificates of the machine takes most of a test's time, and none is needed.
        sync, later = openai.DefaultHttpxClient, openai.DefaultAsyncHttpxClient
        self.openai = openai.OpenAI(**at_openai, http_client=sync(verify=False))
        self.aopenai = openai.AsyncOpenAI(**at_openai, http_client=later(verify=False))
        sync, later = anthropic.DefaultHttpxClient, anthropic.DefaultAsyncHttpxClient
        self.anthropic = anthropic.Anthropic(**at_anthropic, http_client=sync(verify=False))
        self.aanthropic = anthropic.AsyncAnthropic(**at_anthropic, http_client=later(verify=False))

        at_groq = {**given, "base_url": provider.url}
        sync, later = groq.DefaultHttpxClient, groq.DefaultAsyncHttpxClient
        self.groq = groq.Groq(**at_groq, http_client=sync(verify=False))
        self.agroq = groq.AsyncGroq(**at_groq, http_client=later(verify=False))

    def run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Runs it, and closes the async clients while their loop is there."""

        async def and_close() -> None:
            try:
                await coroutine
            finally:
                await self.aopenai.close()
                await self.aanthropic.close()
                await self.agroq.close()

        asyncio.run(and_close())


@pytest.fixture
def clients(provider: FakeProvider) -> Iterator[Clients]:
    clients = Clients(provider)
    yield clients
    clients.openai.close()
    clients.anthropic.close()
    clients.groq.close()
