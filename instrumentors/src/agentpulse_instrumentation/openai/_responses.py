"""The Responses API: create, parse, stream, compact, retrieve.

Fields: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import Table, fields, get, text
from agentpulse_instrumentation._engine.operation import UNKNOWN, Operation, reported_error
from agentpulse_instrumentation.openai import _chat as chat
from agentpulse_instrumentation.openai import _content as content


def _conversation(value: Any) -> str | None:
    return text(value) or text(get(value, "id"))


_REQUEST = {
    "model": (semconv.REQUEST_MODEL, str),
    "temperature": (semconv.REQUEST_TEMPERATURE, float),
    "top_p": (semconv.REQUEST_TOP_P, float),
    "max_output_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    "reasoning.effort": (semconv.REQUEST_REASONING_LEVEL, str),
    "service_tier": (semconv.OPENAI_REQUEST_SERVICE_TIER, chat.tier),
    "text.format.type": (semconv.OUTPUT_TYPE, chat.output_type),
    "previous_response_id": (semconv.REQUEST_PREVIOUS_RESPONSE_ID, str),
    "conversation": (semconv.CONVERSATION_ID, _conversation),
    "prompt.id": (semconv.PROMPT_NAME, str),
    "prompt.version": (semconv.PROMPT_VERSION, str),
}
_IN, _OUT = "usage.input_tokens_details", "usage.output_tokens_details"
_USAGE = {
    "usage.input_tokens": (semconv.USAGE_INPUT_TOKENS, int),
    "usage.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, int),
    f"{_IN}.cached_tokens": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, int),
    f"{_IN}.cache_write_tokens": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, int),
    f"{_OUT}.reasoning_tokens": (semconv.USAGE_REASONING_OUTPUT_TOKENS, int),
    "usage.cost_in_usd_ticks": (semconv.COST_REPORTED, chat.dollars_of_ticks),
    "usage.cost": (semconv.COST_REPORTED, float),
}
_IDENTITY = {
    "id": (semconv.RESPONSE_ID, str),
    "model": (semconv.RESPONSE_MODEL, str),
    "service_tier": (semconv.OPENAI_RESPONSE_SERVICE_TIER, str),
}
_CONVERSATION = {"conversation.id": (semconv.CONVERSATION_ID, str)}
_UNFINISHED = ("queued", "in_progress")


def _finish_reasons(answer: Any) -> list[str | None]:
    """The status, or why the response is incomplete; nothing while it goes on in the background."""
    status = text(get(answer, "status"))
    reason = text(get(get(answer, "incomplete_details"), "reason"))
    if status in _UNFINISHED:
        return []
    return [reason or status] if reason or status else []


def _failure(answer: Any) -> str | None:
    failure = reported_error(answer)
    return failure or (UNKNOWN if get(answer, "status") == "failed" else None)


def _failure_to_fetch(answer: Any) -> str | None:
    """A response that failed, and is fetched, was fetched."""
    return reported_error(answer) if get(answer, "id") is None else None


_ENDS = (
    *("response.completed", "response.incomplete", "response.failed", "response.cancelled"),
    *("image_generation.completed", "image_edit.completed"),
    *("transcript.text.done", "speech.audio.done"),
)


class ResponseAccumulator:
    """Keeps the response of the last event that has one: the first and the last carry all of it.

    Of streams of images and transcriptions, the last event is itself what carries the usage.
    """

    def __init__(self, keeps_content: bool) -> None:  # noqa: ARG002  # the end carries it all
        # The text needn't be put together: the event of the end carries the whole output.
        self._response: Any = None
        self._ended = False
        self._failure: str | None = None
        self._characters = 0

    def add(self, chunk: Any) -> None:
        """Takes one event."""
        known = fields(chunk)
        if self._response is None:
            self._response = chunk
        delta = known.get("delta")
        if delta is not None:
            if isinstance(delta, str):
                self._characters += len(delta)
            return
        # An event that an old client doesn't know is a model of some other event, and its fields
        # are extras of that.
        response, kind = known.get("response"), known.get("type")
        if response is not None or kind in _ENDS:
            self._response = chunk if response is None else response
            self._ended = kind in _ENDS
        elif kind == "error":
            self._failure = reported_error(chunk)
            self._ended = True

    def answer(self) -> Any:
        """The response as it was in the last event."""
        if self._failure is not None:
            known = {name: get(self._response, name) for name in ("id", "model", "usage", "output")}
            return {**known, "status": "failed", "error": {"code": self._failure}}
        return self._response

    def is_complete(self) -> bool:
        """Whether one of the events came that end a response."""
        return self._ended

    def reported_usage(self) -> bool:
        """Whether the response that ended carries its usage."""
        return self._ended and get(self._response, "usage") is not None

    def received_characters(self) -> int:
        """Everything that came in deltas."""
        return self._characters


RESPONSE = Operation(
    name="chat",
    request=Table(_REQUEST),
    answer=Table({**_IDENTITY, **_CONVERSATION, **_USAGE}),
    more_from_answer=chat.within_totals,
    finish_reasons=_finish_reasons,
    failure=_failure,
    constants={semconv.OPENAI_API_TYPE: "responses"},
    accumulator=ResponseAccumulator,
    input_content=content.responses_input,
    output_content=content.responses_output,
    estimates_usage=True,
)
COMPACTION = replace(
    RESPONSE, constants={**RESPONSE.constants, semconv.CONVERSATION_COMPACTED: True}
)
# The conventions: fetching a response is no inference, and never carries usage (it was billed when
# it was made).
FETCH_RESPONSE = Operation(
    name="fetch_response",
    answer=Table({**_IDENTITY, **_CONVERSATION, "status": (semconv.RESPONSE_STATUS, str)}),
    constants={semconv.OPENAI_API_TYPE: "responses"},
    failure=_failure_to_fetch,
    accumulator=ResponseAccumulator,
    resource_attribute=semconv.RESPONSE_ID,
    output_content=content.responses_output,
)
