"""Retries, fallbacks, mocks, caches and failures: each attempt is a span, billed once."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from fakes import lite
from fakes.provider import Reply, answers, broken, fails

litellm = lite.imported()

HELLO = [{"role": "user", "content": "What is new?"}]
GPT, CLAUDE = "chat gpt-4o", "chat claude-haiku-4-5"
ANSWERED_BY = "agentpulse.response.answered_by"


def summary(spans: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Of each span: what it is, the HTTP status of its error, and whether it says tokens."""
    return [
        (
            span["name"],
            span.get("status"),
            span["attributes"].get("http.response.status_code"),
            "gen_ai.usage.input_tokens" in span["attributes"],
        )
        for span in spans
    ]


def failed(name: str, status: int | None = 500) -> tuple[Any, ...]:
    return name, "ERROR", status, False


def fine(name: str) -> tuple[Any, ...]:
    return name, None, None, True


def test_a_failed_call_has_its_error(at: Any, provider: Any, recorded: Any) -> None:
    spans = recorded()
    provider.script(fails(429, "rate_limit_error"))
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(**at["anthropic"], messages=HELLO, max_tokens=50)
    (span,) = spans()
    assert span["attributes"].pop("error.type") in ("RateLimitError", "throttling_error")
    assert span == {
        "by": "litellm",
        "name": CLAUDE,
        "kind": "CLIENT",
        "status": "ERROR",
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.model": "claude-haiku-4-5",
            "http.response.status_code": 429,
            "server.address": "127.0.0.1",
        },
    }


def test_a_call_that_never_was_a_request_is_recorded(recorded: Any) -> None:
    spans = recorded()
    with pytest.raises(litellm.BadRequestError):
        litellm.completion("nobody/nothing", HELLO)
    assert summary(spans()) == [failed("chat nobody/nothing", None)]


