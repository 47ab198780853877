"""A program under AgentPulse, and the events that it reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider

import agentpulse

Events = Callable[[], list[dict[str, Any]]]
Init = Callable[..., Events]


def start(receiver: Receiver, provider: TracerProvider, **options: Any) -> Events:
    """Switches AgentPulse on; what is returned gives the events that came, but for `sdk_init`."""
    given = {"heartbeat_interval": 0, "auto_patch": False, "tracer_provider": provider, **options}
    agentpulse.init(endpoint=receiver.url, **given)

    def events() -> list[dict[str, Any]]:
        assert agentpulse.flush()
        return [event for event in receiver.events if event["kind"] != "sdk_init"]

    return events
