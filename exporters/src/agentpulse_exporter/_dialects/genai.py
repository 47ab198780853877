"""Dialects of the GenAI conventions: their earlier names, and the packages that are made of them.

Official packages of openai-v2's time, OpenLLMetry (`opentelemetry.instrumentation.openai.v1`, …),
AgentOps and others share scope names, so the attributes decide. The anthropic client's own spans,
OpenLIT, pydantic-ai and Logfire differ from them in a few things each.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import (
    Dialect,
    Fields,
    anthropic_input,
    inclusive_input,
    is_no_call,
    own_cost,
    provider,
    set_default,
)
from agentpulse_exporter._semconv import count, decoded, fields_of, text

NAMES = {
    semconv.PROVIDER_NAME: ("gen_ai.system",),
    semconv.USAGE_INPUT_TOKENS: ("gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),
    semconv.USAGE_OUTPUT_TOKENS: ("gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: ("gen_ai.usage.cache_read_input_tokens",),
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    semconv.USAGE_REASONING_OUTPUT_TOKENS: (
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
    ),
    semconv.OPENAI_RESPONSE_SERVICE_TIER: ("gen_ai.openai.response.service_tier",),
    semconv.OPENAI_REQUEST_SERVICE_TIER: ("gen_ai.openai.request.service_tier",),
    semconv.REQUEST_STREAM: ("gen_ai.is_streaming", "llm.is_streaming"),
    semconv.SESSION_ID: (
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.thread_id",
        "gen_ai.conversation.id",
    ),
    semconv.USER_ID: ("traceloop.association.properties.user_id", "enduser.id", "gen_ai.user"),
}

_REQUESTS = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
_KINDS = {"workflow": "invoke_workflow", "agent": "invoke_agent", "tool": "execute_tool"}


def _operation(fields: Fields) -> None:
    if semconv.OPERATION_NAME in fields:
        return
    kind, request = text(fields, "traceloop.span.kind"), text(fields, "llm.request.type")
    if request in _REQUESTS:
        fields[semconv.OPERATION_NAME] = _REQUESTS[request]
    elif kind in _KINDS:
        fields[semconv.OPERATION_NAME] = _KINDS[kind]
        entity = text(fields, "traceloop.entity.name")
        if kind in ("agent", "tool"):
            name = semconv.AGENT_NAME if kind == "agent" else semconv.TOOL_NAME
            set_default(fields, name, entity)
    else:
        set_default(fields, semconv.SPAN_KIND, kind)


def _finish_reasons(fields: Fields) -> None:
    # Older packages write a text, and Logfire a list as JSON.
    reason = text(fields, semconv.RESPONSE_FINISH_REASONS)
    if reason is not None:
        listed = decoded(reason) if reason.startswith("[") else None
        fields[semconv.RESPONSE_FINISH_REASONS] = (reason,) if listed is None else listed


def is_of_a_package(span: ReadableSpan) -> bool:
    """Whether an instrumentation made the span, and not a program's author."""
    scope = span.instrumentation_scope
    return (scope is not None and scope.name.startswith("opentelemetry.")) or any(
        name.startswith(("traceloop.", "llm.")) for name in span.attributes or {}
    )


QUIRKS = (_operation, provider, _finish_reasons, inclusive_input)
GENAI = Dialect(
    scopes=("opentelemetry.instrumentation.genai", "opentelemetry.util.genai"),
    marks=("gen_ai.", "traceloop.", "llm.request.type", "llm.usage."),
    names=NAMES,
    quirks=QUIRKS,
    content=(
        messages.indexed("gen_ai.prompt", "gen_ai.completion"),
        messages.values("traceloop.entity.input", "traceloop.entity.output"),
    ),
)


