"""The calls of LiteLLM under way: each step of its `Logging` objects, and the end of each attempt.

LiteLLM makes one `Logging` object a call and calls a method of it at every step: `pre_call` before
a request is sent, `post_call` when the answer is there, and one or more of its handlers when all is
over. An *attempt* is one request that it sends: retries and fallbacks may share an object. Layers
of LiteLLM (a text completion that is done by chat, Anthropic's API in front of another model) share
it too.

The state of a call hangs on its `Logging` object, weakly, and goes with it.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import time_ns
from types import FrameType
from typing import Any, cast
from weakref import WeakKeyDictionary, ref

from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import get_current_span

from agentpulse_instrumentation._engine import nesting, semconv
from agentpulse_instrumentation._engine.body import get, text
from agentpulse_instrumentation._engine.operation import Attributes, Operation
from agentpulse_instrumentation._engine.patching import shield
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation.litellm import _content as content
from agentpulse_instrumentation.litellm import _spans as spans
from agentpulse_instrumentation.litellm._bodies import NO_BODY, Body
from agentpulse_instrumentation.litellm._spans import Attempt

_END = shield("end a call of LiteLLM")
# The packages of LiteLLM that send requests with the openai client; the others have LiteLLM's own
# HTTP client, and a provider's client that is called meanwhile is not theirs.
_CALL_CLIENTS = ("litellm.llms.openai.", "litellm.llms.azure.")
_OWN_HTTP = "litellm.llms."
_LOGGING = "logging_obj"
"""What the functions that send a request call the `Logging` object."""
_MOCK_KEY = "mock-key"
"""The key that LiteLLM passes on before it answers with a mock (`mock_completion`)."""
_MOCKS = ("mock_response", "mock_tool_calls")
_REASONS = ("received_finish_reason", "intermittent_finish_reason", "received_any_finish_reason")
"""What a stream knows of why it ended; the last is younger than the oldest supported version."""
_PENDING = (inspect.iscoroutine, inspect.isgenerator, inspect.isasyncgen)

Given = dict[str, Any]


@dataclass(eq=False, slots=True, weakref_slot=True)
class Call:
    """The state of the call of one `Logging` object."""

    recording: Recording
    operation: Operation
    layer: nesting.Layer
    outer: ref[Call] | None
    """The call of LiteLLM for which this one may be made."""
    is_mock: bool
    wraps_calls: bool = False
    """Whether LiteLLM made other calls for this one."""
    # An exception that was being handled when the call began is none of its own. The exception
    # itself would keep the frames of its traceback alive, and with them the `Logging` object.
    handled: int = field(default_factory=lambda: id(sys.exception()))
    # Emptied by popping, which is atomic: threads and tasks may report one end at once.
    open: list[Attempt] = field(default_factory=list[Attempt])

    def __post_init__(self) -> None:
        self.open.append(Attempt(self.operation, self.layer.context))
        self.recording.opened(self)

    def take(self) -> Attempt | None:
        """The attempt that is under way, which is over with that. None for one of the parent's."""
        try:
            attempt = self.open.pop()
        except IndexError:
            return None
        return attempt if attempt.process == os.getpid() else None

    def describe(self, attempt: Attempt, logging: Any, address: object = None) -> None:
        """Adds what is asked for, and marks the calls of LiteLLM that this one is made for."""
        attempt.request, attributes = content.read_request(logging, address)
        attempt.attributes = {**self.layer.facts, **attributes}
        attempt.is_stream = getattr(logging, "stream", None) is True
        outer = self.outer and self.outer()
        while outer is not None:
            outer.wraps_calls = True
            outer = outer.outer and outer.outer()

    def is_over(self, attempt: Attempt, logging: Any) -> bool:
        """Whether an attempt is over because another request is sent; if so, records it.

        LiteLLM tries some calls again without a word, and some of its handlers report one request
        twice.
        """
        error = sys.exception()
        if error is not None and id(error) != self.handled:
            # A sync call is tried again in the middle of handling the exception that it raised.
            attempt.answered_at = None
            self.ended(attempt, logging, spans.failed(logging, error), error)
        elif attempt.raw is None:
            return False
        else:
            self.ended(attempt, logging, spans.unfinished)
        return True

    def ended(
        self, attempt: Attempt, logging: Any, read: spans.Read, error: BaseException | None = None
    ) -> None:
        """Records an attempt that is over, unless another layer does."""
        layer = self.layer
        was_recorded, layer.is_recorded, layer.open = layer.is_recorded, False, False
        if not attempt.is_sent:
            if self.is_mock and attempt.answered_by is None:
                attempt.answered_by = "mock"
            was_recorded = attempt.answered_by is None and self.wraps_calls
            if not was_recorded:
                # Of a call that never was a request, all is read at its end.
                self.describe(attempt, logging)
        if not was_recorded:
            spans.record(self.recording, attempt, read, error)

    def __del__(self) -> None:
        self.recording.closed(self)
        self.left()

    def left(self) -> None:
        """Nobody will report its end any more."""
        attempt = self.take()
        is_ours = self.recording.active and not self.layer.is_recorded
        if attempt is not None and attempt.is_sent and is_ours:
            with _END:
                spans.record(self.recording, attempt, spans.unfinished)


