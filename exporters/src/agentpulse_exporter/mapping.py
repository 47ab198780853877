"""A span as an event of the ingest protocol. Pure: a span and settings in, an event out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from agentpulse_exporter import names
from agentpulse_exporter.content import is_content
from agentpulse_exporter.cost import cost_of, is_model_call
from agentpulse_exporter.dialects import current_attributes
from agentpulse_exporter.events import Event, Head, event
from agentpulse_exporter.limits import MAX_LABEL, clean, plain, session_key, timestamp
from agentpulse_exporter.messages import conversation
from agentpulse_exporter.pricing import PriceOverrides
from agentpulse_exporter.reading import count, number, text, texts

_logger = logging.getLogger("agentpulse.exporter")

Attributes = Mapping[str, object]
Data = dict[str, object]

SPELT_OUT = {"sdk_init": "sdk_init"}
"""Event kinds by span kind, where `agentpulse.data.*` attributes spell out the event's data."""

_SPAN_KINDS = {
    "invoke_agent": "agent",
    "create_agent": "agent",
    "execute_tool": "tool",
    "invoke_workflow": "workflow",
}
"""What other people's spans are, by their operation, where that is no word for it itself."""

_TOLD_ELSEWHERE = frozenset(
    {
        names.SPAN_KIND,
        names.SESSION_ID,
        names.ERROR_TYPE,
        names.TOOL_CALL_ARGUMENTS,
        names.TOOL_CALL_RESULT,
    }
)


@dataclass(frozen=True, slots=True)
class Mapper:
    """Makes events of spans.

    Attributes:
        capture_messages: Whether what was said may leave the process.
        overrides: The user's own prices.
        unpriced: Is told the model of each call that used tokens and has no known price.
    """

    capture_messages: bool = False
    overrides: PriceOverrides | None = None
    unpriced: Callable[[str], object] = str

    def event(self, span: ReadableSpan) -> Event | None:
        """The event that tells of the span; None if it can't be made to fit."""
        attributes = current_attributes(span)
        spelt_out = SPELT_OUT.get(text(attributes, names.SPAN_KIND) or "")
        if spelt_out is not None:
            kind, tell = spelt_out, _spelt_out
        elif is_model_call(attributes):
            kind, tell = "llm_call", partial(self._llm_call, span)
        else:
            kind, tell = "span_end", partial(self._span_end, span)
        return event(_head(kind, span, attributes), tell(attributes))

    def _llm_call(self, span: ReadableSpan, attributes: Attributes) -> Data:
        started, ended = _times(span)
        cost = cost_of(attributes, started, self.overrides)
        asked = text(attributes, names.REQUEST_MODEL)
        model = text(attributes, names.RESPONSE_MODEL) or asked
        used_in = count(attributes, names.USAGE_INPUT_TOKENS)
        used_out = count(attributes, names.USAGE_OUTPUT_TOKENS)
        tokens = None if used_in is None and used_out is None else (used_in or 0) + (used_out or 0)
        if cost is None and tokens:
            self.unpriced(model or "unknown")
        first_chunk = number(attributes, names.RESPONSE_TIME_TO_FIRST_CHUNK)
        outcome = self._outcome(span, attributes)
        if tokens is None and cost is None and outcome["status"] == "success":
            _logger.debug("%r reported no usage: its tokens and cost are unknown", span.name)
        data: Data = {
            "name": clean(span.name, MAX_LABEL),
            "operation": _label(attributes, names.OPERATION_NAME),
            "provider": _label(attributes, names.PROVIDER_NAME),
            "model": model and clean(model, MAX_LABEL),
            "request_model": asked and clean(asked, MAX_LABEL),
            "response_id": _label(attributes, names.RESPONSE_ID),
            "input_tokens": used_in,
            "output_tokens": used_out,
            "cache_read_tokens": count(attributes, names.USAGE_CACHE_READ_INPUT_TOKENS),
            "cache_write_tokens": count(attributes, names.USAGE_CACHE_WRITE_INPUT_TOKENS),
            "reasoning_tokens": count(attributes, names.USAGE_REASONING_OUTPUT_TOKENS),
            "tokens": tokens,
            "cost_usd": cost and cost.total,
            "latency_ms": _milliseconds(ended - started),
            "ttft_ms": None if first_chunk is None else _milliseconds(first_chunk),
            "streaming": attributes.get(names.REQUEST_STREAM) is True,
            **outcome,
            "finish_reasons": plain(texts(attributes, names.RESPONSE_FINISH_REASONS)),
            "started_at": timestamp(started),
        }
        if attributes.get(names.USAGE_ESTIMATED) is True:
            data["estimated"] = True
        messages = conversation(attributes) if self.capture_messages else []
        if messages:
            data["messages"] = messages
        return data

    def _span_end(self, span: ReadableSpan, attributes: Attributes) -> Data:
        started, ended = _times(span)
        operation = text(attributes, names.OPERATION_NAME)
        kind = text(attributes, names.SPAN_KIND) or _SPAN_KINDS.get(operation or "", operation)
        data: Data = {
            "name": clean(span.name, MAX_LABEL),
            "span_kind": clean(kind or "span", MAX_LABEL),
            "started_at": timestamp(started),
            "duration_ms": _milliseconds(ended - started),
            **self._outcome(span, attributes),
            "attributes": {
                clean(name, MAX_LABEL): plain(value)
                for name, value in attributes.items()
                if name not in _TOLD_ELSEWHERE and (self.capture_messages or not is_content(name))
            },
        }
        if self.capture_messages:
            captured = (("args", names.TOOL_CALL_ARGUMENTS), ("result", names.TOOL_CALL_RESULT))
            data.update((f, plain(attributes[name])) for f, name in captured if name in attributes)
        return data

    def _outcome(self, span: ReadableSpan, attributes: Attributes) -> Data:
        error_type = _label(attributes, names.ERROR_TYPE)
        failed = span.status.status_code is StatusCode.ERROR or error_type is not None
        outcome: Data = {"status": "error" if failed else "success", "error_type": error_type}
        # APIs and exceptions echo what was said to them, so an error's text is content.
        if self.capture_messages and failed and span.status.description:
            outcome["error"] = clean(span.status.description)
        return outcome


