"""Whether AgentPulse runs at all, and if not, why not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from agentpulse_exporter.settings import DISABLED_VARIABLE

from agentpulse.settings import Settings

# The file that configures OpenTelemetry in place of its other variables.

DECLARED = "OTEL_CONFIG_FILE"
"""Names that file."""
_READERS = ("opentelemetry.configuration", "opentelemetry.sdk._configuration.file")
"""Where OpenTelemetry has what reads it; from 1.44 on, and in 1.43."""


def is_declared_off(environ: Mapping[str, str]) -> bool:
    """Whether there is such a file, and it says `disabled: true`.

    What is wrong with the file, OpenTelemetry says where it configures itself by it.
    """
    file = environ.get(DECLARED)
    for reader in _READERS if file else ():
        try:
            return import_module(reader).load_config_file(file).disabled is True
        except ImportError:
            continue
        except Exception:  # noqa: BLE001  # whatever it is, the user's program runs on
            return False
    return False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing is patched and nothing is sent."""

    text: str
    deliberate: bool
    """Whether somebody asked for it; if not, the reason also says what to do."""


def obstacle(settings: Settings, environ: Mapping[str, str] = os.environ) -> Obstacle | None:
    """What keeps AgentPulse from running with these settings; None where nothing does."""
    if settings.sources["enabled"] == DISABLED_VARIABLE:
        return Obstacle(f"AgentPulse is off, because {DISABLED_VARIABLE} is true.", deliberate=True)
    if not settings.enabled:
        return Obstacle("AgentPulse is switched off (enabled is false).", deliberate=True)
    if is_declared_off(environ):
        reason = f"AgentPulse is off, because the file that {DECLARED} names says disabled: true."
        return Obstacle(reason, deliberate=True)
    if settings.problems:
        reason = "AgentPulse is off until this is corrected: " + " ".join(settings.problems)
        return Obstacle(reason, deliberate=False)
    if not settings.may_send:
        reason = (
            "AgentPulse is off, because it has no API key: set AGENTPULSE_API_KEY, or pass api_key "
            "to agentpulse.init. To look around without an account, run `agentpulse dev` "
            '(pip install "agentpulse-sdk[server]").'
        )
        return Obstacle(reason, deliberate=False)
    return None
