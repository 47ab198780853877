"""Nothing that LiteLLM is told leaves the process, unless it is captured; then, as redacted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import lite
from fakes.canaries import MARK, Canaries, Watched
from fakes.pipe import becomes_true

import agentpulse

litellm = lite.imported()


def at(watched: Watched) -> list[dict[str, Any]]:
    given = {"api_key": "sk-of-the-user", "max_retries": 0}
    provider = watched.provider
    return [
        {**given, "model": "openai/gpt-4o", "api_base": provider.openai_url},
        {
            **given,
            "model": "anthropic/claude-haiku-4-5",
            "api_base": provider.anthropic_url,
            "max_tokens": 99,
        },
    ]


def request(said: Canaries) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {said("parameter"): {"type": "string"}}}
    function = {"name": "search", "description": said("tool"), "parameters": parameters}
    return {
        "messages": [
            {"role": "system", "content": said("system")},
            {"role": "user", "content": said("prompt")},
        ],
        "tools": [{"type": "function", "function": function}],
        "user": said("user"),
        "stop": [said("stop")],
        "metadata": {"note": said("metadata")},
        "extra_headers": {"X-Note": said("header")},
    }


def everything(watched: Watched) -> None:
    said = watched.canaries
    calls = 0
    for given in at(watched):
        asked = {**given, **request(said)}
        litellm.completion(**asked)
        list(litellm.completion(**asked, stream=True))
        asyncio.run(litellm.acompletion(**asked))
        litellm.text_completion(**given, prompt=said("prompt of a text"))
        litellm.responses(**given, input=said("input"), instructions=said("instructions"))
        litellm.completion(**asked, mock_response=said("mock"))
        watched.provider.script(watched.fails("error"))
        with pytest.raises(litellm.BadRequestError):
            litellm.completion(**asked)
        calls += 7

    def all_recorded() -> bool:
        told = [event["data"].get("operation") for event in watched.events()]
        mocks = [event["data"].get("name") for event in watched.events()]
        return len([each for each in told if each]) + mocks.count("chat gpt-4o") >= calls

    # LiteLLM tells of sync calls by threads.
    becomes_true(all_recorded, 3)


NEVER = {"user", "metadata", "header"}

pytestmark = pytest.mark.filterwarnings("ignore")


def test_no_content_leaves_the_process(caplog: pytest.LogCaptureFixture) -> None:
    with Watched(caplog) as watched:
        everything(watched)

        assert len(watched.receiver.of_kind("llm_call")) >= 10
        for left in (watched.sent(), watched.logged()):
            assert watched.canaries.within(left) == set()
            assert MARK not in left
        assert watched.canaries.within(watched.exported()) <= {"stop"}


@pytest.mark.parametrize("redacts", [False, True])
def test_messages_are_recorded_where_they_are_captured(
    redacts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def redact(text: str) -> str:
        return text.replace(MARK, "hidden")

    with Watched(caplog, capture_messages=True, redact=redact if redacts else None) as watched:
        everything(watched)
        sent = watched.sent()

        if redacts:
            assert watched.canaries.within(sent) == set()
        told = watched.canaries.within(sent.replace("hidden", MARK))
        expected = {"system", "prompt", "prompt of a text", "input", "instructions", "error"}
        assert expected <= told
        assert told & NEVER == set()
        assert not watched.canaries.within(watched.logged())
        assert agentpulse.stats().dropped == {}