_current: ContextVar[ref[Call] | None] = ContextVar("agentpulse_litellm", default=None)
"""The call that began last in this thread or task."""


class Observer:
    """Watches the steps of all `Logging` objects. Its methods have the arguments of the steps."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._known: WeakKeyDictionary[object, Call | None] = WeakKeyDictionary()

    def begun(self, logging: Any, _args: tuple[Any, ...], given: Given, _result: None) -> None:
        """`__init__`, after it: the only step that surely is in the caller's thread or task.

        Either this call or that of a client underneath is recorded, so the layers above are.
        """
        operation = content.operation_of(logging)
        if operation is None or not is_instrumentation_enabled():
            self._known[logging] = None
            return
        ambient = get_current()
        facts: Attributes = {semconv.REQUEST_MODEL: logging.model}
        context = nesting.begin_call(operation.name, ambient, facts)[0]
        del facts[semconv.REQUEST_MODEL]
        layer = nesting.Layer(ambient, get_current_span(context), facts, operation=operation.name)
        # It is opened when a client is about to be called.
        layer.open = False
        nesting.enter(layer)
        arguments = cast("Given", given.get("kwargs") or {})
        is_mock = any(arguments.get(name) is not None for name in _MOCKS)
        call = Call(self.recording, operation, layer, _current.get(), is_mock)
        self._known[logging] = call
        _current.set(ref(call))

    def sending(self, logging: Any, _args: tuple[Any, ...], given: Given) -> None:
        """`pre_call`: a request is about to be sent."""
        call = self._adopted(logging)
        if call is None:
            return
        before = call.take()
        if before is not None and before.is_sent and not call.is_over(before, logging):
            call.open.append(before)
            return
        details = cast("Given", given.get("additional_args") or {})
        is_mock = call.is_mock or given.get("api_key") == _MOCK_KEY
        attempt = Attempt(call.operation, call.layer.context, is_sent=True)
        attempt.answered_by = "mock" if is_mock else None
        call.describe(attempt, logging, details.get("api_base"))
        call.open.append(attempt)
        if not is_mock and _calls_a_client():
            layer, body = call.layer, details.get("complete_input_dict")
            layer.model = text(get(body, "model")) or text(logging.model_call_details["model"])
            layer.is_recorded, layer.open = False, True

    def _adopted(self, logging: Any) -> Call | None:
        """The call of an object, also of one that was copied from another after that began."""
        if logging not in self._known and content.operation_of(logging) is not None:
            current = _current.get()
            self._known[logging] = current and current()
        return self._known.get(logging)

    def _open_of(self, logging: Any | None) -> list[Attempt]:
        """The attempt of an object that is under way, where there is any."""
        call = None if logging is None else self._known.get(logging)
        return [] if call is None else call.open[-1:]

    def got(self, logging: Any, _args: tuple[Any, ...], given: Given) -> None:
        """`post_call`: the provider has answered."""
        call, raw = self._known.get(logging), given.get("original_response")
        if call is None or any(is_pending(raw) for is_pending in _PENDING):
            # Some requests are reported before they are sent: by a coroutine that nobody has
            # awaited yet, or a generator that nobody has read from.
            return
        call.layer.open = False
        for attempt in call.open[-1:]:
            if isinstance(raw, str):
                attempt.raw, attempt.answered_at = raw, time_ns()

    def received(self, _client: Any, _args: Any, _given: Given, response: Any) -> None:
        """`post` of LiteLLM's own HTTP client, after it."""
        for attempt in self._open_of(_logging_of_sender()):
            body = Body()
            body.observe(response)
            attempt.body = body

    def finishing(self, stream: Any, _args: tuple[Any, ...], _given: Given) -> None:
        """`finish_reason_handler`: a stream is at its end, and its last chunk is made."""
        for attempt in self._open_of(stream.logging_obj):
            if attempt.body is not NO_BODY:
                has_reason = any(getattr(stream, name, None) for name in _REASONS)
                attempt.body.has_no_reason = not has_reason

    def answered(self, logging: Any, args: tuple[Any, ...], given: Given) -> None:
        """One of the handlers of success: `(result, start_time, end_time, cache_hit)`."""
        call = self._known.get(logging)
        result = _argument(args, given, 0, "result")
        if call is None:
            return
        if not content.is_whole(result):
            for attempt in call.open[-1:]:
                attempt.characters += content.characters(result)
                attempt.answered_at = time_ns()
            return
        attempt = call.take()
        if attempt is not None:
            if not attempt.is_sent and _argument(args, given, 3, "cache_hit") is True:
                attempt.answered_by = "cache"
            attempt.answered_at = _argument(args, given, 2, "end_time")
            call.ended(attempt, logging, spans.answered(logging, result))

    def failed(self, logging: Any, args: tuple[Any, ...], given: Given) -> None:
        """One of the handlers of failure: `(exception, traceback, start_time, end_time)`."""
        call = self._known.get(logging)
        error = _argument(args, given, 0, "exception")
        attempt = call.take() if call is not None and isinstance(error, BaseException) else None
        if call is not None and attempt is not None:
            # What breaks a stream is wrapped for the router, which tries another model.
            error = getattr(error, "original_exception", None) or error
            attempt.answered_at = _argument(args, given, 3, "end_time")
            call.ended(attempt, logging, spans.failed(logging, error), error)


def _argument(args: tuple[Any, ...], given: Given, position: int, name: str) -> Any:
    return args[position] if len(args) > position else given.get(name)


def _litellm_frames() -> Iterator[tuple[str, FrameType]]:
    """LiteLLM's functions that are being run, by their modules, the innermost first."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("litellm."):
            yield module, frame
        frame = frame.f_back


def _logging_of_sender() -> Any:
    """The `Logging` object of what has just posted a request; None where nothing of ours has."""
    # The last call that began in this task needn't be the one, for some streams are opened when
    # they are first read. Few who post say for which call, but all know.
    for module, frame in _litellm_frames():
        logging = frame.f_locals.get(_LOGGING) if module.startswith(_OWN_HTTP) else None
        if logging is not None or not module.startswith(_OWN_HTTP):
            return logging
    return None


def _calls_a_client() -> bool:
    """Whether what sends the request calls a provider's client for it."""
    # Only the caller's module shows that.
    module = next((name for name, _ in _litellm_frames()), "")
    return module.startswith(_CALL_CLIENTS) or not module.startswith(_OWN_HTTP)
