"""Watches the steps of LiteLLM's calls, and tells the end of each attempt once."""

from __future__ import annotations

import inspect
import sys
from time import time_ns
from types import FrameType
from typing import Any, cast

from opentelemetry.context import Context

from agentpulse_instrumentation._engine.nesting import Layer
from agentpulse_instrumentation._engine.operation import Attributes, get, text
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation._shield import shield
from agentpulse_instrumentation.litellm._answers import chunk_characters, is_whole
from agentpulse_instrumentation.litellm._bodies import Body
from agentpulse_instrumentation.litellm._calls import Attempt, Call, Calls
from agentpulse_instrumentation.litellm._requests import request_attributes
from agentpulse_instrumentation.litellm._spans import Spans

_END = shield("end a call of LiteLLM")
# The packages of LiteLLM that send requests with the openai client; the others have LiteLLM's own
# HTTP client, and a provider's client that is called meanwhile is not theirs.
_CALL_CLIENTS = ("litellm.llms.openai.", "litellm.llms.azure.")
_OWN_HTTP = "litellm.llms."
_MOCK_KEY = "mock-key"
"""What LiteLLM says the key is before it answers with a mock (`mock_completion`)."""

_LOGGING = "logging_obj"
"""What the functions that send a request call the `Logging` object."""
_REASONS = (
    "received_finish_reason",
    "intermittent_finish_reason",
    "received_any_finish_reason",
)
"""What a stream knows of why it ended; the last is younger than what is supported."""

_PENDING = (inspect.iscoroutine, inspect.isgenerator, inspect.isasyncgen)

Given = dict[str, Any]


