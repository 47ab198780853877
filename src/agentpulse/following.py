"""Goes along where a provider that stands in for others gets another one behind it.

`logfire.configure()`, called again, shuts down the provider that it made before, with all
processors on it, and makes another one without those that others had added.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentpulse.attachment import behind

_PATIENCE = 2.0
"""Seconds; a provider that is set up anew has another one behind it at once."""
_BETWEEN_LOOKS = 0.001


def follow(provider: object, join: Callable[[], None], is_wanted: Callable[[], bool]) -> bool:
    """Has `join` called soon, on a thread of its own, whenever another comes behind the provider.

    That goes on while it is wanted, until none has come for two seconds, for one that is joined may
    be replaced before it could tell.

    Returns:
        Whether that may come about: not where it stands in for none, nor as the process ends.
    """
    ended = behind(provider)
    if ended is provider or not threading.main_thread().is_alive():
        return False

    def watch() -> None:
        known, until = ended, time.monotonic() + _PATIENCE
        while is_wanted() and time.monotonic() < until:
            current = behind(provider)
            if current is not known:
                known, until = current, time.monotonic() + _PATIENCE
                join()
            time.sleep(_BETWEEN_LOOKS)

    try:
        threading.Thread(target=watch, name="agentpulse-follow", daemon=True).start()
    except RuntimeError:  # the interpreter is about to end
        return False
    return True
