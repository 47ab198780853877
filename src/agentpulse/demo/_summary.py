"""The recording of a run as text: a tree of spans, totals, and what differs from the bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentpulse._output import precise_dollars, whole
from agentpulse.demo.provider import Charge, Request

Event = Mapping[str, Any]

_ROW = "{:42.42} {:>7} {:>7} {:>10} {:>9}"
_FIGURES = {"input_tokens": whole, "output_tokens": whole, "cost_usd": precise_dollars}


def differences(
    events: Sequence[Event], requests: Sequence[Request], bill: Sequence[Charge]
) -> list[str]:
    """The differences between server and provider, a sentence each."""
    calls, made = _calls(events), len(requests)
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


def _calls(events: Sequence[Event]) -> list[Event]:
    return [event["data"] for event in events if event["kind"] == "llm_call"]


def lines(events: Sequence[Event]) -> Iterator[str]:
    """The tree of spans, in the order in which they began, and the totals of the calls by model."""
    yield _ROW.format("span", "in", "out", "cost", "time")
    depths: dict[str | None, int] = {}
    spans = filter(_is_span, events)
    for event in sorted(spans, key=lambda event: event["data"].get("started_at", event["ts"])):
        depth = depths[event["span_id"]] = depths.get(event.get("parent_span_id"), -1) + 1
        yield _line(event, "  " * depth)
    yield "\n" + _ROW.format("model (calls)", "in", "out", "cost", "")
    calls = _calls(events)
    for model in (*sorted({call["model"] for call in calls}), "all"):
        of_model = [call for call in calls if model in (call["model"], "all")]
        sums = {name: sum(call.get(name) or 0 for call in of_model) for name in _FIGURES}
        failed = sum(call["status"] == "error" for call in of_model)
        yield _row(f"{model} ({len(of_model)})", sums, f"{failed} failed" if failed else "")


def _is_span(event: Event) -> bool:
    if event["kind"] == "session":
        # A cron run is a session too, and its own event has more of it.
        return event["data"]["action"] == "end" and event["data"]["type"] == "session"
    return event["kind"] in ("cron", "llm_call", "span_end", "alert")


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
    return _row(indent + name, data, f"{lasted:,.0f} ms")


def _row(name: str, data: Event, last: str) -> str:
    known = ((form, data.get(field)) for field, form in _FIGURES.items())
    return _ROW.format(name, *("" if value is None else form(value) for form, value in known), last)
