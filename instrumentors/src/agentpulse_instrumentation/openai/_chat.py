"""Chat completions, and the legacy completions beside them.

Fields: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import Table, count, fields, get, items, text
from agentpulse_instrumentation._engine.media import size_of_base64
from agentpulse_instrumentation._engine.operation import Attributes, Operation
from agentpulse_instrumentation.openai import _content as content

# What OpenAI-compatible hosts report otherwise than OpenAI, made to hold to the conventions.

_INPUT_PARTS = (
    (semconv.USAGE_CACHE_READ_INPUT_TOKENS, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS),
    (semconv.USAGE_AUDIO_INPUT_TOKENS, semconv.USAGE_IMAGE_INPUT_TOKENS),
)
_XAI_TICKS_PER_USD = 10_000_000_000


def within_totals(_answer: Any, into: Attributes) -> None:
    """Makes the totals include their parts, as the conventions define them.

    Some hosts count parts beside the total: cached input (Grok on Azure), audio input (Mistral),
    reasoning (xAI's chat API). A part that is larger than its total shows it.
    """
    total = into.get(semconv.USAGE_INPUT_TOKENS)
    if total is not None:
        for first, second in _INPUT_PARTS:
            beside = into.get(first, 0) + into.get(second, 0)
            if beside > total:
                into[semconv.USAGE_INPUT_TOKENS] = total = total + beside
    output = into.get(semconv.USAGE_OUTPUT_TOKENS)
    reasoning = into.get(semconv.USAGE_REASONING_OUTPUT_TOKENS, 0)
    if output is not None and reasoning > output:
        into[semconv.USAGE_OUTPUT_TOKENS] = output + reasoning


def dollars_of_ticks(value: Any) -> float | None:
    """US dollars of xAI's own figure for a call, tools included: 10^10 ticks are one dollar."""
    return value / _XAI_TICKS_PER_USD if isinstance(value, int) and value > 0 else None


_OUTPUT_TYPES = {"text": "text", "json_object": "json", "json_schema": "json"}


def output_type(value: Any) -> str | None:
    """`gen_ai.output.type` of the type of a response format."""
    return _OUTPUT_TYPES.get(value) if isinstance(value, str) else None


def choices(value: Any) -> int | None:
    """The number of choices, where it is another than one."""
    return value if isinstance(value, int) and value != 1 else None


def tier(value: Any) -> str | None:
    """A service tier, where it is more than the default."""
    return None if value == "auto" else text(value)


_REQUEST = {
    "model": (semconv.REQUEST_MODEL, str),
    "temperature": (semconv.REQUEST_TEMPERATURE, float),
    "top_p": (semconv.REQUEST_TOP_P, float),
    "max_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    "max_completion_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, float),
    "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, float),
    "seed": (semconv.REQUEST_SEED, int),
    "stop": (semconv.REQUEST_STOP_SEQUENCES, list[str]),
    "reasoning_effort": (semconv.REQUEST_REASONING_LEVEL, str),
    "service_tier": (semconv.OPENAI_REQUEST_SERVICE_TIER, tier),
    "n": (semconv.REQUEST_CHOICE_COUNT, choices),
    "response_format.type": (semconv.OUTPUT_TYPE, output_type),
}
_IN, _OUT = "usage.prompt_tokens_details", "usage.completion_tokens_details"
_ANSWER = {
    "id": (semconv.RESPONSE_ID, str),
    "model": (semconv.RESPONSE_MODEL, str),
    "service_tier": (semconv.OPENAI_RESPONSE_SERVICE_TIER, str),
    "system_fingerprint": (semconv.OPENAI_SYSTEM_FINGERPRINT, str),
    "usage.prompt_tokens": (semconv.USAGE_INPUT_TOKENS, int),
    "usage.completion_tokens": (semconv.USAGE_OUTPUT_TOKENS, int),
    # DeepSeek's own name, which its older answers have alone.
    "usage.prompt_cache_hit_tokens": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, int),
    f"{_IN}.cached_tokens": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, int),
    f"{_IN}.cache_write_tokens": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, int),
    f"{_IN}.audio_tokens": (semconv.USAGE_AUDIO_INPUT_TOKENS, count),
    f"{_IN}.image_tokens": (semconv.USAGE_IMAGE_INPUT_TOKENS, count),
    f"{_OUT}.reasoning_tokens": (semconv.USAGE_REASONING_OUTPUT_TOKENS, int),
    f"{_OUT}.audio_tokens": (semconv.USAGE_AUDIO_OUTPUT_TOKENS, count),
    # Hugging Face and Together put it beside the counts.
    "usage.cached_tokens": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, int),
    "usage.cost_in_usd_ticks": (semconv.COST_REPORTED, dollars_of_ticks),
    # OpenRouter bills in US dollars (https://openrouter.ai/docs/use-cases/usage-accounting).
    "usage.cost": (semconv.COST_REPORTED, float),
}
_HEAD = ("id", "model", "service_tier", "system_fingerprint")


def finish_reasons(answer: Any) -> list[str | None]:
    """One per choice."""
    return [text(get(choice, "finish_reason")) for choice in items(answer, "choices")]


# Puts the deltas of a chat stream together into the message they make up.
#
# Runs only where content is captured. Text grows, lists grow by their `index`, everything else is
# replaced.

