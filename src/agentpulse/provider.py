"""The tracer provider that our span processor is added to: the one that is there, or else our own.

OpenTelemetry's global provider can be set once in a process, so our own is made once and used again
by every later `init`. Private names of the SDK are touched in this module only.
"""

from __future__ import annotations

import atexit
import os
from typing import TypeGuard

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.util.types import AttributeValue

from agentpulse.errors import SettingTypeError
from agentpulse.logs import logger, warn_once

_own: TracerProvider | None = None


class UrandomIds(IdGenerator):
    """Ids from the operating system.

    The SDK takes them from `random`, where a program that seeds it repeats the ids of its last run.
    """

    def generate_span_id(self) -> int:
        """Eight random bytes, not all zero."""
        return int.from_bytes(os.urandom(8)) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """Sixteen random bytes, not all zero."""
        return int.from_bytes(os.urandom(16)) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Lets samplers of other services rely on the id."""
        return True


def takes_processors(provider: object) -> TypeGuard[TracerProvider]:
    """Whether it is the SDK's provider, or stands in for it, as logfire's proxy does."""
    return callable(getattr(provider, "add_span_processor", None))


def verify_provider(provider: object) -> TracerProvider:
    """The provider that was passed to `init`.

    Raises:
        SettingTypeError: it doesn't take span processors.
    """
    if not takes_processors(provider):
        complaint = (
            f"The argument tracer_provider is a {_name(provider)}, which takes no span processors; "
            "expected a TracerProvider of the OpenTelemetry SDK."
        )
        raise SettingTypeError(complaint)
    return provider


def find_provider(agent_name: str) -> TracerProvider:
    """The global provider, which is made and set where there is none.

    Where the global one takes no span processors, ours is kept beside it, for our spans alone.
    """
    current = trace.get_tracer_provider()
    if isinstance(current, trace.ProxyTracerProvider):
        trace.set_tracer_provider(_our_own(agent_name))
        # Another thread may have been faster; then its provider is the global one.
        current = trace.get_tracer_provider()
    if takes_processors(current):
        return current
    warn_once(
        f"The global tracer provider is a {_name(current)}, which takes no span processors, so "
        "AgentPulse records LLM calls on a provider of its own, apart from your traces. To join "
        "them, pass tracer_provider= a TracerProvider of the OpenTelemetry SDK."
    )
    return _our_own(agent_name)


def detach(provider: TracerProvider, processor: SpanProcessor) -> None:
    """Takes a processor off a provider; where the SDK changed so that we can't, it stays, inert."""
    active = getattr(provider, "_active_span_processor", None)
    lock = getattr(active, "_lock", None)
    attached: object = getattr(active, "_span_processors", None)
    if active is None or lock is None or not isinstance(attached, tuple):
        logger.debug("AgentPulse's span processor stays on %s, inert", _name(provider))
        return
    with lock:
        others = tuple(other for other in active._span_processors if other is not processor)  # noqa: SLF001  # the SDK can add processors, but not remove them
        active._span_processors = others  # noqa: SLF001


def _our_own(agent_name: str) -> TracerProvider:
    global _own  # noqa: PLW0603  # as OpenTelemetry's, it is one for the process
    if _own is None:
        _own = TracerProvider(
            resource=Resource.create(naming(agent_name)),
            id_generator=UrandomIds(),
            shutdown_on_exit=False,
        )
        atexit.register(_own.shutdown)
    return _own


def naming(agent_name: str) -> dict[str, AttributeValue]:
    """The resource attributes that name the program, where no standard variable does."""
    name = str(Resource.create().attributes.get(SERVICE_NAME, ""))
    # The SDK's placeholder.
    return {SERVICE_NAME: agent_name} if name.startswith("unknown_service") else {}


def _name(provider: object) -> str:
    return f"{type(provider).__module__}.{type(provider).__qualname__}"
