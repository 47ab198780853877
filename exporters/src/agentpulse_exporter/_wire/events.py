"""A span as an event of the ingest protocol. Pure: a span and settings in, an event out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.normalize import current_attributes, is_ours, shown_attributes
from agentpulse_exporter._ledger.ledger import Ledger
from agentpulse_exporter._ledger.tree import Tree
from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.cost import cost_of
from agentpulse_exporter._semconv import (
    MODEL_OPERATIONS,
    Attributes,
    count,
    is_model_call,
    number,
    provider_name,
    text,
    texts,
)
from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.event import (
    Data,
    Event,
    Head,
    carried,
    data_fields,
    event,
    head,
    is_carried,
    label,
    length,
    milliseconds,
    outcome,
    parsed,
    times,
)
from agentpulse_exporter._wire.json import MAX_LABEL, clean, plain, timestamp, total
from agentpulse_exporter._wire.messages import conversation
from agentpulse_exporter._wire.privacy import is_content
from agentpulse_exporter._wire.redaction import Redact, redacted
from agentpulse_exporter._wire.sessions import SESSION_KINDS, Sessions, end_events, start_events
from agentpulse_exporter._wire.span_copy import without_bodies_of

_logger = logging.getLogger("agentpulse.exporter")

_EVENTS = {
    **{kind: kind for kind in ("sdk_init", "event", "metric", "alert", "heartbeat", "error")},
    "memory_report": "memory",
}
"""Event kinds by span kind, where the span has the event's data as attributes."""
_SPAN_KINDS = {
    "invoke_agent": "agent",
    "create_agent": "agent",
    "execute_tool": "tool",
    "invoke_workflow": "workflow",
}
"""Span kinds of foreign spans by their operation, where the two differ."""
_CAPTURED = {
    semconv.TOOL_CALL_ARGUMENTS: "args",
    semconv.TOOL_CALL_RESULT: "result",
    semconv.ARGUMENTS: "args",
    semconv.RESULT: "result",
}
_IN_OTHER_FIELDS = frozenset({semconv.SPAN_KIND, semconv.ERROR_TYPE, semconv.CAPTURED, *_CAPTURED})
_KINDS = (*MODEL_OPERATIONS, *_EVENTS, *SESSION_KINDS)
"""Operations and span kinds whose events are more than the end of some span."""


