"""The user's own say in what leaves: a function that is given each captured text before it does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status

from agentpulse_exporter import names
from agentpulse_exporter.content import is_content
from agentpulse_exporter.dialects import shown_attributes
from agentpulse_exporter.span_copy import SpanCopy

Redact = Callable[[str], str]

_CAPTURED = frozenset({names.ARGUMENTS, names.RESULT})
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,63}")
"""Names of fields as programs have them. Others may be what somebody said."""
_NAMING = ("type", "role")
_WORDS = (
    *("user", "assistant", "system", "developer", "tool", "function"),
    *("text", "reasoning", "tool_call", "tool_call_response", "tool_use", "tool_result"),
    *("blob", "file", "uri", "server_tool_call", "server_tool_call_response", "object", "string"),
)
"""What message JSON says of itself: nobody said it, and a receiver must be able to read it."""
_ERROR_TEXT = f"{names.DATA_PREFIX}error"


class RedactionFailed(Exception):  # noqa: N818  # it says what happened
    """The function raised, or returned no text, so that what it was given must not leave."""


def redacted(
    span: ReadableSpan, attributes: Mapping[str, object], redact: Redact
) -> tuple[ReadableSpan, Mapping[str, object]]:
    """The span and its current attributes, every captured text being what `redact` makes of it.

    Captured are messages, instructions, tool definitions, arguments, results, the texts of errors,
    and the texts of other instrumentations that may be any of these. JSON is taken apart, so that
    `redact` gets what was said, without escapes. What the program told by hand stays.

    Raises:
        RedactionFailed: `redact` raised, or returned no text, or what it is to be given can't be
            read.
    """
    try:
        return _redacted(span, attributes, redact)
    except RedactionFailed:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, nothing leaves as it was
        raise RedactionFailed(type(error).__name__) from None


def _redacted(
    span: ReadableSpan, attributes: Mapping[str, object], redact: Redact
) -> tuple[ReadableSpan, Mapping[str, object]]:
    known = shown_attributes(span, attributes)
    changed = {
        name: _without(value, redact)
        if name not in known or name in _CAPTURED or is_content(name) or _is_error(name, attributes)
        else value
        for name, value in attributes.items()
    }
    status = span.status
    if status.description:
        status = Status(status.status_code, _asked(status.description, redact))
    return SpanCopy(span, span.attributes or {}, status), changed


def _is_error(name: str, attributes: Mapping[str, object]) -> bool:
    return name == _ERROR_TEXT and attributes.get(names.SPAN_KIND) == "error"


def _without(value: object, redact: Redact) -> object:
    if isinstance(value, str):
        if value.lstrip()[:1] in ("{", "["):
            try:
                return json.dumps(_inside(json.loads(value), redact), ensure_ascii=False)
            except (ValueError, RecursionError):
                pass
        return _asked(value, redact)
    if isinstance(value, (list, tuple)):
        items = cast("list[object]", value)
        return tuple(_without(item, redact) for item in items)
    return value


def _inside(value: object, redact: Redact) -> object:
    if isinstance(value, str):
        return _asked(value, redact)
    if isinstance(value, list):
        return [_inside(item, redact) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {
            name if _PLAIN.fullmatch(name) else _asked(name, redact): item
            if name in _NAMING and item in _WORDS
            else _inside(item, redact)
            for name, item in fields.items()
        }
    return value


def _asked(text: str, redact: Redact) -> str:
    try:
        told = cast("object", redact(text))
    except BaseException as error:  # noqa: BLE001  # none of it may end the thread that sends
        raise RedactionFailed(type(error).__name__) from None
    if not isinstance(told, str):
        raise RedactionFailed(type(told).__name__)
    return told
