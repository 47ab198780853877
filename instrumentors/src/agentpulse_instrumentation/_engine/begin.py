"""`begin`, by which every layer begins its spans.

The clients of one request method, frameworks that learn of a call when it is over, and
instrumentors that are written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import (
    SpanKind,
)

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.content import Content
from agentpulse_instrumentation._engine.instrumentor import Recording
from agentpulse_instrumentation._engine.invocation import Invocation
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    Operation,
)
from agentpulse_instrumentation._shield import shield

_NOTHING: Mapping[str, Any] = {}
_BEGIN = shield("begin a span")


def begin(
    recording: Recording,
    operation: Operation,
    request: Mapping[str, Any] = _NOTHING,
    attributes: Mapping[str, Any] = _NOTHING,
    *,
    stream: bool = False,
    name: str | None = None,
    kind: SpanKind = SpanKind.CLIENT,
    parent: Context | None = None,
    start_time: int | None = None,
    content: Content | None = None,
    captures: bool = True,
) -> Invocation:
    """Begins an operation: starts its span, with all that is known of the request.

    The span belongs to the layer above, where one is under way (a chain, an agent), and is counted
    as one call of the agent around it. Content is captured only where the user asked for it.

    Never raises. Where nothing is recorded (instrumentation was taken back, or is suppressed here),
    the invocation that it returns does nothing.

    Args:
        recording: What `LibraryInstrumentor.patch` was given.
        operation: What is being done; its tables read the request and the answer.
        request: The request as JSON, which is read and never changed.
        attributes: Attributes of the span that are no part of the request: the provider's name, the
            address of its server.
        stream: Whether the answer comes in pieces.
        name: The span's name; None for the operation and its model.
        kind: Of the span. Only the spans of a client (`CLIENT`) have log events.
        parent: The context that the span belongs to, for layers that learn of a call when it is
            over; None for the current one, or that of the layer above.
        start_time: When it began, in nanoseconds since 1970; None for now.
        content: The content of the request, as the policy captured it earlier; None to read it from
            the request now.
        captures: False where content must not be captured, whatever the user's settings are.
    """
    invocation = Invocation(recording, operation)
    with _BEGIN:
        around = context_api.get_current()
        is_late = start_time is not None
        if recording.active and (not around or is_late or is_instrumentation_enabled()):
            if not captures:
                invocation.policy = recording.policy.silenced()
            known: Attributes = {**attributes, **operation.constants}
            # Some spans are no operation of the conventions.
            if operation.name:
                known[semconv.OPERATION_NAME] = operation.name
            if stream:
                known[semconv.REQUEST_STREAM] = True
            invocation.read(request, known, content, is_client=kind is SpanKind.CLIENT)
            invocation.start(name, kind, around, parent, start_time)
    return invocation
