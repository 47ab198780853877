"""Finds the dialect of a span, and translates its attributes to the current GenAI conventions.

A dialect is one family of instrumentations. A table (`names.py`) translates their names; a function
for each dialect (its quirk) does the rest. The rest of the exporter knows only the current names.
The spans themselves stay unchanged. A span without a dialect is read as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.messages import with_messages
from agentpulse_exporter._dialects.names import KINDS, NAMES, OBJECTS, OPERATIONS
from agentpulse_exporter._semconv import provider_name
from agentpulse_exporter._values import Attributes, count, decoded, fields_of, shielded, text
from agentpulse_exporter._wire.privacy import without_free_text

Fields = dict[str, object]
"""The attributes by their current names, while they are being put together."""

_BY_RANK = [(theirs, name) for name, others in NAMES.items() for theirs in others]
_RANKS: dict[str, list[int]] = {theirs: [] for theirs, _ in _BY_RANK}
for _rank, (_theirs, _) in enumerate(_BY_RANK):
    _RANKS[_theirs].append(_rank)
_OURS = "agentpulse"
_LOGFIRE_ERROR = 17
_NAMED = {"invoke_agent": semconv.AGENT_NAME, "execute_tool": semconv.TOOL_NAME}
_CACHED = (semconv.USAGE_CACHE_READ_INPUT_TOKENS, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS)
_ANSWER = re.compile(
    r'"object"\s*:\s*"(?:chat\.completion|text_completion|response)"|"type"\s*:\s*"message"'
)
_ID = re.compile(r'\s*\{\s*"id"\s*:\s*"([A-Za-z0-9_.:-]{1,128})"')
_MAKERS = {
    ("chatgpt", "gpt", "o1", "o3", "o4", "text-embedding"): "openai",
    ("claude",): "anthropic",
    ("deepseek",): "deepseek",
    ("gemini",): "gcp.gemini",
    ("grok",): "x_ai",
    ("mistral",): "mistral_ai",
}
"""The makers of models, by the start of the model's name; Langfuse records no provider."""
_VERCEL = {
    **dict.fromkeys(("doGenerate", "doStream"), "chat"),
    "doEmbed": "embeddings",
    "toolCall": "execute_tool",
}
"""Operations by the last part of `ai.operationId`. Of two nested spans, the inner is a call."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The spans of one family of instrumentations.

    Attributes:
        scopes: The starts of the names of its instrumentation scopes.
        marks: The starts of names of attributes that only its spans have.
        quirk: Translates the attributes that the table of names doesn't cover.
    """

    scopes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    quirk: Callable[[Fields], object] = len

    def matches(self, scope: str, attributes: Attributes) -> bool:
        """Whether a span is of this dialect."""
        if self.scopes and scope.startswith(self.scopes):
            return True
        return bool(self.marks) and any(name.startswith(self.marks) for name in attributes)

    def current(self, attributes: Attributes) -> Attributes:
        """The attributes by their current names, without messages."""
        fields, given = dict(attributes), dict(attributes)
        given.update(_figures(attributes))
        for rank in sorted(rank for each in given for rank in _RANKS.get(each, ())):
            theirs, name = _BY_RANK[rank]
            _set_default(fields, name, given[theirs])
        _read_operation(fields)
        _read_finish_reasons(fields)
        if provider := text(fields, semconv.PROVIDER_NAME):
            fields[semconv.PROVIDER_NAME] = provider_name(provider)
        self.quirk(fields)
        # Some report cached tokens apart from the input, so the input may be the smaller number.
        total = count(fields, semconv.USAGE_INPUT_TOKENS)
        if total is not None and _sum(fields, *_CACHED) > total:
            _add(fields, *_CACHED)
        return fields


def _figures(attributes: Attributes) -> Iterator[tuple[str, object]]:
    """The fields of JSON objects, each named by its path."""
    pending = [(name, attributes[name]) for name in OBJECTS if name in attributes]
    for path, value in pending:
        for name, each in fields_of(value).items():
            field = f"{path}.{name}", each
            if isinstance(each, dict):
                pending.append(field)
            else:
                yield field


def _set_default(fields: Fields, name: str, value: object) -> None:
    """Sets a field that has no value yet; None doesn't count. All texts of MLflow are JSON."""
    if isinstance(value, str) and value.startswith('"'):
        value = decoded(value, value)
    if value is not None:
        fields.setdefault(name, value)


def _read_operation(fields: Fields) -> None:
    """Reads the kind of a span: an operation of the conventions, else an AgentPulse kind."""
    if semconv.OPERATION_NAME in fields:
        return
    kinds = [kind.strip('"') for name in KINDS if (kind := text(fields, name))]
    known = [OPERATIONS[kind.upper()] for kind in kinds if kind.upper() in OPERATIONS]
    if known:
        fields[semconv.OPERATION_NAME] = known[0]
    elif kinds:
        fields.setdefault(semconv.SPAN_KIND, kinds[-1].lower())
    for operation, name in _NAMED.items():
        if operation in known:
            _set_default(fields, name, text(fields, "traceloop.entity.name"))


