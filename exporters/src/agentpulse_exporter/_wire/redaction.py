"""Redaction: a function of the user's is given each captured text before it is sent.

`PrivateExporter` sends spans to other backends with no more content than AgentPulse itself gets.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import AttributeValue

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes, shown_attributes
from agentpulse_exporter._wire.privacy import is_content, without_content
from agentpulse_exporter._wire.span_copy import ForwardingExporter, SpanCopy, without_bodies_of

_logger = logging.getLogger("agentpulse.exporter")

Redact = Callable[[str], str]

_CAPTURED = frozenset({semconv.ARGUMENTS, semconv.RESULT})
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,63}")
"""Names of fields as programs have them. Others may be content."""
_NAMING = ("type", "role")
_WORDS = (
    *("user", "assistant", "system", "developer", "tool", "function"),
    *("text", "reasoning", "tool_call", "tool_call_response", "tool_use", "tool_result"),
    *("blob", "file", "uri", "server_tool_call", "server_tool_call_response", "object", "string"),
)
"""The words of message JSON itself: they are no content, and a receiver must be able to read it."""
_ERROR_TEXT = f"{semconv.DATA_PREFIX}error"


class RedactionFailed(Exception):  # noqa: N818  # an event of its own, not an error of ours
    """The function raised, or returned no text, so that its argument must not be sent."""


def redacted(
    span: ReadableSpan, attributes: Mapping[str, object], redact: Redact
) -> tuple[ReadableSpan, Mapping[str, object]]:
    """The span and its current attributes, every captured text replaced by `redact`'s result.

    Captured are messages, instructions, tool definitions, arguments, results, the texts of errors,
    and the texts of other instrumentations that may be any of these. JSON is taken apart, so that
    `redact` gets the content without escapes. Attributes that a program set by hand stay.

    Raises:
        RedactionFailed: `redact` raised, or returned no text, or a text can't be read.
    """
    try:
        known = shown_attributes(span, attributes)
        is_error = attributes.get(semconv.SPAN_KIND) == "error"
        changed = {
            name: _redacted(value, redact)
            if name not in known
            or name in _CAPTURED
            or is_content(name)
            or (is_error and name == _ERROR_TEXT)
            else value
            for name, value in attributes.items()
        }
        status = span.status
        if status.description:
            status = Status(status.status_code, _text(status.description, redact))
        return SpanCopy(span, status=status), changed
    except RedactionFailed:
        raise
    except Exception as error:  # noqa: BLE001  # nothing is sent that wasn't redacted
        raise RedactionFailed(type(error).__name__) from None


def _redacted(value: object, redact: Redact) -> object:
    if isinstance(value, str):
        if value.lstrip()[:1] in ("{", "["):
            try:
                return json.dumps(_inside(json.loads(value), redact), ensure_ascii=False)
            except (ValueError, RecursionError):
                pass
        return _text(value, redact)
    if isinstance(value, (list, tuple)):
        return tuple(_redacted(item, redact) for item in cast("list[object]", value))
    return value


def _inside(value: object, redact: Redact) -> object:
    if isinstance(value, str):
        return _text(value, redact)
    if isinstance(value, list):
        return [_inside(item, redact) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {
            name if _PLAIN.fullmatch(name) else _text(name, redact): item
            if name in _NAMING and item in _WORDS
            else _inside(item, redact)
            for name, item in fields.items()
        }
    return value


def _text(text: str, redact: Redact) -> str:
    try:
        result = cast("object", redact(text))
    except BaseException as error:  # noqa: BLE001  # none of it may end the thread that sends
        raise RedactionFailed(type(error).__name__) from None
    if not isinstance(result, str):
        raise RedactionFailed(type(result).__name__)
    return result


class PrivateExporter(ForwardingExporter):
    """Passes copies of spans on that hold no content, or redacted content where it is captured.

    Bodies of files and images are never passed on. Spans of other instrumentations have the current
    names of attributes beside their own.

    Args:
        inner: The exporter that gets them, whose results and timeouts are those of this one.
        capture_messages: Whether messages, arguments, results and texts of errors are passed on.
        redact: As that of `AgentPulseSpanExporter`; a span for which it fails is dropped.
        on_drop: Is given the reason for which a span is dropped, as in `Stats.dropped`.
    """

    def __init__(
        self,
        inner: SpanExporter,
        *,
        capture_messages: bool = False,
        redact: Redact | None = None,
        on_drop: Callable[[str], object] = lambda _reason: None,
    ) -> None:
        super().__init__(inner)
        self._capture_messages = capture_messages
        self._redact = redact
        self._on_drop = on_drop

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports the copies."""
        copies = [copy for span in spans if (copy := self._copy_of(span)) is not None]
        return self._inner.export(copies) if copies else SpanExportResult.SUCCESS

    def _copy_of(self, span: ReadableSpan) -> ReadableSpan | None:
        try:
            return self._private(without_bodies_of(span))
        except RedactionFailed as error:
            _logger.debug("A text could not be redacted: %s", error)
            self._on_drop("redaction_failed")
        except Exception as error:  # noqa: BLE001  # a span that can't be read must not be shown
            _logger.debug("A span could not be read: %s", type(error).__name__)
            self._on_drop("unmappable")
        return None

    def _private(self, span: ReadableSpan) -> ReadableSpan:
        attributes = current_attributes(span, with_content=self._capture_messages)
        status = span.status
        if self._redact is not None:
            copy, attributes = redacted(span, attributes, self._redact)
            status = copy.status
        elif self._capture_messages:
            return SpanCopy(span, attributes=attributes)
        # Events of others may hold any content.
        changed: dict[str, Any] = {
            "events": [event for event in span.events if event.name == semconv.SESSION_LOG]
        }
        if self._capture_messages:
            return SpanCopy(span, attributes=attributes, status=status, **changed)
        resource = cast("dict[str, AttributeValue]", without_content(span.resource.attributes))
        return SpanCopy(
            span,
            attributes=without_content(shown_attributes(span, attributes)),
            status=Status(span.status.status_code),
            links=[Link(link.context) for link in span.links],
            resource=Resource(resource, span.resource.schema_url),
            **changed,
        )
