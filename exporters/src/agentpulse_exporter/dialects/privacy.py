"""What may be sent of a foreign span's attributes without message capture.

Any attribute of a foreign instrumentation may hold content, and new ones come with every version.
So their texts are sent only under names that are known to hold none; numbers are sent under any.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentpulse_exporter import names
from agentpulse_exporter.content import is_content

_KNOWN = frozenset(
    value
    for name, value in vars(names).items()
    if name.isupper() and isinstance(value, str) and not name.endswith("_PREFIX")
) - {names.ARGUMENTS, names.RESULT, names.SESSION_RESULT, names.SESSION_LOG_MESSAGE}
_STARTS = ("server.", "service.", "telemetry.sdk.", "deployment.", "network.", "thread.")
_ALSO = frozenset(
    {
        "gen_ai.system",
        "gen_ai.conversation.id",
        "gen_ai.output.type",
        "gen_ai.data_source.id",
        "gen_ai.tool.call.id",
        "gen_ai.tool.type",
        "gen_ai.workflow.name",
        "gen_ai.request.encoding_formats",
        "llm.request.type",
        "openinference.span.kind",
        "traceloop.span.kind",
        "langfuse.observation.type",
        "langfuse.observation.level",
        "logfire.span_type",
        "mlflow.spanType",
        "ai.operationId",
        "openai.api.type",
        "openai.response.system_fingerprint",
    }
)


def without_free_text(attributes: Mapping[str, object]) -> dict[str, object]:
    """The attributes without texts that might be content."""
    return {
        name: value
        for name, value in attributes.items()
        if (isinstance(value, bool | int | float) or _is_known(name)) and not is_content(name)
    }


def _is_known(name: str) -> bool:
    return name in _KNOWN or name in _ALSO or name.startswith(_STARTS)