def _read_finish_reasons(fields: Fields) -> None:
    # Some write a text, and Logfire a list as JSON.
    if reason := text(fields, semconv.RESPONSE_FINISH_REASONS):
        listed = decoded(reason) if reason.startswith("[") else None
        fields[semconv.RESPONSE_FINISH_REASONS] = (reason,) if listed is None else listed


def _is_no_call(fields: Fields) -> None:
    """Marks a span as not a model call; it stays in the tree."""
    operation = fields.pop(semconv.OPERATION_NAME, None)
    fields.setdefault(semconv.SPAN_KIND, operation if isinstance(operation, str) else "span")


def _sum(fields: Fields, *names: str) -> int:
    return sum(count(fields, name) or 0 for name in names)


def _add(fields: Fields, *parts: str, to: str = semconv.USAGE_INPUT_TOKENS) -> None:
    """Adds tokens to a total that excludes them."""
    if count(fields, to) is not None:
        fields[to] = _sum(fields, to, *parts)


def _anthropic(fields: Fields) -> None:
    # Compaction is billed on top of the call's own tokens.
    _add(fields, semconv.ANTHROPIC_COMPACTION_INPUT_TOKENS)
    _add(fields, semconv.ANTHROPIC_COMPACTION_OUTPUT_TOKENS, to=semconv.USAGE_OUTPUT_TOKENS)


def _openinference(fields: Fields) -> None:
    """Reads the response id, which only the answer's JSON has; that may be long.

    In other spans, `output.value` is a tool's result or the model's text: neither is read.
    """
    answer = text(fields, "output.value")
    if answer is None or fields.get(semconv.OPERATION_NAME) not in ("chat", "text_completion"):
        return
    if answer == fields.get("llm.output_messages.0.message.content"):
        return
    found = _ID.match(answer)
    if found is not None and _ANSWER.search(answer):
        fields.setdefault(semconv.RESPONSE_ID, found[1])


def _openlit(fields: Fields) -> None:
    if fields.get(semconv.PROVIDER_NAME) == "anthropic":
        _add(fields, *_CACHED)
    # OpenLIT writes its own default, 0, if none was set.
    first = fields.get("gen_ai.server.time_to_first_token")
    if fields.get(semconv.REQUEST_STREAM) is True and first:
        fields.setdefault(semconv.RESPONSE_TIME_TO_FIRST_CHUNK, first)


def _langfuse(fields: Fields) -> None:
    model = (text(fields, semconv.RESPONSE_MODEL) or "").rpartition("/")[2]
    makers = (maker for starts, maker in _MAKERS.items() if model.startswith(starts))
    _set_default(fields, semconv.PROVIDER_NAME, next(makers, None))
    usage = fields_of(fields.get("langfuse.observation.usage_details"))
    if not {"prompt_tokens", "prompt_tokens_details", "input_tokens_details"} & usage.keys():
        # Langfuse's own form, and Anthropic's: each kind of input stands by itself.
        _add(fields, *_CACHED)
    if "langfuse.observation.completion_start_time" in fields:
        fields.setdefault(semconv.REQUEST_STREAM, True)


def _pydantic_ai(fields: Fields) -> None:
    # Versions before the conventions had a name for it. An agent's usage sums up its calls'.
    name = text(fields, "agent_name")
    if semconv.OPERATION_NAME not in fields and name is not None:
        fields[semconv.OPERATION_NAME] = "invoke_agent"
        fields.setdefault(semconv.AGENT_NAME, name)
    if fields.get("logfire.span_type") == "pending_span":
        _is_no_call(fields)


def _logfire(fields: Fields) -> None:
    # Logfire also sends spans that are still open. The span of a stream ends before the answer; a
    # later record holds the answer.
    kind = text(fields, "logfire.span_type")
    failed = fields.get("logfire.level_num", 0) == _LOGFIRE_ERROR
    unanswered = semconv.USAGE_INPUT_TOKENS not in fields and semconv.RESPONSE_ID not in fields
    if kind == "log" and (text(fields, "logfire.msg_template") or "").startswith("streaming resp"):
        fields.setdefault(semconv.REQUEST_STREAM, True)
    if kind == "pending_span" or (kind == "span" and unanswered and not failed):
        _is_no_call(fields)


