"""A pytest plugin: every span and log event of ours in a test is as the GenAI conventions ask.

The checker and its registry lie beside the checkout and not in it; where they are absent, nothing
is checked, and the end of the run says so. Spans of child processes aren't seen. A test of
something that is odd on purpose says so by `@pytest.mark.unconventional("why")`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from conftest import as_dict
from fakes import recordings
from fakes.logs import plain
from opentelemetry.sdk._logs import Logger
from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

KNOWN = {
    "finish-reasons of gen_ai.response.finish_reasons": "the answer has none (queued, compacted, "
    "or null), or one for each of several prompts",
    "generic-part of gen_ai.input.messages": "the conventions have no part of that type",
    "generic-part of gen_ai.output.messages": "the same",
    "missing-required of aws.bedrock.guardrail.id": "most calls of Bedrock have no guardrail",
    "unknown-operation of gen_ai.operation.name": "the conventions have no moderations",
    "unlisted-value of gen_ai.operation.name": "the same",
    "unlisted-value of gen_ai.provider.name": "the conventions don't list that provider",
    "unlisted-value of openai.request.service_tier": "they list `auto` and `default` alone",
}
"""The warnings that may stay, each with its reason."""

MARK = "unconventional"
_RESULTS = "conventions"


class Conventions:
    """Judges spans and events of ours as they come, and each test, when it is over, by its own."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        """By sort, spans and events."""
        self.warnings: Counter[str] = Counter()
        self._found: list[tuple[str, Any]] = []
        self._end, self._emit = Span.end, Logger.emit

    def install(self) -> None:
        """Looks on wherever a span ends or an event is emitted, whatever its provider."""
        original, emit_original = self._end, self._emit
        judge_span, judge_event = self._judge_span, self._judge_event

        def end(self: Span, end_time: int | None = None) -> None:
            is_over = self.end_time is not None
            original(self, end_time)
            if not is_over:
                judge_span(self)

        def emit(self: Any, *records: Any, **fields: Any) -> None:
            emit_original(self, *records, **fields)
            for record in records:
                judge_event(self._instrumentation_scope, record)

        Span.end, Logger.emit = end, emit

    def restore(self) -> None:
        Span.end, Logger.emit = self._end, self._emit

    def _judge_span(self, span: ReadableSpan) -> None:
        reported = as_dict(span)
        events = [{"name": name, "attributes": data} for name, data in reported.pop("events", ())]
        self._judge("span", span.name, span.instrumentation_scope, {**reported, "events": events})

    def _judge_event(self, scope: InstrumentationScope, record: Any) -> None:
        reported = {"event_name": record.event_name, "attributes": plain(record.attributes)}
        self._judge("event", record.event_name, scope, reported)

    def _judge(
        self, sort: str, name: str, scope: InstrumentationScope | None, reported: dict[str, Any]
    ) -> None:
        if scope is None or not scope.name.startswith("agentpulse"):
            return
        kind, findings = recordings.semconv_checker().check_record(reported)
        self.seen[sort] += kind is not None
        self._found += [(f"{sort} {name!r}", finding) for finding in findings]

    def _over(self, item: pytest.Item) -> Generator[None, Any, Any]:
        result = yield
        found, self._found = self._found, []
        if item.get_closest_marker(MARK) is not None:
            return result
        complaints = {}
        for name, finding in found:
            about = f"{finding.code} of {finding.subject}"
            if finding.level == "W":
                self.warnings[about] += 1
            if finding.level == "E" or (finding.level == "W" and about not in KNOWN):
                complaints[f"The {name} has {about}: {finding.message}"] = None
        if complaints:
            pytest.fail("\n".join(complaints), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self._over(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self._over(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self._over(item))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # What a worker of pytest-xdist found is for the process that reports.
        results = getattr(session.config, "workeroutput", {})
        results[_RESULTS] = dict(self.seen), dict(self.warnings)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        seen, warnings = getattr(node, "workeroutput", {}).get(_RESULTS, ({}, {}))
        self.seen.update(seen)
        self.warnings.update(warnings)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.seen:
            return
        terminalreporter.section("GenAI conventions")
        seen = f"{self.seen['span']} spans and {self.seen['event']} events of ours"
        terminalreporter.line(f"{seen} were checked, with these warnings:")
        for about, times in sorted(self.warnings.items()):
            terminalreporter.line(f"{times:6} {about}: {KNOWN.get(about, 'not known')}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}(why): its spans are odd on purpose")
    if recordings.is_present():
        conventions = Conventions()
        conventions.install()
        config.add_cleanup(conventions.restore)
        config.pluginmanager.register(conventions)


def pytest_report_header() -> str:
    checked = "checked" if recordings.is_present() else f"not checked: {recordings.WHY_ABSENT}"
    return f"GenAI conventions: {checked}"
