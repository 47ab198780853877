"""What was written: recorded where asked for, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from agentpulse_instrumentation._engine import patching
from fakes import lite
from fakes.provider import TEXT, fails

litellm = lite.imported()

SECRET = "canary-7f3a"
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is new?"}]


def content_of(span: dict[str, Any]) -> dict[str, Any]:
    attributes = span["attributes"]
    names = ("input.messages", "output.messages", "system_instructions", "tool.definitions")
    return {
        name: json.loads(attributes[f"gen_ai.{name}"])
        for name in names
        if f"gen_ai.{name}" in attributes
    }


def part(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "content": text}]


def test_a_chat_is_described_by_the_conventions(at: Any, recorded: Any) -> None:
    spans = recorded(capture_messages=True)
    litellm.completion(**at["anthropic"], messages=TALK)
    (span,) = spans()
    assert content_of(span) == {
        "input.messages": [
            {"role": "system", "parts": part("Be brief.")},
            {"role": "user", "parts": part("What is new?")},
        ],
        "output.messages": [{"role": "assistant", "parts": part(TEXT)}],
    }


def test_calls_of_tools_are_recorded(at: Any, recorded: Any) -> None:
    spans = recorded(capture_messages=True)
    asyncio.run(litellm.acompletion(**at["anthropic"], messages=TALK, tools=[TOOL]))
    (span,) = spans()
    reported = content_of(span)
    assert reported["tool.definitions"][0]["name"] == "search"
    (message,) = reported["output.messages"]
    assert [p["name"] for p in message["parts"] if p["type"] == "tool_call"] == ["search"]


def test_a_response_and_a_text_completion_are_recorded(at: Any, recorded: Any) -> None:
    spans = recorded(capture_messages=True)
    litellm.responses(**at["openai"], input="What is new?", instructions="Be brief.")
    litellm.text_completion(**at["anthropic"], prompt="What is new?")
    response, text = sorted(
        map(content_of, spans()), key=lambda reported: "system_instructions" not in reported
    )
    assert response["system_instructions"] == part("Be brief.")
    assert response["input.messages"] == text["input.messages"]
    assert text["input.messages"] == [{"role": "user", "parts": part("What is new?")}]
    assert text["output.messages"] == [{"role": "assistant", "parts": part(TEXT)}]


def test_anthropics_own_messages_are_recorded(at: Any, recorded: Any) -> None:
    spans = recorded(capture_messages=True)
    given = {**at["anthropic"], "messages": TALK[1:], "system": "Be brief.", "max_tokens": 9}
    asyncio.run(litellm.anthropic_messages(**given))
    (span,) = spans()
    reported = content_of(span)
    assert reported["input.messages"] == [{"role": "user", "parts": part("What is new?")}]
    assert reported["output.messages"] == [{"role": "assistant", "parts": part(TEXT)}]


def test_messages_that_the_user_hides_from_callbacks_stay_hidden(
    at: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = recorded(capture_messages=True)
    monkeypatch.setattr(litellm, "turn_off_message_logging", True)
    litellm.completion(**at["anthropic"], messages=TALK)
    (span,) = spans()
    assert content_of(span) == {}


def test_the_text_of_an_exception_is_content(at: Any, provider: Any, recorded: Any) -> None:
    for capture in (True, False):
        spans = recorded(capture_messages=capture)
        provider.script(fails(500))
        with pytest.raises(litellm.InternalServerError):
            litellm.completion(**at["anthropic"], messages=TALK)
        (span,) = spans()
        assert ("description" in span) is capture


def test_without_message_capture_no_content_leaves(
    at: Any, provider: Any, recorded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spans = recorded(capture_messages=False)
    spoken = [{"role": "user", "content": SECRET}]
    caplog.set_level(logging.DEBUG, "agentpulse")
    for api in at:
        given = {**at[api], "user": SECRET, "tools": [TOOL]}
        litellm.completion(**given, messages=spoken)
        list(litellm.completion(**given, messages=spoken, stream=True))
        asyncio.run(litellm.acompletion(**given, messages=spoken))
        litellm.text_completion(**at[api], prompt=SECRET)
        litellm.responses(**at[api], input=SECRET, instructions=SECRET)
        litellm.completion(**given, messages=spoken, mock_response=SECRET)
        provider.script(fails(500, SECRET))
        with pytest.raises(litellm.InternalServerError):
            litellm.completion(**at[api], messages=spoken)
        left = litellm.completion(**given, messages=spoken, stream=True)
        next(left)
        del left
    found = spans.finished(least=16)
    assert len(found) == 16
    kept = [span for span in found if span.attributes.get("error.type") != SECRET]
    assert SECRET not in "".join(span.to_json() for span in kept)
    assert TEXT not in "".join(span.to_json() for span in found)
    assert not [
        r for r in caplog.records if r.name.startswith("agentpulse") and SECRET in r.message
    ]


def test_a_call_is_recorded_without_a_message_that_cannot_be_read(
    recorded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable:
        def __getattribute__(self, name: str) -> Any:
            if name == "__dict__":
                raise LookupError(SECRET)
            return super().__getattribute__(name)

    monkeypatch.setattr(patching, "strict", False)
    caplog.set_level("DEBUG", logger="agentpulse")
    spans = recorded(capture_messages=True)
    asked: Any = {"role": "user", "content": [{"type": "text", "text": "news"}, Unreadable()]}
    litellm.completion("openai/gpt-4o", [asked], mock_response="two mails")
    (span,) = spans()
    assert content_of(span) == {
        "output.messages": [{"role": "assistant", "parts": part("two mails")}]
    }
    assert "AgentPulse could not begin a span: LookupError" in caplog.text
    assert not [message for message in caplog.messages if SECRET in message]