class Observer:
    """What each step of a `Logging` object means. The methods have the arguments of the steps."""

    __slots__ = ("_calls", "_spans", "recording")

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        """What it records for."""
        self._spans = Spans(recording)
        self._calls = Calls(self._abandoned, recording.unfinished)

    def begun(self, logging: Any, given: Given, _result: None) -> None:
        """`__init__`, after it."""
        self._calls.begin(logging, given.get("kwargs") or {})

    def sending(self, logging: Any, _args: tuple[Any, ...], given: Given) -> None:
        """`pre_call`: a request is about to be sent."""
        call = self._calls.adopt(logging)
        if call is None:
            return
        before = call.take()
        if before is not None and before.is_sent and not self._close(call, before, logging):
            call.open.append(before)
            return
        details = cast("dict[str, Any]", given.get("additional_args") or {})
        attempt = Attempt(
            call.operation,
            attributes=request_attributes(logging, call.operation, details.get("api_base")),
            is_sent=True,
            answered_by="mock" if call.is_mock or given.get("api_key") == _MOCK_KEY else None,
            messages=getattr(logging, "messages", None),
        )
        _add(call.layer.facts, attempt)
        call.mark_layers()
        call.open.append(attempt)
        if attempt.is_billed and _calls_a_client():
            body: Any = details.get("complete_input_dict")
            _open(call.layer, text(get(body, "model")) or text(logging.model_call_details["model"]))

    def _close(self, call: Call, attempt: Attempt, logging: Any) -> bool:
        """Whether an attempt is over because another request is sent; if so, records it.

        LiteLLM tries some calls again without a word, and some of its handlers are called twice for
        one request.
        """
        error = sys.exception()
        if error is not None and id(error) != call.handled:
            # A sync call is tried again in the middle of handling what it raised.
            self._failed(call, attempt, logging, error)
        elif attempt.raw is None:
            return False
        elif self._is_ours(call, attempt, logging):
            self._spans.unfinished(attempt, call.context)
        return True

    def got(self, logging: Any, _args: tuple[Any, ...], given: Given) -> None:
        """`post_call`: the provider has answered."""
        call, raw = self._calls.of(logging), given.get("original_response")
        if call is None or any(is_pending(raw) for is_pending in _PENDING):
            # Some requests are logged before they are sent: by a coroutine that nobody has awaited
            # yet, or a generator that nobody has read from.
            return
        call.layer.open = False
        for attempt in call.open[-1:]:
            if isinstance(raw, str):
                attempt.raw, attempt.answered_at = raw, time_ns()

    def received(self, _handler: Any, _given: Given, response: Any) -> None:
        """`post` of LiteLLM's own HTTP client, after it."""
        call = self._calls.of(_logging_of_sender())
        for attempt in () if call is None else call.open[-1:]:
            attempt.body = Body(response)

    def finishing(self, stream: Any, _args: tuple[Any, ...], _given: Given) -> None:
        """`finish_reason_handler`: a stream is at its end, and its last chunk is made."""
        if any(getattr(stream, name, None) for name in _REASONS):
            return
        call = self._calls.of(stream.logging_obj)
        for attempt in () if call is None else call.open[-1:]:
            attempt.has_no_reason = True

    def answered(self, logging: Any, args: tuple[Any, ...], given: Given) -> None:
        """One of the handlers of success: `(result, start_time, end_time, cache_hit)`."""
        call = self._calls.of(logging)
        result = _argument(args, given, 0, "result")
        if call is None:
            return
        if not is_whole(result):
            for attempt in call.open[-1:]:
                attempt.characters += chunk_characters(result)
                attempt.answered_at = time_ns()
            return
        attempt = call.take()
        if attempt is None:
            return
        if not attempt.is_sent:
            attempt.answered_by = _answered_by(call, _argument(args, given, 3, "cache_hit"))
        if self._is_ours(call, attempt, logging):
            end = _argument(args, given, 2, "end_time")
            self._spans.answered(attempt, call.context, logging, result, end)

    def failed(self, logging: Any, args: tuple[Any, ...], given: Given) -> None:
        """One of the handlers of failure: `(exception, traceback, start_time, end_time)`."""
        call = self._calls.of(logging)
        error = _argument(args, given, 0, "exception")
        attempt = call.take() if call is not None and isinstance(error, BaseException) else None
        if call is not None and attempt is not None:
            self._failed(call, attempt, logging, error, _argument(args, given, 3, "end_time"))

    def _failed(
        self, call: Call, attempt: Attempt, logging: Any, error: BaseException, end: object = None
    ) -> None:
        if not attempt.is_sent:
            attempt.answered_by = _answered_by(call, None)
        if self._is_ours(call, attempt, logging):
            self._spans.failed(attempt, call.context, logging, error, end)

    def _is_ours(self, call: Call, attempt: Attempt, logging: Any) -> bool:
        """Whether the attempt, which is over, is recorded by this layer."""
        was_recorded, call.layer.open = call.layer.is_recorded, False
        call.layer.is_recorded = False
        if attempt.is_sent:
            return not was_recorded
        if attempt.answered_by is None and call.wraps_calls:
            return False
        # Of what never was a request, all is read at its end.
        attempt.attributes = request_attributes(logging, attempt.operation)
        _add(call.layer.facts, attempt)
        call.mark_layers()
        return True

    def _abandoned(self, attempt: Attempt, context: Context) -> None:
        if self.recording.active:
            with _END:
                self._spans.unfinished(attempt, context)


def _argument(args: tuple[Any, ...], given: Given, position: int, name: str) -> Any:
    return args[position] if len(args) > position else given.get(name)


def _add(facts: Attributes, attempt: Attempt) -> None:
    for name, value in facts.items():
        attempt.attributes.setdefault(name, value)


def _answered_by(call: Call, cache_hit: object) -> str | None:
    if cache_hit is True:
        return "cache"
    return "mock" if call.is_mock else None


def _open(layer: Layer, model: str | None) -> None:
    layer.model = model
    layer.is_recorded = False
    layer.open = True


def _logging_of_sender() -> Any:
    """The `Logging` object of what has just posted a request; None where nothing of ours has."""
    # The last call that began in this task needn't be the one, for some streams are opened when
    # they are first read. Few who post say for which call, but all know.
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("litellm."):
            if not module.startswith(_OWN_HTTP):
                return None
            logging = frame.f_locals.get(_LOGGING)
            if logging is not None:
                return logging
        frame = frame.f_back
    return None


def _calls_a_client() -> bool:
    """Whether what sends the request calls a provider's client for it."""
    # The caller's module is all that tells.
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("litellm."):
            return module.startswith(_CALL_CLIENTS) or not module.startswith(_OWN_HTTP)
        frame = frame.f_back
    return True
