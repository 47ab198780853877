"""One span of ours under way: current while its code runs, ended once, with how it went."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from agentpulse_exporter import _semconv as semconv
from agentpulse_instrumentation._engine.nesting import AgentCalls
from agentpulse_instrumentation._engine.operation import error_type
from agentpulse_instrumentation._shield import shield
from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from agentpulse._tracing.description import Description
from agentpulse._tracing.scope import Run, Scope, scope_of, within
from agentpulse._tracing.values import attribute, data_attributes, json_text, result_text, text_of

if TYPE_CHECKING:
    from agentpulse._tracing.recorder import Recorder

_SWITCH = shield("switch the context")
_SET = shield("set attributes of a span")
_END = shield("end a span")
_NO_RESULT = object()


class Step:
    """A span whose code runs in one piece, or in many, as a generator's does.

    The context is put back without tokens: a generator is often closed where another context is
    current, and OpenTelemetry's `detach` would log an error there.
    """

    __slots__ = (
        *("_attributes", "_calls", "_inside", "_open", "_outside", "_recorder", "_started"),
        *("description", "scope", "span"),
    )

    def __init__(
        self,
        recorder: Recorder,
        description: Description,
        span: Span,
        scope: Scope,
        context: Context,
        attributes: dict[str, Any],
        calls: AgentCalls | None,
    ) -> None:
        """For `Recorder.begin`; `calls` counts the calls of an agent."""
        self._recorder = recorder
        self.description = description
        self.span = span
        self.scope = scope
        self._attributes = attributes
        self._calls = calls
        self._started = perf_counter()
        self._inside = within(scope, set_span_in_context(span, context))
        self._outside: Context | None = None
        # The process that began it ends it; in a child that was forked meanwhile nothing happens.
        self._open = [os.getpid()]

    @property
    def run(self) -> Run | None:
        """The session or cron run that it is a part of."""
        return self.scope.run

    @property
    def is_current(self) -> bool:
        """Whether the current code runs inside it."""
        return self.scope.contains(scope_of(context_api.get_current()))

    def resume(self) -> None:
        """Its code goes on: the span is current from here."""
        with _SWITCH:
            self._outside = context_api.get_current()
            context_api.attach(self._inside)

    def suspend(self) -> None:
        """Its code rests: the context of before is current again."""
        with _SWITCH:
            current = context_api.get_current()
            # Where somebody else closed a coroutine, the current context isn't ours to put back.
            if self._outside is not None and self.scope.contains(scope_of(current)):
                self._inside = current
                context_api.attach(self._outside)
            self._outside = None

    def set_attribute(self, name: str, value: object) -> None:
        """Sets an attribute of the span."""
        with _SET:
            self.span.set_attribute(name, attribute(value))

    def set_result(self, result: object) -> None:
        """Sets the result of a session."""
        if result is not None:
            with _SET:
                self.span.set_attribute(semconv.SESSION_RESULT, result_text(result))

    def set_summary(self, summary: str) -> None:
        """Sets the summary of a cron run."""
        self.set_attribute(semconv.CRON_SUMMARY, summary)

    def log(self, message: str, data: Mapping[str, object]) -> None:
        """Adds a line to a session's log."""
        with _SET:
            # Of too many attributes the first are lost.
            line = {**data_attributes(data), semconv.SESSION_LOG_MESSAGE: attribute(message)}
            self.span.add_event(semconv.SESSION_LOG, line)

    def set_metadata(self, values: Mapping[str, object]) -> None:
        """Adds metadata, to the session and to the spans under it from here on."""
        with _SET:
            if self.run is not None:
                self.span.set_attributes(self.run.set_metadata(values))

    def set_user(self, user: str) -> None:
        """Sets the user, of the session and of the spans under it from here on."""
        with _SET:
            if self.run is not None:
                self.run.set_user(user)
            self.span.set_attribute(semconv.USER_ID, str(user))

    def end(self, error: BaseException | None = None, result: object = _NO_RESULT) -> None:
        """Its code returned or raised. Works once.

        A generator that was closed before its end did not fail.
        """
        self.suspend()
        self.scope.is_over = True
        try:
            is_of_this_process = self._open.pop() == os.getpid()
        except IndexError:
            return
        if self.description.is_session:
            self._recorder.under_way.discard(self.scope)
        if not is_of_this_process:
            return
        with _END:
            try:
                if error is not None and not isinstance(error, GeneratorExit):
                    self._record_error(error)
                elif error is None and result is not _NO_RESULT:
                    self._record_result(result)
            finally:
                self._end_span()

    def _record_error(self, error: BaseException) -> None:
        self._attributes[semconv.ERROR_TYPE] = kind = error_type(error)
        self.span.set_attribute(semconv.ERROR_TYPE, kind)
        if isinstance(error, SystemExit):
            code = error.code
            status = code if isinstance(code, int) else int(code is not None)
            self.span.set_attribute(semconv.EXIT_CODE, status)
        text = text_of(error) if self._recorder.captures else None
        self.span.set_status(Status(StatusCode.ERROR, text))

    def _record_result(self, result: object) -> None:
        if not self._recorder.captured(self.description.capture_result):
            return
        name, text = semconv.RESULT, json_text(result)
        if self.description.kind == "tool":
            # By the conventions, the result of a tool is an object.
            name = semconv.TOOL_CALL_RESULT
            text = text if text.startswith("{") else f'{{"result": {text}}}'
        self.span.set_attribute(name, text)

    def _end_span(self) -> None:
        try:
            if getattr(self.span, "dropped_attributes", 0):
                # The first gave way to those that the program added, and they describe the span.
                stamp = self.run.attributes if self.run else {}
                self.span.set_attributes({**self._attributes, **stamp})
        finally:
            self.span.end()
        # Sessions, tasks and plain spans are in no metric.
        if semconv.OPERATION_NAME in self._attributes:
            seconds = perf_counter() - self._started
            self._recorder.metrics.record(self.span, self._attributes, seconds, self._calls)
