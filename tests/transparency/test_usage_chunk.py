"""The usage that a stream is asked for on the caller's behalf: hidden where nobody asked, only."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from fakes.provider import chat, sse

BODY: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "?"}], "stream": True}
ASKED = {"stream_options": {"include_usage": True}}
DECLINED = {"stream_options": {"include_usage": False}}
base: Any = importlib.import_module("openai._base_client")
http: Any = getattr(base, "httpx2", None) or base.httpx
Answer = Callable[[dict[str, Any]], bytes]


def as_the_fake(body: dict[str, Any]) -> bytes:
    return b"".join(chat(body, 1).events or ())


class AsksByItself(openai.OpenAI):
    """A client of the user's own, that asks in each of its requests."""

    def _prepare_options(self, options: Any) -> Any:
        options = super()._prepare_options(options)
        options.json_data = {**options.json_data, **ASKED}
        return options


class AsyncAsksByItself(openai.AsyncOpenAI):
    async def _prepare_options(self, options: Any) -> Any:
        options = await super()._prepare_options(options)
        options.json_data = {**options.json_data, **ASKED}
        return options


def posted(cast_to: Any, stream_cls: Any = None) -> Any:
    return lambda client: list(
        client.post(
            "/chat/completions",
            body=dict(BODY),
            cast_to=cast_to,
            stream=True,
            stream_cls=stream_cls,
        )
    )


def helper(client: Any, **given: Any) -> Any:
    body = {name: value for name, value in BODY.items() if name != "stream"}
    with client.chat.completions.stream(**body, **given) as events:
        return [event.type for event in events], events.get_final_completion().usage


def plain(**given: Any) -> Any:
    return lambda client: list(client.chat.completions.create(**BODY, **given))


WAYS: dict[str, Callable[[Any], Any]] = {
    "nobody asks": plain(),
    "no options": plain(stream_options=None),
    "asked in the body": plain(**ASKED),
    "declined in the body": plain(**DECLINED),
    "asked in extra_body": plain(extra_body=ASKED),
    "declined in extra_body": plain(extra_body=DECLINED),
    "no options in extra_body": plain(extra_body={"stream_options": None}),
    "other options in extra_body": plain(
        extra_body={"stream_options": {"include_obfuscation": False}}
    ),
    "declined, then asked": plain(**DECLINED, extra_body=ASKED),
    "asked, then declined": plain(**ASKED, extra_body=DECLINED),
    "something else in extra_body": plain(extra_body={"user": "u"}),
    "asked of a copy": lambda client: plain(extra_body=ASKED)(client.with_options(timeout=9)),
    "helper": helper,
    "helper, asked": lambda client: helper(client, extra_body=ASKED),
    "posted": posted(dict[str, object], openai.Stream[dict[str, object]]),
    "posted for objects": posted(object, openai.Stream[object]),
    "posted for chunks": posted(openai.types.chat.ChatCompletionChunk),
    "the answer of the HTTP library": lambda client: client.post(
        "/chat/completions", body=dict(BODY), cast_to=http.Response, stream=True
    ).read(),
    "raw by a header in small letters": lambda client: plain(
        extra_headers={"x-stainless-raw-response": "true"}
    )(Parsed(client)),
}


class Parsed:
    """A client whose raw answers are parsed."""

    def __init__(self, client: Any) -> None:
        self.chat, self.completions, self._create = self, self, client.chat.completions.create

    def create(self, **body: Any) -> Any:
        return self._create(**body).parse()


def outcome(way: Callable[[Any], Any], answer: Answer, kind: Any = openai.OpenAI) -> Any:
    """What the caller sees, field by field."""

    def respond(request: Any) -> Any:
        content = answer(json.loads(request.content))
        return http.Response(200, headers={"content-type": "text/event-stream"}, content=content)

    client = http.Client(transport=http.MockTransport(respond))
    with kind(api_key="x", base_url="https://api.openai.com/v1", http_client=client) as made:
        return seen(way(made))


def seen(value: Any) -> Any:
    if isinstance(value, list):
        return [seen(item) for item in value]
    if hasattr(value, "model_fields_set"):
        return value.to_dict(), sorted(value.model_fields_set), value.usage
    return value


@pytest.mark.parametrize("way", WAYS)
def test_a_caller_sees_the_usage_where_it_asked_and_nowhere_else(
    way: str, instrumented: Any
) -> None:
    if way.startswith("helper") and not hasattr(openai.resources.chat.Completions, "stream"):
        pytest.skip("this version has no stream() helper here")
    bare = outcome(WAYS[way], as_the_fake)
    spans = instrumented()
    assert outcome(WAYS[way], as_the_fake) == bare
    assert len(spans()) == 1


def test_a_client_of_the_callers_own_may_ask_in_each_request(instrumented: Any) -> None:
    bare = outcome(plain(), as_the_fake, AsksByItself)
    spans = instrumented()
    assert outcome(plain(), as_the_fake, AsksByItself) == bare
    assert bare[-1][-1] is not None
    (span,) = spans()
    assert "agentpulse.usage.estimated" not in span["attributes"]


def test_an_async_client_of_the_callers_own_may_too(instrumented: Any) -> None:
    async def last() -> Any:
        def respond(request: Any) -> Any:
            return http.Response(200, content=as_the_fake(json.loads(request.content)))

        async with AsyncAsksByItself(
            api_key="x",
            base_url="https://api.openai.com/v1",
            http_client=http.AsyncClient(transport=http.MockTransport(respond)),
        ) as client:
            found = [chunk async for chunk in await client.chat.completions.create(**BODY)]
        return seen(found)

    bare = asyncio.run(last())
    instrumented()
    assert asyncio.run(last()) == bare
    assert bare[-1][-1] is not None


HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chunk(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return {**HEAD, "choices": [choice], **more}


REPORT = {**HEAD, "choices": [], "usage": USAGE}
FILTERED = {**HEAD, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
STREAMS = {
    "usage with choices": ([chunk("a", usage=USAGE), chunk("b", "stop", usage=USAGE)], ()),
    "usage with the last choice": ([chunk("a"), chunk("b", "stop", usage=USAGE)], ()),
    "usage before the end": ([REPORT, chunk("a"), REPORT, chunk("b", "stop"), REPORT], (4,)),
    "two reports": ([chunk("a", "stop"), REPORT, {**REPORT, "id": "c-2"}], (1,)),
    "no choices and no usage": ([FILTERED, chunk("a"), chunk("b", "stop"), REPORT], (3,)),
}
"""What a host sends, and which of it came only because it was asked."""


@pytest.mark.parametrize("name", STREAMS)
def test_only_the_one_chunk_that_was_asked_for_is_hidden(name: str, instrumented: Any) -> None:
    chunks, hidden = STREAMS[name]
    shown = [each for at, each in enumerate(chunks) if at not in hidden]

    def bodies(reported: list[Any]) -> Answer:
        return lambda _body: b"".join(sse(*reported, done=True))

    bare = outcome(plain(), bodies(shown))
    instrumented()
    assert outcome(plain(), bodies(chunks)) == bare
