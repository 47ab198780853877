"""Content in the JSON of the GenAI conventions: messages and their parts, instructions, tools.

Providers describe how their requests and answers read as messages (`openai/content.py`,
`anthropic/content.py`); nothing of that runs unless the policy (`policy.py`) has a use for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Part = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class InputContent:
    """What a request says, in the order in which it was sent."""

    messages: list[Message] = field(default_factory=list[Message])
    system: list[Part] = field(default_factory=list[Part])
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


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
