"""Sessions and cron runs as events: their start, their end, and what their calls took together."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._semconv import number, text, texts
from agentpulse_exporter._wire.event import (
    Attributes,
    Data,
    Head,
    head,
    label,
    milliseconds,
    outcome,
    parsed,
    spelt_out,
    times,
    with_prefix,
)
from agentpulse_exporter._wire.limits import MAX_LABEL, clean, plain, session_key, timestamp, total

SESSION_KINDS = ("session", "cron")
MOST_SESSIONS = 10_000
"""Open sessions whose calls are summed up; of more, the one that was quiet longest is forgotten."""
_MOST_LOGS = 100
"""Log lines of a session that are sent, the last ones."""


@dataclass(slots=True)
class Totals:
    """What calls took. None means that no call told."""

    calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None

    def add(self, used_in: int | None, used_out: int | None, cost: float | None) -> None:
        """Adds one call."""
        self.calls += 1
        if used_in is not None:
            self.input_tokens = (self.input_tokens or 0) + used_in
        if used_out is not None:
            self.output_tokens = (self.output_tokens or 0) + used_out
        if cost is not None:
            self.cost_usd = (self.cost_usd or 0.0) + cost

    def data(self) -> Data:
        """The fields of an event."""
        return {
            "cost_usd": total([self.cost_usd]),
            "tokens": total([self.input_tokens, self.output_tokens]),
            "input_tokens": total([self.input_tokens]),
            "output_tokens": total([self.output_tokens]),
            "calls": self.calls,
        }


class Sessions:
    """The totals of the sessions that are open."""

    def __init__(self) -> None:
        self._totals: OrderedDict[str, Totals] = OrderedDict()

    def add(
        self,
        attributes: Attributes,
        used_in: int | None,
        used_out: int | None,
        cost: float | None,
    ) -> None:
        """Adds a call to the session it was made in, and to those around that one."""
        innermost = text(attributes, semconv.SESSION_ID)
        if innermost is None:
            return
        around = texts(attributes, semconv.SESSION_ANCESTORS) or []
        for session in dict.fromkeys((innermost, *around)):
            totals = self._totals.setdefault(session, Totals())
            totals.add(used_in, used_out, cost)
            self._totals.move_to_end(session)
        while len(self._totals) > MOST_SESSIONS:
            self._totals.popitem(last=False)

    def take(self, attributes: Attributes) -> Totals:
        """The totals of a session that ended."""
        return self._totals.pop(text(attributes, semconv.SESSION_ID) or "", Totals())

    def clear(self) -> None:
        """Forgets all of them, as a child process must."""
        self._totals.clear()


def start_events(span: ReadableSpan, attributes: Attributes) -> list[tuple[Head, Data]]:
    """What tells that a session, a cron run or an agent is under way."""
    kind = text(attributes, semconv.SPAN_KIND) or "agent"
    started = timestamp(times(span)[0])
    told: Data = {"name": clean(span.name, MAX_LABEL), "span_kind": clean(kind, MAX_LABEL)}
    told["started_at"] = started
    if kind not in SESSION_KINDS:
        return [(head("span_start", span, attributes), told)]
    if kind == "cron":
        told |= {"job": label(attributes, semconv.SESSION_NAME), **_run(attributes)}
    session = {"action": "start", **_session(attributes, kind), "started_at": started}
    return [
        (head("span_start", span, attributes), told),
        (_named(head("session", span, attributes), "start"), session),
    ]


def end_events(
    span: ReadableSpan, attributes: Attributes, totals: Totals, *, capture_messages: bool
) -> list[tuple[Head, Data]]:
    """What tells how a session or a cron run went, and what it took."""
    kind = text(attributes, semconv.SPAN_KIND) or ""
    started, ended = times(span)
    result = outcome(span, attributes, capture_messages=capture_messages)
    if semconv.EXIT_CODE in attributes:
        result["exit_code"] = plain(attributes[semconv.EXIT_CODE])
    length: Data = {"started_at": timestamp(started), "duration_ms": milliseconds(ended - started)}
    session: Data = {
        "action": "end",
        **_session(attributes, kind),
        **length,
        **result,
        "result": _result(attributes.get(semconv.SESSION_RESULT)),
        "logs": _logs(span),
        **totals.data(),
    }
    told = [(_named(head("session", span, attributes), "end"), session)]
    if kind == "cron":
        # The hosted API knows `ok` and `fail`, and counts whatever else as a failure.
        result["status"] = "ok" if result["status"] == "success" else "fail"
        cron: Data = {
            "job": label(attributes, semconv.SESSION_NAME),
            **length,
            **result,
            "summary": label(attributes, semconv.CRON_SUMMARY),
            **_run(attributes),
            "metadata": with_prefix(attributes, semconv.METADATA_PREFIX),
            **totals.data(),
        }
        told.insert(0, (head("cron", span, attributes), cron))
    return told


def _result(value: object) -> object:
    """A word as it is, and what JSON tells of anything that is more than a word."""
    structured = isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"')
    return parsed(value) if structured else plain(value)


def _session(attributes: Attributes, kind: str) -> Data:
    name = label(attributes, semconv.SESSION_NAME)
    around = texts(attributes, semconv.SESSION_ANCESTORS)
    told: Data = {"label": name, "type": kind}
    if kind == "cron":
        told["job_name"] = name
    if around:
        told["parent_session"] = session_key(around[0])
    if semconv.USER_ID in attributes:
        told["user"] = label(attributes, semconv.USER_ID)
    return {**told, "metadata": with_prefix(attributes, semconv.METADATA_PREFIX)}


def _run(attributes: Attributes) -> Data:
    told: Data = {
        "run_id": session_key(text(attributes, semconv.SESSION_ID) or ""),
        "schedule": label(attributes, semconv.CRON_SCHEDULE),
        "timezone": label(attributes, semconv.CRON_TIMEZONE),
        "max_runtime_s": number(attributes, semconv.CRON_MAX_RUNTIME),
    }
    return {name: value for name, value in told.items() if value is not None}


def _logs(span: ReadableSpan) -> list[Data]:
    lines = [each for each in span.events if each.name == semconv.SESSION_LOG][-_MOST_LOGS:]
    told: list[Data] = []
    for line in lines:
        attributes: Attributes = line.attributes or {}
        entry: Data = {
            "ts": timestamp(line.timestamp / 1e9),
            "message": clean(text(attributes, semconv.SESSION_LOG_MESSAGE) or ""),
        }
        data = spelt_out(attributes)
        told.append({**entry, "data": data} if data else entry)
    return told


def _named(head: Head, action: str) -> Head:
    # One session has two events of the same kind, and each needs an id of its own.
    return replace(head, id=f"{head.id}-{action}")
