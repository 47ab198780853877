"""Decides which span attributes may hold content; these are sent only with message capture.

Content is any text of people and models, and anything that may carry secrets.

The list is about other people's spans too. Their authors may have been asked for content by
somebody who wants it in another backend, which is no permission to send it to this one. Any
attribute of a foreign instrumentation may hold content, and new ones come with every version, so
without message capture their texts are sent only under names that are known to hold none; numbers
are sent under any.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.names import ANSWERS, REQUESTS

_NAMES = {
    *(semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS),
    *(semconv.TOOL_DEFINITIONS, semconv.TOOL_CALL_ARGUMENTS, semconv.TOOL_CALL_RESULT),
    *("gen_ai.request.stop_sequences", "gen_ai.evaluation.explanation"),
    *("gen_ai.retrieval.query.text", "gen_ai.retrieval.documents"),
    *("gen_ai.memory.query.text", "gen_ai.memory.records", "anthropic.tool_result.content"),
    # Addresses carry queries, and queries carry anything.
    *("url.full", "url.query", "http.url", "http.target", "db.statement"),
    *("process.command", "process.command_line", "all_messages_events"),
}
_PREFIXES = (
    *(*REQUESTS, *ANSWERS),
    *("exception.", "gen_ai.prompt", "gen_ai.completion", "input.", "output."),
    *("llm.input_messages", "llm.output_messages", "llm.prompt", "llm.completions", "llm.tools"),
    *("llm.invocation_parameters", "embedding.embeddings", "retrieval.documents", "reranker."),
    *("tool.parameters", "tool_call.", "ai.prompt", "ai.response.object", "ai.response.toolCalls"),
    *("langfuse.trace.input", "langfuse.trace.output", "db.query.", "process.command_args"),
    *("http.request.header.", "http.response.header.", "http.request.body", "http.response.body"),
    "messaging.message.body",
)


def is_content(name: str) -> bool:
    """Whether an attribute with this name may hold content."""
    return name in _NAMES or name.startswith(_PREFIXES)


def without_content(attributes: Mapping[str, object]) -> dict[str, object]:
    """The attributes that hold no content."""
    return {name: value for name, value in attributes.items() if not is_content(name)}


_STARTS = ("server.", "service.", "telemetry.sdk.", "deployment.", "network.", "thread.")
_OURS = {
    value
    for name, value in vars(semconv).items()
    if name.isupper() and isinstance(value, str) and not name.endswith("_PREFIX")
} - {semconv.ARGUMENTS, semconv.RESULT, semconv.SESSION_RESULT, semconv.SESSION_LOG_MESSAGE}
_KNOWN = {
    *_OURS,
    *("gen_ai.system", "gen_ai.conversation.id", "gen_ai.output.type", "gen_ai.data_source.id"),
    *("gen_ai.tool.call.id", "gen_ai.tool.type", "gen_ai.workflow.name"),
    *("gen_ai.request.encoding_formats", "llm.request.type", "openinference.span.kind"),
    *("traceloop.span.kind", "langfuse.observation.type", "langfuse.observation.level"),
    *("logfire.span_type", "mlflow.spanType", "ai.operationId", "openai.api.type"),
    "openai.response.system_fingerprint",
}


def without_free_text(attributes: Mapping[str, object]) -> dict[str, object]:
    """The attributes without texts that might be content."""
    return {
        name: value
        for name, value in attributes.items()
        if (isinstance(value, bool | int | float) or name in _KNOWN or name.startswith(_STARTS))
        and not is_content(name)
    }
