"""Makes the events for the starts of sessions, cron runs and agents, and the ends of the first two.

The start of a cron run is a `span_start` and a `session` with the action `start`. The kind `cron`
exists only for ends.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter import _values as values
from agentpulse_exporter._values import Attributes, label, plain, text, texts, timestamp
from agentpulse_exporter._wire.event import Data, Head, SentSpan, data_fields, session_key

SESSION_KINDS = ("session", "cron")
_MOST_LOGS = 100
"""The last log lines of a session that are sent."""


def start_events(span: SentSpan) -> list[tuple[Head, Data]]:
    """The events for the start of a session, a cron run or an agent."""
    kind = text(span.attributes, semconv.SPAN_KIND) or "agent"
    started: Data = {"started_at": timestamp(span.times[0])}
    fields: Data = {"name": span.name(), "span_kind": label(kind), **started}
    made = [(span.head("span_start"), fields)]
    if kind == "cron":
        fields |= _run(span)
    if kind in SESSION_KINDS:
        session = {"action": "start", **_session(span, kind), **started}
        made.append((span.head("session", "start"), session))
    return made


def end_events(span: SentSpan, totals: Data) -> list[tuple[Head, Data]]:
    """The events for the end of a session or a cron run: its outcome and its usage."""
    kind = text(span.attributes, semconv.SPAN_KIND) or ""
    result = {**span.length(), **span.outcome()}
    if semconv.EXIT_CODE in span.attributes:
        result["exit_code"] = plain(span.attributes[semconv.EXIT_CODE])
    session: Data = {
        "action": "end",
        **_session(span, kind),
        **result,
        "result": _result(span.attributes.get(semconv.SESSION_RESULT)),
        "logs": _logs(span.span),
        **totals,
    }
    made = [(span.head("session", "end"), session)]
    if kind == "cron":
        cron: Data = {
            **result,
            # The hosted API knows `ok` and `fail`, and counts any other word as a failure.
            "status": "ok" if result["status"] == "success" else "fail",
            "summary": span.label(semconv.CRON_SUMMARY),
            **_run(span),
            "metadata": span.metadata(),
            **totals,
        }
        made.insert(0, (span.head("cron"), cron))
    return made


def _result(value: object) -> object:
    """Returns plain text as it is, and parses JSON of objects, lists and strings."""
    structured = isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"')
    return values.parsed(value) if structured else plain(value)


def _session(span: SentSpan, kind: str) -> Data:
    name = span.label(semconv.SESSION_NAME)
    around = texts(span.attributes, semconv.SESSION_ANCESTORS)
    fields: Data = {"label": name, "type": kind, "metadata": span.metadata()}
    if kind == "cron":
        fields["job_name"] = name
    if around:
        fields["parent_session"] = session_key(around[0])
    if semconv.USER_ID in span.attributes:
        fields["user"] = span.label(semconv.USER_ID)
    return fields


def _run(span: SentSpan) -> Data:
    fields: Data = {
        "run_id": session_key(text(span.attributes, semconv.SESSION_ID) or ""),
        "schedule": span.label(semconv.CRON_SCHEDULE),
        "timezone": span.label(semconv.CRON_TIMEZONE),
        "max_runtime_s": values.number(span.attributes, semconv.CRON_MAX_RUNTIME),
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return {"job": span.label(semconv.SESSION_NAME), **known}


def _logs(span: ReadableSpan) -> list[Data]:
    made: list[Data] = []
    for line in [each for each in span.events if each.name == semconv.SESSION_LOG][-_MOST_LOGS:]:
        attributes: Attributes = line.attributes or {}
        message = values.clean(text(attributes, semconv.SESSION_LOG_MESSAGE) or "")
        data = data_fields(attributes)
        entry: Data = {"ts": timestamp(line.timestamp / 1e9), "message": message}
        made.append({**entry, "data": data} if data else entry)
    return made
