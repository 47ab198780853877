"""Makes events of the ingest protocol from spans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter import _values as values
from agentpulse_exporter._dialects.normalize import is_ours, shown_attributes
from agentpulse_exporter._ledger.ledger import Ledger, Recent, Tree
from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.cost import USAGE, cost_of
from agentpulse_exporter._values import Attributes, count, label, plain, shielded, text, texts
from agentpulse_exporter._wire.copies import Redact, is_captured, sent_copy
from agentpulse_exporter._wire.event import Data, Event, Head, SentSpan, Totals, data_fields, event
from agentpulse_exporter._wire.messages import conversation
from agentpulse_exporter._wire.privacy import is_content
from agentpulse_exporter._wire.sessions import SESSION_KINDS, end_events, start_events

_logger = logging.getLogger("agentpulse.exporter")

MOST_SESSIONS = 10_000
"""Open sessions whose calls are summed up. Beyond that, the session without calls for the longest
time is forgotten."""
_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_EVENTS = {
    **{kind: kind for kind in ("sdk_init", "event", "metric", "alert", "heartbeat", "error")},
    "memory_report": "memory",
}
"""Event kinds by span kind, for spans that have the event's data as attributes."""
_SPAN_KINDS = {
    **dict.fromkeys(("invoke_agent", "create_agent"), "agent"),
    "execute_tool": "tool",
    "invoke_workflow": "workflow",
}
"""Span kinds of foreign spans by their operation, if the two differ."""
_CAPTURED = {
    **dict.fromkeys((semconv.TOOL_CALL_ARGUMENTS, semconv.ARGUMENTS), "args"),
    **dict.fromkeys((semconv.TOOL_CALL_RESULT, semconv.RESULT), "result"),
}
_IN_OTHER_FIELDS = frozenset({semconv.SPAN_KIND, semconv.ERROR_TYPE, semconv.CAPTURED, *_CAPTURED})
_KINDS = (*semconv.MODEL_OPERATIONS, *_EVENTS, *SESSION_KINDS)
"""Operations and span kinds that have events of their own, not only `span_end`."""


