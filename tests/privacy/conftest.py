"""Real clients on the fake provider, and spans of others on their way to a receiver."""

from fakes.clients import clients, provider
from fakes.pipe import no_long_waits, pipe, receiver

__all__ = ["clients", "no_long_waits", "pipe", "provider", "receiver"]
