"""A span as an event of the ingest protocol. Pure: a span and settings in, an event out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes, is_ours, shown_attributes
from agentpulse_exporter._ledger.ledger import Ledger
from agentpulse_exporter._ledger.tree import Ancestry
from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.cost import MODEL_OPERATIONS, cost_of, is_model_call
from agentpulse_exporter._semconv import count, number, text, texts
from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.event import (
    Attributes,
    Data,
    Event,
    Head,
    carried,
    event,
    head,
    is_carried,
    label,
    milliseconds,
    outcome,
    parsed,
    spelt_out,
    times,
)
from agentpulse_exporter._wire.limits import MAX_LABEL, clean, plain, timestamp, total
from agentpulse_exporter._wire.messages import conversation
from agentpulse_exporter._wire.privacy import is_content
from agentpulse_exporter._wire.redaction import Redact, redacted
from agentpulse_exporter._wire.sessions import SESSION_KINDS, Sessions, end_events, start_events
from agentpulse_exporter._wire.span_copy import without_bodies_of

_logger = logging.getLogger("agentpulse.exporter")

SPELT_OUT = {
    "sdk_init": "sdk_init",
    "event": "event",
    "metric": "metric",
    "alert": "alert",
    "heartbeat": "heartbeat",
    "memory_report": "memory",
    "error": "error",
}
"""Event kinds by span kind, where the span's attributes spell out the event's data."""

_SPAN_KINDS = {
    "invoke_agent": "agent",
    "create_agent": "agent",
    "execute_tool": "tool",
    "invoke_workflow": "workflow",
}
"""What other people's spans are, by their operation, where that is no word for it itself."""

_CAPTURED = {
    semconv.TOOL_CALL_ARGUMENTS: "args",
    semconv.TOOL_CALL_RESULT: "result",
    semconv.ARGUMENTS: "args",
    semconv.RESULT: "result",
}
_TOLD_ELSEWHERE = frozenset({semconv.SPAN_KIND, semconv.ERROR_TYPE, semconv.CAPTURED, *_CAPTURED})


