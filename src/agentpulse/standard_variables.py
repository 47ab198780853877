"""OpenTelemetry's variables that hold lists of names, and what they say of us."""

from __future__ import annotations

import os

from opentelemetry.instrumentation.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]  # typed, unmarked
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)

INSTRUMENTORS_BEGIN = "agentpulse_"
"""How the entry points of our instrumentors begin; the library's name follows."""


def listed(variable: str) -> list[str]:
    """The names that a variable holds, between commas."""
    names = os.environ.get(variable, "").split(",")
    return [name.strip() for name in names if name.strip()]


def is_disabled(library: str) -> bool:
    """Whether opentelemetry-instrument is told to leave a library of ours alone."""
    named = listed(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS)
    return not {"*", library, f"{INSTRUMENTORS_BEGIN}{library}"}.isdisjoint(named)
