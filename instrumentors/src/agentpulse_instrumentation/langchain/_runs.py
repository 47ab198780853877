"""The runs that are under way, by the ids that LangChain gives them.

The tree is that of the run ids and not of the current spans, which LangChain's own tasks and
threads don't keep.
"""

from __future__ import annotations

import functools
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from opentelemetry import context as context_api
from opentelemetry.trace import SpanKind, set_span_in_context

from agentpulse_instrumentation._engine import nesting, semconv
from agentpulse_instrumentation._engine import operation as op
from agentpulse_instrumentation._engine.body import text, texts
from agentpulse_instrumentation._engine.content import NO_CONTENT, Content
from agentpulse_instrumentation._engine.invocation import Invocation, begin
from agentpulse_instrumentation._engine.operation import Attributes, Operation
from agentpulse_instrumentation._engine.recording import Recording
from agentpulse_instrumentation.langchain._content import read

MOST_ORPHANS = 100
MOST_RUNS = 10_000
"""Runs under way that are known; of more, the one in which nothing began longest is given up."""
About = dict[str, Any]
"""The arguments of a callback beside its first ones."""
_operation_named = functools.cache(Operation)
"""The few that there are, made once."""
_BODY = context_api.create_key("agentpulse-langchain-run")
_INTERNAL_TAGS = ("seq:", "map:", "graph:", "langsmith:", "condition:", "branch:")


@dataclass(eq=False, slots=True)
class Run:
    """A run under way.

    Attributes:
        parent: The run around it.
        inherited: The attributes that the runs inside it take over.
        invocation: Owns its span, or that of the run around it, where it is shown as a part of
            that; None for a call of a model, whose span is made at its end if no client records the
            call.
        is_shown: Whether the span is its own.
        layer: The layer that a model or a retriever is, for the calls of clients underneath.
        about: The request of a model, as LangChain gives it, but for its content.
        content: The captured content of that request.
        first_chunk: When a model's first chunk came, in seconds after the run began.
        started: When it began, in nanoseconds since 1970.
        children: The ids of the runs inside it that are under way.
        process: The id of the process in which it began.
    """

    id: Any
    parent: Run | None
    inherited: Attributes
    invocation: Invocation | None = None
    is_shown: bool = True
    layer: nesting.Layer | None = None
    about: dict[str, Any] | None = None
    content: Content = field(default_factory=dict[str, str])
    first_chunk: float | None = None
    started: int = field(default_factory=time.time_ns)
    children: set[Any] = field(default_factory=set[Any])
    process: int = field(default_factory=os.getpid)

    def context_in(self, ambient: context_api.Context) -> context_api.Context:
        """The context of its body."""
        if self.invocation is None:
            return ambient if self.layer is None else self.layer.context_in(ambient)
        within = set_span_in_context(self.invocation.span, ambient)
        return nesting.within(self.invocation.inside, within)

    def end(self, attributes: Content = NO_CONTENT, error: BaseException | None = None) -> None:
        """Ends its span, where it has one of its own."""
        if self.invocation is not None and self.is_shown:
            failure = None if error is None else op.error_type(error)
            self.invocation.ended(attributes, failure=failure, error=error)


class Runs:
    """Opens and closes runs, in any thread, signal handler and forked child.

    It has no lock, which a handler or a child could wait for in vain: each step on the table of
    runs is one call of it, and nothing that another thread does between two of them breaks either.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._open: OrderedDict[Any, Run] = OrderedDict()
        self._orphans: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, run_id: Any) -> Run | None:
        """The run under way that has the id."""
        return None if run_id is None else self._open.get(run_id)

    def context_for(self, parent: Run | None) -> context_api.Context:
        """The context in which a run inside `parent` begins."""
        ambient = context_api.get_current()
        if parent is None or ambient.get(_BODY) is parent:
            # In the body of the parent, the current span is the parent's or one inside it.
            return ambient
        return parent.context_in(ambient)

    def new(self, about: About) -> Run:
        """A run that begins, inside the one that `about` names.

        It takes over the attributes of those around it, and its own conversation.
        """
        parent = self.get(about.get("parent_run_id"))
        inherited: Attributes = {} if parent is None else dict(parent.inherited)
        metadata = cast("dict[str, Any]", about.get("metadata") or {})
        names = map(metadata.get, ("thread_id", "session_id", "conversation_id"))
        if (value := next(filter(None, map(text, names)), None)) is not None:
            inherited[semconv.CONVERSATION_ID] = value
        return Run(about["run_id"], parent, inherited)

    def open(self, run: Run) -> None:
        """Keeps a run until it ends."""
        self._open[run.id] = run
        if run.parent is not None:
            run.parent.children.add(run.id)
            # Long runs stay known for as long as something begins in them. This one may be over.
            with suppress(KeyError):
                self._open.move_to_end(run.parent.id)
        while len(self._open) > MOST_RUNS:
            _, oldest = self._open.popitem(last=False)
            self._close(oldest)
            oldest.end()

    def start(
        self, run: Run, operation: str, name: str, own: Attributes, capture: Callable[[], Content]
    ) -> None:
        """Starts the span of a run, with its own attributes and the captured content."""
        run.invocation = begin(
            self.recording,
            _operation_named(operation),
            attributes=own,
            name=name,
            kind=SpanKind.CLIENT if operation == "retrieval" else SpanKind.INTERNAL,
            parent=self.context_for(run.parent),
            content=read(capture, NO_CONTENT),
        )
        self.open(run)

    def close(self, run_id: Any) -> Run | None:
        """Removes a run that ended; None if it isn't known, or belongs to the parent process."""
        run = self._open.pop(run_id, None)
        if run is not None:
            self._close(run)
        return run if run is not None and run.process == os.getpid() else None

    def enter_body(self, run_id: Any) -> None:
        """Makes a run's span current in a context that was made for its body."""
        run = self.get(run_id)
        if run is not None and run.invocation is not None:
            context = run.context_in(context_api.get_current())
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
        if run is not None and run.about is not None and run.layer and not run.layer.is_recorded:
            nesting.leave(run.layer)
            self._orphans.append(run_id)
            run_id = self._orphans.popleft() if len(self._orphans) > MOST_ORPHANS else None
        given_up = self.close(run_id)
        if given_up is not None:
            given_up.end()


def labels(about: Mapping[str, Any]) -> Attributes:
    """The run's name and tags, where its user gave it any."""
    found: Attributes = {}
    if (name := text(about.get("name"))) is not None:
        found[semconv.RUN_NAME] = name
    tags = [tag for tag in texts(about.get("tags")) or () if not tag.startswith(_INTERNAL_TAGS)]
    if tags:
        found[semconv.RUN_TAGS] = tags
    return found
