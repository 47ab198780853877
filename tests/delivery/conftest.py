"""Spans through our processor to a receiver."""

from fakes.pipe import no_long_waits, pipe, receiver

__all__ = ["no_long_waits", "pipe", "receiver"]
