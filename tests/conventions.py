"""A pytest plugin: every span of ours that ends in a test is as the GenAI conventions ask.

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
from opentelemetry.sdk.trace import ReadableSpan, Span

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
    """Judges each span of ours as it ends, and each test, when it is over, by its spans."""

    def __init__(self) -> None:
        self.spans = 0
        self.warnings: Counter[str] = Counter()
        self._found: list[tuple[str, Any]] = []
        self._original = Span.end

    def install(self) -> None:
        """Looks on wherever a span ends, whatever its provider."""
        original, judge = self._original, self._judge

        def end(self: Span, end_time: int | None = None) -> None:
            is_over = self.end_time is not None
            original(self, end_time)
            if not is_over:
                judge(self)

        Span.end = end

    def restore(self) -> None:
        Span.end = self._original

    def _judge(self, span: ReadableSpan) -> None:
        scope = span.instrumentation_scope
        if scope is None or not scope.name.startswith("agentpulse"):
            return
        plain = as_dict(span)
        events = [{"name": name, "attributes": data} for name, data in plain.pop("events", ())]
        kind, findings = recordings.semconv_checker().check_record({**plain, "events": events})
        self.spans += kind is not None
        self._found += [(span.name, finding) for finding in findings]

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
                complaints[f"The span {name!r} has {about}: {finding.message}"] = None
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
        results[_RESULTS] = self.spans, dict(self.warnings)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        spans, warnings = getattr(node, "workeroutput", {}).get(_RESULTS, (0, {}))
        self.spans += spans
        self.warnings.update(warnings)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.spans:
            return
        terminalreporter.section("GenAI conventions")
        terminalreporter.line(f"{self.spans} spans of ours were checked, with these warnings:")
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