def _spelt_out(attributes: Attributes) -> Data:
    start = len(names.DATA_PREFIX)
    return {
        clean(name[start:], MAX_LABEL): plain(value)
        for name, value in attributes.items()
        if name.startswith(names.DATA_PREFIX)
    }


def _head(kind: str, span: ReadableSpan, attributes: Attributes) -> Head:
    context, session = span.context, text(attributes, names.SESSION_ID)
    span_id = format_span_id(context.span_id) if context is not None else "0" * 16
    return Head(
        kind=kind,
        ts=timestamp(_times(span)[1]),
        # A span's id alone repeats in programs that seed `random`, which is where the SDK takes it
        # from.
        id=f"{span_id}-{span.start_time or 0:x}-{kind}",
        trace_id=None if context is None else format_trace_id(context.trace_id),
        span_id=None if context is None else span_id,
        parent_span_id=None if span.parent is None else format_span_id(span.parent.span_id),
        session=session and session_key(session),
    )


def _times(span: ReadableSpan) -> tuple[float, float]:
    """When the span started and ended, in seconds since 1970."""
    started = (span.start_time or 0) / 1e9
    return started, started if span.end_time is None else span.end_time / 1e9


def _milliseconds(seconds: float) -> float:
    # A clock that was set back while the span was open makes no negative time.
    return round(max(seconds, 0.0) * 1000, 3)


def _label(attributes: Attributes, name: str) -> str | None:
    value = text(attributes, name)
    return value and clean(value, MAX_LABEL)
