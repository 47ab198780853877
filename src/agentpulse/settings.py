"""The settings of `init`: those of the exporter, and the rows that the SDK adds.

The README shows the same table, and a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import NamedTuple, cast

from agentpulse_exporter import settings as base

from agentpulse.errors import SettingError, SettingTypeError

STANDARD_CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DECLARED = "OTEL_CONFIG_FILE"
"""Names the file that configures OpenTelemetry in place of its other variables."""
_READERS = ("opentelemetry.configuration", "opentelemetry.sdk._configuration.file")
"""The modules of OpenTelemetry that read it: from 1.44 on, and in 1.43."""


def _libraries(value: Iterable[object]) -> tuple[str, ...]:
    from agentpulse_instrumentation import INSTRUMENTORS  # only where somebody names libraries

    names = tuple(value)
    if isinstance(value, str):
        raise TypeError
    if not set(names) <= set(INSTRUMENTORS):
        raise ValueError
    return cast("tuple[str, ...]", names)


_LIBRARIES = base.Kind(
    'names of libraries that `agentpulse status` lists, for example ("openai", "anthropic")',
    Iterable,
    _libraries,
)
_HEARTBEAT = base.seconds(0, example="300")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(base.Settings):
    """The values that the SDK runs by, and where each came from."""

    capture_messages: bool = field(default=False, metadata={"kind": base.SWITCH})
    """Whether prompts, answers and exception texts are on spans and sent. Where neither says,
    `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` does (`SPAN_ONLY`, `SPAN_AND_EVENT`; with
    `EVENT_ONLY` they are on log events alone, and not sent)."""
    auto_patch: bool = field(default=True, metadata={"kind": base.SWITCH})
    """Whether the LLM libraries are instrumented."""
    instrument: tuple[str, ...] | None = field(
        default=None, metadata={"kind": _LIBRARIES, "environment": None}
    )
    """Which libraries, for example `("openai",)`."""
    flush_interval: float = field(default=5.0, metadata={"kind": base.FLUSH_INTERVAL})
    """Seconds between two sendings."""
    max_queue_size: int = field(default=10_000, metadata={"kind": base.QUEUE_SIZE})
    """Events that wait at most; the oldest are dropped first, and counted. 32 MiB of text is a
    second bound."""
    debug: bool = field(default=False, metadata={"kind": base.SWITCH})
    """Whether our own log is written to stderr."""
    otlp_endpoint: str | None = field(default=None, metadata={"kind": base.ADDRESS})
    """Where the same spans, with their cost, are sent by OTLP over HTTP too, for example
    `http://localhost:4318` (extra `otlp`)."""
    shutdown_timeout: float = field(default=5.0, metadata={"kind": base.SHUTDOWN_TIMEOUT})
    """Seconds that the end of the process may wait for the queued events."""
    heartbeat_interval: float = field(default=300.0, metadata={"kind": _HEARTBEAT})
    """Seconds between two signs of life; 0 sends none."""
    flush_on_sigterm: bool = field(default=False, metadata={"kind": base.SWITCH})
    """Whether SIGTERM sends the queued events before it ends the process (where `init` runs in the
    main thread)."""


ROWS: Mapping[str, base.Row] = base.rows_of(Settings)
"""The rows by the names of the settings, which are the arguments of `init`."""


def resolve(arguments: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings for these arguments (None counts as not given) and this environment.

    Raises:
        SettingError: An argument has a wrong value, or (SettingTypeError) a wrong type.
    """
    with _setting_errors():
        settings = base.resolve(arguments, environ, Settings)
    mode = (os.environ if environ is None else environ).get(STANDARD_CAPTURE_VARIABLE, "").strip()
    if not mode or settings.sources["capture_messages"] != base.DEFAULT:
        return settings
    return replace(
        settings,
        capture_messages=mode.upper() in ("SPAN_ONLY", "SPAN_AND_EVENT"),
        sources={**settings.sources, "capture_messages": STANDARD_CAPTURE_VARIABLE},
    )


def verify(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that are given (not None), each as the setting it becomes.

    Raises:
        SettingError: As for `resolve`.
    """
    with _setting_errors():
        return base.verify(arguments, ROWS)


@contextmanager
def _setting_errors() -> Generator[None]:
    try:
        yield
    except base.ConfigurationError as error:
        kind = SettingTypeError if isinstance(error, TypeError) else SettingError
        raise kind(str(error)) from None


class Obstacle(NamedTuple):
    """Why nothing is patched and nothing is sent."""

    text: str
    deliberate: bool
    """Whether somebody asked for it; if not, the text includes the correction."""


def obstacle(settings: Settings) -> Obstacle | None:
    """The reason why AgentPulse can't run with these settings, and here; None where it can."""
    if settings.sources["enabled"] == base.DISABLED_VARIABLE:
        return Obstacle(f"AgentPulse is off, because {base.DISABLED_VARIABLE} is true.", True)
    if not settings.enabled:
        return Obstacle("AgentPulse is switched off (enabled is false).", True)
    if _is_declared_off(os.environ.get(DECLARED)):
        file = f"the file that {DECLARED} names says disabled: true"
        return Obstacle(f"AgentPulse is off, because {file}.", True)
    if settings.problems:
        reason = "AgentPulse is off until this is corrected: " + " ".join(settings.problems)
        return Obstacle(reason, False)
    if settings.may_send:
        return None
    return Obstacle(
        "AgentPulse is off, because it has no API key: set AGENTPULSE_API_KEY, or pass api_key to "
        "agentpulse.init. To look around without an account, run `agentpulse dev` "
        '(pip install "agentpulse-sdk[server]").',
        False,
    )


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
