"""Whether the calls of a library would be recorded: it is imported and patched to see."""

from __future__ import annotations

from importlib import import_module

from agentpulse_instrumentation import INSTRUMENTORS, instrument, uninstrument
from opentelemetry.instrumentation.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from packaging.requirements import Requirement

from agentpulse.announcement import installed_version
from agentpulse.cli.findings import Finding
from agentpulse.settings import Settings
from agentpulse.standard_variables import is_disabled


def library(name: str, settings: Settings, *, is_on: bool) -> Finding:
    """What becomes of the calls of a library, by the name of its instrumentor."""
    requirement = Requirement(INSTRUMENTORS[name].supported)
    installed = installed_version(requirement.name)
    if installed is None:
        return Finding(None, f"not installed ({requirement.specifier} is supported)")
    if not requirement.specifier.contains(installed, prereleases=True):
        return Finding(False, f"{installed} is not recorded: {requirement.specifier} is supported")
    if not is_on:
        return Finding(None, f"{installed} is supported, not recorded because AgentPulse is off")
    if not settings.auto_patch:
        return Finding(None, f"{installed} is supported, not recorded because auto_patch is false")
    if is_disabled(name):
        return Finding(
            None,
            f"{installed} is supported, left alone under opentelemetry-instrument by "
            f"{OTEL_PYTHON_DISABLED_INSTRUMENTATIONS}",
        )
    problem = _patch(name)
    return Finding(problem is None, f"{installed} is {problem or 'recorded'}")


def _patch(name: str) -> str | None:
    """Patches a library as `init` does, and takes it back; what went wrong, or None."""
    instrumentor = INSTRUMENTORS[name]()
    instrument([name])
    try:
        import_module(instrumentor.defining)
        if instrumentor.is_patched:
            return None
        return "supported, but could not be patched: AGENTPULSE_DEBUG=true logs why"
    except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the finding
        return f"broken, importing it fails: {type(error).__name__}: {error}"
    finally:
        uninstrument()
