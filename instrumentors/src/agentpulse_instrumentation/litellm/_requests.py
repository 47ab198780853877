"""What a call of LiteLLM asks for, read from its logging object.

LiteLLM makes one `Logging` object a call; it holds the request in OpenAI's format, the parameters
by the names of the provider, and everything about the call that LiteLLM tells its callbacks.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.hosts import Host, host_at, provider_named
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    InputContent,
    Operation,
    Table,
    double,
    integer,
    text,
    texts,
)
from agentpulse_instrumentation.anthropic import _content as anthropic_content
from agentpulse_instrumentation.openai import _chat as chat
from agentpulse_instrumentation.openai import _content as content
from agentpulse_instrumentation.openai._media import IMAGE, MODERATION, SPEECH, TRANSCRIPTION

# With these, LiteLLM speaks OpenAI's protocol to whoever is at the address.
_PROTOCOLS = ("openai", "text-completion-openai", "custom_openai", "openai_like")
UNKNOWN = "litellm"
"""For calls that failed before LiteLLM knew whom to ask."""


def provider_name(name: object, host: Host) -> str:
    """`gen_ai.provider.name` of what LiteLLM calls `name`, at a host."""
    if not isinstance(name, str) or not name:
        return host.provider or UNKNOWN
    if name in _PROTOCOLS:
        return host.provider or "openai"
    return provider_named(name)


_REQUEST = Table(
    {
        "temperature": (semconv.REQUEST_TEMPERATURE, double),
        "top_p": (semconv.REQUEST_TOP_P, double),
        "topP": (semconv.REQUEST_TOP_P, double),
        "top_k": (semconv.REQUEST_TOP_K, integer),
        "topK": (semconv.REQUEST_TOP_K, integer),
        "max_tokens": (semconv.REQUEST_MAX_TOKENS, integer),
        "maxTokens": (semconv.REQUEST_MAX_TOKENS, integer),
        "max_completion_tokens": (semconv.REQUEST_MAX_TOKENS, integer),
        "max_output_tokens": (semconv.REQUEST_MAX_TOKENS, integer),
        "frequency_penalty": (semconv.REQUEST_FREQUENCY_PENALTY, double),
        "presence_penalty": (semconv.REQUEST_PRESENCE_PENALTY, double),
        "seed": (semconv.REQUEST_SEED, integer),
        "stop": (semconv.REQUEST_STOP_SEQUENCES, texts),
        "stop_sequences": (semconv.REQUEST_STOP_SEQUENCES, texts),
        "stopSequences": (semconv.REQUEST_STOP_SEQUENCES, texts),
        "reasoning_effort": (semconv.REQUEST_REASONING_LEVEL, text),
        "reasoning.effort": (semconv.REQUEST_REASONING_LEVEL, text),
        "output_config.effort": (semconv.REQUEST_REASONING_LEVEL, text),
        "service_tier": (semconv.OPENAI_REQUEST_SERVICE_TIER, chat.tier),
        "n": (semconv.REQUEST_CHOICE_COUNT, chat.choices),
        "response_format.type": (semconv.OUTPUT_TYPE, chat.output_type),
        "previous_response_id": (semconv.REQUEST_PREVIOUS_RESPONSE_ID, text),
        "encoding_format": (semconv.REQUEST_ENCODING_FORMATS, texts),
        "dimensions": (semconv.EMBEDDINGS_DIMENSION_COUNT, integer),
    }
)


def _prompt(body: Mapping[str, Any]) -> InputContent:
    # LiteLLM makes messages of prompts before it tells of them.
    return content.chat_input({"messages": body["messages"]})


def _response_input(body: Mapping[str, Any]) -> InputContent:
    return content.responses_input({**body, "input": body["messages"]})


_CHAT = Operation(
    name="chat",
    request=_REQUEST,
    input_content=content.chat_input,
    estimates_usage=True,
)
# By the name of LiteLLM's function; the async ones have an `a` before it.
_OPERATIONS: Mapping[str, Operation] = {
    "completion": _CHAT,
    "responses": replace(_CHAT, input_content=_response_input),
    "anthropic_messages": replace(_CHAT, input_content=anthropic_content.messages_input),
    "text_completion": replace(_CHAT, name="text_completion", input_content=_prompt),
    "embedding": Operation(name="embeddings", request=_REQUEST),
    "image_generation": IMAGE,
    "image_edit": IMAGE,
    "image_variation": IMAGE,
    "transcription": TRANSCRIPTION,
    "speech": SPEECH,
    "moderation": MODERATION,
}


def operation_of(logging: Any) -> Operation | None:
    """The operation that a call is; None for what is none of ours (reranking, files, search, …)."""
    name = getattr(logging, "call_type", None)
    if not isinstance(name, str):
        return None
    return _OPERATIONS.get(name) or _OPERATIONS.get(name.removeprefix("a"))


def request_attributes(logging: Any, operation: Operation, address: object = None) -> Attributes:
    """The attributes that are known before the answer; `address` is where the request goes."""
    details = cast("dict[str, Any]", logging.model_call_details)
    for_litellm = cast("dict[str, Any]", details.get("litellm_params") or {})
    host = host_at(str(address or for_litellm.get("api_base") or ""))
    name, model = _provider_and_model(details, for_litellm)
    attributes: Attributes = {
        semconv.OPERATION_NAME: operation.name,
        semconv.PROVIDER_NAME: provider_name(name, host),
        **operation.constants,
    }
    if host.address is not None and host.port is not None:
        attributes[semconv.SERVER_ADDRESS] = host.address
        attributes[semconv.SERVER_PORT] = host.port
    if streams(logging):
        attributes[semconv.REQUEST_STREAM] = True
    parameters = _parameters(details)
    operation.request.read(parameters, attributes)
    operation.more_from_request(parameters, attributes)
    if model is not None:
        attributes[semconv.REQUEST_MODEL] = model
    return attributes


def _provider_and_model(
    details: Mapping[str, Any], for_litellm: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """As LiteLLM takes `anthropic/claude-…` apart; a cache answers before it does."""
    name = text(details.get("custom_llm_provider")) or text(for_litellm.get("custom_llm_provider"))
    model = text(details.get("model"))
    if model is not None:
        prefix, _, rest = model.partition("/")
        if rest and (prefix == name or (name is None and prefix in _providers())):
            return prefix, rest
    return name, model


def _providers() -> Collection[str]:
    return getattr(sys.modules.get("litellm"), "provider_list", ())


def streams(logging: Any) -> bool:
    """Whether the caller gets the answer piece by piece."""
    return getattr(logging, "stream", None) is True


def request_body(logging: Any) -> dict[str, Any]:
    """The request in OpenAI's format, as far as text goes."""
    details = cast("dict[str, Any]", logging.model_call_details)
    # What the caller gave; `input` is what the provider is sent.
    messages = getattr(logging, "messages", None) or details.get("messages")
    return {**_parameters(details), "messages": messages}


def hides_content() -> bool:
    """Whether the user keeps messages from LiteLLM's callbacks, and so from us."""
    return getattr(sys.modules.get("litellm"), "turn_off_message_logging", None) is True


def _parameters(details: Mapping[str, Any]) -> dict[str, Any]:
    given = details.get("optional_params")
    return cast("dict[str, Any]", given) if isinstance(given, dict) else {}
