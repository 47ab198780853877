"""Unique texts for every place that may hold content, and a look at all that leaves a process."""

from __future__ import annotations

import itertools
import json
import logging
from typing import Any, Self

import pytest
from fakes.logs import Logs
from fakes.provider import Change, FakeProvider, Reply
from fakes.receiver import Receiver
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentpulse

MARK = "canary"


class Canaries:
    """Texts by the places that they were put into: `canaries("system prompt")`."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def __call__(self, place: str) -> str:
        if place not in self.places:
            self.places[place] = f"{MARK}-{next(self._numbers):03}-of-the-{place.replace(' ', '-')}"
        return self.places[place]

    def within(self, text: str) -> set[str]:
        """The places whose text is in there."""
        return {place for place, canary in self.places.items() if canary in text}


class Watched:
    """A program under AgentPulse whose every way out is looked at; a context manager."""

    def __init__(self, log: pytest.LogCaptureFixture, **options: Any) -> None:
        self.canaries = Canaries()
        self.receiver, self.provider = Receiver(), FakeProvider()
        self._log, self._options = log, options
        self._memory = InMemorySpanExporter()
        self._logs = Logs()

    def __enter__(self) -> Self:
        for logger in ("agentpulse", "opentelemetry"):
            self._log.set_level(logging.DEBUG, logger)
        self.receiver.__enter__()
        self.provider.__enter__()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self._memory))
        set_logger_provider(self._logs.provider)
        agentpulse.init(
            endpoint=self.receiver.url, tracer_provider=tracers, debug=True, **self._options
        )
        return self

    def __exit__(self, *error: object) -> None:
        agentpulse.shutdown()
        self.provider.__exit__(*error)
        self.receiver.__exit__(*error)

    def fails(self, place: str, status: int = 400) -> Change:
        """An answer that is an error and repeats what was written."""
        text = self.canaries(place)
        error = {"type": f"of {text}", "code": None, "message": text, "param": text}
        return lambda _reply: Reply({"type": "error", "error": error}, status=status)

    def events(self) -> list[dict[str, Any]]:
        """What arrived until now."""
        assert agentpulse.flush()
        return self.receiver.events

    def sent(self) -> str:
        """All that was uploaded."""
        assert agentpulse.flush()
        return "\n".join(
            json.dumps([request["path"], request["headers"], request["body"]], ensure_ascii=False)
            for request in self.receiver.requests
        )

    def logged(self) -> str:
        """All that our loggers and OpenTelemetry's stated, at any level."""
        ours = ("agentpulse", "opentelemetry")
        records = (each for each in self._log.records if each.name.startswith(ours))
        return "\n".join(self._log.handler.format(record) for record in records)

    def exported(self) -> str:
        """The spans as another exporter of the same provider gets them."""
        return "\n".join(span.to_json() for span in self._memory.get_finished_spans())

    def emitted(self) -> str:
        """The log events as the program's logger provider gets them."""
        return self._logs.text()