def test_a_connection_that_was_refused_has_no_status(at: Any, recorded: Any) -> None:
    spans = recorded()
    given = {**at["anthropic"], "api_base": "http://127.0.0.1:9", "messages": HELLO}
    with pytest.raises(litellm.InternalServerError):
        litellm.completion(**given)
    assert summary(spans()) == [failed(CLAUDE, None)]


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_each_attempt_of_a_router_is_a_span(
    api: str, at: Any, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    other = "anthropic" if api == "openai" else "openai"
    models = [{"model_name": name, "litellm_params": at[name]} for name in (api, other)]
    router = litellm.Router(models, fallbacks=[{api: [other]}], num_retries=1, retry_after=0)
    names = {"openai": GPT, "anthropic": CLAUDE}
    for call in (
        lambda: router.completion(api, HELLO),
        lambda: asyncio.run(router.acompletion(api, HELLO)),
    ):
        provider.script(fails(500), fails(500))
        call()
        assert summary(spans()) == [failed(names[api]), failed(names[api]), fine(names[other])]
    assert [charge.provider for charge in provider.bill] == [other, other]


def test_fallbacks_of_a_call_are_attempts(at: Any, provider: Any, recorded: Any) -> None:
    spans = recorded()

    def given() -> dict[str, Any]:
        # LiteLLM takes the dicts apart.
        return {**at["anthropic"], "messages": HELLO, "fallbacks": [dict(at["openai"])]}

    for call in (
        lambda: litellm.completion(**given()),
        lambda: asyncio.run(litellm.acompletion(**given())),
    ):
        provider.script(fails(500))
        call()
        assert summary(spans()) == [failed(CLAUDE), fine(GPT)]


def test_retries_of_a_sync_call_are_attempts(at: Any, provider: Any, recorded: Any) -> None:
    spans = recorded()
    provider.script(fails(429, "rate_limit_error"), fails(500))
    given = {**at["anthropic"], "messages": HELLO, "num_retries": 2}
    litellm.completion(**given, retry_strategy="constant_retry")
    assert summary(spans()) == [failed(CLAUDE, 429), failed(CLAUDE), fine(CLAUDE)]


def test_retries_of_an_async_call_are_attempts(at: Any, provider: Any, recorded: Any) -> None:
    spans = recorded()
    provider.script(fails(500), fails(500))
    asyncio.run(litellm.acompletion(**at["anthropic"], messages=HELLO, num_retries=2))
    reported = [(name, status, tokens) for name, status, _, tokens in summary(spans(least=3))]
    assert reported == [(CLAUDE, "ERROR", False), (CLAUDE, "ERROR", False), (CLAUDE, None, True)]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_mock_is_marked_and_costs_nothing(stream: bool, at: Any, recorded: Any) -> None:
    spans = recorded()
    given = {**at["anthropic"], "messages": HELLO, "mock_response": "Nothing.", "stream": stream}

    async def acall() -> None:
        result = await litellm.acompletion(**given)
        if stream:
            async for _ in result:
                pass

    result = litellm.completion(**given)
    list(result if stream else ())
    asyncio.run(acall())
    first, second = spans.finished()
    for span in (first, second):
        assert span.attributes[ANSWERED_BY] == "mock"
        assert not [n for n in span.attributes if ".usage." in n or ".cost." in n]


def test_a_mocked_failure_is_marked(at: Any, recorded: Any) -> None:
    spans = recorded()
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(
            **at["anthropic"], messages=HELLO, mock_response="litellm.RateLimitError"
        )
    (span,) = spans()
    assert span["status"] == "ERROR"
    assert span["attributes"][ANSWERED_BY] == "mock"


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_hit_of_the_cache_is_marked_and_costs_nothing(
    api: str, at: Any, provider: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = recorded()
    monkeypatch.setattr(litellm, "cache", litellm.Cache())
    litellm.completion(**at[api], messages=HELLO)
    spans()
    litellm.completion(**at[api], messages=HELLO)
    asyncio.run(litellm.acompletion(**at[api], messages=HELLO))
    monkeypatch.setattr(litellm, "cache", None)

    found = spans.finished()
    assert [span.name for span in found] == [{"openai": GPT, "anthropic": CLAUDE}[api]] * 2
    for span in found:
        assert span.attributes[ANSWERED_BY] == "cache"
        assert span.attributes["gen_ai.provider.name"] == api
        assert not [n for n in span.attributes if ".usage." in n or ".cost." in n]
    assert len(provider.requests) == 1


def read_stream(**given: Any) -> list[Any]:
    return list(litellm.completion(**given, stream=True))


def read_async_stream(**given: Any) -> list[Any]:
    async def read() -> list[Any]:
        return [chunk async for chunk in await litellm.acompletion(**given, stream=True)]

    return asyncio.run(read())


@pytest.mark.parametrize("read", [read_stream, read_async_stream])
def test_a_stream_that_breaks_is_an_error(read: Any, at: Any, provider: Any, recorded: Any) -> None:
    spans = recorded()
    provider.script(broken(4))
    with pytest.raises(Exception, match=r"[Oo]verloaded"):
        read(**at["anthropic"], messages=HELLO)
    (span,) = spans()
    assert span["status"] == "ERROR"
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["error"]
    assert span["attributes"]["agentpulse.usage.estimated"] is True


def in_the_choice(reply: Reply) -> Reply:
    body: Any = json.loads(reply.encoded())
    failure = {"finish_reason": "error", "error": {"code": 502, "message": "canary-13"}}
    return replace(reply, body={**body, "choices": [{**body["choices"][0], **failure}]})


@pytest.mark.parametrize("model", ["openai/gpt-4o", "deepseek/deepseek-chat"])
def test_an_error_in_an_answer_is_an_error(
    model: str, at: Any, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    given = {**at["openai"], "model": model, "messages": HELLO}
    provider.script(in_the_choice, answers({"error": {"type": "invalid_request_error"}}))
    litellm.completion(**given)
    # What it raises for that differs from version to version.
    with pytest.raises(Exception, match=r"litellm\."):
        litellm.completion(**given)
    of_choice, of_answer = spans.finished()
    assert of_choice.attributes["error.type"] == "502"
    for span in (of_choice, of_answer):
        assert span.status.status_code.name == "ERROR"
        assert "canary-13" not in span.to_json()


def test_an_error_that_the_messages_api_answers_is_an_error(
    at: Any, provider: Any, recorded: Any
) -> None:
    spans = recorded()
    provider.script(answers({"type": "error", "error": {"type": "overloaded_error"}}))
    answer = asyncio.run(
        litellm.anthropic.messages.acreate(**at["anthropic"], messages=HELLO, max_tokens=50)
    )
    (span,) = spans()
    assert answer["type"] == "error"
    assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", "overloaded_error")


def test_a_stream_that_is_left_is_recorded(at: Any, recorded: Any) -> None:
    spans = recorded()
    stream = litellm.completion(**at["anthropic"], messages=HELLO, stream=True)
    next(stream)
    assert spans() == []
    del stream
    (span,) = spans(least=1)
    assert "status" not in span
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["error"]
    assert span["attributes"]["agentpulse.usage.estimated"] is True
    # The first event reports the input.
    assert span["attributes"]["gen_ai.usage.input_tokens"] == 18


def asked(provider: Any) -> None:
    until = time.monotonic() + 60
    while not provider.requests and time.monotonic() < until:
        time.sleep(0.001)


def test_a_call_that_is_cancelled_is_recorded(at: Any, provider: Any, recorded: Any) -> None:
    from threading import Semaphore

    from fakes.provider import held_by

    spans, gate = recorded(), Semaphore(0)
    provider.script(held_by(gate))

    async def cancelled() -> None:
        # The first event of the stream never comes.
        given = {**at["anthropic"], "messages": HELLO, "stream": True}
        task = asyncio.create_task(litellm.acompletion(**given))
        await asyncio.to_thread(asked, provider)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancelled())
    for _ in range(99):
        gate.release()
    ((name, _, status, _),) = summary(spans(least=1))
    assert (name, status) == (CLAUDE, None)


def test_what_is_none_of_ours_has_no_span(provider: Any, recorded: Any) -> None:
    spans = recorded()
    with pytest.raises(Exception):  # noqa: B017, PT011  # the fake provider has no reranker
        litellm.rerank("cohere/rerank", "q", ["a"], api_key="x", api_base=provider.url)
    assert spans() == []


def test_a_request_that_belongs_to_no_call_has_no_span(provider: Any, recorded: Any) -> None:
    from litellm.llms.custom_httpx.http_handler import HTTPHandler

    spans = recorded()
    asked = {"model": "gpt-4o", "messages": HELLO}
    HTTPHandler().post(f"{provider.openai_url}/chat/completions", json=asked)
    assert spans() == []
