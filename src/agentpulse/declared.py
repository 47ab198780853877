"""The file that configures OpenTelemetry in place of its other variables."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

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
