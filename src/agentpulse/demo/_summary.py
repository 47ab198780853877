"""The recording of a run as text: a tree of spans, totals, and what differs from the bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentpulse._output import precise_dollars
from agentpulse.demo.provider import Charge, Request

Event = Mapping[str, Any]


def spans_of(events: Iterable[Event]) -> list[Event]:
    """The events of a whole span, in the order in which the spans began."""
    return sorted(
        filter(_is_span, events), key=lambda event: event["data"].get("started_at", event["ts"])
    )


def _is_span(event: Event) -> bool:
    if event["kind"] == "session":
        # A cron run is a session too, and its own event has more of it.
        return event["data"]["action"] == "end" and event["data"]["type"] == "session"
    return event["kind"] in ("cron", "llm_call", "span_end", "alert")


def differences(
    events: Iterable[Event], requests: Iterable[Request], bill: Iterable[Charge]
) -> list[str]:
    """The differences between server and provider, a sentence each."""
    calls, made = _calls(events), sum(1 for _ in requests)
    found = [] if len(calls) == made else [f"{made} calls were made, {len(calls)} were accepted."]
    billed = Counter[tuple[Any, ...]](
        (charge.model, charge.input_tokens, charge.output_tokens, charge.cached_tokens)
        for charge in bill
    )
    figures = ("input_tokens", "output_tokens", "cache_read_tokens")
    recorded = Counter[tuple[Any, ...]](
        (data["model"], *(data.get(name) or 0 for name in figures))
        for data in calls
        if data["status"] == "success"
    )
    found += [f"Billed, but not recorded so: {call}." for call in (billed - recorded).elements()]
    found += [f"Recorded, but not billed so: {call}." for call in (recorded - billed).elements()]
    unpriced = [data["model"] for data in calls if data["tokens"] and not data["cost_usd"]]
    return found + [f"No price is known of {model}." for model in unpriced]


def _calls(events: Iterable[Event]) -> list[Event]:
    return [event["data"] for event in events if event["kind"] == "llm_call"]


def lines(events: Iterable[Event]) -> Iterator[str]:
    """The tree of spans, and the totals of the calls by model."""
    yield _SPAN.format("span", "in", "out", "cost", "time")
    depths: dict[str | None, int] = {}
    for event in spans_of(events):
        depth = depths[event["span_id"]] = depths.get(event.get("parent_span_id"), -1) + 1
        yield _line(event, "  " * depth)
    yield ""
    yield _TOTAL.format("model", "calls", "errors", "input", "cached", "output", "cost")
    calls = _calls(events)
    for model in sorted({call["model"] for call in calls}):
        yield _total(model, [call for call in calls if call["model"] == model])
    yield _total("all", calls)


_SPAN = "{:42.42} {:>7} {:>7} {:>10} {:>9}"
_TOTAL = "{:27} {:>6} {:>7} {:>8} {:>8} {:>8} {:>10}"


def _line(event: Event, indent: str) -> str:
    kind, data = event["kind"], event["data"]
    if kind == "alert":
        return f"{indent}! {data['title']}"
    name = data.get("name") or data.get("job") or data.get("label")
    if data["status"] in ("error", "fail"):
        name += f"  {data['error_type']}"
    elif data.get("streaming"):
        name += "  stream"
    elif kind in ("cron", "session"):
        name += f"  {kind}"
    lasted = data["latency_ms" if kind == "llm_call" else "duration_ms"]
    tokens = (
        "" if count is None else f"{count:,}"
        for count in (data.get("input_tokens"), data.get("output_tokens"))
    )
    cost = data.get("cost_usd")
    dollars = "" if cost is None else precise_dollars(cost)
    return _SPAN.format(indent + name, *tokens, dollars, f"{lasted:,.0f} ms")


def _total(name: str, calls: list[Event]) -> str:
    errors = sum(call["status"] == "error" for call in calls)
    *tokens, cost = (
        sum(call.get(field) or 0 for call in calls)
        for field in ("input_tokens", "cache_read_tokens", "output_tokens", "cost_usd")
    )
    figures = (f"{count:,}" for count in tokens)
    return _TOTAL.format(name, len(calls), errors or "", *figures, precise_dollars(cost))
