"""Copies of spans for sending; the spans that other processors get stay unchanged.

`sent_copy` removes bodies of files and images, adds the current names to attributes of other
instrumentations, and redacts each captured text if the program passes a function for that.
`PrivateExporter` sends copies to other backends, with no more content than AgentPulse itself gets.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import Attributes, AttributeValue

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes, shown_attributes
from agentpulse_exporter._values import CUT, clean, shielded
from agentpulse_exporter._wire.media import without_bodies
from agentpulse_exporter._wire.privacy import is_content, without_content

_logger = logging.getLogger("agentpulse.exporter")

Redact = Callable[[str], str]

_CAPTURED = frozenset({semconv.ARGUMENTS, semconv.RESULT})
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,63}")
"""Matches names of fields in programs. Any other name may be content."""
_NAMING = ("type", "role")
_WORDS = (
    *("user", "assistant", "system", "developer", "tool", "function"),
    *("text", "reasoning", "tool_call", "tool_call_response", "tool_use", "tool_result"),
    *("blob", "file", "uri", "server_tool_call", "server_tool_call_response", "object", "string"),
)
"""The words of message JSON itself. They aren't content, and a receiver needs them to read it."""
_ERROR_TEXT = f"{semconv.DATA_PREFIX}error"
_COPIED = (
    *("context", "parent", "resource", "attributes", "events", "links", "kind", "status"),
    *("start_time", "end_time", "instrumentation_scope"),
)


class SpanCopy(ReadableSpan):
    """A copy of a span with a few fields changed."""

    def __init__(self, span: ReadableSpan, **changed: Any) -> None:
        """`changed` are arguments of `ReadableSpan`."""
        copied = {name: getattr(span, name) for name in _COPIED if name not in changed}
        # Half a surrogate pair in a name would cost other exporters the whole batch.
        name = span.name.encode("utf-8", "replace").decode("utf-8")
        super().__init__(name, **copied, **changed)
        self._original = span

    # The original's containers count the attributes, events and links that the SDK's limits cut.
    @property
    def dropped_attributes(self) -> int:
        """How many attributes the SDK's limits cut."""
        return self._original.dropped_attributes

    @property
    def dropped_events(self) -> int:
        """How many events the SDK's limits cut."""
        return self._original.dropped_events

    @property
    def dropped_links(self) -> int:
        """How many links the SDK's limits cut."""
        return self._original.dropped_links


@dataclass(eq=False, repr=False)
class ForwardingExporter(SpanExporter):
    """Wraps another exporter, and passes all on to it but `export`, which is the subclass's.

    Args:
        inner: The exporter that gets the copies. Its results and timeouts are returned unchanged.
    """

    inner: SpanExporter

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Asks the inner exporter."""
        return self.inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the inner exporter down."""
        self.inner.shutdown()


def sent_copy(
    span: ReadableSpan, *, capture_messages: bool, redact: Redact | None, **changed: Any
) -> ReadableSpan:
    """The span as it is sent: bodies removed, foreign names translated, captured texts redacted.

    Captured texts are messages, instructions, tool definitions, arguments, results, the texts of
    errors, and all texts of other instrumentations that may be such content. JSON is parsed, so
    that `redact` gets the content without escapes. Attributes that a program set by hand stay.

    Args:
        span: The span. It stays as it is; a copy is made if anything changes.
        capture_messages: Whether messages of other instrumentations are read.
        redact: Is called with each captured text, if captured texts are sent.
        changed: Arguments of `ReadableSpan`.

    Raises:
        RedactionFailed: `redact` raised or didn't return a text, or a text can't be read.
    """
    changed |= _without_bodies_of(span)
    bare = SpanCopy(span, **changed) if changed else span
    current = current_attributes(bare, with_content=capture_messages)
    if current != bare.attributes:
        changed["attributes"] = current
    if redact is not None and (capture_messages or is_captured(span)):
        try:
            changed |= _redacted_fields(SpanCopy(span, **changed), redact)
        except Exception:  # noqa: BLE001  # nothing is sent that wasn't redacted
            raise RedactionFailed from None
    return SpanCopy(span, **changed) if changed else span


def is_captured(span: ReadableSpan) -> bool:
    """Whether the span's arguments and results are captured although messages aren't."""
    return (span.attributes or {}).get(semconv.CAPTURED) is True


def _without_bodies_of(span: ReadableSpan) -> dict[str, Any]:
    """The changed fields of the span: those whose texts had bodies of files and images."""
    status = span.status
    description = status.description and str(_without_bodies(status.description))
    if description != status.description:
        status = Status(status.status_code, description)
    attributes, events = _shown(span.attributes), span.events
    changed: dict[str, Any] = {} if attributes == span.attributes else {"attributes": attributes}
    shown = tuple(map(_event_without_bodies, events)) if events else events
    changed |= {} if shown == events else {"events": shown}
    return changed if status is span.status else changed | {"status": status}


