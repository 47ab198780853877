"""A provider that says what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakes.provider import EVENTS, FakeProvider, Reply


class Replayed(FakeProvider):
    """Answers every request with one recording."""

    spoken: Mapping[str, Any]

    def answer(self, request: Any) -> Reply:
        self.requests.append(request)
        body = self.spoken["body"].encode()
        if "event-stream" in self.spoken["headers"].get("content-type", ""):
            return Reply(content_type=EVENTS, events=(body,))
        return Reply(body)
