"""A map of recent ids, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Recent(OrderedDict[_K, _V]):
    """Holds at most so many entries, the last ones that were set.

    Any thread may use it without a lock: each step on it is one of the interpreter's own.
    """

    def __init__(self, most: int, forget: Callable[[_V], Any] = id) -> None:
        """Empty, for `most` entries; `forget` is given each value that had to go."""
        super().__init__()
        self._most = most
        self._forget = forget

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self._most:
            self._forget(self.popitem(last=False)[1])
