"""Answers that were recorded through LangChain, through LangChain again: every figure is true."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from conftest import as_dict
from fakes import recordings
from fakes.replayed import Replayed
from fakes.stacks import run
from fakes.trees import calls
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

pytestmark = [
    pytest.mark.skipif(not recordings.is_present(), reason=recordings.WHY_ABSENT),
    # LangChain warns of models that are deprecated, and of answers to what was not asked.
    pytest.mark.filterwarnings("ignore"),
]


def chat(**given: Any) -> Any:
    return ChatOpenAI(stream_usage=True, **given)


def responses(**given: Any) -> Any:
    return ChatOpenAI(use_responses_api=True, **given)


def embeddings(**given: Any) -> Any:
    return OpenAIEmbeddings(check_embedding_ctx_length=False, **given)


def messages(**given: Any) -> Any:
    # The client adds the path.
    given["base_url"] = given["base_url"].removesuffix("/v1")
    return ChatAnthropic(max_tokens=99, **given)


MODELS: dict[str, Callable[..., Any]] = {
    "chat": chat,
    "responses": responses,
    "completions": OpenAI,
    "embeddings": embeddings,
    "messages": messages,
}


def recorded_through_langchain(operation: str) -> list[Any]:
    return [
        recording
        for recording in recordings.recordings().values()
        if recording.get("via") == "langchain"
        and recording["operation"] == operation
        and recording["provider"] in ("openai", "anthropic", "local", "groq")
        and recording["response"]["status"] == 200
        and "encoding" not in recording["response"]
        and isinstance(recording["request"]["body"], dict)
    ]


@pytest.fixture
def replayed() -> Iterator[Replayed]:
    with Replayed() as provider:
        yield provider


def asked(model: Any, operation: str, *, streams: bool, asynchronous: bool) -> None:
    """Asks it anything: what it answers is recorded."""
    if operation == "embeddings":
        run(model.aembed_query("x")) if asynchronous else model.embed_query("x")
    elif not asynchronous:
        list(model.stream("x")) if streams else model.invoke("x")
    else:
        run(read(model) if streams else model.ainvoke("x"))


async def read(model: Any) -> None:
    async for _ in model.astream("x"):
        await asyncio.sleep(0)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("operation", MODELS)
def test_a_recorded_answer_is_one_true_span(
    operation: str, asynchronous: bool, spans: Any, replayed: Replayed
):
    problems: dict[str, list[str]] = {}
    cases = recorded_through_langchain(operation)
    instrument(tracer_provider=spans.provider, capture_messages=False)
    for recording in cases:
        replayed.spoken = recording["response"]
        name = recording["request"]["body"].get("model", "gpt-4o")
        model = MODELS[operation](
            model=name, api_key="x", base_url=replayed.openai_url, max_retries=0
        )
        failure = None
        try:
            asked(model, operation, streams=recording["stream"], asynchronous=asynchronous)
        except Exception as error:  # noqa: BLE001  # LangChain may not read what it once recorded
            failure = type(error).__name__
        if failure is not None:
            # Where LangChain breaks, it drops the client's stream.
            gc.collect()
            run(asyncio.sleep(0))
        ended = calls(spans.finished())
        found = [f"{len(ended)} spans"] if len(ended) != 1 else judged(recording, ended[0])
        if found:
            problems[recording["id"]] = [*found, f"LangChain raised {failure}"]
    assert not problems, "\n".join(f"{name}: {found}" for name, found in problems.items())
    assert cases


def judged(recording: Any, span: Any) -> list[str]:
    return recordings.judge(recording, as_dict(span))
