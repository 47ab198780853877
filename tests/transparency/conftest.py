"""Real clients on the fake provider."""

from fakes.clients import clients, provider

__all__ = ["clients", "provider"]
