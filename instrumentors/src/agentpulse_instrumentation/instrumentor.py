"""Instrumentors that patch a library when it is imported, and take every patch back.

Nothing is imported for the user: a library that is loaded already is patched at once, any other by
an import hook on the module that defines the seam (`import openai` alone loads no resource
modules). Hooks can't be unregistered, so each asks whether it is still wanted, and one that fails
doesn't fail the user's import.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any, cast

import wrapt
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.trace import TracerProvider

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation._version import VERSION
from agentpulse_instrumentation.messages import ContentPolicy
from agentpulse_instrumentation.seam import Family, Seam, awrapped, wrapped
from agentpulse_instrumentation.shield import shield

_PATCH = shield("patch a library")
_SEAMS = ("SyncAPIClient", "AsyncAPIClient")


class Patches:
    """What was replaced, so that exactly that is put back."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._done)

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces `owner.name` by what `make` makes of it."""
        original = cast("Any", vars(owner)[name])
        replacement = make(original)
        self._done.append((owner, name, original, replacement))
        setattr(owner, name, replacement)

    def undo(self) -> None:
        """Puts the originals back, newest first; what somebody else replaced since is theirs."""
        while self._done:
            owner, name, original, replacement = self._done.pop()
            if getattr(owner, "__dict__", {}).get(name) is replacement:
                setattr(owner, name, original)


class ClientInstrumentor(BaseInstrumentor):
    """Instruments one client library of the generated kind.

    `instrument()` takes `tracer_provider` (default: the global one) and `capture_messages`
    (default: the standard variable OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, else off).
    """

    library: str
    """The package that is instrumented; `<library>._base_client` holds the seam."""
    supported: str
    """The versions that are tested, as a requirement."""
    family: Family

    _seam: Seam | None = None
    _pending: Seam | None = None
    _patches: Patches
    _hooked = False

    @property
    def is_patched(self) -> bool:
        """Whether calls are recorded now: the library is imported, and its patches are on."""
        return self._seam is not None and self._seam.active and bool(self._patches)

    def instrumentation_dependencies(self) -> Collection[str]:
        """The library and the versions that are supported."""
        return (self.supported,)

    def patch_more(self, module: ModuleType, patches: Patches) -> None:
        """Further patches that a library needs beside the seam."""

    def _instrument(self, **kwargs: Any) -> None:
        provider = cast("TracerProvider | None", kwargs.get("tracer_provider"))
        scope = f"agentpulse_instrumentation.{self.library}"
        tracer = trace.get_tracer(
            scope, VERSION, tracer_provider=provider, schema_url=semconv.SCHEMA_URL
        )
        policy = ContentPolicy.resolve(cast("bool | None", kwargs.get("capture_messages")))
        seam = self._seam = Seam(self.family, tracer, provider, policy)
        self._patches = Patches()
        name = f"{self.library}._base_client"
        module = sys.modules.get(name)
        if module is not None and all(hasattr(module, seam_class) for seam_class in _SEAMS):
            self._patch(module, seam)
            return
        self._pending = seam
        if not self._hooked:
            # Once per process: a later instrument() finds the hook still waiting.
            self._hook(name)

    def _hook(self, name: str) -> None:
        self._hooked = True

        def imported(module: ModuleType) -> None:
            pending, self._pending = self._pending, None
            if pending is not None and pending.active:
                with _PATCH:
                    self._patch(module, pending)

        wrapt.register_post_import_hook(imported, name)  # pyright: ignore[reportUnknownMemberType]
        # wrapt has no types for it

    def _patch(self, module: ModuleType, seam: Seam) -> None:
        for class_name in _SEAMS:
            owner = getattr(module, class_name)
            self._patches.replace(
                owner,
                "request",
                lambda original: (awrapped if inspect.iscoroutinefunction(original) else wrapped)(
                    original, seam
                ),
            )
        self.patch_more(module, self._patches)

    def _uninstrument(self, **_kwargs: Any) -> None:
        if self._seam is not None:
            self._seam.active = False
        self._pending = None
        self._patches.undo()
