"""Instrumentors that patch a library when it is imported, and take every patch back.

Nothing is imported for the user: a library that is loaded already is patched at once, any other by
an import hook on the module that defines what is patched (`import openai` alone loads no resource
modules). Hooks can't be unregistered, so each asks whether it is still wanted.

A library that can't be patched as a whole isn't patched at all. The error reaches neither the
user's import nor `instrument()`: it is logged once, and is in `not_recorded`.
"""

from __future__ import annotations

import atexit
import os
from abc import abstractmethod
from collections.abc import Collection, Mapping
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from agentpulse_instrumentation._engine import patching, semconv
from agentpulse_instrumentation._engine.content import ContentPolicy
from agentpulse_instrumentation._engine.operation import ErrorReader, error_readers
from agentpulse_instrumentation._engine.patching import Library, Patches, shield, warn_once
from agentpulse_instrumentation._engine.recording import VERSION, Metrics, Recording

_SWITCH = "AGENTPULSE_ENABLED"
_ON = ("true", "1", "yes", "on", "")
_OFF = ("false", "0", "no", "off")
_PATCH = shield("patch a library")


def is_enabled(argument: bool | None) -> bool:
    """Whether anything may be instrumented: by this argument, else by AGENTPULSE_ENABLED, else yes.

    OTEL_SDK_DISABLED always counts. A variable that can't be read switches off, and is logged once.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if argument is not None:
        return argument
    given = os.environ.get(_SWITCH, "").strip().lower()
    if given not in (*_ON, *_OFF):
        warn_once(f"Nothing is instrumented: {_SWITCH} is {given!r}; expected true or false.")
    return given in _ON


class LibraryInstrumentor(BaseInstrumentor):
    """Instruments one library.

    `instrument()` takes `tracer_provider`, `meter_provider` and `logger_provider` (default: the
    global ones, where there are any, also those that are set later) and `capture_messages`, which
    is about spans (default: as OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT has it for spans
    and events, else no content). Switched off, by `enabled=False`, AGENTPULSE_ENABLED or
    OTEL_SDK_DISABLED, it does nothing.
    """

    library: str
    """The name of the library that is instrumented."""
    supported: str
    """Its package and the versions that are tested, as a requirement."""
    defining: str
    """The module whose import is waited for."""
    read_error: ErrorReader | None = None
    """What reads the provider's code from an exception of the library."""
    also: tuple[str, ...] = ()
    """Further modules that are patched, each when it is imported, if ever."""
    companions: tuple[Library, ...] = ()
    """What is patched beside the library, where it is installed. One that can't be patched costs
    itself alone, and none is patched without the library."""

    recording: Recording | None = None
    """Of the last `instrument()`."""
    _hooked: frozenset[str] = frozenset()
    not_recorded: Mapping[str, str] = MappingProxyType({})
    """What the last `instrument()` could not patch, and why, by the name of the library.

    For example `{"langgraph": "1.4.0 is not recorded: 0 of 1 patches could be put on, because …"}`.
    A library that isn't installed is no fault, and isn't in it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Has the exceptions of the library read, whichever layer they reach."""
        super().__init_subclass__(**kwargs)
        if cls.read_error is not None and hasattr(cls, "defining"):
            error_readers.setdefault(cls.defining.partition(".")[0], cls.read_error)

    @property
    def is_patched(self) -> bool:
        """Whether the library is imported and every patch, of its companions too, is on."""
        recording = self.recording
        is_on = recording is not None and bool(recording.patches.get(self.library))
        return is_on and not self.not_recorded

    @classmethod
    def libraries(cls) -> tuple[Library, ...]:
        """What is patched: the library, and its companions."""
        itself = Library(cls.library, cls.supported, (cls.defining, *cls.also))
        return (itself, *cls.companions)

    def instrumentation_dependencies(self) -> Collection[str]:
        """The library and the versions that are supported.

        Without the companions, for the library is recorded whatever becomes of these.
        """
        return (self.supported,)

    @abstractmethod
    def patch(self, module: ModuleType, patches: Patches, recording: Recording) -> None:
        """Patches one of the modules, by way of `patches`."""

    def instrument_if_installed(self, **kwargs: Any) -> None:
        """As `instrument`, but passes over a library that isn't installed, without logging it.

        Another version than those supported is warned of, once, and is in `not_recorded`.
        """
        is_on = self.is_instrumented_by_opentelemetry
        if not is_on and self.libraries()[0].installed() is not None:
            self.instrument(**kwargs)

    def instrument(self, **kwargs: Any) -> None:
        """As every `BaseInstrumentor`, unless AgentPulse is switched off now.

        Where nothing could be patched, it may be tried again.
        """
        if not is_enabled(kwargs.pop("enabled", None)):
            return
        itself = self.libraries()[0]
        unchecked = kwargs.get("skip_dep_check") or kwargs.get("raise_exception_on_conflict")
        installed = None if unchecked else itself.installed()
        if installed is not None and not self.is_instrumented_by_opentelemetry:
            self.not_recorded = MappingProxyType({})
            if self._is_unsupported(itself, installed):
                return
            # OpenTelemetry's own check refuses previews, and versions that can't be compared.
            kwargs["skip_dep_check"] = True
        super().instrument(**kwargs)
        recording = self.recording
        self._is_instrumented_by_opentelemetry = recording is not None and recording.active

    def _instrument(self, **kwargs: Any) -> None:
        provider = kwargs.get("tracer_provider")
        scope, url = f"agentpulse_instrumentation.{self.library}", semconv.SCHEMA_URL
        recording = self.recording = Recording(
            trace.get_tracer(scope, VERSION, tracer_provider=provider, schema_url=url),
            provider,
            ContentPolicy.resolve(kwargs.get("capture_messages")),
            Metrics(scope, kwargs.get("meter_provider")),
            kwargs.get("logger_provider"),
        )
        self.not_recorded = MappingProxyType({})
        read_error = type(self).read_error
        if read_error is not None:
            error_readers[self.defining.partition(".")[0]] = read_error
        atexit.register(recording.leave)
        for library in self.libraries():
            with _PATCH:
                # The version of the library itself was checked, or is wanted whatever it is.
                is_itself = library.name == self.library
                if is_itself or not self._is_unsupported(library, library.installed()):
                    self._patch_when_imported(library, recording)

    def _patch_when_imported(self, library: Library, recording: Recording) -> None:
        recording.patches[library.name] = Patches(library)
        for name in library.modules:
            if patching.is_missing(name):
                self._fail(library, f"{name} is missing")
            # Once per process: a later instrument() finds the hook still waiting.
            elif name not in self._hooked or patching.is_imported(name):
                self._hooked |= {name}
                patching.when_imported(name, partial(self._imported, library))

    def _imported(self, library: Library, module: ModuleType) -> None:
        self._hooked -= {module.__name__}
        recording = self.recording
        if recording is None or not recording.active or library.name in self.not_recorded:
            return
        with _PATCH:
            patches = recording.patches[library.name]
            problem = patches.put_on(module, lambda: self.patch(module, patches, recording))
            if problem is not None:
                self._fail(library, problem)

    def _is_unsupported(self, library: Library, installed: str | None) -> bool:
        if installed is None or library.supports(installed):
            return False
        self._fail(library, f"{library.specifier} is supported")
        return True

    def _fail(self, library: Library, problem: str) -> None:
        """Takes the patches of a library back, and warns of it once."""
        recording, problems = self.recording, dict(self.not_recorded)
        if library.name in problems:
            return
        problems[library.name] = _not_recorded(library, problem)
        if library.name == self.library:
            for each in self.companions:
                if each.installed() is not None:
                    text = _not_recorded(each, f"it needs {self.library}, which isn't")
                    problems.setdefault(each.name, text)
            self._uninstrument()
            self._is_instrumented_by_opentelemetry = False
        elif recording is not None and library.name in recording.patches:
            recording.patches[library.name].undo()
        self.not_recorded = MappingProxyType(problems)
        advice = "Install another version of it, or update agentpulse."
        warn_once(f"{library.package} {problems[library.name]}. {advice}")

    def _uninstrument(self, **_kwargs: Any) -> None:
        recording = self.recording
        if recording is not None:
            for patches in recording.patches.values():
                patches.undo()
            recording.leave()
            # Whoever still holds a wrapper passes through it.
            recording.active = False
            atexit.unregister(recording.leave)


def _not_recorded(library: Library, problem: str) -> str:
    return f"{library.installed() or 'of an unknown version'} is not recorded: {problem}"
