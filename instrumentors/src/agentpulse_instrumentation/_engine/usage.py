"""The usage report that we ask an OpenAI-style stream for, and hide from a caller who didn't.

`stream_options.include_usage` adds one last chunk without choices that carries the usage, and the
field `usage: null` to every other chunk
(https://platform.openai.com/docs/api-reference/chat/create#stream_options).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

from agentpulse_instrumentation._media import without_bodies

_OPTION, _WANTED = "stream_options", "include_usage"
_RAW_RESPONSE_HEADER = "x-stainless-raw-response"
_HOOKS = ("_prepare_options", "_build_request", "_prepare_request", "_request")
"""Methods of a client through which a request goes after it was seen here."""


class UsageChunk:
    """Knows the one chunk to hide, and takes the trace of the option off the others."""

    __slots__ = ("_is_taken",)

    def __init__(self) -> None:
        self._is_taken = False

    def takes(self, chunk: Any, has_finished: Callable[[], bool]) -> bool:
        """Whether the caller must not see this chunk. Never raises.

        `has_finished` asks whether every choice has its reason to end: usage that a host reports
        before that is no answer to the option.
        """
        try:
            if chunk.__class__ is dict:
                return self._takes_json(chunk, has_finished)
            fields = chunk.__dict__
            if fields["usage"] is None:
                chunk.__pydantic_fields_set__.discard("usage")
                return False
            return not fields["choices"] and self._is_the_report(has_finished)
        except (AttributeError, KeyError):
            return False  # a chunk of another kind, or a host that has no field for the usage

    def _takes_json(self, chunk: dict[str, Any], has_finished: Callable[[], bool]) -> bool:
        if chunk["usage"] is None:
            del chunk["usage"]
            return False
        return not chunk["choices"] and self._is_the_report(has_finished)

    def _is_the_report(self, has_finished: Callable[[], bool]) -> bool:
        if self._is_taken or not has_finished():
            return False
        self._is_taken = True
        return True


def asking_for_usage(client: Any, options: Any, answer: tuple[Any, Any]) -> dict[str, Any]:
    """Fields of a request's options that must be otherwise for its stream to report the usage.

    None where the caller decided about it, and where the chunk could not be distinguished from
    those that the caller gets without us.

    Args:
        client: The client that sends the request.
        options: The options of the request, whose body is a JSON object.
        answer: What the client is to make of the answer, and the class of the stream.
    """
    body, extra = options.json_data, getattr(options, "extra_json", None)
    # `extra_body` is merged over the body by the client, so its fields count.
    is_extra = isinstance(extra, Mapping) and _OPTION in extra
    given = cast("Mapping[str, Any]", extra if is_extra else body)
    asked = given.get(_OPTION)
    if asked is None and not is_extra:
        asked = {}
    if not isinstance(asked, Mapping) or _WANTED in asked:
        return {}
    if _is_raw(client, options) or _is_changed_later(client) or not _is_of_chunks(*answer):
        return {}
    asking = {**given, _OPTION: {**cast("Mapping[str, Any]", asked), _WANTED: True}}
    return {"extra_json" if is_extra else "json_data": asking}


def _is_raw(client: Any, options: Any) -> bool:
    """Whether the caller gets the provider's own bytes."""
    return any(
        isinstance(headers, Mapping)
        and any(str(name).lower() == _RAW_RESPONSE_HEADER for name in cast("Any", headers))
        for headers in (options.headers, getattr(client, "_custom_headers", None))
    )


def _is_changed_later(client: Any) -> bool:
    """Whether the caller's own code may still ask, in a subclass of the client."""
    methods = (getattr(client, name, None) for name in _HOOKS)
    return any(each is not None and not _is_the_librarys(each) for each in methods)


def _is_the_librarys(method: Any) -> bool:
    return str(getattr(method, "__module__", None)).startswith("openai.")


def _is_of_chunks(cast_to: Any, stream_class: Any) -> bool:
    """Whether the caller gets objects in which the usage can be found."""
    of_stream = get_args(stream_class)
    chunk = of_stream[0] if of_stream else cast_to
    if not isinstance(chunk, type) or hasattr(cast_to, "iter_bytes"):
        return False
    if chunk in (object, dict):
        return True
    # The latter is the name before pydantic 2.
    return "usage" in (getattr(chunk, "model_fields", None) or vars(chunk).get("__fields__") or ())


# Token counts for streams whose usage was never reported.
#
# They were closed early, cut, or came from a host that doesn't report any.
#
# An estimate from the length of the text, always labelled as one (`agentpulse.usage.estimated`).
# Providers' guides give four characters a token for English text
# (https://help.openai.com/en/articles/4936856); structure adds a few tokens a message.

CHARACTERS_PER_TOKEN = 4.0
_TOKENS_PER_MESSAGE = 4
_CONTENT_FIELDS = ("messages", "input", "prompt", "system", "instructions", "tools")
# Pictures, sound and documents travel as long text, which isn't billed by its length.
_OPAQUE_FIELDS = frozenset(
    {"image_url", "source", "input_audio", "file_data", "file", "encrypted_content"}
)
_DEEPEST = 24


def tokens(characters: int) -> int:
    """Tokens of that much text."""
    return -(-characters // int(CHARACTERS_PER_TOKEN))


def input_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a request's text: messages, instructions and tool definitions."""
    given = (without_bodies(body.get(name)) for name in _CONTENT_FIELDS)
    total = tokens(sum(_characters(each, 0) for each in given))
    messages = body.get("messages")
    return total + _TOKENS_PER_MESSAGE * (
        len(cast("list[Any]", messages)) if isinstance(messages, list) else 0
    )


def _characters(value: Any, depth: int) -> int:
    if isinstance(value, str):
        return len(value)
    if depth > _DEEPEST:
        return 0
    if isinstance(value, dict):
        node = cast("dict[str, Any]", value)
        return sum(
            _characters(child, depth + 1)
            for name, child in node.items()
            if name not in _OPAQUE_FIELDS
        )
    if isinstance(value, list | tuple):
        return sum(_characters(child, depth + 1) for child in cast("list[Any]", value))
    return 0
