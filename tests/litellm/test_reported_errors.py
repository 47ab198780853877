"""Errors that come with status 200, and streams that end early: LiteLLM passes over many."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from agentpulse_instrumentation import uninstrument
from fakes import lite
from fakes.provider import EVENTS, Change, Reply, answers, broken, cut, ended, sse

litellm = lite.imported()

HELLO = [{"role": "user", "content": "What is new?"}]
SECRET = "canary-51d0"
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": SECRET}}
HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "deepseek-chat"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
GEMINI_USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}


@dataclass(frozen=True, eq=False)
class Path:
    """A function of LiteLLM at one provider."""

    function: str
    at: str
    given: dict[str, Any]
    api: str = "openai"

    def __str__(self) -> str:
        return f"{self.function} {self.at}"

    def arguments(self, provider: Any) -> dict[str, Any]:
        base = {
            "openai": provider.openai_url,
            "anthropic": provider.anthropic_url,
            "gemini": f"{provider.url}/gemini",
        }[self.api]
        return {"api_key": "x", "max_retries": 0, "model": self.at, "api_base": base, **self.given}


CLAUDE = "anthropic/claude-haiku-4-5"
OPENAI = Path("completion", "openai/gpt-4o", {"messages": HELLO})
DEEPSEEK = Path("completion", "deepseek/deepseek-chat", {"messages": HELLO})
ANTHROPIC = Path("completion", CLAUDE, {"messages": HELLO}, "anthropic")
GEMINI = Path("completion", "gemini/gemini-2.0-flash", {"messages": HELLO}, "gemini")
TEXT = Path("text_completion", CLAUDE, {"prompt": "What is new?"}, "anthropic")
BRIDGED = Path("responses", CLAUDE, {"input": "What is new?"}, "anthropic")
RESPONSE = Path("responses", "openai/gpt-4o", {"input": "What is new?"})
MESSAGES = Path("anthropic_messages", CLAUDE, {"messages": HELLO, "max_tokens": 50}, "anthropic")
EVERY = [OPENAI, DEEPSEEK, ANTHROPIC, GEMINI, TEXT, BRIDGED, RESPONSE, MESSAGES]
BOTH = [False, True]


def chunk(text: str | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return {**HEAD, "choices": [choice], **more}


def content(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of Gemini's."""
    candidate: dict[str, Any] = {
        "index": 0,
        "content": {"role": "model", "parts": [{"text": text}]},
    }
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "gemini-2.0", "responseId": "r-1", **more}


def streams(*events: dict[str, Any], done: bool = False) -> Change:
    return lambda _reply: Reply(content_type=EVENTS, events=sse(*events, done=done))


def then(first: Change, second: Change) -> Change:
    return lambda reply: second(first(reply))


WHOLE: dict[Path, Change] = {
    DEEPSEEK: streams(chunk("One"), chunk(" two"), chunk("", "stop"), done=True),
    GEMINI: streams(content("One"), content(" two"), content("", "STOP")),
}
"""What the fake provider doesn't answer by itself."""
NOTHING: Change = lambda reply: reply  # noqa: E731  # a change as the others are


def changed(path: Path, change: Callable[[int], Change], after: int = 4) -> Change:
    """A change to the stream that is answered on this path, after some of its events."""
    return then(WHOLE[path], change(2)) if path in WHOLE else change(after)


def seen(chunk: Any) -> Any:
    """What a caller sees, without what LiteLLM makes up anew each time."""
    if isinstance(chunk, bytes):
        return chunk
    dump = chunk.model_dump()
    return type(chunk).__name__, json.dumps(dump.get("choices") or dump.get("type"), default=str)


@pytest.fixture(autouse=True)
def no_exception_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # Old versions fail in a task where they report a stream. asyncio logs that, and pytest holds
    # what is logged, and with it the call, whose span ends when nobody holds it.
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)


