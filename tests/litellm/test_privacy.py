"""Nothing that LiteLLM is reported leaves the process, unless it is captured; then, as redacted."""

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


def request(spoken: Canaries) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {spoken("parameter"): {"type": "string"}}}
    function = {"name": "search", "description": spoken("tool"), "parameters": parameters}
    return {
        "messages": [
            {"role": "system", "content": spoken("system")},
            {"role": "user", "content": spoken("prompt")},
        ],
        "tools": [{"type": "function", "function": function}],
        "user": spoken("user"),
        "stop": [spoken("stop")],
        "metadata": {"note": spoken("metadata")},
        "extra_headers": {"X-Note": spoken("header")},
    }


def everything(watched: Watched) -> None:
    spoken = watched.canaries
    calls = 0
    for given in at(watched):
        asked = {**given, **request(spoken)}
        litellm.completion(**asked)
        list(litellm.completion(**asked, stream=True))
        asyncio.run(litellm.acompletion(**asked))
        litellm.text_completion(**given, prompt=spoken("prompt of a text"))
        litellm.responses(**given, input=spoken("input"), instructions=spoken("instructions"))
        litellm.completion(**asked, mock_response=spoken("mock"))
        watched.provider.script(watched.fails("error"))
        with pytest.raises(litellm.BadRequestError):
            litellm.completion(**asked)
        calls += 7

    def all_recorded() -> bool:
        reported = [event["data"].get("operation") for event in watched.events()]
        mocks = [event["data"].get("name") for event in watched.events()]
        return len([each for each in reported if each]) + mocks.count("chat gpt-4o") >= calls

    # LiteLLM reports sync calls by threads.
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
        reported = watched.canaries.within(sent.replace("hidden", MARK))
        expected = {"system", "prompt", "prompt of a text", "input", "instructions", "error"}
        assert expected <= reported
        assert reported & NEVER == set()
        assert not watched.canaries.within(watched.logged())
        assert agentpulse.stats().dropped == {}