def _event_without_bodies(event: Event) -> Event:
    shown = _shown(event.attributes)
    return event if shown == event.attributes else Event(event.name, shown, event.timestamp)


def _shown(attributes: Mapping[str, object] | None) -> Attributes:
    shown = {name: _without_bodies(value) for name, value in (attributes or {}).items()}
    return cast("Attributes", shown)


def _without_bodies(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        return value
    # A text that can't be searched is not sent.
    shown = shielded("look for files in a text", partial(without_bodies, value), CUT)
    if isinstance(shown, list):
        return tuple(_sendable(item) for item in cast("list[object]", shown))
    return _sendable(shown)


def _sendable(value: object) -> object:
    # Half a surrogate pair, which models write by mistake, would cost others the whole attribute.
    if isinstance(value, str) and not value.isascii():
        return clean(value, len(value))
    return value


class RedactionFailed(Exception):  # noqa: N818  # an event of its own, not an error of ours
    """The redacting function raised or didn't return a text; its argument must not be sent."""


def _redacted_fields(span: SpanCopy, redact: Redact) -> dict[str, Any]:
    attributes: Mapping[str, object] = span.attributes or {}
    known, is_error = shown_attributes(span), attributes.get(semconv.SPAN_KIND) == "error"
    captured = {*_CAPTURED, _ERROR_TEXT} if is_error else _CAPTURED
    texts = {
        name: _redacted(value, redact, is_text=True)
        for name, value in attributes.items()
        if name not in known or name in captured or is_content(name)
    }
    status = span.status
    if status.description:
        status = Status(status.status_code, _text(status.description, redact))
    return {"attributes": {**attributes, **texts}, "status": status}


def _redacted(value: object, redact: Redact, *, is_text: bool = False) -> object:
    """The value with its texts redacted. With `is_text`, a text may be JSON."""
    if isinstance(value, str):
        if is_text and value.lstrip()[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                return json.dumps(_redacted(json.loads(value), redact), ensure_ascii=False)
        return _text(value, redact)
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        return [_redacted(item, redact, is_text=is_text) for item in items]
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {
            name if _PLAIN.fullmatch(name) else _text(name, redact): item
            if name in _NAMING and item in _WORDS
            else _redacted(item, redact)
            for name, item in fields.items()
        }
    return value


def _text(text: str, redact: Redact) -> str:
    try:
        result = cast("object", redact(text))
    except BaseException:  # noqa: BLE001  # none of it may end the thread that sends
        raise RedactionFailed from None
    if not isinstance(result, str):
        raise RedactionFailed
    return result


@dataclass(eq=False, repr=False)
class PrivateExporter(ForwardingExporter):
    """Passes on copies of spans without content, or with redacted content if it is captured.

    Bodies of files and images are never passed on. Spans of other instrumentations get the current
    names of attributes in addition to their own names.

    Args:
        inner: The exporter that gets the copies. Its results and timeouts are returned unchanged.
        capture_messages: Whether messages, arguments, results and texts of errors are passed on.
        redact: As for `AgentPulseSpanExporter`; the span is dropped if it fails.
        on_drop: Is called with the reason for each dropped span, as in `Stats.dropped`.
    """

    capture_messages: bool = False
    redact: Redact | None = None
    on_drop: Callable[[str], object] = str

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports the copies."""
        copies = [copy for span in spans if (copy := self._copy_of(span)) is not None]
        return self.inner.export(copies) if copies else SpanExportResult.SUCCESS

    def _copy_of(self, span: ReadableSpan) -> ReadableSpan | None:
        try:
            return self._private(span)
        except Exception as error:  # noqa: BLE001  # a span that can't be read must not be shown
            _logger.debug("A span could not be read or redacted: %s", type(error).__name__)
            self.on_drop("redaction_failed" if isinstance(error, RedactionFailed) else "unmappable")
            return None

    def _private(self, span: ReadableSpan) -> ReadableSpan:
        captures = self.capture_messages
        copy = SpanCopy(sent_copy(span, capture_messages=captures, redact=self.redact))
        if captures and self.redact is None:
            return copy
        # Span events of other instrumentations may hold any content.
        logs = [event for event in copy.events if event.name == semconv.SESSION_LOG]
        if captures:
            return SpanCopy(copy, events=logs)
        resource = cast("dict[str, AttributeValue]", without_content(span.resource.attributes))
        return SpanCopy(
            copy,
            attributes=without_content(shown_attributes(copy)),
            events=logs,
            status=Status(span.status.status_code),
            links=[Link(link.context) for link in span.links],
            resource=Resource(resource, span.resource.schema_url),
        )