def read(
    path: Path,
    provider: Any,
    asynchronous: bool,
    *,
    first: int | None = None,
    reported: Callable[[], object] = lambda: True,
) -> tuple[list[Any], tuple[type, ...]]:
    """Reads a stream, or its first chunks; returns what was seen, and the kind of what was raised.

    The exception itself would hold the call that LiteLLM leaves without a word.
    """
    given = {**path.arguments(provider), "stream": True}
    chunks: list[Any] = []

    async def aread() -> None:
        name = path.function if path is MESSAGES else f"a{path.function}"
        async for piece in await getattr(litellm, name)(**given):
            chunks.append(seen(piece))
            if len(chunks) == first:
                return

    async def arun() -> None:
        try:
            await aread()
        finally:
            # LiteLLM logs some streams in a task of its own, after their end.
            end = time.monotonic() + 60
            while not reported() and time.monotonic() < end:  # noqa: ASYNC110  # spans set no event
                await asyncio.sleep(0.01)

    try:
        if asynchronous or path is MESSAGES:
            asyncio.run(arun())
        else:
            stream = getattr(litellm, path.function)(**given)
            chunks += map(seen, itertools.islice(stream, first))
    except Exception as error:  # noqa: BLE001  # LiteLLM's, of many kinds
        return chunks, (type(error), type(getattr(error, "original_exception", None)))
    return chunks, ()


