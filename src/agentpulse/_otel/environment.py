"""Whether AgentPulse runs in this environment, and if not, the reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from agentpulse_exporter.settings import DISABLED_VARIABLE

from agentpulse.settings import Settings

DECLARED = "OTEL_CONFIG_FILE"
"""Names the file that configures OpenTelemetry in place of its other variables."""
_READERS = ("opentelemetry.configuration", "opentelemetry.sdk._configuration.file")
"""The modules of OpenTelemetry that read it: from 1.44 on, and in 1.43."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing is patched and nothing is sent."""

    text: str
    deliberate: bool = True
    """Whether somebody asked for it; if not, the text includes the correction."""


def obstacle(settings: Settings, environ: Mapping[str, str] = os.environ) -> Obstacle | None:
    """The reason why AgentPulse can't run with these settings; None where it can."""
    if settings.sources["enabled"] == DISABLED_VARIABLE:
        return Obstacle(f"AgentPulse is off, because {DISABLED_VARIABLE} is true.")
    if not settings.enabled:
        return Obstacle("AgentPulse is switched off (enabled is false).")
    if _is_declared_off(environ.get(DECLARED)):
        return Obstacle(
            f"AgentPulse is off, because the file that {DECLARED} names says disabled: true."
        )
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


def _is_declared_off(file: str | None) -> bool:
    """Whether the file says `disabled: true`. Its mistakes are reported by OpenTelemetry."""
    for reader in _READERS if file else ():
        try:
            return import_module(reader).load_config_file(file).disabled is True
        except ImportError:
            continue
        except Exception:  # noqa: BLE001  # whatever it is, the user's program runs on
            return False
    return False