def _vercel(fields: Fields) -> None:
    # `openai.chat`, `anthropic.messages`: the API behind the provider's name is no part of it.
    given = text(fields, "ai.model.provider")
    if given is not None and fields.get(semconv.PROVIDER_NAME) == provider_name(given):
        fields[semconv.PROVIDER_NAME] = provider_name(given.partition(".")[0])
    # Newer versions give the input with its cached part, and the rest beside it.
    is_new = "ai.usage.inputTokenDetails.noCacheTokens" in fields
    if not is_new and fields.get(semconv.PROVIDER_NAME) == "anthropic":
        _add(fields, semconv.USAGE_CACHE_READ_INPUT_TOKENS)
    called = text(fields, "ai.operationId")
    operation = _VERCEL.get((called or "").rpartition(".")[2])
    _set_default(fields, semconv.OPERATION_NAME, operation)
    if called is not None and operation is None:
        _is_no_call(fields)


# Official packages of openai-v2's time, OpenLLMetry (`opentelemetry.instrumentation.openai.v1`, …),
# AgentOps and others share scope names, so the attributes decide.
_GENAI = Dialect(
    scopes=("opentelemetry.instrumentation.genai", "opentelemetry.util.genai"),
    marks=("gen_ai.", "traceloop.", "llm.request.type", "llm.usage."),
)
_LOGFIRE = Dialect(("logfire",), ("logfire.",), _logfire)
_DIALECTS = (
    Dialect(("com.anthropic.sdk.python",), (), _anthropic),
    Dialect(("openinference.",), ("openinference.span.kind", "llm.token_count."), _openinference),
    Dialect(("openlit.",), ("openlit.",), _openlit),
    Dialect(("langfuse-sdk",), ("langfuse.",), _langfuse),
    Dialect(("pydantic-ai", "pydantic_ai"), (), _pydantic_ai),
    _LOGFIRE,
    Dialect((), ("mlflow.",)),
    Dialect((), ("ai.operationId", "ai.model.", "ai.usage."), _vercel),
    _GENAI,
)
"""The first dialect that matches a span reads it. The last dialect is common to most others."""
_SCOPES = tuple(scope for each in _DIALECTS for scope in each.scopes)
_MARKS = tuple(mark for each in _DIALECTS for mark in each.marks)


def current_attributes(span: ReadableSpan, *, with_content: bool = False) -> Attributes:
    """The span's attributes by their current names. The span stays as it is. Never raises.

    Content attributes are renamed only if `with_content` is true. If content can't be read, only
    the other attributes are renamed; if those can't be read either, all stay as they are.
    """
    attributes: Attributes = span.attributes or {}
    dialect = _dialect_of(span, attributes)
    if dialect is None:
        return attributes
    current = shielded("read a foreign span", partial(dialect.current, attributes), attributes)
    if not with_content:
        return current
    read = partial(with_messages, current)
    return shielded("read the content of a foreign span", read, current)


def shown_attributes(span: ReadableSpan) -> Attributes:
    """The attributes that by their names can't hold content. The span must have current names.

    Empty if that can't be decided.
    """
    attributes: Attributes = span.attributes or {}
    dialect = _dialect_of(span, attributes)
    if dialect is None or (dialect is _GENAI and not _is_of_a_package(span)):
        # A program's own span: its author put these attributes on it.
        return attributes
    return shielded("separate content", lambda: without_free_text(attributes), {})


def is_genai_span(span: ReadableSpan) -> bool:
    """Whether the span has a GenAI operation or an AgentPulse span kind, in any dialect.

    Runs on the thread that ends the span, so it reads only names.
    """
    attributes: Attributes = span.attributes or {}
    if semconv.OPERATION_NAME in attributes or semconv.SPAN_KIND in attributes:
        return True
    if is_ours(span):
        # Each of these has one of the two, unless the SDK's limits took it.
        return span.dropped_attributes > 0
    dialect = _dialect_of(span, attributes)
    # Logfire's marks are on spans of everything else too.
    return dialect is not None and dialect is not _LOGFIRE


def is_ours(span: ReadableSpan) -> bool:
    """Whether AgentPulse, or one of its instrumentors, made the span."""
    return _scope_of(span).startswith(_OURS)


def _is_of_a_package(span: ReadableSpan) -> bool:
    """Whether an instrumentation made the span, and not a program's author."""
    return _scope_of(span).startswith("opentelemetry.") or any(
        name.startswith(("traceloop.", "llm.")) for name in span.attributes or {}
    )


def _dialect_of(span: ReadableSpan, attributes: Attributes) -> Dialect | None:
    # The scope is known even if the SDK's limits took every attribute.
    if is_ours(span) or not (attributes or span.dropped_attributes):
        return None
    scope = _scope_of(span)
    # Most spans are of no dialect, and their names alone show that.
    if not scope.startswith(_SCOPES) and not any(each.startswith(_MARKS) for each in attributes):
        return None
    return next((each for each in _DIALECTS if each.matches(scope, attributes)), None)


def _scope_of(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return "" if scope is None else scope.name