_SOUND = "data"
"""Pieces of the model's sound, which are counted and not kept."""
_GROWING = frozenset(
    {
        *("content", "refusal", "reasoning_content", "reasoning", "arguments", "text"),
        *("transcript", _SOUND),
    }
)


def merge_delta(message: dict[str, Any], delta: Any) -> None:
    """Adds one delta, a model or a dict, to the message."""
    for name, value in fields(delta).items():
        if value is None:
            continue
        if name in _GROWING and isinstance(value, str):
            _grow(message, name, value)
        elif isinstance(value, list):
            so_far = message.get(name)
            if not isinstance(so_far, list):
                # Mistral's thinking models go from text to a list of parts within one message.
                message[name] = [{"type": "text", "text": so_far}] if so_far else []
            _merge_list(message[name], cast("list[Any]", value))
        elif isinstance(value, dict) or hasattr(value, "__pydantic_fields_set__"):
            merge_delta(message.setdefault(name, {}), value)
        else:
            message[name] = value


def _grow(message: dict[str, Any], name: str, piece: str) -> None:
    so_far = message.get(name)
    if name == _SOUND:
        message["size"] = message.get("size", 0) + size_of_base64(piece)
    elif isinstance(so_far, list):
        cast("list[Any]", so_far).append({"type": "text", "text": piece})
    else:
        message[name] = (so_far or "") + piece


def _merge_list(entries: list[dict[str, Any]], deltas: list[Any]) -> None:
    for delta in deltas:
        known = fields(delta)
        index = known.get("index")
        at = index if isinstance(index, int) and 0 <= index <= len(entries) else len(entries)
        if at == len(entries):
            entries.append({})
        merge_delta(entries[at], known)


_DELTA_TEXT = ("text", "refusal", "reasoning_content", "reasoning")


def delta_characters(delta: Any) -> int:
    """How much text a delta of a chat stream carries beside its `content`."""
    total = sum(len(value) for name in _DELTA_TEXT if isinstance(value := get(delta, name), str))
    for call in items(delta, "tool_calls"):
        function = get(call, "function")
        total += len(get(function, "name") or "") + len(get(function, "arguments") or "")
    return total


class ChatAccumulator:
    """Rebuilds a chat completion, or a legacy completion, from its chunks."""

    def __init__(self, keeps_content: bool) -> None:
        self._keeps_content = keeps_content
        self._head: Mapping[str, Any] = {}
        self._usage: Any = None
        self._last: Any = None
        self._finished: dict[int, str | None] = {}
        self._error: Any = None
        self._messages: dict[int, dict[str, Any]] = {}
        self._characters = 0

    def add(self, chunk: Any) -> None:
        """Takes one chunk. On the path of every token."""
        known = fields(chunk)
        if not self._head and (known.get("id") or known.get("model")):
            self._head = known
        self._last = chunk
        for choice in known.get("choices") or ():
            self._add_choice(fields(choice))
        if known.get("usage") is not None:
            self._usage = known["usage"]
            # The tier that served the call comes last.
            self._head = known if known.get("id") else self._head

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        index: int = choice.get("index") or 0
        reason = choice.get("finish_reason")
        if reason is not None or index not in self._finished:
            self._finished[index] = reason
        if reason == "error":
            self._error = choice.get("error")
        delta: Any = choice.get("delta")
        if delta is None:
            delta = {"text": choice.get("text")}
        piece = fields(delta).get("content")
        if piece and piece.__class__ is str:
            self._characters += len(piece)
        else:
            self._characters += delta_characters(delta)
        if self._keeps_content:
            merge_delta(self._messages.setdefault(index, {}), delta)

    def _reported(self) -> Any:
        # Groq reports the usage in the last chunk, under a name of its own.
        return self._usage or get(get(self._last, "x_groq"), "usage")

    def answer(self) -> dict[str, Any] | None:
        """The completion as far as it got."""
        if self._last is None:
            return None
        choices: list[dict[str, Any]] = []
        for index in sorted(self._finished):
            message = self._messages.get(index, {})
            choice = {"index": index, "finish_reason": self._finished[index], "message": message}
            choices.append({**choice, "text": message["text"]} if "text" in message else choice)
        head = {name: self._head.get(name) for name in _HEAD}
        error = self._error or get(self._last, "error") or get(get(self._last, "x_groq"), "error")
        return {**head, "usage": self._reported(), "choices": choices, "error": error}

    def is_complete(self) -> bool:
        """Every choice was given its reason. Some hosts report the usage in every chunk."""
        return bool(self._finished) and all(self._finished.values())

    def reported_usage(self) -> bool:
        """Whether a usage report came."""
        return self._reported() is not None

    def received_characters(self) -> int:
        """Text, refusals, reasoning and tool arguments."""
        return self._characters


CHAT = Operation(
    name="chat",
    request=Table(_REQUEST),
    answer=Table(_ANSWER),
    more_from_answer=within_totals,
    finish_reasons=finish_reasons,
    constants={semconv.OPENAI_API_TYPE: "chat_completions"},
    accumulator=ChatAccumulator,
    input_content=content.chat_input,
    output_content=content.chat_output,
    usage_on_request=True,
    estimates_usage=True,
)
COMPLETION = replace(
    CHAT,
    name="text_completion",
    constants={},
    input_content=content.completion_input,
    output_content=content.completion_output,
)
