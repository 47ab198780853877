"""The requests and the answers of LiteLLM.

LiteLLM makes one `Logging` object a call; it holds the request in OpenAI's format, the parameters
by the names of the provider, and all else that LiteLLM gives its callbacks. Answers are in OpenAI's
format whoever was asked, and sometimes in the provider's own.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from agentpulse_instrumentation._engine import operation as op
from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import Table, count, get, items, json_object, text
from agentpulse_instrumentation._engine.hosts import host_at, provider_named
from agentpulse_instrumentation.anthropic import _content as anthropic_content
from agentpulse_instrumentation.anthropic._messages import MESSAGE
from agentpulse_instrumentation.openai import _content as content
from agentpulse_instrumentation.openai import _endpoints as endpoints
from agentpulse_instrumentation.openai._chat import CHAT, COMPLETION
from agentpulse_instrumentation.openai._responses import RESPONSE

# With these, LiteLLM speaks OpenAI's protocol to whoever is at the address.
_PROTOCOLS = ("openai", "text-completion-openai", "custom_openai", "openai_like")

# Parameters have the names of whoever is asked. These are Gemini's and Bedrock's.
_CAMEL_CASE = Table(
    {
        "topP": (semconv.REQUEST_TOP_P, float),
        "topK": (semconv.REQUEST_TOP_K, int),
        "maxTokens": (semconv.REQUEST_MAX_TOKENS, int),
        "stopSequences": (semconv.REQUEST_STOP_SEQUENCES, list[str]),
    }
)


def _response_input(body: Mapping[str, Any]) -> op.InputContent:
    return content.responses_input({**body, "input": body["messages"]})


# LiteLLM makes messages of prompts, so the input of a text completion is that of a chat.
_REQUEST = CHAT.request | MESSAGE.request | RESPONSE.request | _CAMEL_CASE
_CHAT = replace(CHAT, request=_REQUEST, constants={})
# By the name of LiteLLM's function; the async ones have an `a` before it.
_OPERATIONS: Mapping[str, op.Operation] = {
    "completion": _CHAT,
    "responses": replace(_CHAT, input_content=_response_input),
    "anthropic_messages": replace(_CHAT, input_content=anthropic_content.messages_input),
    "text_completion": replace(_CHAT, name="text_completion"),
    "embedding": endpoints.EMBEDDINGS,
    "image_generation": endpoints.IMAGE,
    "image_edit": endpoints.IMAGE,
    "image_variation": endpoints.IMAGE,
    "transcription": endpoints.TRANSCRIPTION,
    "speech": endpoints.SPEECH,
    "moderation": endpoints.MODERATION,
}


def operation_of(logging: Any) -> op.Operation | None:
    """The operation that a call is; None for what is none of ours (reranking, files, search, …)."""
    name = text(getattr(logging, "call_type", None)) or ""
    return _OPERATIONS.get(name) or _OPERATIONS.get(name.removeprefix("a"))


def read_request(logging: Any, address: object = None) -> tuple[dict[str, Any], op.Attributes]:
    """The request in OpenAI's format, as far as text goes, and the attributes of its receiver.

    `address` is where it is sent, as far as that is known.
    """
    details = cast("dict[str, Any]", logging.model_call_details)
    for_litellm = cast("dict[str, Any]", details.get("litellm_params") or {})
    name = text(details.get("custom_llm_provider") or for_litellm.get("custom_llm_provider"))
    model = text(details.get("model"))
    # As LiteLLM takes `anthropic/claude-…` apart; a cache answers before it does.
    prefix, _, rest = (model or "").partition("/")
    known = (name,) if name else of_litellm("provider_list") or ()
    if rest and prefix in known:
        name, model = prefix, rest
    host = host_at(str(address or for_litellm.get("api_base") or ""))
    # A call may fail before LiteLLM knows whom to ask.
    provider = host.provider or ("openai" if name else "litellm")
    if name is not None and name not in _PROTOCOLS:
        provider = provider_named(name)
    # The caller's messages; `input` is what the provider is sent.
    messages = getattr(logging, "messages", None) or details.get("messages")
    parameters = cast("dict[str, Any]", details.get("optional_params") or {})
    request = {**parameters, "messages": messages, "model": model}
    return request, {semconv.PROVIDER_NAME: provider, **host.attributes}


def of_litellm(name: str) -> Any:
    """One of LiteLLM's settings; None where it has none of the name."""
    return getattr(sys.modules.get("litellm"), name, None)


# LiteLLM's additions to OpenAI's format of chat answers: Anthropic's caches and modes.
_TTLS = "usage.prompt_tokens_details.cache_creation_token_details"
_ADDED = Table(
    {
        "usage.cache_read_input_tokens": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, count),
        "usage.cache_creation_input_tokens": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, count),
        f"{_TTLS}.ephemeral_5m_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS, count),
        f"{_TTLS}.ephemeral_1h_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS, count),
        "usage.service_tier": (semconv.ANTHROPIC_RESPONSE_SERVICE_TIER, str),
        "usage.speed": (semconv.SPEED, str),
        "usage.inference_geo": (semconv.INFERENCE_GEO, str),
    }
)
# Of the provider's own body: its names and its count of the thinking. `responseId` and
# `modelVersion` are Gemini's.
_OUT = "usage.output_tokens_details"
_BODY = Table(
    {
        "id": (semconv.RESPONSE_ID, str),
        "model": (semconv.RESPONSE_MODEL, str),
        "responseId": (semconv.RESPONSE_ID, str),
        "modelVersion": (semconv.RESPONSE_MODEL, str),
        f"{_OUT}.thinking_tokens": (semconv.USAGE_REASONING_OUTPUT_TOKENS, count),
    }
)
_TOTALS = {semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS, semconv.COST_REPORTED}
_LARGEST_BODY = 2**18


