"""Which span attributes may hold content, and so travel with message capture only.

Content is what people and models said, and what may carry secrets.

The list is about other people's spans too. Their authors may have been asked for content by
somebody who wants it in another backend, which is no permission to send it to this one.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentpulse_exporter import names

_NAMES = frozenset(
    {
        names.INPUT_MESSAGES,
        names.OUTPUT_MESSAGES,
        names.SYSTEM_INSTRUCTIONS,
        names.TOOL_DEFINITIONS,
        names.TOOL_CALL_ARGUMENTS,
        names.TOOL_CALL_RESULT,
        "gen_ai.request.stop_sequences",
        "gen_ai.retrieval.query.text",
        "gen_ai.retrieval.documents",
        "gen_ai.memory.query.text",
        "gen_ai.memory.records",
        "gen_ai.evaluation.explanation",
        "anthropic.tool_result.content",
        # Addresses carry queries, and queries carry anything.
        "url.full",
        "url.query",
        "http.url",
        "http.target",
        "db.statement",
        "process.command",
        "process.command_line",
        "all_messages_events",
    }
)

_PREFIXES = (
    "exception.",
    "gen_ai.prompt",
    "gen_ai.completion",
    "input.",
    "output.",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompt",
    "llm.completions",
    "llm.tools",
    "llm.invocation_parameters",
    "embedding.embeddings",
    "retrieval.documents",
    "reranker.",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "tool.parameters",
    "tool_call.",
    "ai.prompt",
    "ai.response.text",
    "ai.response.object",
    "ai.response.toolCalls",
    "ai.toolCall.args",
    "ai.toolCall.result",
    "db.query.",
    "http.request.header.",
    "http.response.header.",
    "http.request.body",
    "http.response.body",
    "process.command_args",
    "messaging.message.body",
    "langfuse.observation.input",
    "langfuse.observation.output",
    "langfuse.trace.input",
    "langfuse.trace.output",
    "mlflow.spanInputs",
    "mlflow.spanOutputs",
)


def is_content(name: str) -> bool:
    """Whether an attribute of that name may hold content."""
    return name in _NAMES or name.startswith(_PREFIXES)


def without_content(attributes: Mapping[str, object]) -> dict[str, object]:
    """The attributes that say nothing of what was said."""
    return {name: value for name, value in attributes.items() if not is_content(name)}
