"""Content in the JSON of the GenAI conventions, and the one place that decides on recording it.

Content is messages, system instructions, tool definitions and the texts of exceptions.

Providers describe how their requests and answers read as messages (`openai/content.py`,
`anthropic/content.py`); nothing of that runs unless `ContentPolicy.captures` is true.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentpulse_instrumentation import semconv

Part = dict[str, Any]
Message = dict[str, Any]

STANDARD_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@dataclass(frozen=True, slots=True)
class InputContent:
    """What a request says, in the order in which it was sent."""

    messages: list[Message] = field(default_factory=list[Message])
    system: list[Part] = field(default_factory=list[Part])
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Whether content may leave the process. Every attribute with content is made here."""

    captures: bool = False

    @classmethod
    def resolve(cls, capture_messages: bool | None) -> ContentPolicy:
        """The policy asked for, else what the standard variable says: SPAN_ONLY, SPAN_AND_EVENT."""
        if capture_messages is not None:
            return cls(capture_messages)
        return cls(
            os.environ.get(STANDARD_VARIABLE, "").strip().upper() in ("SPAN_ONLY", "SPAN_AND_EVENT")
        )

    def input_attributes(self, content: InputContent) -> dict[str, str]:
        """Attributes of the request's content; empty where the policy forbids it."""
        if not self.captures:
            return {}
        values = {
            semconv.INPUT_MESSAGES: content.messages,
            semconv.SYSTEM_INSTRUCTIONS: content.system,
            semconv.TOOL_DEFINITIONS: content.tools,
        }
        return {name: _dumps(value) for name, value in values.items() if value}

    def output_attributes(self, messages: list[Message]) -> dict[str, str]:
        """Attributes of the answer's content; empty where the policy forbids it."""
        return {semconv.OUTPUT_MESSAGES: _dumps(messages)} if self.captures and messages else {}

    def json_attribute(self, name: str, value: object) -> dict[str, Any]:
        """An attribute that holds content as JSON; none where the policy forbids it."""
        return {name: _dumps(value)} if self.captures else {}

    def error_text(self, error: BaseException) -> str | None:
        """What the exception says. APIs echo prompts in their errors, so it is content too."""
        return str(error) if self.captures else None


def _dumps(value: object) -> str:
    # Values come from JSON; what is none of it (a file handle in a hand-made body) is told by its
    # type alone.
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), default=lambda odd: type(odd).__name__
    )


def text_part(content: str) -> Part:
    """A part that is text."""
    return {"type": "text", "content": content}


def tool_call_part(name: str, call_id: Any, arguments: Any) -> Part:
    """A tool call that the model asks for; arguments in JSON text are told as their object."""
    part: Part = {"type": "tool_call", "name": name}
    if isinstance(call_id, str):
        part["id"] = call_id
    if arguments is not None:
        part["arguments"] = parsed(arguments)
    return part


def tool_response_part(call_id: Any, response: Any) -> Part:
    """A tool's answer that goes back to the model."""
    part: Part = {"type": "tool_call_response", "response": response}
    if isinstance(call_id, str):
        part["id"] = call_id
    return part


def media_part(
    modality: str, url: Any = None, *, data: Any = None, mime_type: Any = None, file_id: Any = None
) -> Part:
    """An image, sound or document: inline data, a file of the provider's, or an address."""
    if isinstance(url, str) and url.startswith("data:"):
        head, _, data = url.partition(",")
        mime_type = head[len("data:") :].partition(";")[0] or None
    if isinstance(data, str):
        part: Part = {"type": "blob", "modality": modality, "content": data}
    elif isinstance(file_id, str):
        part = {"type": "file", "modality": modality, "file_id": file_id}
    else:
        part = {"type": "uri", "modality": modality, "uri": str(url or "")}
    if isinstance(mime_type, str):
        part["mime_type"] = mime_type
    return part


def parsed(value: Any) -> Any:
    """JSON text as what it stands for; anything else, and text that is no JSON, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def tool_definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A function tool, flat: `{type, name, description, parameters}`."""
    known = ("type", "name", "description", "parameters")
    return {key: tool[key] for key in known if tool.get(key) is not None}
