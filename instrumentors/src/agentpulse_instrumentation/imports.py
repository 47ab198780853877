"""Waits for modules: nothing is imported for the user."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import wrapt


def when_imported(name: str, then: Callable[[ModuleType], object]) -> None:
    """Calls `then` with the module when it is imported, now if it is already.

    This can't be taken back, so `then` asks whether it is still wanted. What it raises would fail
    the user's import.
    """
    # wrapt has no types for it.
    wrapt.register_post_import_hook(then, name)  # pyright: ignore[reportUnknownMemberType]
