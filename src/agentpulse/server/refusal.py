"""`Refusal`: why a request is not taken, as the status and the sentence that its sender gets."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818  # it is an answer, and nothing has gone wrong here
    """Raised while a request is read; becomes `{"error": message}` with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
