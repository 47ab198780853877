"""Ports for what can't take any free one, and for where nobody shall listen."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[int]:
    """A port where nobody listens but who asks for it by its number: no other test is given it."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        port = int(bound.getsockname()[1])
        if sys.platform != "linux":
            bound.close()  # elsewhere nobody at all could listen
        yield port
