"""What the test serves: an agent behind a web server, that knows nothing of AgentPulse."""

from __future__ import annotations

import os
from typing import Any

import httpx
import openai
import requests
from fastapi import FastAPI
from opentelemetry import trace

URL = os.environ["PROVIDER_URL"]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
client = openai.OpenAI(api_key="x", base_url=f"{URL}/v1")
app = FastAPI()


def place() -> dict[str, Any]:
    context = trace.get_current_span().get_span_context()
    return {"trace": f"{context.trace_id:032x}", "pid": os.getpid()}


@app.get("/ask")
def ask() -> dict[str, Any]:
    """In a thread, as FastAPI runs what isn't a coroutine."""
    requests.get(f"{URL}/v1/models", timeout=10)
    answer = client.chat.completions.create(**CHAT)
    return {**place(), "id": answer.id}


@app.get("/aask")
async def aask() -> dict[str, Any]:
    """In the event loop."""
    async with (
        httpx.AsyncClient() as http,
        openai.AsyncOpenAI(api_key="x", base_url=f"{URL}/v1") as asked,
    ):
        await http.get(f"{URL}/v1/models")
        chunks = [chunk async for chunk in await asked.chat.completions.create(**CHAT, stream=True)]
    return {**place(), "id": chunks[0].id}
