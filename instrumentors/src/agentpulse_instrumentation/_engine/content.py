"""The one policy of content: whether it is captured, on spans and on log events.

Content is messages, system instructions, tool definitions, arguments, results, and the texts of
exceptions; bodies of files and images in them are recorded nowhere (`media`).

*Content* is captured as JSON by the name of its attribute, so that it stays as it was when it was
read. Spans carry that JSON, events the structure that it stands for.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import get
from agentpulse_instrumentation._engine.media import ADDRESSES, MEDIA_TYPES, without_bodies
from agentpulse_instrumentation._engine.operation import InputContent, Message, Part
from agentpulse_instrumentation._engine.patching import warn_once


def text_part(content: str) -> Part:
    """A part that is text."""
    return {"type": "text", "content": content}


def text_message(role: str, content: str) -> Message:
    """A message that is one text."""
    return {"role": role, "parts": [text_part(content)]}


def with_id(part: Part, given: Any) -> Part:
    """The part with its id, where it has one."""
    return {**part, "id": given} if isinstance(given, str) else part


def tool_call_part(name: Any, call_id: Any, arguments: Any) -> Part:
    """A tool call that the model asks for; arguments in JSON text become their object."""
    part = with_id({"type": "tool_call", "name": str(name or "")}, call_id)
    return part if arguments is None else {**part, "arguments": parsed(arguments)}


def tool_response_part(call_id: Any, response: Any) -> Part:
    """A tool's answer that goes back to the model."""
    return with_id({"type": "tool_call_response", "response": response}, call_id)


_MODALITIES = {
    **{each: each for each in ("image", "document", "video", "audio")},
    **dict.fromkeys(("file", "media", "inline_data", "inlineData"), "document"),
    "computer_screenshot": "image",
}
"""By the type of a part without `input_` and `_url`, in the forms of OpenAI, Anthropic, Mistral,
Gemini and LangChain; or by a field, for the parts of Bedrock and Gemini, which have no type."""
_DATA = ("data", "base64", "file_data", "bytes")
_IS_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?i:data):")


def media_part(block: Any) -> Part | None:
    """An image, sound, video or document: its data, its address, or a file of the provider's.

    None for a part of another type. The data leaves before anything is recorded (`media`).
    """
    kind = get(block, "type")
    if kind is None:
        kind = next((name for name in _MODALITIES if get(block, name) is not None), None)
    kind = str(kind)
    modality = _MODALITIES.get(kind.removeprefix("input_").removesuffix("_url"))
    if modality is None:
        return None
    inner = get(block, kind)
    nodes = [node for node in (inner, get(inner, "source"), get(block, "source"), block) if node]
    data, address = _first(nodes, _DATA, (str, bytes)), _first(nodes, ADDRESSES)
    if isinstance(inner, str):
        # Some hosts have either in the same field.
        is_address = kind.endswith("_url") or _IS_ADDRESS.match(inner)
        data, address = (data, inner) if is_address else (inner, address)
    media_type = _media_type(nodes, modality)
    for url in (data, address):
        if isinstance(url, str) and url[:5].lower() == "data:":
            head, _, data = url.partition(",")
            media_type = head[5:].partition(";")[0] or media_type
            break
    file_id = _first(nodes, ("file_id", "id"))
    forms = (("blob", "content", data), ("uri", "uri", address), ("file", "file_id", file_id))
    found = ({"type": form, name: value} for form, name, value in forms if value is not None)
    part: Part = next(found, {"type": kind})
    family = (media_type or "").partition("/")[0]
    is_better = modality == "document" and family in _MODALITIES
    part["modality"] = family if is_better else modality
    return {**part, "mime_type": media_type} if media_type is not None else part


def _media_type(nodes: list[Any], modality: str) -> str | None:
    name = _first(nodes, ("format",))
    if name is not None and "/" not in name:
        # `wav`, `png`, `pdf`; LiteLLM has `application/pdf`.
        name = f"{modality.replace('document', 'application')}/{name}"
    return _first(nodes, MEDIA_TYPES) or name


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


_T = TypeVar("_T")
Content = Mapping[str, str]

CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EVENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"
NO_CONTENT: Content = {}