@dataclass(frozen=True, slots=True)
class Mapper:
    """Makes events of spans.

    Attributes:
        capture_messages: Whether what was said may leave the process.
        overrides: The user's own prices.
        unpriced: Is told the model of each call that used tokens and has no known price.
        sessions: What the calls of each open session took so far.
        ledger: Which calls were told of, so that each is priced once.
        redact: What makes of each captured text what is sent of it.
        ancestry: Which spans around others aren't told of.
    """

    capture_messages: bool = False
    overrides: PriceOverrides | None = None
    unpriced: Callable[[str], object] = str
    sessions: Sessions = field(default_factory=Sessions)
    ledger: Ledger = field(default_factory=Ledger)
    redact: Redact | None = None
    ancestry: Ancestry = field(default_factory=Ancestry)

    def expect(self, spans: Iterable[ReadableSpan]) -> None:
        """Looks for calls that several spans tell of, before the events of these are made."""
        told = ((span, current_attributes(span)) for span in spans if span.end_time is not None)
        calls = ((span, said) for span, said in told if is_model_call(said))
        shielded("tell repeated calls apart", lambda: self.ledger.enter(calls), None)

    def events(self, span: ReadableSpan) -> list[Event]:
        """The events that tell of the span, the one that stands for it first.

        A span that is still open tells of its start. Empty if nothing can be made to fit. What
        can't be read of a span is left out.

        Raises:
            RedactionFailed: as `redacted` does.
        """
        span = shielded("place a span", partial(self.ancestry.placed, span), span)
        span = without_bodies_of(span)
        attributes = current_attributes(span, with_content=self.capture_messages)
        if self.redact is not None and (self.capture_messages or _is_captured(span)):
            span, attributes = redacted(span, attributes, self.redact)
        told = shielded("read all of a span", partial(self._told, span, attributes), None)
        told = told or [_outline(span, attributes)]
        made = [event(head, data, spans=0 if at else 1) for at, (head, data) in enumerate(told)]
        return [each for each in made if each is not None] if made and made[0] else []

    def _told(self, span: ReadableSpan, attributes: Attributes) -> list[tuple[Head, Data]]:
        span_kind = text(attributes, semconv.SPAN_KIND) or ""
        kind = SPELT_OUT.get(span_kind)
        if span.end_time is None:
            return start_events(span, attributes)
        if kind is not None:
            told = {**spelt_out(attributes), **_left_out(span)}
            return [(head(kind, span, attributes), told)]
        if span_kind in SESSION_KINDS:
            totals = self.sessions.take(attributes)
            return end_events(span, attributes, totals, capture_messages=self.capture_messages)
        if is_model_call(attributes) and not self.ledger.is_repeat(span):
            return self._model_call(span, attributes)
        return [(head("span_end", span, attributes), self._span_end(span, attributes))]

    def _model_call(self, span: ReadableSpan, attributes: Attributes) -> list[tuple[Head, Data]]:
        data = self._llm_call(span, attributes)
        told = [(head("llm_call", span, attributes), data)]
        if "messages" in data and semconv.SESSION_ID in attributes:
            told.append((head("transcript", span, attributes), {"messages": data["messages"]}))
        return told

    def _llm_call(self, span: ReadableSpan, attributes: Attributes) -> Data:
        started, ended = times(span)
        cost = shielded("price a call", lambda: cost_of(attributes, started, self.overrides), None)
        asked = text(attributes, semconv.REQUEST_MODEL)
        model = text(attributes, semconv.RESPONSE_MODEL) or asked
        used_in = count(attributes, semconv.USAGE_INPUT_TOKENS)
        used_out = count(attributes, semconv.USAGE_OUTPUT_TOKENS)
        tokens = total([used_in, used_out])
        if cost is None and tokens:
            self.unpriced(model or "unknown")
        usd = cost and cost.total
        shielded(
            "add a call to its session",
            lambda: self.sessions.add(attributes, used_in, used_out, usd),
            None,
        )
        first_chunk = number(attributes, semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
        result = outcome(span, attributes, capture_messages=self.capture_messages)
        if tokens is None and cost is None and result["status"] == "success":
            _logger.debug("%r reported no usage: its tokens and cost are unknown", span.name)
        data: Data = {
            "name": clean(span.name, MAX_LABEL),
            "operation": label(attributes, semconv.OPERATION_NAME),
            "provider": label(attributes, semconv.PROVIDER_NAME),
            "model": model and clean(model, MAX_LABEL),
            "request_model": asked and clean(asked, MAX_LABEL),
            "response_id": label(attributes, semconv.RESPONSE_ID),
            "input_tokens": used_in,
            "output_tokens": used_out,
            "cache_read_tokens": count(attributes, semconv.USAGE_CACHE_READ_INPUT_TOKENS),
            "cache_write_tokens": count(attributes, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS),
            "reasoning_tokens": count(attributes, semconv.USAGE_REASONING_OUTPUT_TOKENS),
            "tokens": tokens,
            "cost_usd": usd,
            "latency_ms": milliseconds(ended - started),
            "ttft_ms": None if first_chunk is None else milliseconds(first_chunk),
            "streaming": attributes.get(semconv.REQUEST_STREAM) is True,
            **result,
            "finish_reasons": plain(texts(attributes, semconv.RESPONSE_FINISH_REASONS)),
            "started_at": timestamp(started),
        }
        data |= shielded("read the session of a call", lambda: carried(attributes), {})
        if semconv.RUN_NAME in attributes:
            data["run_name"] = label(attributes, semconv.RUN_NAME)
        if semconv.RUN_TAGS in attributes:
            data["tags"] = plain(texts(attributes, semconv.RUN_TAGS))
        if attributes.get(semconv.USAGE_ESTIMATED) is True:
            data["estimated"] = True
        messages: list[dict[str, str]] = []
        if self.capture_messages:
            messages = shielded("read messages", lambda: conversation(attributes), messages)
        if messages:
            data["messages"] = messages
        return data

    def _span_end(self, span: ReadableSpan, attributes: Attributes) -> Data:
        started, ended = times(span)
        shown = attributes if self.capture_messages else shown_attributes(span, attributes)
        operation = text(attributes, semconv.OPERATION_NAME)
        kind = text(attributes, semconv.SPAN_KIND) or _SPAN_KINDS.get(operation or "", operation)
        data: Data = {
            "name": clean(span.name, MAX_LABEL),
            "span_kind": clean(kind or "span", MAX_LABEL),
            "started_at": timestamp(started),
            "duration_ms": milliseconds(ended - started),
            **outcome(span, attributes, capture_messages=self.capture_messages),
            **carried(attributes),
            "attributes": {
                clean(name, MAX_LABEL): plain(value)
                for name, value in shown.items()
                if not is_carried(name)
                and name not in _TOLD_ELSEWHERE
                and (self.capture_messages or not is_content(name))
            }
            | _left_out(span),
        }
        if self.capture_messages or _is_captured(span):
            data.update(
                (field, _unwrapped(name, parsed(attributes[name])))
                for name, field in _CAPTURED.items()
                if name in attributes
            )
        return data


def _outline(span: ReadableSpan, attributes: Attributes) -> tuple[Head, Data]:
    """What can be said of any span."""
    kind = "span_end" if span.end_time is not None else "span_start"
    started, ended = times(span)
    data: Data = {"name": clean(span.name, MAX_LABEL), "span_kind": "span"}
    data["started_at"] = timestamp(started)
    if span.end_time is not None:
        data["duration_ms"] = milliseconds(ended - started)
        data |= {**outcome(span, attributes, capture_messages=False), "attributes": {}}
    return head(kind, span, attributes), data


def _unwrapped(name: str, value: object) -> object:
    """What a tool gave, without the object that the conventions ask for around it."""
    if name != semconv.TOOL_CALL_RESULT:
        return value
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    return fields["result"] if [*fields] == ["result"] else cast("object", value)


def _left_out(span: ReadableSpan) -> Data:
    """The mark that there was more than the SDK's limits left."""
    return {"…": "…"} if span.dropped_attributes else {}


def _is_captured(span: ReadableSpan) -> bool:
    """Whether its arguments and results are captured though messages are not."""
    return (span.attributes or {}).get(semconv.CAPTURED) is True


# Spans of ours of which the SDK's limits left too little to say what they tell of.
#
# Of too many attributes the SDK keeps the last, and of too long a value the start. By its defaults
# that leaves all of a call; a program, or its environment, may want less.

_WORDS = (*MODEL_OPERATIONS, *SPELT_OUT, *SESSION_KINDS)
"""Operations and span kinds by which a span becomes more than the end of some span."""


def is_cut_short(span: ReadableSpan) -> bool:
    """Whether it may be a call, a session or an event, and can't be told as one."""
    if not is_ours(span):
        return False
    attributes: Mapping[str, object] = span.attributes or {}
    told = attributes.get(semconv.SPAN_KIND, attributes.get(semconv.OPERATION_NAME))
    if told is None:
        return span.dropped_attributes > 0
    if told in SESSION_KINDS:
        return semconv.SESSION_ID not in attributes
    word = str(told)
    return word not in _WORDS and any(each.startswith(word) for each in _WORDS)
