"""The calls of LiteLLM on their way: what each of its `Logging` objects stands for.

LiteLLM makes one `Logging` object a call and tells it of every step: `pre_call` before a request is
sent, `post_call` when the answer is there, and one or more of its handlers when all is over. An
*attempt* is one request that it sends: retries and fallbacks may share an object. Layers of LiteLLM
(a text completion that is done by chat, Anthropic's API in front of another model) share it too.

What is kept for a call hangs on its `Logging` object, weakly, and goes with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import time_ns
from typing import Any
from weakref import WeakKeyDictionary, ref

from opentelemetry.context import Context, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import get_current_span

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.invocation import STREAM_CUT
from agentpulse_instrumentation._engine.nesting import Layer
from agentpulse_instrumentation._engine.operation import Attributes, Operation
from agentpulse_instrumentation._engine.recording import Unfinished
from agentpulse_instrumentation.litellm._bodies import Body
from agentpulse_instrumentation.litellm._requests import operation_of


@dataclass(slots=True, eq=False)
class Attempt:
    """One request to a provider, or a call that is answered without one."""

    operation: Operation
    started: int = field(default_factory=time_ns)
    """Nanoseconds since 1970."""
    attributes: Attributes = field(default_factory=dict[str, Any])
    is_sent: bool = False
    """Whether a provider was to be asked."""
    answered_by: str | None = None
    """`mock` or `cache`, where no provider was asked."""
    characters: int = 0
    """How much text came so far, as far as the stream tells."""
    messages: Any = None
    raw: str | None = None
    """The body that the provider sent, where LiteLLM logs it."""
    answered_at: int | None = None
    """When the answer was there, or the last chunk of it that came: nanoseconds since 1970."""
    process: int = field(default_factory=os.getpid)
    """In which it began; a child that was forked meanwhile leaves it to that."""
    body: Body | None = None
    """What LiteLLM's own HTTP client received; a client underneath keeps its own to itself."""
    has_no_reason: bool = False
    """Whether LiteLLM made up the reason why a stream ended, for no chunk had one."""

    @property
    def is_billed(self) -> bool:
        """Whether a provider may charge for it."""
        return self.is_sent and self.answered_by is None

    @property
    def failure(self) -> str | None:
        """The `error.type` of what was received, whatever LiteLLM made of it."""
        body = self.body
        if body is None:
            return None
        if body.failure is not None:
            return body.failure
        is_cut = body.is_over and body.is_partial
        if body.operation is None:
            # What its events mean, only LiteLLM knows.
            is_cut = is_cut or self.has_no_reason
        return STREAM_CUT if is_cut else None


class Call:
    """What one `Logging` object stands for."""

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_unfinished",
        "handled",
        "is_mock",
        "layer",
        "open",
        "operation",
        "outer",
        "wraps_calls",
    )

    def __init__(
        self,
        operation: Operation,
        layer: Layer,
        outer: Call | None,
        abandoned: Callable[[Attempt, Context], None],
        unfinished: Unfinished,
    ) -> None:
        self.operation = operation
        self.layer = layer
        self.outer = ref(outer) if outer is not None else None
        self.is_mock = False
        self.wraps_calls = False
        """Whether LiteLLM made other calls for this one."""
        # What was being handled when the call began has nothing to do with it. The exception itself
        # would keep the frames of its traceback alive, and with them the `Logging` object.
        self.handled = id(sys.exception())
        # Emptied by popping, which is atomic: threads and tasks may tell of one end at once.
        self.open = [Attempt(operation)]
        self._abandoned = abandoned
        self._unfinished = unfinished
        unfinished.add(self)

    @property
    def context(self) -> Context:
        """The context that its spans belong to."""
        return self.layer.context

    def take(self) -> Attempt | None:
        """The attempt that is under way, which is over with that. None for one of the parent's."""
        try:
            attempt = self.open.pop()
        except IndexError:
            return None
        return attempt if attempt.process == os.getpid() else None

    def mark_layers(self) -> None:
        """Tells the calls of LiteLLM that this one is made for that it is their work."""
        outer = self.outer and self.outer()
        while outer is not None:
            outer.wraps_calls = True
            outer = outer.outer and outer.outer()

    def __del__(self) -> None:
        self._unfinished.discard(self)
        self.left()

    def left(self) -> None:
        """Nobody will tell of its end any more."""
        attempt = self.take()
        if attempt is not None and attempt.is_sent and not self.layer.is_recorded:
            self._abandoned(attempt, self.context)


_current: ContextVar[ref[Call] | None] = ContextVar("agentpulse_litellm", default=None)
"""The call that began last in this thread or task."""


class Calls:
    """The calls that are known, by their `Logging` object."""

    __slots__ = ("_abandoned", "_known", "_unfinished")

    def __init__(
        self, abandoned: Callable[[Attempt, Context], None], unfinished: Unfinished
    ) -> None:
        """`abandoned` is called with the attempts whose end LiteLLM never logs."""
        self._abandoned = abandoned
        self._unfinished = unfinished
        self._known: WeakKeyDictionary[object, Call | None] = WeakKeyDictionary()

    def begin(self, logging: Any, given: Any) -> None:
        """A call begins: this runs in the caller's thread or task, the only step that surely does.

        It is recorded, or a client underneath; either way the call of the layers above is.
        """
        operation = operation_of(logging)
        if operation is None or not is_instrumentation_enabled():
            self._known[logging] = None
            return
        ambient = get_current()
        facts: Attributes = {semconv.REQUEST_MODEL: logging.model}
        context = nesting.begin_call(operation.name, ambient, facts).context
        del facts[semconv.REQUEST_MODEL]
        layer = Layer(ambient, get_current_span(context), facts, operation=operation.name)
        # It is opened when a client is about to be called.
        layer.open = False
        nesting.enter(layer)
        current = _current.get()
        outer = current and current()
        call = Call(operation, layer, outer, self._abandoned, self._unfinished)
        call.is_mock = any(
            given.get(name) is not None for name in ("mock_response", "mock_tool_calls")
        )
        self._known[logging] = call
        _current.set(ref(call))

    def of(self, logging: Any | None) -> Call | None:
        """The call that an object stands for."""
        return None if logging is None else self._known.get(logging)

    def adopt(self, logging: Any) -> Call | None:
        """The call of an object that was copied from the one that it began with."""
        if logging in self._known or operation_of(logging) is None:
            return self._known.get(logging)
        current = _current.get()
        call = self._known[logging] = current and current()
        return call