@dataclass(frozen=True, slots=True)
class Mapper:
    """Makes events from spans.

    Attributes:
        capture_messages: Whether content may leave the process.
        overrides: The user's own prices.
        unpriced: Is called with the model of each call that used tokens and has no known price.
        redact: Replaces each captured text.
        ledger: The calls that were priced already, so that each call is priced once.
        tree: The spans that aren't sent.
        sessions: The usage of each open session so far.
    """

    capture_messages: bool = False
    overrides: PriceOverrides | None = None
    unpriced: Callable[[str], object] = str
    redact: Redact | None = None
    ledger: Ledger = field(default_factory=Ledger)
    tree: Tree = field(default_factory=Tree)
    sessions: Recent[str, Totals] = field(default_factory=lambda: Recent(MOST_SESSIONS))

    def expect(self, spans: Iterable[ReadableSpan]) -> None:
        """Enters the spans' calls into the ledger; must precede `events` of these spans."""
        ended = (span for span in spans if span.end_time is not None)
        shielded("find calls that are recorded twice", lambda: self.ledger.enter(ended), None)

    def events(self, span: ReadableSpan) -> list[Event]:
        """The events of the span; the first event is the one that counts as the span.

        An open span gives the events of its start. The list is empty if the first event can't be
        made to fit. Parts of a span that can't be read are not sent.

        Raises:
            RedactionFailed: As for `sent_copy`.
        """
        captures, parent = self.capture_messages, self.tree.parent_of(span)
        moved = {} if parent is span.parent else {"parent": parent}
        copy = sent_copy(span, capture_messages=captures, redact=self.redact, **moved)
        # A dict, because lookups in a span's own attributes are slow, and there are many.
        sent = SentSpan(copy, dict(copy.attributes or {}), captures)
        parts = shielded("read all of a span", partial(self._parts, sent), None)
        parts = parts or [_outline(replace(sent, captures=False))]
        made = [event(head, data, spans=0 if at else 1) for at, (head, data) in enumerate(parts)]
        return [each for each in made if each is not None] if made[0] else []

    def _parts(self, span: SentSpan) -> list[tuple[Head, Data]]:
        attributes, span_kind = span.attributes, text(span.attributes, semconv.SPAN_KIND) or ""
        if span.span.end_time is None:
            return start_events(span)
        if span_kind in _EVENTS:
            data = {**data_fields(attributes), **_limits_mark(span)}
            return [(span.head(_EVENTS[span_kind]), data)]
        if span_kind in SESSION_KINDS:
            session = text(attributes, semconv.SESSION_ID) or ""
            return end_events(span, self.sessions.pop(session, Totals()).data())
        if not values.is_model_call(attributes) or self.ledger.is_repeat(span.span):
            return [(span.head("span_end"), self._span_end(span))]
        data = self._llm_call(span)
        made = [(span.head("llm_call"), data)]
        if "messages" in data and semconv.SESSION_ID in attributes:
            made.append((span.head("transcript"), {"messages": data["messages"]}))
        return made

    def _llm_call(self, span: SentSpan) -> Data:
        attributes, (started, ended) = span.attributes, span.times
        cost = shielded("price a call", lambda: cost_of(attributes, started, self.overrides), None)
        asked, provider = span.label(semconv.REQUEST_MODEL), span.label(semconv.PROVIDER_NAME)
        counts = {each: count(attributes, USAGE[each]) for each in _COUNTS}
        first_chunk = values.number(attributes, semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
        data: Data = {
            "name": span.name(),
            "operation": span.label(semconv.OPERATION_NAME),
            # Two spellings of one provider must be one row of a roll-up.
            "provider": provider and semconv.provider_name(provider),
            "model": span.label(semconv.RESPONSE_MODEL) or asked,
            "request_model": asked,
            "response_id": span.label(semconv.RESPONSE_ID),
            **counts,
            "reasoning_tokens": count(attributes, semconv.USAGE_REASONING_OUTPUT_TOKENS),
            "tokens": values.total([counts["input_tokens"], counts["output_tokens"]]),
            "cost_usd": cost and cost.total,
            "latency_ms": values.milliseconds(ended - started),
            "ttft_ms": None if first_chunk is None else values.milliseconds(first_chunk),
            "streaming": attributes.get(semconv.REQUEST_STREAM) is True,
            **span.outcome(),
            "finish_reasons": plain(texts(attributes, semconv.RESPONSE_FINISH_REASONS)),
            "started_at": values.timestamp(started),
            **span.carried(),
        }
        if cost is None and data["tokens"]:
            self.unpriced(str(data["model"] or "unknown"))
        elif cost is None and data["tokens"] is None and data["status"] == "success":
            _logger.debug("%r reported no usage: its tokens and cost are unknown", span.span.name)
        shielded("add a call to its session", partial(self._add_up, attributes, data), None)
        if semconv.RUN_NAME in attributes:
            data["run_name"] = span.label(semconv.RUN_NAME)
        if semconv.RUN_TAGS in attributes:
            data["tags"] = plain(texts(attributes, semconv.RUN_TAGS))
        if attributes.get(semconv.USAGE_ESTIMATED) is True:
            data["estimated"] = True
        if span.captures:
            messages = shielded("read messages", lambda: conversation(attributes), None)
            data |= {"messages": messages} if messages else {}
        return data

    def _add_up(self, attributes: Attributes, call: Data) -> None:
        """Adds a call to its session, and to the sessions around that session."""
        innermost = text(attributes, semconv.SESSION_ID)
        around = texts(attributes, semconv.SESSION_ANCESTORS) or []
        for session in dict.fromkeys((innermost, *around)) if innermost is not None else ():
            totals = self.sessions.get(session) or Totals()
            totals.add(call)
            self.sessions[session] = totals

    def _span_end(self, span: SentSpan) -> Data:
        attributes = span.attributes
        shown = attributes if span.captures else shown_attributes(span.span)
        operation = text(attributes, semconv.OPERATION_NAME)
        kind = text(attributes, semconv.SPAN_KIND) or _SPAN_KINDS.get(operation or "", operation)
        data: Data = {
            "name": span.name(),
            "span_kind": label(kind or "span"),
            **span.length(),
            **span.outcome(),
            **span.carried(),
            "attributes": {
                label(name): plain(value)
                for name, value in shown.items()
                if not span.carries(name)
                and name not in _IN_OTHER_FIELDS
                and (span.captures or not is_content(name))
            }
            | _limits_mark(span),
        }
        if span.captures or is_captured(span.span):
            given = {to: name for name, to in _CAPTURED.items() if name in attributes}
            data |= {to: _captured(name, attributes[name]) for to, name in given.items()}
        return data


def _outline(span: SentSpan) -> tuple[Head, Data]:
    """The fields that any span has."""
    data: Data = {"name": span.name(), "span_kind": "span"}
    if span.span.end_time is None:
        return span.head("span_start"), data | {"started_at": values.timestamp(span.times[0])}
    return span.head("span_end"), {**data, **span.length(), **span.outcome(), "attributes": {}}


def _captured(name: str, given: object) -> object:
    """A result or arguments; a tool's result without the object `{"result": …}` around it."""
    value = values.parsed(given)
    fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    # The conventions ask for that object.
    wrapped = name == semconv.TOOL_CALL_RESULT and [*fields] == ["result"]
    return fields["result"] if wrapped else cast("object", value)


def _limits_mark(span: SentSpan) -> Data:
    """The mark of a span that lost attributes to the SDK's limits."""
    return {"…": "…"} if span.span.dropped_attributes else {}


def is_cut_short(span: ReadableSpan) -> bool:
    """Whether the SDK's limits cut a call, session or event of ours beyond recognition.

    If a span has too many attributes, the SDK keeps the last; of a value that is too long, it keeps
    the start. Its defaults leave a call whole; a program or its environment may set lower limits.
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
