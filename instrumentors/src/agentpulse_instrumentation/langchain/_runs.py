"""The runs that are under way, by the ids that LangChain gives them.

The tree is that of the run ids and not of the current spans, which LangChain's own tasks and
threads don't keep.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content
from agentpulse_instrumentation._engine.nesting import AgentCalls, Inside, Layer
from agentpulse_instrumentation._engine.operation import Attributes, text, texts
from agentpulse_instrumentation._engine.recording import Recording, end_call

MOST_ORPHANS = 100
MOST_RUNS = 10_000
"""Runs under way that are known; of more, the one in which nothing began longest is given up."""
_BODY = context_api.create_key("agentpulse-langchain-run")
_INTERNAL_TAGS = ("seq:", "map:", "graph:", "langsmith:", "condition:", "branch:")


@dataclass(eq=False, slots=True)
class Run:
    """A run under way.

    Attributes:
        span: Its span, or that of the run around it, where it is shown as a part of that; None for
            a call of a model, whose span is made at its end if no client records the call.
        inherited: The attributes that the runs inside it take over.
        is_shown: Whether the span is its own.
        attributes: Those of the span, but for content.
        started: When it began, in nanoseconds since 1970.
        inside: The agent whose run it is, or is a part of.
        calls: Those of its own, where it is an agent.
        layer: The layer that a model or a retriever is, for the calls of clients underneath.
        call: The request of a model.
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
    layer: Layer | None = None
    call: Any = None
    parent: Run | None = None
    children: set[Any] = field(default_factory=set[Any])
    process: int = field(default_factory=os.getpid)


class Runs:
    """Opens and closes runs, in any thread, signal handler and forked child.

    It has no lock, which a handler or a child could wait for in vain: each step on the table of
    runs is one call of it, and nothing that another thread does between two of them breaks either.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._open: OrderedDict[Any, Run] = OrderedDict()
        self._orphans: deque[Any] = deque()

    @property
    def is_recording(self) -> bool:
        """Whether runs that begin now are recorded."""
        return self.recording.active and is_instrumentation_enabled()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, run_id: Any) -> Run | None:
        """The run under way that has the id."""
        return None if run_id is None else self._open.get(run_id)

    def context_for(self, parent: Run | None) -> Context:
        """The context in which a run inside `parent` begins."""
        ambient = context_api.get_current()
        if parent is None or ambient.get(_BODY) is parent:
            # In the body of the parent, the current span is the parent's or one inside it.
            return ambient
        if parent.span is not None:
            return nesting.within(parent.inside, set_span_in_context(parent.span, ambient))
        return ambient if parent.layer is None else parent.layer.context_in(ambient)

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
        content: Content = NO_CONTENT,
    ) -> Run:
        """Starts the span of a run inside the one that `about` names."""
        parent, recording = self.get(about.get("parent_run_id")), self.recording
        context = self.context_for(parent)
        span = recording.tracer.start_span(name, context, kind, {**attributes, **content})
        run = Run(about["run_id"], span, inherited, attributes=attributes)
        run.inside, run.calls = nesting.count(
            attributes.get(semconv.OPERATION_NAME, ""), context, is_measured=recording.metrics.is_on
        )
        self.open(run, parent)
        return run

    def close(self, run_id: Any) -> Run | None:
        """Removes a run that ended; None if it isn't known, or belongs to the parent process."""
        run = self._open.pop(run_id, None)
        if run is None:
            return None
        self._close(run)
        return run if run.process == os.getpid() else None

    def enter_body(self, run_id: Any) -> None:
        """Makes a run's span current in a context that was made for its body."""
        run = self.get(run_id)
        if run is not None and run.span is not None:
            context = set_span_in_context(run.span, context_api.get_current())
            context = nesting.within(run.inside, context)
            context_api.attach(context_api.set_value(_BODY, run, context))

    def _close(self, run: Run) -> None:
        if run.layer is not None:
            nesting.leave(run.layer)
        if run.parent is not None:
            run.parent.children.discard(run.id)
        while run.children:
            self._orphan(run.children.pop())

    def _orphan(self, run_id: Any) -> None:
        """A run is over, but one inside it isn't: its task was cancelled, or its stream closed.

        LangChain reports the end of some of these never. That of a model that streams may still
        come, with the answer so far: where no client records that, a few are kept.
        """
        run = self._open.get(run_id)
        if run is not None and run.call is not None and run.layer and not run.layer.is_recorded:
            nesting.leave(run.layer)
            self._orphans.append(run_id)
            run_id = self._orphans.popleft() if len(self._orphans) > MOST_ORPHANS else None
        given_up = None if run_id is None else self._open.pop(run_id, None)
        if given_up is not None:
            self._give_up(given_up)

    def _give_up(self, run: Run) -> None:
        self._close(run)
        if run.process == os.getpid():
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
            policy=self.recording.policy,
            metrics=self.recording.metrics,
            logger=self.recording.event_logger() if is_call else None,
            error=error,
            calls=run.calls,
        )


def inherited_from(parent: Run | None, about: Mapping[str, Any]) -> Attributes:
    """The attributes that a run takes over from those around it, and its own conversation."""
    inherited: Attributes = {} if parent is None else dict(parent.inherited)
    metadata = cast("dict[str, Any]", about.get("metadata") or {})
    for name in ("thread_id", "session_id", "conversation_id"):
        if (value := text(metadata.get(name))) is not None:
            inherited[semconv.CONVERSATION_ID] = value
            break
    return inherited


def labels(about: Mapping[str, Any]) -> Attributes:
    """The run's name and tags, where its user gave it any."""
    found: Attributes = {}
    if (name := text(about.get("name"))) is not None:
        found[semconv.RUN_NAME] = name
    tags = [tag for tag in texts(about.get("tags")) or () if not tag.startswith(_INTERNAL_TAGS)]
    if tags:
        found[semconv.RUN_TAGS] = tags
    return found
