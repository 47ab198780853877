"""The settings of `init`: those of the exporter, and the rows that the SDK adds.

The README shows the same table, and a test compares the two.
"""

# No `from __future__ import annotations` here: the rows are read from the annotations.

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Annotated, NamedTuple, cast

from agentpulse_exporter import settings as exporter_settings
from agentpulse_exporter._delivery.kinds import (
    ADDRESS,
    FLUSH_INTERVAL,
    QUEUE_SIZE,
    SHUTDOWN_TIMEOUT,
    SWITCH,
    ConfigurationError,
    ConfigurationTypeError,
    Kind,
    seconds,
)
from agentpulse_exporter.settings import DEFAULT, DISABLED_VARIABLE, Row

from agentpulse.errors import SettingError, SettingTypeError

STANDARD_CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DECLARED = "OTEL_CONFIG_FILE"
"""Names the file that configures OpenTelemetry in place of its other variables."""
_READERS = ("opentelemetry.configuration", "opentelemetry.sdk._configuration.file")
"""The modules of OpenTelemetry that read it: from 1.44 on, and in 1.43."""


def _libraries(value: object) -> tuple[str, ...]:
    from agentpulse_instrumentation import INSTRUMENTORS  # only where somebody names libraries

    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError
    names = tuple(cast("Iterable[object]", value))
    if not all(isinstance(name, str) for name in names):
        raise TypeError
    if not set(names) <= set(INSTRUMENTORS):
        raise ValueError
    return cast("tuple[str, ...]", names)


_LIBRARIES = Kind(
    'names of libraries that `agentpulse status` lists, for example ("openai", "anthropic")',
    _libraries,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(exporter_settings.Settings):
    """The values that the SDK runs by, and where each came from."""

    capture_messages: Annotated[
        bool,
        Row(
            "AGENTPULSE_CAPTURE_MESSAGES",
            SWITCH,
            "Whether prompts, answers and exception texts are on spans and sent. Where neither "
            "says, `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` does (`SPAN_ONLY`, "
            "`SPAN_AND_EVENT`; with `EVENT_ONLY` they are on log events alone, and not sent).",
        ),
    ] = False
    auto_patch: Annotated[
        bool,
        Row("AGENTPULSE_AUTO_PATCH", SWITCH, "Whether the LLM libraries are instrumented."),
    ] = True
    instrument: Annotated[
        tuple[str, ...] | None,
        Row(None, _LIBRARIES, 'Which libraries, for example `("openai",)`.', "all"),
    ] = None
    flush_interval: Annotated[
        float,
        Row("AGENTPULSE_FLUSH_INTERVAL", FLUSH_INTERVAL, "Seconds between two sendings."),
    ] = 5.0
    max_queue_size: Annotated[
        int,
        Row(
            "AGENTPULSE_MAX_QUEUE_SIZE",
            QUEUE_SIZE,
            "Events that wait at most; the oldest are dropped first, and counted. "
            "32 MiB of text is a second bound.",
        ),
    ] = 10_000
    debug: Annotated[
        bool,
        Row("AGENTPULSE_DEBUG", SWITCH, "Whether our own log is written to stderr."),
    ] = False
    otlp_endpoint: Annotated[
        str | None,
        Row(
            "AGENTPULSE_OTLP_ENDPOINT",
            ADDRESS,
            "Where the same spans, with their cost, are sent by OTLP over HTTP too, for example "
            "`http://localhost:4318` (extra `otlp`).",
        ),
    ] = None
    shutdown_timeout: Annotated[
        float,
        Row(
            "AGENTPULSE_SHUTDOWN_TIMEOUT",
            SHUTDOWN_TIMEOUT,
            "Seconds that the end of the process may wait for the queued events.",
        ),
    ] = 5.0
    heartbeat_interval: Annotated[
        float,
        Row(
            "AGENTPULSE_HEARTBEAT_INTERVAL",
            seconds(0, example="300"),
            "Seconds between two signs of life; 0 sends none.",
        ),
    ] = 300.0
    flush_on_sigterm: Annotated[
        bool,
        Row(
            "AGENTPULSE_FLUSH_ON_SIGTERM",
            SWITCH,
            "Whether SIGTERM sends the queued events before it ends the process "
            "(where `init` runs in the main thread).",
        ),
    ] = False


ROWS: Mapping[str, Row] = exporter_settings.rows_of(Settings)
"""The rows by the names of the settings, which are the arguments of `init`."""


def resolve(arguments: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings for these arguments (None counts as not given) and this environment.

    Raises:
        SettingError: An argument has a wrong value, or (SettingTypeError) a wrong type.
    """
    with _setting_errors():
        settings = exporter_settings.resolve(arguments, environ, Settings)
    mode = (os.environ if environ is None else environ).get(STANDARD_CAPTURE_VARIABLE, "").strip()
    if not mode or settings.sources["capture_messages"] != DEFAULT:
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
        return exporter_settings.verify(arguments, ROWS)


@contextmanager
def _setting_errors() -> Generator[None]:
    try:
        yield
    except ConfigurationTypeError as error:
        raise SettingTypeError(str(error)) from None
    except ConfigurationError as error:
        raise SettingError(str(error)) from None


class Obstacle(NamedTuple):
    """Why nothing is patched and nothing is sent."""

    text: str
    deliberate: bool
    """Whether somebody asked for it; if not, the text includes the correction."""


def obstacle(settings: Settings) -> Obstacle | None:
    """The reason why AgentPulse can't run with these settings, and here; None where it can."""
    if settings.sources["enabled"] == DISABLED_VARIABLE:
        return Obstacle(f"AgentPulse is off, because {DISABLED_VARIABLE} is true.", True)
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
