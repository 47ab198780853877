"""The usage report that we ask an OpenAI-style stream for, and hide from a caller who didn't.

`stream_options.include_usage` adds one last chunk without choices that carries the usage, and the
field `usage: null` to every other chunk
(https://platform.openai.com/docs/api-reference/chat/create#stream_options).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


class UsageChunk:
    """Knows the chunk to hide, and takes the trace of the option off the others."""

    __slots__ = ()

    def takes(self, chunk: Any) -> bool:
        """Whether the caller must not see this chunk. Never raises."""
        try:
            fields = chunk.__dict__
            if fields["usage"] is None:
                chunk.__pydantic_fields_set__.discard("usage")
                return False
            return not fields["choices"]
        except (AttributeError, KeyError):
            return False  # a chunk of another kind, or a host that has no field for the usage


def asking_for_usage(body: Any) -> dict[str, Any] | None:
    """The body with the usage asked for; None where the caller said yes or no, or no stream."""
    if not isinstance(body, dict) or cast("dict[str, Any]", body).get("stream") is not True:
        return None
    body = cast("dict[str, Any]", body)
    given = body.get("stream_options")
    if given is None:
        return {**body, "stream_options": {"include_usage": True}}
    if not isinstance(given, Mapping) or "include_usage" in given:
        return None
    return {**body, "stream_options": {**cast("Mapping[str, Any]", given), "include_usage": True}}
