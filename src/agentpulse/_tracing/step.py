"""One span of ours under way: current while its code runs, ended once, with how it went."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from agentpulse_exporter import _semconv as semconv
from agentpulse_instrumentation._engine.metrics import Metrics
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import error_type
from agentpulse_instrumentation._shield import shield
from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from agentpulse._tracing.description import Description
from agentpulse._tracing.scope import Scope, scope_of, within
from agentpulse._tracing.values import attribute, data_attributes, json_text, result_text, text_of

_SWITCH = shield("switch the context")
_TELL = shield("record what a program said")
_END = shield("end a span")


class Step:
    """A span whose code runs in one piece, or in many, as a generator's does.

    The context is put back without tokens: a generator is often closed where another context is
    current, and OpenTelemetry's `detach` would log an error there.
    """

    __slots__ = (
        *("_attributes", "_calls", "_captures", "_inside", "_metrics", "_open", "_outside"),
        "_started",
        *("description", "scope", "span"),
    )

    def __init__(
        self,
        description: Description,
        span: Span,
        scope: Scope,
        around: Context,
        metrics: Metrics,
        attributes: dict[str, Any],
        calls: AgentCalls | None,
        *,
        captures: bool,
    ) -> None:
        self.description = description
        self.span = span
        self.scope = scope
        self._captures = captures
        self._metrics = metrics
        self._attributes = attributes
        self._calls = calls
        self._started = perf_counter()
        self._inside = within(scope, set_span_in_context(span, around))
        self._outside: Context | None = None
        # The process that began it ends it; in a child that was forked meanwhile nothing happens.
        self._open = [os.getpid()]

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return bool(self._open)

    @property
    def is_here(self) -> bool:
        """Whether what runs now runs inside it."""
        return self.scope.contains(scope_of(context_api.get_current()))

    def resume(self) -> None:
        """Its code goes on: the span is current from here."""
        with _SWITCH:
            self._outside = context_api.get_current()
            context_api.attach(self._inside)

    def suspend(self) -> None:
        """Its code rests: what was current before is current again."""
        with _SWITCH:
            current = context_api.get_current()
            # Elsewhere, where a coroutine was closed by somebody else, nothing is to be put back.
            if self._outside is not None and self.scope.contains(scope_of(current)):
                self._inside = current
                context_api.attach(self._outside)
            self._outside = None

    def tell(self, name: str, value: object) -> None:
        """Sets an attribute of the span."""
        with _TELL:
            self.span.set_attribute(name, attribute(value))

    def set_result(self, result: object) -> None:
        """Sets what came of a session."""
        if result is not None:
            with _TELL:
                self.span.set_attribute(semconv.SESSION_RESULT, result_text(result))

    def set_summary(self, summary: str) -> None:
        """Sets what a cron run did."""
        self.tell(semconv.CRON_SUMMARY, summary)

    def log(self, message: str, data: Mapping[str, object]) -> None:
        """Adds a line to a session's log."""
        with _TELL:
            # Of too many attributes the first are lost.
            line = {**data_attributes(data), semconv.SESSION_LOG_MESSAGE: attribute(message)}
            self.span.add_event(semconv.SESSION_LOG, line)

    def set_metadata(self, values: Mapping[str, object]) -> None:
        """Adds metadata, to the session and to what is under it from here on."""
        with _TELL:
            if self.scope.run is not None:
                self.span.set_attributes(self.scope.run.set_metadata(values))

    def set_user(self, user: str) -> None:
        """Sets the user, of the session and of what is under it from here on."""
        with _TELL:
            if self.scope.run is not None:
                self.scope.run.set_user(user)
            self.span.set_attribute(semconv.USER_ID, str(user))

    def returned(self, result: object) -> None:
        """Its code came to its end."""
        self.suspend()
        if self._close():
            with _END:
                try:
                    if self._keeps_result():
                        self._tell_result(result)
                finally:
                    self._end()

    def ended(self) -> None:
        """Its block came to its end."""
        self.suspend()
        if self._close():
            with _END:
                self._end()

    def failed(self, error: BaseException) -> None:
        """Its code raised. A generator that was left before its end did not fail."""
        if isinstance(error, GeneratorExit):
            self.ended()
            return
        self.suspend()
        if self._close():
            with _END:
                try:
                    self._tell(error)
                finally:
                    self._end()

    def _tell(self, error: BaseException) -> None:
        self._attributes[semconv.ERROR_TYPE] = kind = error_type(error)
        self.span.set_attribute(semconv.ERROR_TYPE, kind)
        if isinstance(error, SystemExit):
            code = error.code
            self.span.set_attribute(
                semconv.EXIT_CODE, code if isinstance(code, int) else 0 if code is None else 1
            )
        text = text_of(error) if self._captures else None
        self.span.set_status(Status(StatusCode.ERROR, text))

    def _tell_result(self, result: object) -> None:
        told = json_text(result)
        if self.description.kind != "tool":
            self.span.set_attribute(semconv.RESULT, told)
            return
        # By the conventions, what a tool gives is an object.
        is_object = told.startswith("{")
        self.span.set_attribute(
            semconv.TOOL_CALL_RESULT, told if is_object else f'{{"result": {told}}}'
        )

    def _end(self) -> None:
        try:
            if getattr(self.span, "dropped_attributes", 0):
                # The first gave way to what the program added, and these say what the span is.
                run = self.scope.run
                self.span.set_attributes({**self._attributes, **(run.stamp if run else {})})
        finally:
            self.span.end()
        # Sessions, tasks and plain spans are in no metric.
        if semconv.OPERATION_NAME in self._attributes:
            seconds = perf_counter() - self._started
            self._metrics.record(self.span, self._attributes, seconds, self._calls)

    def _keeps_result(self) -> bool:
        wanted = self.description.capture_result
        return self._captures if wanted is None else wanted

    def _close(self) -> bool:
        self.scope.is_over = True
        try:
            return self._open.pop() == os.getpid()
        except IndexError:
            return False
