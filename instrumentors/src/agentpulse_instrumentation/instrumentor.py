"""Instrumentors that patch a library when it is imported, and take every patch back.

Nothing is imported for the user: a library that is loaded already is patched at once, any other by
an import hook on the module that defines what is patched (`import openai` alone loads no resource
modules). Hooks can't be unregistered, so each asks whether it is still wanted, and one that fails
doesn't fail the user's import.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import sys
from abc import abstractmethod
from collections.abc import Callable, Collection
from types import FunctionType, ModuleType
from typing import Any, cast

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation._version import VERSION
from agentpulse_instrumentation.events import EventLogger, Events
from agentpulse_instrumentation.imports import when_imported
from agentpulse_instrumentation.kill_switch import is_enabled
from agentpulse_instrumentation.metrics import Metrics
from agentpulse_instrumentation.policy import ContentPolicy
from agentpulse_instrumentation.shield import shield
from agentpulse_instrumentation.unfinished import Unfinished

_PATCH = shield("patch a library")


class Patches:
    """What was replaced, so that exactly that is put back."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []
        self._added: list[tuple[list[Any], object]] = []

    def __bool__(self) -> bool:
        return bool(self._done or self._added)

    def add(self, to: list[Any], item: object) -> None:
        """Appends the item to a list of the library's."""
        to.append(item)
        self._added.append((to, item))

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces `owner.name` by what `make` makes of it."""
        original = cast("Any", vars(owner)[name])
        replacement = make(_method(original) if isinstance(owner, type) else original)
        self._done.append((owner, name, original, replacement))
        setattr(owner, name, replacement)

    def undo(self) -> None:
        """Puts the originals back, newest first; what somebody else replaced since is theirs."""
        while self._done:
            owner, name, original, replacement = self._done.pop()
            if getattr(owner, "__dict__", {}).get(name) is replacement:
                setattr(owner, name, original)
        while self._added:
            added_to, item = self._added.pop()
            added_to[:] = [each for each in added_to if each is not item]


def _method(original: Any) -> Callable[..., Any]:
    """What is called with the instance first, whatever stands in the class.

    Somebody else's wrapper may learn the instance only where it is bound.
    """
    if type(original) is FunctionType:
        return original

    @functools.wraps(original)
    def call(instance: Any, *args: Any, **kwargs: Any) -> Any:
        return original.__get__(instance, type(instance))(*args, **kwargs)

    @functools.wraps(original)
    async def acall(instance: Any, *args: Any, **kwargs: Any) -> Any:
        return await original.__get__(instance, type(instance))(*args, **kwargs)

    return acall if inspect.iscoroutinefunction(original) else call


class Wanted:
    """One `instrument()` that holds: what is recorded for it, until it is taken back."""

    def __init__(
        self,
        tracer: Tracer,
        provider: TracerProvider | None,
        policy: ContentPolicy,
        metrics: Metrics,
        events: Events,
    ) -> None:
        self.tracer = tracer
        self.provider = provider
        """Where the spans go, as given; None for the global provider."""
        self.policy = policy
        self.metrics = metrics
        self._events = events if policy.emits_events else None
        self.patches = Patches()
        self.unfinished = Unfinished()
        self.active = True
        """False once uninstrumented: a wrapper that is still in somebody's hands passes through."""

    def event_logger(self) -> EventLogger | None:
        """Where the events of a call that begins now go; None where none are wanted or taken."""
        return None if self._events is None else self._events.logger()

    def keeps_content(self, logger: EventLogger | None) -> bool:
        """Whether there is a use for the content of a call whose events go to that logger."""
        return self.policy.on_spans or (self.policy.on_events and logger is not None)


class LibraryInstrumentor(BaseInstrumentor):
    """Instruments one library.

    `instrument()` takes `tracer_provider`, `meter_provider` and `logger_provider` (default: the
    global ones, where there are any, also those that are set later) and `capture_messages`, which
    is about spans (default: OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says what spans and
    events carry, else nothing). Switched off, by `enabled=False`, AGENTPULSE_ENABLED or
    OTEL_SDK_DISABLED, it does nothing.
    """

    library: str
    """The package that is instrumented."""
    supported: str
    """The versions that are tested, as a requirement."""
    defining: str
    """The module whose import is waited for."""
    also: tuple[str, ...] = ()
    """Further modules that are patched, each when it is imported, if ever."""

    _wanted: Wanted | None = None
    _hooked: frozenset[str] = frozenset()

    @property
    def is_patched(self) -> bool:
        """Whether calls are recorded now: the library is imported, and its patches are on."""
        wanted = self._wanted
        return wanted is not None and wanted.active and bool(wanted.patches)

    def instrument(self, **kwargs: Any) -> Any:
        """Instruments the library, unless AgentPulse is switched off now."""
        if not is_enabled(kwargs.pop("enabled", None)):
            return None
        return super().instrument(**kwargs)

    def instrumentation_dependencies(self) -> Collection[str]:
        """The library and the versions that are supported."""
        return (self.supported,)

    @abstractmethod
    def patch(self, module: ModuleType, wanted: Wanted) -> None:
        """Patches one of the modules, by way of `wanted.patches`."""

    def is_complete(self, module: ModuleType) -> bool:
        """Whether a module that is in `sys.modules` has been run, so that it can be patched."""
        return not getattr(module.__spec__, "_initializing", False)

    def _instrument(self, **kwargs: Any) -> None:
        provider = cast("TracerProvider | None", kwargs.get("tracer_provider"))
        scope = f"agentpulse_instrumentation.{self.library}"
        tracer = trace.get_tracer(
            scope, VERSION, tracer_provider=provider, schema_url=semconv.SCHEMA_URL
        )
        policy = ContentPolicy.resolve(cast("bool | None", kwargs.get("capture_messages")))
        metrics = Metrics(scope, cast("MeterProvider | None", kwargs.get("meter_provider")))
        events = Events(scope, cast("LoggerProvider | None", kwargs.get("logger_provider")))
        wanted = self._wanted = Wanted(tracer, provider, policy, metrics, events)
        atexit.register(wanted.unfinished.leave)
        for name in (self.defining, *self.also):
            module = sys.modules.get(name)
            if module is not None and self.is_complete(module):
                self.patch(module, wanted)
            elif name not in self._hooked:
                # Once per process: a later instrument() finds the hook still waiting.
                self._hook(name)

    def _hook(self, name: str) -> None:
        self._hooked |= {name}

        def imported(module: ModuleType) -> None:
            self._hooked -= {name}
            wanted = self._wanted
            if wanted is not None and wanted.active:
                with _PATCH:
                    self.patch(module, wanted)

        when_imported(name, imported)

    def _uninstrument(self, **_kwargs: Any) -> None:
        if self._wanted is not None:
            self._wanted.patches.undo()
            self._wanted.unfinished.leave()
            self._wanted.active = False
            atexit.unregister(self._wanted.unfinished.leave)
