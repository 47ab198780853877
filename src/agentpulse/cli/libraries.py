"""Whether the calls of each library would be recorded: it is imported and patched to see."""

from __future__ import annotations

from importlib import import_module

from agentpulse_instrumentation import INSTRUMENTORS, instrument, uninstrument
from agentpulse_instrumentation.instrumentor import LibraryInstrumentor
from agentpulse_instrumentation.patching import Library
from opentelemetry.instrumentation.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)

from agentpulse.announcement import installed_version
from agentpulse.cli.findings import Finding
from agentpulse.settings import Settings
from agentpulse.standard_variables import is_disabled


def libraries(settings: Settings, *, is_on: bool) -> dict[str, Finding]:
    """What becomes of the calls of each library that can be recorded."""
    return {
        library.name: _found(name, library, settings, is_on=is_on)
        for name, kind in INSTRUMENTORS.items()
        for library in kind.libraries()
    }


def _found(instrumentor: str, library: Library, settings: Settings, *, is_on: bool) -> Finding:
    installed = installed_version(library.package)
    specifier = library.specifier
    if installed is None:
        return Finding(None, f"not installed ({specifier} is supported)")
    if not library.supports(installed):
        return Finding(False, f"{installed} is not recorded: {specifier} is supported")
    if not is_on:
        return Finding(None, f"{installed} is supported, not recorded because AgentPulse is off")
    if not settings.auto_patch:
        return Finding(None, f"{installed} is supported, not recorded because auto_patch is false")
    if is_disabled(instrumentor):
        return Finding(
            None,
            f"{installed} is supported, left alone under opentelemetry-instrument by "
            f"{OTEL_PYTHON_DISABLED_INSTRUMENTATIONS}",
        )
    problem = _patch(INSTRUMENTORS[instrumentor](), library)
    return Finding(problem is None, problem or f"{installed} is recorded")


def _patch(instrumentor: LibraryInstrumentor, library: Library) -> str | None:
    """Patches a library as `init` does, and takes it back; what went wrong, or None."""
    instrument([instrumentor.library])
    try:
        for module in library.modules:
            if library.name not in instrumentor.not_recorded:
                import_module(module)
    except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the finding
        reason = f"{type(error).__name__}: {error}"
        return f"{library.installed()} is broken, importing it fails: {reason}"
    else:
        return instrumentor.not_recorded.get(library.name)
    finally:
        uninstrument()
