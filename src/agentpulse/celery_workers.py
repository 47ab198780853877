"""Workers of Celery's prefork pool: they leave by `os._exit`, after a signal of Celery's."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from agentpulse_exporter.lifetime import end_child
from agentpulse_instrumentation.imports import when_imported
from agentpulse_instrumentation.shield import shield

_CONNECT = shield("connect to the end of Celery's workers")


def end_with_celery_workers() -> Callable[[], None]:
    """Sends the last things that a worker told before it leaves; what is returned takes it back."""
    connected: list[Any] = []
    wanted = [True]

    def connect(signals: ModuleType) -> None:
        # Hooks can't be taken back, so it asks whether it is still wanted.
        with _CONNECT:
            if wanted:
                signals.worker_process_shutdown.connect(_end, weak=False)
                connected.append(signals.worker_process_shutdown)

    def disconnect() -> None:
        wanted.clear()
        with _CONNECT:
            while connected:
                connected.pop().disconnect(_end)

    when_imported("celery.signals", connect)
    return disconnect


def _end(**_told: object) -> None:
    end_child()
