"""The user's own say in what leaves: a function that is given each captured text before it does."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes, shown_attributes
from agentpulse_exporter._wire.privacy import is_content, without_content
from agentpulse_exporter._wire.span_copy import SpanCopy, without_bodies_of

Redact = Callable[[str], str]

_CAPTURED = frozenset({semconv.ARGUMENTS, semconv.RESULT})
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,63}")
"""Names of fields as programs have them. Others may be what somebody said."""
_NAMING = ("type", "role")
_WORDS = (
    *("user", "assistant", "system", "developer", "tool", "function"),
    *("text", "reasoning", "tool_call", "tool_call_response", "tool_use", "tool_result"),
    *("blob", "file", "uri", "server_tool_call", "server_tool_call_response", "object", "string"),
)
"""What message JSON says of itself: nobody said it, and a receiver must be able to read it."""
_ERROR_TEXT = f"{semconv.DATA_PREFIX}error"


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
    return name == _ERROR_TEXT and attributes.get(semconv.SPAN_KIND) == "error"


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


# Spans for another backend, with no more said in them than AgentPulse itself is told.

_logger = logging.getLogger("agentpulse.exporter")


class PrivateExporter(SpanExporter):
    """Passes copies of spans on that hold no content, or redacted content where it is captured.

    Bodies of files and images are never passed on.

    Spans of other instrumentations have the words of the current conventions beside their own.

    Args:
        inner: The exporter that gets them, whose results and timeouts are those of this one.
        capture_messages: Whether messages, arguments, results and texts of errors are passed on.
        redact: As that of `AgentPulseSpanExporter`; a span for which it fails is left out.
        on_drop: Is told the reason why a span is left out, in the words of `Stats.dropped`.
    """

    def __init__(
        self,
        inner: SpanExporter,
        *,
        capture_messages: bool = False,
        redact: Callable[[str], str] | None = None,
        on_drop: Callable[[str], object] = lambda _reason: None,
    ) -> None:
        self._inner = inner
        self._capture_messages = capture_messages
        self._redact = redact
        self._on_drop = on_drop

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports what may be seen of the spans."""
        seen = [each for span in spans if (each := self._seen(span)) is not None]
        return self._inner.export(seen) if seen else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Asks the inner exporter."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the inner exporter down."""
        self._inner.shutdown()

    def _seen(self, span: ReadableSpan) -> ReadableSpan | None:
        try:
            span = without_bodies_of(span)
            attributes = current_attributes(span, with_content=self._capture_messages)
            told = span
            if self._redact is not None:
                told, attributes = redacted(span, attributes, self._redact)
            if not self._capture_messages:
                known = without_content(shown_attributes(span, attributes))
                told = SpanCopy(span, known, Status(span.status.status_code)).with_own_events()
                return told.without_others_content()
            if self._redact is None:
                return SpanCopy(span, attributes)
            return SpanCopy(span, attributes, told.status).with_own_events()
        except RedactionFailed as error:
            _logger.debug("A text could not be redacted: %s", error)
            self._on_drop("redaction_failed")
        except Exception as error:  # noqa: BLE001  # a span that can't be read must not be shown
            _logger.debug("A span could not be read: %s", type(error).__name__)
            self._on_drop("unmappable")
        return None
