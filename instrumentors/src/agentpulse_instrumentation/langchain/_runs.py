"""The runs that are under way, by the ids that LangChain gives them.

The tree is that of the run ids and not of the current spans, which LangChain's own tasks and
threads don't keep.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.content import NOTHING_SAID, Said
from agentpulse_instrumentation._engine.instrumentor import Wanted
from agentpulse_instrumentation._engine.invocation import end_call
from agentpulse_instrumentation._engine.nesting import AgentCalls, Inside, Place
from agentpulse_instrumentation._engine.operation import Attributes

MOST_ORPHANS = 100
MOST_RUNS = 10_000
"""Runs under way that are known; of more, the one in which nothing began longest is given up."""
_BODY = context_api.create_key("agentpulse-langchain-run")


@dataclass(eq=False, slots=True)
class Run:
    """A run under way.

    Attributes:
        span: Its span, or that of the run around it, where it is shown as a part of that; None for
            a call of a model, which has a span only if nothing underneath tells of it.
        inherited: What the runs inside it take over.
        is_shown: Whether the span is its own.
        attributes: What the span was given, but for content.
        started: When it began, in nanoseconds since 1970.
        inside: The agent whose run it is, or is a part of.
        calls: Those of its own, where it is an agent.
        place: Where its model or its retriever is at work.
        call: What is known of a call of a model.
        parent: The run around it.
        children: The ids of the runs inside it that are under way.
        process: The id of the process in which it began.
    """

    id: Any
    span: Span | None = None
    inherited: Attributes = field(default_factory=dict[str, Any])
    is_shown: bool = True
    attributes: Attributes = field(default_factory=dict[str, Any])
    started: int = field(default_factory=time.time_ns)
    inside: Inside | None = None
    calls: AgentCalls | None = None
    place: Place | None = None
    call: Any = None
    parent: Run | None = None
    children: set[Any] = field(default_factory=set[Any])
    process: int = field(default_factory=os.getpid)

    @property
    def began_here(self) -> bool:
        """Whether it began in this process, and not in the one that this was forked from."""
        return self.process == os.getpid()


class Runs:
    """Opens and closes runs, in any thread, signal handler and forked child.

    It has no lock, which a handler or a child could wait for in vain: each step on the table of
    runs is one call of it, and what another thread does between two of them breaks neither.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._open: OrderedDict[Any, Run] = OrderedDict()
        self._orphans: deque[Any] = deque()

    @property
    def is_recording(self) -> bool:
        """Whether runs that begin now are recorded."""
        return self.wanted.active and is_instrumentation_enabled()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, run_id: Any) -> Run | None:
        """The run under way that has the id."""
        return None if run_id is None else self._open.get(run_id)

    def context_for(self, parent: Run | None) -> Context:
        """The context in which a run inside `parent` begins."""
        ambient = context_api.get_current()
        if parent is None or ambient.get(_BODY) is parent:
            # In the body of the parent, what is current there is the parent or something inside it.
            return ambient
        if parent.span is not None:
            return nesting.within(parent.inside, set_span_in_context(parent.span, ambient))
        return ambient if parent.place is None else parent.place.context_in(ambient)

    def open(self, run: Run, parent: Run | None) -> None:
        """Keeps a run until it ends."""
        run.parent = parent
        self._open[run.id] = run
        if parent is not None:
            parent.children.add(run.id)
            # Long runs stay known for as long as something begins in them. This one may be over.
            with suppress(KeyError):
                self._open.move_to_end(parent.id)
        while len(self._open) > MOST_RUNS:
            self._give_up(self._open.popitem(last=False)[1])

    def start(
        self,
        about: dict[str, Any],
        name: str,
        attributes: Attributes,
        inherited: Attributes,
        kind: SpanKind = SpanKind.INTERNAL,
        said: Said = NOTHING_SAID,
    ) -> Run:
        """Starts the span of a run inside the one that `about` names."""
        parent = self.get(about.get("parent_run_id"))
        context = self.context_for(parent)
        span = self.wanted.tracer.start_span(name, context, kind, {**attributes, **said})
        run = Run(about["run_id"], span, inherited, attributes=attributes)
        self._place(run, nesting.inside(context))
        self.open(run, parent)
        return run

    def _place(self, run: Run, around: Inside | None) -> None:
        """Notes the agent that a run is a part of, and counts the run where it is a tool."""
        operation = run.attributes.get(semconv.OPERATION_NAME)
        run.inside = around
        if operation == "invoke_agent" and self.wanted.metrics.is_on:
            run.calls = AgentCalls()
            run.inside = Inside(run.calls)
        elif operation == "execute_tool" and around is not None:
            run.inside = around.in_tool()

    def close(self, run_id: Any) -> Run | None:
        """Takes a run off that ended; None if it isn't known, or another process tells of it."""
        run = self._open.pop(run_id, None)
        if run is None:
            return None
        self._close(run)
        return run if run.began_here else None

    def enter_body(self, run_id: Any) -> None:
        """Makes a run's span current in a context that was made for its body."""
        run = self.get(run_id)
        if run is not None and run.span is not None:
            context = set_span_in_context(run.span, context_api.get_current())
            context = nesting.within(run.inside, context)
            context_api.attach(context_api.set_value(_BODY, run, context))

    def _close(self, run: Run) -> None:
        if run.place is not None:
            nesting.leave(run.place)
        if run.parent is not None:
            run.parent.children.discard(run.id)
        while run.children:
            self._leave_behind(run.children.pop())

    def _leave_behind(self, run_id: Any) -> None:
        """A run is over, but one inside it isn't: its task was cancelled, or its stream left.

        Of some of these LangChain never tells the end. That of a model that streams may still come,
        with what was answered until then: where no client tells of that, a few are kept.
        """
        run = self._open.get(run_id)
        if (
            run is not None
            and run.place is not None
            and run.call is not None
            and not run.place.told
        ):
            nesting.leave(run.place)
            self._orphans.append(run_id)
            run_id = self._orphans.popleft() if len(self._orphans) > MOST_ORPHANS else None
        left = None if run_id is None else self._open.pop(run_id, None)
        if left is not None:
            self._give_up(left)

    def _give_up(self, run: Run) -> None:
        self._close(run)
        if run.began_here:
            self.finish(run)

    def finish(self, run: Run, error: BaseException | None = None) -> None:
        """Ends the span of a run that has one of its own, and measures the run."""
        if run.span is None or not run.is_shown:
            return
        # Of runs that have a span, these are calls of a client.
        is_call = run.attributes.get(semconv.OPERATION_NAME) == "retrieval"
        end_call(
            run.span,
            run.attributes,
            (time.time_ns() - run.started) / 1e9,
            policy=self.wanted.policy,
            metrics=self.wanted.metrics,
            logger=self.wanted.event_logger() if is_call else None,
            error=error,
            calls=run.calls,
        )


def inherited_from(parent: Run | None, about: dict[str, Any]) -> Attributes:
    """What a run takes over from those around it, and what its own configuration adds."""
    inherited: Attributes = {} if parent is None else dict(parent.inherited)
    metadata = cast("dict[str, Any]", about.get("metadata") or {})
    for name in ("thread_id", "session_id", "conversation_id"):
        value = metadata.get(name)
        if isinstance(value, str) and value:
            inherited[semconv.CONVERSATION_ID] = value
            break
    return inherited
