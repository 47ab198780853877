"""Where the program is: the session, cron run and agent around what happens now.

It travels in OpenTelemetry's context, so it follows `await`, tasks, and the threads and executors
that the threading instrumentor knows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from agentpulse_exporter import _semconv as semconv
from opentelemetry import context as context_api
from opentelemetry.context import Context

from agentpulse._tracing.description import Description, SessionOptions
from agentpulse._tracing.values import attribute, label

MOST_METADATA = 64
"""Values of metadata that spans carry, at most. By OpenTelemetry's default a span has room for 128
attributes, and those that came first, which say what it is, give way to what is too much."""
_LEFT_OUT = f"{semconv.METADATA_PREFIX}…"
_KEY = context_api.create_key("agentpulse-scope")


class Run:
    """One run of a session or a cron job, and what every span under it is stamped with."""

    __slots__ = ("ancestors", "id", "name", "stamp")

    def __init__(
        self,
        description: Description,
        options: SessionOptions,
        around: Run | None,
        defaults: Mapping[str, Any],
    ) -> None:
        self.name = description.name
        self.id = options.id or f"{description.name}:{os.urandom(6).hex()}"
        self.ancestors: tuple[str, ...] = () if around is None else (around.id, *around.ancestors)
        inherited = defaults if around is None else around.stamp
        self.stamp: dict[str, Any] = {
            name: value
            for name, value in inherited.items()
            if name == semconv.USER_ID or name.startswith(semconv.METADATA_PREFIX)
        }
        self.stamp[semconv.SESSION_ID] = self.id
        self.stamp[semconv.SESSION_NAME] = self.name
        if self.ancestors:
            self.stamp[semconv.SESSION_ANCESTORS] = self.ancestors
        self.set_user(options.user)
        self.set_metadata(options.metadata or {})

    def set_user(self, user: str | None) -> None:
        """From here on, spans under it carry this user."""
        if user is not None:
            self.stamp = {**self.stamp, semconv.USER_ID: str(user)}

    def set_metadata(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """From here on, spans under it carry these values too; they are returned as attributes."""
        told = metadata_attributes(values, beside=self.stamp)
        self.stamp = {**self.stamp, **told}
        return told


def metadata_attributes(values: Mapping[str, Any], *, beside: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as span attributes, beside others. What is None is left out.

    So is what there is no room for: the value `…` stands for it.
    """
    told: dict[str, Any] = {}
    room = MOST_METADATA - sum(name.startswith(semconv.METADATA_PREFIX) for name in beside)
    for given, value in values.items():
        if value is None:
            continue
        name = semconv.METADATA_PREFIX + label(given)
        if name not in beside and name not in told:
            if room <= 0:
                told[_LEFT_OUT] = "…"
                continue
            room -= 1
        told[name] = attribute(value)
    return told


class Scope:
    """One step inwards: a span of ours that is current, with what it is a part of."""

    __slots__ = ("agent", "is_over", "outer", "run")

    def __init__(self, outer: Scope | None, run: Run | None, agent: str | None) -> None:
        self.outer = outer
        self.run = run
        self.agent = agent
        self.is_over = False

    @property
    def still_open(self) -> Scope | None:
        """This one, or the innermost around it that is not over.

        What a callback or a timer begins is inside whatever set it up, which may be over: a job
        that sets up its next run each time must not end up inside all its earlier runs.
        """
        scope: Scope | None = self
        while scope is not None and scope.is_over:
            scope = scope.outer
        return scope

    def contains(self, inner: Scope | None) -> bool:
        """Whether `inner` is this one, or inside it."""
        while inner is not None:
            if inner is self:
                return True
            inner = inner.outer
        return False


def scope_of(context: Context) -> Scope | None:
    """The innermost scope of a context."""
    found = context.get(_KEY)
    return found if isinstance(found, Scope) else None


def within(scope: Scope, context: Context) -> Context:
    """The context with this as its innermost scope."""
    return context_api.set_value(_KEY, scope, context)
