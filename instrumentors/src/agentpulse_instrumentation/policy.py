"""The one place that decides on recording content, and where: on spans, on log events, or nowhere.

Content is messages, system instructions, tool definitions, arguments, results, and the texts of
exceptions; bodies of files and images in them are recorded nowhere (`bodies.py`).

*Said* is content at the moment when it was read, as JSON by the name of its attribute:
what the program does with its objects afterwards doesn't change it. Spans carry that JSON, events
the structure that it stands for.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation.bodies import without_bodies
from agentpulse_instrumentation.messages import InputContent, Message

_T = TypeVar("_T")
Said = Mapping[str, str]

CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EVENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"
NOTHING_SAID: Said = {}

_logger = logging.getLogger("agentpulse.instrumentation")
_MODES = {
    "NO_CONTENT": (False, False),
    "SPAN_ONLY": (True, False),
    "EVENT_ONLY": (False, True),
    "SPAN_AND_EVENT": (True, True),
}
"""By mode: whether spans carry content, and whether events do."""
_SWITCH = {"TRUE": True, "FALSE": False}
_CONTENT = frozenset(
    {
        semconv.INPUT_MESSAGES,
        semconv.OUTPUT_MESSAGES,
        semconv.SYSTEM_INSTRUCTIONS,
        semconv.TOOL_DEFINITIONS,
    }
)
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
        """Content on spans or not, as asked for; where nothing is, what the standard variable says.

        What a variable says that it can't mean is logged once in a process, and counts as unset.
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

    def input_said(self, content: InputContent) -> Said:
        """The request's content; empty where no content may go anywhere."""
        values = {
            semconv.INPUT_MESSAGES: content.messages,
            semconv.SYSTEM_INSTRUCTIONS: content.system,
            semconv.TOOL_DEFINITIONS: content.tools,
        }
        return {name: _dumps(value) for name, value in values.items() if value and self._captures}

    def output_said(self, messages: list[Message]) -> Said:
        """The answer's content; empty where no content may go anywhere."""
        return {semconv.OUTPUT_MESSAGES: _dumps(messages)} if messages and self._captures else {}

    def span_attributes(self, said: Said) -> Said:
        """What of it spans carry."""
        return said if self.on_spans else NOTHING_SAID

    def span_attribute(self, name: str, value: object) -> Said:
        """A span's attribute that holds content as JSON; none where the policy forbids it."""
        return {name: _dumps(value)} if self.on_spans else NOTHING_SAID

    def span_text(self, name: str, text: str) -> Said:
        """A span's attribute that is content as it is; none where the policy forbids it."""
        return {name: without_bodies(text)} if self.on_spans else NOTHING_SAID

    def span_error_text(self, error: BaseException) -> str | None:
        """What the exception says. APIs echo prompts in their errors, so it is content too."""
        return _text_of(error) if self.on_spans else None

    def event_attributes(self, of_span: Mapping[str, Any], said: Said) -> dict[str, Any]:
        """The attributes of an event that says what a span does; content in its structure."""
        attributes = {name: value for name, value in of_span.items() if name not in _CONTENT}
        if not self.on_events:
            # The program's own words, though the conventions have them among the parameters.
            attributes.pop(semconv.REQUEST_STOP_SEQUENCES, None)
        else:
            for name, text in said.items():
                attributes[name] = json.loads(text, parse_int=_integer)
        return attributes

    def exception_attributes(self, error: BaseException) -> dict[str, Any]:
        """The attributes of an event that tells of an exception."""
        kind = type(error)
        is_builtin = kind.__module__ == "builtins"
        name = kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"
        if not self.on_events:
            return {semconv.EXCEPTION_TYPE: name}
        return {
            semconv.EXCEPTION_TYPE: name,
            semconv.EXCEPTION_MESSAGE: _text_of(error),
            semconv.EXCEPTION_STACKTRACE: without_bodies(
                "".join(traceback.format_exception(error))
            ),
        }

    @property
    def _captures(self) -> bool:
        return self.on_spans or self.on_events


def _read(variable: str, words: Mapping[str, _T]) -> _T | None:
    text = os.environ.get(variable, "").strip()
    if text and text.upper() not in words:
        _say_once(variable, text, ", ".join(words))
    return words.get(text.upper())


@functools.cache
def _say_once(variable: str, text: str, words: str) -> None:
    _logger.warning("%s is %r, which has no effect; it takes one of %s.", variable, text, words)


def _text_of(error: BaseException) -> str:
    # Its class may be the user's, whose `__str__` may raise.
    try:
        return without_bodies(str(error))
    except Exception:  # noqa: BLE001  # the call is told of all the same
        return f"<{type(error).__name__}>"


def _dumps(value: object) -> str:
    # Values come from JSON; what is none of it (a file handle in a hand-made body) is told by its
    # type alone.
    return json.dumps(
        without_bodies(value),
        ensure_ascii=False,
        separators=(",", ":"),
        default=lambda odd: type(odd).__name__,
    )


def _integer(text: str) -> int | str:
    number = int(text)
    return number if number in _INTEGERS else text