@dataclass(slots=True)
class Answer:
    """An answer, or as much of one as came."""

    attributes: op.Attributes = field(default_factory=dict[str, Any])
    messages: list[op.Message] = field(default_factory=list[op.Message])
    failure: str | None = None
    """The `error.type` of a call that failed."""


def is_whole(result: Any) -> bool:
    """Whether this is an answer, and not a chunk of a stream or the stream itself."""
    if result is None or hasattr(result, "__next__") or hasattr(result, "__anext__"):
        return False
    return type(result).__name__ != "ModelResponseStream"


def characters(result: Any) -> int:
    """How much text an answer brings, or a chunk of a stream."""
    pieces = (
        get(get(choice, "message") or get(choice, "delta"), "content") or get(choice, "text")
        for choice in items(result, "choices")
    )
    return sum(len(piece) for piece in pieces if isinstance(piece, str))


def parsed(body: str | None) -> Mapping[str, Any]:
    """The body that a provider sent, where it is a JSON object and not large; else an empty one."""
    return {} if body is None or len(body) > _LARGEST_BODY else json_object(body) or {}


def read_answer(
    result: Any, body: Mapping[str, Any], *, provider: object, with_content: bool
) -> Answer:
    """Reads LiteLLM's answer to a call; `body` is the provider's own, where that is known."""
    # Of a stream of the Responses API, this is the last event.
    result = get(result, "response") or result
    shape = _shape_of(result)
    # LiteLLM makes a finish reason that it doesn't know, `error` too, the most usual one.
    answer = Answer(failure=op.reported_error(body) or op.reported_error(result))
    if shape is None:
        return answer
    attributes = answer.attributes
    shape.answer.read(result, attributes)
    if shape in (CHAT, COMPLETION):
        _ADDED.read(result, attributes)
        _drop_guesses(result, attributes)
    shape.more_from_answer(result, attributes)
    usage = get(result, "usage")
    if provider != "openrouter" and get(usage, "cost_in_usd_ticks") is None:
        # `usage.cost` is OpenRouter's own figure; elsewhere LiteLLM puts its estimate there.
        attributes.pop(semconv.COST_REPORTED, None)
    if reasons := [reason for reason in shape.finish_reasons(result) if reason]:
        attributes[semconv.RESPONSE_FINISH_REASONS] = reasons
    answer.failure = answer.failure or shape.failure(result)
    if with_content:
        answer.messages = shape.output_content(result)
    # The provider's own names, where LiteLLM has put in others.
    served = text(get(getattr(result, "_hidden_params", None), "provider_response_model"))
    if served is not None:
        attributes[semconv.RESPONSE_MODEL] = served
    if semconv.RESPONSE_ID in attributes:
        attributes[semconv.RESPONSE_ID] = _unwrapped(attributes[semconv.RESPONSE_ID])
        _BODY.read(body, attributes)
    return answer


def _drop_guesses(result: Any, attributes: op.Attributes) -> None:
    """Drops the figures that LiteLLM makes up where a provider reports none."""
    if "claude" in str(get(result, "model")):
        # It counts the words of the thinking; Anthropic's own figure is only in the body.
        attributes.pop(semconv.USAGE_REASONING_OUTPUT_TOKENS, None)
    for name in attributes.keys() - _TOTALS:
        if attributes[name] == 0:
            del attributes[name]
    if semconv.OPENAI_RESPONSE_SERVICE_TIER in attributes:
        attributes.pop(semconv.ANTHROPIC_RESPONSE_SERVICE_TIER, None)


def _shape_of(result: Any) -> op.Operation | None:
    choices = items(result, "choices")
    if choices:
        return CHAT if get(choices[0], "message") is not None else COMPLETION
    if isinstance(get(result, "output"), list):
        return RESPONSE
    if get(result, "type") == "message":
        return MESSAGE
    if isinstance(get(result, "results"), list):
        return endpoints.MODERATION
    if get(result, "object") == "list":
        return endpoints.EMBEDDINGS
    # Images and transcriptions report their usage alike; some answers are bytes and have none.
    return endpoints.IMAGE if get(result, "usage") is not None else None


def _unwrapped(response_id: str) -> str:
    # LiteLLM wraps ids of the Responses API, so that it finds the deployment again:
    # `resp_` and the base64 of `litellm:custom_llm_provider:…;model_id:…;response_id:…`.
    try:
        decoded = base64.b64decode(response_id.partition("_")[2], validate=True)
    except ValueError:
        return response_id
    head, _, wrapped = decoded.partition(b"response_id:")
    is_wrapped = head.startswith(b"litellm:") and wrapped
    return wrapped.decode("utf-8", "replace") if is_wrapped else response_id