def the_span(
    path: Path,
    provider: Any,
    asynchronous: bool,
    spans: Any,
    *,
    first: int | None = None,
    when_dropped: bool = False,
) -> Any:
    """The one span of a stream, and what reading it raised.

    `when_dropped`: it ends when nobody holds the call any more, thus not while the loop runs.
    """
    found: list[Any] = []

    def is_recorded() -> bool:
        found.extend(spans.spans.finished())
        return bool(found) or path is not MESSAGES or when_dropped

    _, raised = read(path, provider, asynchronous, reported=is_recorded, first=first)
    if path is MESSAGES:
        lite.finish_logging()
    found += spans.finished(least=0 if found else 1)
    (span,) = found
    return span, raised


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
@pytest.mark.parametrize("path", EVERY, ids=str)
def test_an_error_in_place_of_a_stream_is_an_error(
    path: Path, asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(answers(ERROR))
    span, _ = the_span(path, provider, asynchronous, spans)
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == "overloaded_error"
    assert not [name for name in span.attributes if ".usage." in name or ".cost." in name]
    assert SECRET not in span.to_json()


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
@pytest.mark.parametrize("change", [ended, cut], ids=["in good order", "lost"])
@pytest.mark.parametrize("path", EVERY, ids=str)
def test_a_stream_that_ends_early_is_an_error(
    path: Path, change: Any, asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(changed(path, change))
    span, raised = the_span(path, provider, asynchronous, spans)
    attributes = span.attributes
    assert span.status.status_code.name == "ERROR"
    # Newer versions of LiteLLM raise for some of them, and its exception is recorded then.
    assert attributes["error.type"] == "stream_cut" or raised
    assert attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert attributes["agentpulse.usage.estimated"] is True
    assert attributes["gen_ai.usage.input_tokens"] > 0
    # The first events of the Responses API bring no text.
    assert (attributes["gen_ai.usage.output_tokens"] > 0) is (path is not RESPONSE)
    assert "agentpulse.cost.fallback" not in attributes


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
@pytest.mark.parametrize("path", [ANTHROPIC, TEXT, BRIDGED, RESPONSE, MESSAGES], ids=str)
def test_an_error_in_a_stream_has_its_type(
    path: Path, asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(broken(4))
    # Old versions leave such a call without a word.
    is_old = lite.is_older_than("1.106.0")
    span, _ = the_span(path, provider, asynchronous, spans, when_dropped=is_old)
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == "overloaded_error"
    reason = "failed" if path is RESPONSE else "error"
    assert span.attributes["gen_ai.response.finish_reasons"] == (reason,)
    assert span.attributes["agentpulse.usage.estimated"] is True


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
def test_an_error_in_a_stream_of_gemini_has_its_code(
    asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(streams(content("One"), {"error": {"code": 503, "message": SECRET}}))
    span, _ = the_span(GEMINI, provider, asynchronous, spans)
    assert span.attributes["error.type"] == "503"
    assert SECRET not in span.to_json()


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
@pytest.mark.parametrize(
    ("path", "events", "spent"),
    [
        (DEEPSEEK, [chunk("One", usage=USAGE), chunk(" two", usage=USAGE)], (9, 3)),
        (GEMINI, [content("One", usageMetadata=GEMINI_USAGE)], (5, 3)),
    ],
    ids=str,
)
def test_usage_in_every_chunk_is_no_end(
    path: Path, events: Any, spent: Any, asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(streams(*events))
    span, _ = the_span(path, provider, asynchronous, spans)
    used = [span.attributes[f"gen_ai.usage.{name}_tokens"] for name in ("input", "output")]
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert tuple(used) == spent
    assert "agentpulse.usage.estimated" not in span.attributes


CALLED = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": "{}"},
}
BEGUN = {"index": 0, "delta": {"role": "assistant", "tool_calls": [CALLED]}, "finish_reason": None}


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
@pytest.mark.parametrize(
    ("path", "script"),
    [
        (DEEPSEEK, streams(chunk("One"), chunk(" two"), done=True)),
        (DEEPSEEK, streams(chunk("One"), chunk("", "stop"))),
        (DEEPSEEK, streams(chunk("", "stop"), {**HEAD, "choices": [], "usage": USAGE}, done=True)),
        (DEEPSEEK, streams({**HEAD, "choices": [BEGUN]}, chunk(None, "tool_calls"), done=True)),
        (GEMINI, WHOLE[GEMINI]),
        (GEMINI, streams({"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "g"})),
        (GEMINI, streams({"promptFeedback": {"blockReason": "SAFETY"}}, {"promptFeedback": {}})),
        *((path, NOTHING) for path in (OPENAI, ANTHROPIC, TEXT, BRIDGED, MESSAGES)),
    ],
    ids=[
        *("DONE without a reason", "a reason without DONE", "usage at the end", "tools alone"),
        *("Gemini", "Gemini's refusal", "Gemini's refusal before its end"),
        *map(str, (OPENAI, ANTHROPIC, TEXT, BRIDGED, MESSAGES)),
    ],
)
def test_a_stream_that_is_over_is_no_error(
    path: Path, script: Change, asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(script)
    span, raised = the_span(path, provider, asynchronous, spans)
    assert raised == ()
    assert "error.type" not in span.attributes
    assert span.status.status_code.name == "UNSET"


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
@pytest.mark.parametrize("path", EVERY, ids=str)
def test_a_stream_that_the_caller_leaves_is_no_error(
    path: Path, asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(WHOLE.get(path, NOTHING))
    span, _ = the_span(path, provider, asynchronous, spans, first=1, when_dropped=True)
    assert "error.type" not in span.attributes
    assert span.status.status_code.name == "UNSET"


def test_a_stream_that_litellm_logs_too_late_has_its_usage(provider: Any, recorded: Any) -> None:
    spans = recorded()
    # The loop ends with the stream, and the process may end with the loop.
    read(MESSAGES, provider, asynchronous=True)
    uninstrument()
    (span,) = spans.spans.finished()
    assert span.status.status_code.name == "UNSET"
    assert span.attributes["gen_ai.usage.input_tokens"] == 11
    assert span.attributes["gen_ai.usage.output_tokens"] == 32
    assert "error" not in span.attributes["gen_ai.response.finish_reasons"]
    assert "agentpulse.usage.estimated" not in span.attributes


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
def test_an_error_in_place_of_vectors_is_an_error(
    asynchronous: bool, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(answers(ERROR))
    given: dict[str, Any] = {"api_key": "x", "api_base": f"{provider.openai_url}/embeddings"}
    if asynchronous:
        asyncio.run(litellm.aembedding("voyage/voyage-3", ["?"], **given))
    else:
        litellm.embedding("voyage/voyage-3", ["?"], **given)
    (span,) = spans.finished()
    assert (span.status.status_code.name, span.attributes["error.type"]) == (
        "ERROR",
        "overloaded_error",
    )
    assert SECRET not in span.to_json()


@pytest.mark.parametrize("asynchronous", BOTH, ids=["sync", "async"])
@pytest.mark.parametrize("change", [lambda _: NOTHING, broken], ids=["whole", "broken"])
@pytest.mark.parametrize("path", EVERY, ids=str)
def test_the_caller_sees_what_they_would_without_us(
    path: Path, change: Any, asynchronous: bool, provider: Any, recorded: Any
) -> None:
    def once() -> Any:
        provider.script(changed(path, change))
        chunks, raised = read(path, provider, asynchronous)
        if path is MESSAGES:
            # How the bytes of a raw stream are cut is the network's.
            chunks = [re.sub(rb"msg_\d", b"msg_", b"".join(chunks))]
        return chunks, raised

    uninstrument()
    without = once()
    recorded()
    assert once() == without
