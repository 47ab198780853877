"""The tracer provider that our span processor is added to: the one that is there, or else our own.

OpenTelemetry's global provider can be set once in a process, so our own is made once and used again
by every later `init`.
"""

from __future__ import annotations

import atexit
import os
from typing import TypeGuard

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.util.types import AttributeValue

from agentpulse import __version__
from agentpulse._otel.environment import warn_once
from agentpulse.errors import SettingTypeError


def class_name(thing: object) -> str:
    """The full name of its class."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def behind(provider: object) -> object:
    """The provider that this one stands in for, as logfire's proxy does; else itself."""
    return (
        provider
        if isinstance(provider, TracerProvider)
        else getattr(provider, "provider", provider)
    )


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
    """Whether it is the SDK's provider, or stands in for one, as logfire's proxy does."""
    return all(
        callable(getattr(each, "add_span_processor", None)) for each in (provider, behind(provider))
    )


def is_our_own(provider: object) -> bool:
    """Whether it is the one that AgentPulse made."""
    return provider is _own


def verify_provider(provider: object) -> TracerProvider:
    """The provider that was passed to `init`.

    Raises:
        SettingTypeError: it doesn't take span processors.
    """
    if takes_processors(provider):
        return provider
    inner, found = behind(provider), class_name(provider)
    expected = "a TracerProvider of the OpenTelemetry SDK"
    if inner is not provider:
        found += f" that stands in for a {class_name(inner)}"
        expected += (
            ", or one that is set up by now: call logfire.configure() before agentpulse.init"
        )
    complaint = (
        f"The argument tracer_provider is a {found}, which takes no span processors; "
        f"expected {expected}."
    )
    raise SettingTypeError(complaint)


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
        f"The global tracer provider is a {class_name(current)}, which takes no span processors, "
        "so AgentPulse records LLM calls on a provider of its own, apart from your traces. To join "
        "them, pass tracer_provider= a TracerProvider of the OpenTelemetry SDK."
    )
    return _our_own(agent_name)


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
    """The resource attributes that name us, and the program where no standard variable does."""
    name = str(Resource.create().attributes.get(SERVICE_NAME, ""))
    ours: dict[str, AttributeValue] = {
        "telemetry.distro.name": "agentpulse-sdk",
        "telemetry.distro.version": __version__,
    }
    # The SDK's placeholder.
    return {SERVICE_NAME: agent_name, **ours} if name.startswith("unknown_service") else ours