@dataclass(frozen=True, slots=True)
class Mapper:
    """Makes events of spans.

    Attributes:
        capture_messages: Whether content may leave the process.
        overrides: The user's own prices.
        unpriced: Is given the model of each call that used tokens and has no known price.
        sessions: The usage of each open session so far.
        ledger: The calls that are priced already, so that each is priced once.
        redact: Replaces each captured text.
        tree: The spans that aren't sent.
    """

    capture_messages: bool = False
    overrides: PriceOverrides | None = None
    unpriced: Callable[[str], object] = str
    sessions: Sessions = field(default_factory=Sessions)
    ledger: Ledger = field(default_factory=Ledger)
    redact: Redact | None = None
    tree: Tree = field(default_factory=Tree)

    def expect(self, spans: Iterable[ReadableSpan]) -> None:
        """Finds calls that several spans record, before the events of these are made."""
        ended = (span for span in spans if span.end_time is not None)
        shielded("find calls that are recorded twice", lambda: self.ledger.enter(ended), None)

    def events(self, span: ReadableSpan) -> list[Event]:
        """The events of the span, the one that stands for it first.

        Those of its start, if it is still open. Empty if nothing can be made to fit. Parts of a
        span that can't be read are not sent.

        Raises:
            RedactionFailed: as `redacted` does.
        """
        span = shielded("find the parent of a span", partial(self.tree.placed, span), span)
        span = without_bodies_of(span)
        attributes = current_attributes(span, with_content=self.capture_messages)
        if self.redact is not None and (self.capture_messages or _is_captured(span)):
            span, attributes = redacted(span, attributes, self.redact)
        parts = shielded("read all of a span", partial(self._parts, span, attributes), None)
        parts = parts or [_outline(span, attributes)]
        made = [event(head, data, spans=0 if at else 1) for at, (head, data) in enumerate(parts)]
        return [each for each in made if each is not None] if made[0] else []

    def _parts(self, span: ReadableSpan, attributes: Attributes) -> list[tuple[Head, Data]]:
        span_kind = text(attributes, semconv.SPAN_KIND) or ""
        if span.end_time is None:
            return start_events(span, attributes)
        if span_kind in _EVENTS:
            data = {**data_fields(attributes), **_limits_mark(span)}
            return [(head(_EVENTS[span_kind], span, attributes), data)]
        if span_kind in SESSION_KINDS:
            totals = self.sessions.take(attributes)
            return end_events(span, attributes, totals, capture_messages=self.capture_messages)
        if not is_model_call(attributes) or self.ledger.is_repeat(span):
            return [(head("span_end", span, attributes), self._span_end(span, attributes))]
        data = self._llm_call(span, attributes)
        made = [(head("llm_call", span, attributes), data)]
        if "messages" in data and semconv.SESSION_ID in attributes:
            made.append((head("transcript", span, attributes), {"messages": data["messages"]}))
        return made

    def _llm_call(self, span: ReadableSpan, attributes: Attributes) -> Data:
        started, ended = times(span)
        cost = shielded("price a call", lambda: cost_of(attributes, started, self.overrides), None)
        usd = cost and cost.total
        asked = label(attributes, semconv.REQUEST_MODEL)
        model = label(attributes, semconv.RESPONSE_MODEL) or asked
        provider = label(attributes, semconv.PROVIDER_NAME)
        used_in = count(attributes, semconv.USAGE_INPUT_TOKENS)
        used_out = count(attributes, semconv.USAGE_OUTPUT_TOKENS)
        tokens = total([used_in, used_out])
        if cost is None and tokens:
            self.unpriced(model or "unknown")
        add = partial(self.sessions.add, attributes, used_in, used_out, usd)
        shielded("add a call to its session", add, None)
        first_chunk = number(attributes, semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
        result = outcome(span, attributes, capture_messages=self.capture_messages)
        if tokens is None and cost is None and result["status"] == "success":
            _logger.debug("%r reported no usage: its tokens and cost are unknown", span.name)
        data: Data = {
            "name": clean(span.name, MAX_LABEL),
            "operation": label(attributes, semconv.OPERATION_NAME),
            # Two spellings of one provider are one row of a roll-up.
            "provider": provider and provider_name(provider),
            "model": model,
            "request_model": asked,
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
        if self.capture_messages:
            messages = shielded("read messages", lambda: conversation(attributes), None)
            data |= {"messages": messages} if messages else {}
        return data

    def _span_end(self, span: ReadableSpan, attributes: Attributes) -> Data:
        shown = attributes if self.capture_messages else shown_attributes(span, attributes)
        operation = text(attributes, semconv.OPERATION_NAME)
        kind = text(attributes, semconv.SPAN_KIND) or _SPAN_KINDS.get(operation or "", operation)
        data: Data = {
            "name": clean(span.name, MAX_LABEL),
            "span_kind": clean(kind or "span", MAX_LABEL),
            **length(span),
            **outcome(span, attributes, capture_messages=self.capture_messages),
            **carried(attributes),
            "attributes": {
                clean(name, MAX_LABEL): plain(value)
                for name, value in shown.items()
                if not is_carried(name)
                and name not in _IN_OTHER_FIELDS
                and (self.capture_messages or not is_content(name))
            }
            | _limits_mark(span),
        }
        if self.capture_messages or _is_captured(span):
            data.update(
                (field, _unwrapped(name, parsed(attributes[name])))
                for name, field in _CAPTURED.items()
                if name in attributes
            )
        return data


def _outline(span: ReadableSpan, attributes: Attributes) -> tuple[Head, Data]:
    """The fields that any span has."""
    data: Data = {"name": clean(span.name, MAX_LABEL), "span_kind": "span", **length(span)}
    if span.end_time is None:
        del data["duration_ms"]
        return head("span_start", span, attributes), data
    data |= {**outcome(span, attributes, capture_messages=False), "attributes": {}}
    return head("span_end", span, attributes), data


def _unwrapped(name: str, value: object) -> object:
    """The result of a tool, without the object that the conventions ask for around it."""
    if name != semconv.TOOL_CALL_RESULT:
        return value
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    return fields["result"] if [*fields] == ["result"] else cast("object", value)


def _limits_mark(span: ReadableSpan) -> Data:
    """The mark of a span of which the SDK's limits cut attributes."""
    return {"…": "…"} if span.dropped_attributes else {}


def _is_captured(span: ReadableSpan) -> bool:
    """Whether its arguments and results are captured though messages are not."""
    return (span.attributes or {}).get(semconv.CAPTURED) is True


def is_cut_short(span: ReadableSpan) -> bool:
    """Whether it may be a call, a session or an event of ours that can't be recognised any more.

    Of too many attributes the SDK keeps the last, and of too long a value the start. By its
    defaults that leaves all of a call; a program, or its environment, may want less.
    """
    if not is_ours(span):
        return False
    attributes: Attributes = span.attributes or {}
    kind = attributes.get(semconv.SPAN_KIND, attributes.get(semconv.OPERATION_NAME))
    if kind is None:
        return span.dropped_attributes > 0
    if kind in SESSION_KINDS:
        return semconv.SESSION_ID not in attributes
    start = str(kind)
    return start not in _KINDS and any(each.startswith(start) for each in _KINDS)
