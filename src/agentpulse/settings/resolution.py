"""From what was given to settings: an argument wins over a variable, a variable over a default.

A wrong argument raises, for it is a mistake in the program. A wrong variable is a mistake of the
place where the program runs, which must not stop it: it is noted in `Settings.problems`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentpulse.errors import SettingError, SettingTypeError
from agentpulse.settings.kinds import KEY, is_loopback
from agentpulse.settings.table import DEFAULT, ROWS, Row, Settings

ARGUMENT = "argument"
"""The source of a value that was passed to `init`."""
STANDARD_CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def resolve(arguments: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings for these arguments (None counts as not given) and this environment.

    Raises:
        SettingError: an argument has a wrong value, or (SettingTypeError) a wrong type.
    """
    values: dict[str, Any] = dict(verify(arguments))
    sources = {name: ARGUMENT if name in values else DEFAULT for name in ROWS}
    problems: list[str] = []
    for name, row in ROWS.items():
        text = environ.get(row.environment, "").strip() if row.environment else ""
        if not text or row.environment is None or name in values:
            continue
        try:
            values[name] = row.kind.check(row.kind.read(text))
            sources[name] = row.environment
        except ValueError as error:
            problems.append(_complaint(row, row.environment, text, error))
    if sources["capture_messages"] is DEFAULT:
        _follow_standard_capture_variable(environ, values, sources)
    return _refuse_unencrypted(Settings(**values, sources=sources, problems=tuple(problems)))


def verify(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments that are given (not None), each as the setting it becomes.

    Raises:
        SettingError: as for `resolve`.
    """
    return {
        name: _checked(name, ROWS[name], value)
        for name, value in arguments.items()
        if value is not None
    }


def _checked(name: str, row: Row, value: object) -> object:
    origin = f"The argument {name}"
    try:
        return row.kind.check(value)
    except TypeError:
        complaint = f"{origin} is of type {type(value).__name__}; expected {row.kind.expected}."
        raise SettingTypeError(complaint) from None
    except ValueError as error:
        raise SettingError(_complaint(row, origin, value, error)) from None


def _complaint(row: Row, origin: str, value: object, error: ValueError) -> str:
    if isinstance(error, SettingError):
        return f"{origin} can't be used: {error}"
    if row.kind is KEY:
        # What was given in place of a key may be another secret, so none of it is shown.
        return f"{origin} can't be used; expected {row.kind.expected}."
    return f"{origin} is {row.kind.show(value)}; expected {row.kind.expected}."


def _follow_standard_capture_variable(
    environ: Mapping[str, str], values: dict[str, Any], sources: dict[str, str]
) -> None:
    mode = environ.get(STANDARD_CAPTURE_VARIABLE, "").strip().upper()
    if mode:
        values["capture_messages"] = mode in ("SPAN_ONLY", "SPAN_AND_EVENT")
        sources["capture_messages"] = STANDARD_CAPTURE_VARIABLE


def _refuse_unencrypted(settings: Settings) -> Settings:
    plain = settings.endpoint.startswith("http://")
    if not plain or settings.allow_insecure or is_loopback(settings.endpoint):
        return settings
    source = settings.sources["endpoint"]
    origin = "The argument endpoint" if source is ARGUMENT else source
    complaint = (
        f"{origin} is {settings.shown('endpoint')}, where key and events would travel unencrypted; "
        "expected https, or allow_insecure=True (AGENTPULSE_ALLOW_INSECURE=true) if that is meant."
    )
    if source is ARGUMENT:
        raise SettingError(complaint)
    return replace(settings, problems=(*settings.problems, complaint))
