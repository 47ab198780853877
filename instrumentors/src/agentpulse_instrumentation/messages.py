"""Content in the JSON of the GenAI conventions: messages and their parts, instructions, tools.

Providers describe how their requests and answers read as messages (`openai/content.py`,
`anthropic/content.py`); nothing of that runs unless the policy (`policy.py`) has a use for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentpulse_instrumentation.fields import get

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


_MODALITIES = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "computer_screenshot": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "document": "document",
    "document_url": "document",
    "file": "document",
    "input_file": "document",
    "media": "document",
}
"""By the type of a part, in the forms of OpenAI, Anthropic, Mistral, Gemini and LangChain."""
_UNTYPED = ("image", "document", "video", "audio", "inline_data", "inlineData")
"""Fields by which Bedrock's and Gemini's parts are known, which have no type."""
_DATA = ("data", "base64", "file_data", "bytes")
_ADDRESSES = (
    *("url", "image_url", "file_url", "audio_url", "video_url", "document_url"),
    *("uri", "file_uri"),
)
_FILES = ("file_id", "id")
_MEDIA_TYPES = ("mime_type", "media_type", "mimeType")


def media_part(block: Any) -> Part | None:
    """An image, sound, video or document: its data, its address, or a file of the provider's.

    None for a part of another type. The data leaves before anything is recorded (`bodies.py`).
    """
    kind = get(block, "type")
    if kind is None:
        kind = next((name for name in _UNTYPED if get(block, name) is not None), None)
    if not isinstance(kind, str) or (kind not in _MODALITIES and kind not in _UNTYPED):
        return None
    inner = get(block, kind)
    nodes = [node for node in (inner, get(inner, "source"), get(block, "source"), block) if node]
    data, address = _first(nodes, _DATA, (str, bytes)), _first(nodes, _ADDRESSES)
    if isinstance(inner, str):
        # Some hosts have either in the same place.
        is_address = kind.endswith("_url") or _IS_ADDRESS.match(inner)
        data, address = (data, inner) if is_address else (inner, address)
    data_url = next((each for each in (data, address) if _is_data_url(each)), None)
    if data_url is not None:
        data = data_url.partition(",")[2]
    media_type = _media_type(nodes, data_url, kind)
    part: Part = {"type": kind}
    if data is not None:
        part = {"type": "blob", "content": data}
    elif address is not None:
        part = {"type": "uri", "uri": address}
    elif (file_id := _first(nodes, _FILES)) is not None:
        part = {"type": "file", "file_id": file_id}
    part["modality"] = _modality(kind, media_type)
    return {**part, "mime_type": media_type} if media_type is not None else part


_IS_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?i:data):")


def _is_data_url(value: Any) -> bool:
    return isinstance(value, str) and value[:5].lower() == "data:"


def _media_type(nodes: list[Any], data_url: str | None, kind: str) -> str | None:
    of_url = data_url[len("data:") :].partition(",")[0].partition(";")[0] if data_url else None
    found = of_url or _first(nodes, _MEDIA_TYPES)
    if found is None and (name := _first(nodes, ("format",))) is not None:
        # `wav`, `png`, `pdf`, or LiteLLM's `application/pdf`.
        family = _MODALITIES.get(kind, kind).replace("document", "application")
        found = name if "/" in name else f"{family}/{name}"
    return found


def _modality(kind: str, media_type: str | None) -> str:
    modality, family = _MODALITIES.get(kind, "document"), (media_type or "").partition("/")[0]
    is_better = modality == "document" and family in ("image", "audio", "video")
    return family if is_better else modality


def _first(nodes: list[Any], names: tuple[str, ...], kind: Any = str) -> Any:
    found = (get(node, name) for node in nodes for name in names)
    return next((value for value in found if value and isinstance(value, kind)), None)


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