_MODES = {
    "NO_CONTENT": (False, False),
    "SPAN_ONLY": (True, False),
    "EVENT_ONLY": (False, True),
    "SPAN_AND_EVENT": (True, True),
}
"""By mode: whether spans carry content, and whether events do."""
_SWITCH = {"TRUE": True, "FALSE": False}
_INTEGERS = range(-(2**63), 2**63)
"""What OTLP can send as a number."""


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Where content may go. Every attribute with content is made here.

    Attributes:
        on_spans: Whether spans carry it.
        on_events: Whether log events do, which only are emitted where `emits_events` is true.
        emits_events: Whether the events of the conventions are wanted.
    """

    on_spans: bool = False
    on_events: bool = False
    emits_events: bool = False

    @classmethod
    def resolve(cls, capture_messages: bool | None) -> ContentPolicy:
        """Content on spans or not, as asked for; else as the standard variable has it.

        A value that a variable can't have is logged once in a process, and counts as unset.
        """
        on_spans, on_events = capture_messages is True, False
        if capture_messages is None:
            on_spans, on_events = _read(CONTENT_VARIABLE, _MODES) or _MODES["NO_CONTENT"]
        wanted = _read(EVENT_VARIABLE, _SWITCH)
        emits_events = on_events if wanted is None else wanted
        return cls(on_spans, on_events and emits_events, emits_events)

    def silenced(self) -> ContentPolicy:
        """The same without any content."""
        return replace(self, on_spans=False, on_events=False)

    def input_attributes(self, content: InputContent) -> Content:
        """The request's content; empty where no content may go anywhere."""
        values = {
            semconv.INPUT_MESSAGES: content.messages,
            semconv.SYSTEM_INSTRUCTIONS: content.system,
            semconv.TOOL_DEFINITIONS: content.tools,
        }
        return {name: _dumps(value) for name, value in values.items() if value and self._captures}

    def output_attributes(self, messages: Sequence[Message]) -> Content:
        """The answer's content; empty where no content may go anywhere."""
        return {semconv.OUTPUT_MESSAGES: _dumps(messages)} if messages and self._captures else {}

    def span_attributes(self, content: Content) -> Content:
        """The part of it that spans carry."""
        return content if self.on_spans else NO_CONTENT

    def span_attribute(self, name: str, value: object) -> Content:
        """A span's attribute that holds content as JSON; none where the policy forbids it."""
        return {name: _dumps(value)} if self.on_spans else NO_CONTENT

    def span_text(self, name: str, text: str) -> Content:
        """A span's attribute that is content as it is; none where the policy forbids it."""
        return {name: without_bodies(text)} if self.on_spans else NO_CONTENT

    def span_error_text(self, error: BaseException) -> str | None:
        """The exception's text. APIs echo prompts in their errors, so it is content too."""
        return _text_of(error) if self.on_spans else None

    def event_attributes(self, of_span: Mapping[str, Any], content: Content) -> dict[str, Any]:
        """The attributes of an event about the same call as a span; content in its structure."""
        attributes = dict(of_span)
        if not self.on_events:
            # The program's own words, though the conventions have them among the parameters.
            attributes.pop(semconv.REQUEST_STOP_SEQUENCES, None)
        else:
            for name, text in content.items():
                attributes[name] = json.loads(text, parse_int=_integer)
        return attributes

    def exception_attributes(self, error: BaseException) -> dict[str, Any]:
        """The attributes of an exception's event."""
        kind = type(error)
        is_builtin = kind.__module__ == "builtins"
        name = kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"
        attributes = {semconv.EXCEPTION_TYPE: name}
        if self.on_events:
            lines = traceback.format_exception(error)
            attributes[semconv.EXCEPTION_MESSAGE] = _text_of(error)
            attributes[semconv.EXCEPTION_STACKTRACE] = without_bodies("".join(lines))
        return attributes

    @property
    def _captures(self) -> bool:
        return self.on_spans or self.on_events


def _read(variable: str, words: Mapping[str, _T]) -> _T | None:
    text = os.environ.get(variable, "").strip()
    if text and text.upper() not in words:
        known = ", ".join(words)
        warn_once(f"{variable} is {text!r}, which has no effect; it takes one of {known}.")
    return words.get(text.upper())


def _text_of(error: BaseException) -> str:
    # Its class may be the user's, whose `__str__` may raise.
    try:
        return without_bodies(str(error))
    except Exception:  # noqa: BLE001  # the call is recorded all the same
        return f"<{type(error).__name__}>"


# Half a surrogate pair, as models write by mistake, would cost exporters the whole attribute.
_HALVES = re.compile("[\ud800-\udfff]")


def _dumps(value: object) -> str:
    # Values come from JSON; anything else (a file handle in a hand-made body) becomes the name of
    # its type.
    text = json.dumps(
        without_bodies(value),
        ensure_ascii=False,
        separators=(",", ":"),
        default=lambda odd: type(odd).__name__,
    )
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def _integer(text: str) -> int | str:
    number = int(text)
    return number if number in _INTEGERS else text