def _anthropic(fields: Fields) -> None:
    reason = fields.get(semconv.ANTHROPIC_STOP_REASON)
    set_default(fields, semconv.RESPONSE_FINISH_REASONS, None if reason is None else (reason,))
    # Compaction is billed on top of the call's own tokens.
    for total, part in (
        (semconv.USAGE_INPUT_TOKENS, semconv.ANTHROPIC_COMPACTION_INPUT_TOKENS),
        (semconv.USAGE_OUTPUT_TOKENS, semconv.ANTHROPIC_COMPACTION_OUTPUT_TOKENS),
    ):
        whole, more = fields.get(total), fields.get(part)
        if isinstance(whole, int) and isinstance(more, int):
            fields[total] = whole + more


ANTHROPIC = Dialect(scopes=("com.anthropic.sdk.python",), names=NAMES, quirks=(_anthropic,))


def _first_chunk(fields: Fields) -> None:
    # OpenLIT writes its own default, 0, where none was set.
    first = fields.get("gen_ai.server.time_to_first_token")
    if fields.get(semconv.REQUEST_STREAM) is True and first:
        fields.setdefault(semconv.RESPONSE_TIME_TO_FIRST_CHUNK, first)


OPENLIT = Dialect(
    scopes=("openlit.",),
    marks=("openlit.",),
    names={
        **NAMES,
        semconv.SESSION_ID: ("gen_ai.session.id", *NAMES[semconv.SESSION_ID]),
        semconv.USER_ID: ("gen_ai.user.id", "gen_ai.request.user", *NAMES[semconv.USER_ID]),
    },
    quirks=(anthropic_input, *QUIRKS, _first_chunk, own_cost("gen_ai.usage.cost")),
)


def _agent(fields: Fields) -> None:
    # Versions before the conventions had a name for it. An agent's usage sums up its calls'.
    name = text(fields, "agent_name")
    if semconv.OPERATION_NAME not in fields and name is not None:
        fields[semconv.OPERATION_NAME] = "invoke_agent"
        fields.setdefault(semconv.AGENT_NAME, name)
    if fields.get("logfire.span_type") == "pending_span":
        is_no_call(fields)


PYDANTIC_AI = Dialect(
    scopes=("pydantic-ai", "pydantic_ai"),
    names=NAMES,
    quirks=(*QUIRKS, _agent, own_cost("operation.cost")),
)

_LOGFIRE_ERROR = 17


def _exact_usage(fields: Fields) -> None:
    raw = fields_of(fields.get("gen_ai.usage.raw"))
    details = fields_of(raw.get("prompt_tokens_details") or raw.get("input_tokens_details"))
    output = fields_of(raw.get("completion_tokens_details") or raw.get("output_tokens_details"))
    lifetimes = fields_of(raw.get("cache_creation"))
    read = count(details, "cached_tokens") or count(raw, "cache_read_input_tokens")
    for name, value in (
        (semconv.USAGE_CACHE_READ_INPUT_TOKENS, read),
        (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, count(raw, "cache_creation_input_tokens")),
        (semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS, count(lifetimes, "ephemeral_5m_input_tokens")),
        (semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS, count(lifetimes, "ephemeral_1h_input_tokens")),
        (semconv.USAGE_REASONING_OUTPUT_TOKENS, count(output, "reasoning_tokens")),
    ):
        set_default(fields, name, value or None)


def _without_unanswered(fields: Fields) -> None:
    # A span that is still open is sent too, and the span of a stream ends before its answer, which
    # a later record holds.
    kind = text(fields, "logfire.span_type")
    failed = fields.get("logfire.level_num", 0) == _LOGFIRE_ERROR
    unanswered = semconv.USAGE_INPUT_TOKENS not in fields and semconv.RESPONSE_ID not in fields
    if kind == "log" and (text(fields, "logfire.msg_template") or "").startswith("streaming resp"):
        fields.setdefault(semconv.REQUEST_STREAM, True)
    if kind == "pending_span" or (kind == "span" and unanswered and not failed):
        is_no_call(fields)


LOGFIRE = Dialect(
    scopes=("logfire",),
    marks=("logfire.",),
    names=NAMES,
    quirks=(_exact_usage, *QUIRKS, _without_unanswered, own_cost("operation.cost")),
)
