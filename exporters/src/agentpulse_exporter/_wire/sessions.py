"""Sessions and cron runs as events: their start, their end, and the usage of their calls."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._ledger.tree import Recent
from agentpulse_exporter._semconv import Attributes, number, text, texts
from agentpulse_exporter._wire.event import (
    Data,
    Head,
    data_fields,
    head,
    label,
    length,
    outcome,
    parsed,
    times,
    with_prefix,
)
from agentpulse_exporter._wire.json import MAX_LABEL, clean, plain, session_key, timestamp, total

SESSION_KINDS = ("session", "cron")
MOST_SESSIONS = 10_000
"""Open sessions whose calls are summed up; of more, the one that was quiet longest is forgotten."""
_MOST_LOGS = 100
"""Log lines of a session that are sent, the last ones."""


@dataclass(slots=True)
class Totals:
    """The usage of calls. None means that no call reported any."""

    calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None

    def add(self, input_tokens: int | None, output_tokens: int | None, cost: float | None) -> None:
        """Adds one call."""
        self.calls += 1
        if input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + input_tokens
        if output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + output_tokens
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
        self._totals = Recent[str, Totals](MOST_SESSIONS)

    def add(
        self,
        attributes: Attributes,
        input_tokens: int | None,
        output_tokens: int | None,
        cost: float | None,
    ) -> None:
        """Adds a call to the session it was made in, and to those around that one."""
        innermost = text(attributes, semconv.SESSION_ID)
        if innermost is None:
            return
        around = texts(attributes, semconv.SESSION_ANCESTORS) or []
        for session in dict.fromkeys((innermost, *around)):
            totals = self._totals.get(session) or Totals()
            totals.add(input_tokens, output_tokens, cost)
            self._totals[session] = totals

    def take(self, attributes: Attributes) -> Totals:
        """The totals of a session that ended."""
        return self._totals.pop(text(attributes, semconv.SESSION_ID) or "", Totals())


def start_events(span: ReadableSpan, attributes: Attributes) -> list[tuple[Head, Data]]:
    """The events for the start of a session, a cron run or an agent."""
    kind = text(attributes, semconv.SPAN_KIND) or "agent"
    started = timestamp(times(span)[0])
    fields: Data = {"name": clean(span.name, MAX_LABEL), "span_kind": clean(kind, MAX_LABEL)}
    fields["started_at"] = started
    if kind not in SESSION_KINDS:
        return [(head("span_start", span, attributes), fields)]
    if kind == "cron":
        fields |= {"job": label(attributes, semconv.SESSION_NAME), **_run(attributes)}
    session = {"action": "start", **_session(attributes, kind), "started_at": started}
    return [
        (head("span_start", span, attributes), fields),
        (head("session", span, attributes, "start"), session),
    ]


def end_events(
    span: ReadableSpan, attributes: Attributes, totals: Totals, *, capture_messages: bool
) -> list[tuple[Head, Data]]:
    """The events for the end of a session or a cron run: its outcome and its usage."""
    kind = text(attributes, semconv.SPAN_KIND) or ""
    result = outcome(span, attributes, capture_messages=capture_messages)
    if semconv.EXIT_CODE in attributes:
        result["exit_code"] = plain(attributes[semconv.EXIT_CODE])
    session: Data = {
        "action": "end",
        **_session(attributes, kind),
        **length(span),
        **result,
        "result": _result(attributes.get(semconv.SESSION_RESULT)),
        "logs": _logs(span),
        **totals.data(),
    }
    made = [(head("session", span, attributes, "end"), session)]
    if kind == "cron":
        # The hosted API knows `ok` and `fail`, and counts any other word as a failure.
        result["status"] = "ok" if result["status"] == "success" else "fail"
        cron: Data = {
            "job": label(attributes, semconv.SESSION_NAME),
            **length(span),
            **result,
            "summary": label(attributes, semconv.CRON_SUMMARY),
            **_run(attributes),
            "metadata": with_prefix(attributes, semconv.METADATA_PREFIX),
            **totals.data(),
        }
        made.insert(0, (head("cron", span, attributes), cron))
    return made


def _result(value: object) -> object:
    """A word as it is, and anything that is more than a word from its JSON."""
    structured = isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"')
    return parsed(value) if structured else plain(value)


def _session(attributes: Attributes, kind: str) -> Data:
    name = label(attributes, semconv.SESSION_NAME)
    around = texts(attributes, semconv.SESSION_ANCESTORS)
    fields: Data = {"label": name, "type": kind}
    if kind == "cron":
        fields["job_name"] = name
    if around:
        fields["parent_session"] = session_key(around[0])
    if semconv.USER_ID in attributes:
        fields["user"] = label(attributes, semconv.USER_ID)
    return {**fields, "metadata": with_prefix(attributes, semconv.METADATA_PREFIX)}


def _run(attributes: Attributes) -> Data:
    fields: Data = {
        "run_id": session_key(text(attributes, semconv.SESSION_ID) or ""),
        "schedule": label(attributes, semconv.CRON_SCHEDULE),
        "timezone": label(attributes, semconv.CRON_TIMEZONE),
        "max_runtime_s": number(attributes, semconv.CRON_MAX_RUNTIME),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _logs(span: ReadableSpan) -> list[Data]:
    made: list[Data] = []
    for line in [each for each in span.events if each.name == semconv.SESSION_LOG][-_MOST_LOGS:]:
        attributes: Attributes = line.attributes or {}
        entry: Data = {
            "ts": timestamp(line.timestamp / 1e9),
            "message": clean(text(attributes, semconv.SESSION_LOG_MESSAGE) or ""),
        }
        data = data_fields(attributes)
        made.append({**entry, "data": data} if data else entry)
    return made
