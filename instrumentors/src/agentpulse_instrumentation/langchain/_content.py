"""The content of runs of LangChain, as messages of the GenAI conventions and as JSON.

Runs only where content is captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from agentpulse_instrumentation._engine import content as parts
from agentpulse_instrumentation._engine.body import get, items
from agentpulse_instrumentation._engine.operation import InputContent, Message, Part
from agentpulse_instrumentation._engine.patching import shield

_READ = shield("read content")
_T = TypeVar("_T")
_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "tool"}
_MOST = 200
_DEEP = 6


def read(make: Callable[[], _T], otherwise: _T) -> _T:
    """Content, or `otherwise` where it can't be read, which costs no run its span."""
    with _READ:
        return make()
    return otherwise


def generations(response: Any) -> Iterator[Any]:
    """The generations of a result, which may hold those of several prompts."""
    for of_a_prompt in items(response, "generations"):
        if isinstance(of_a_prompt, list):
            yield from cast("list[Any]", of_a_prompt)


def model_input(given: Any, about: dict[str, Any]) -> InputContent:
    """The messages, or the prompts, that a model is asked with, and its tools."""
    found: list[Message] = []
    for each in cast("list[Any]", given) if isinstance(given, list) else []:
        if isinstance(each, str):
            found.append(parts.text_message("user", each))
        elif isinstance(each, list):
            found += [message(one) for one in cast("list[Any]", each)]
    tools = items(about.get("invocation_params"), "tools")
    return InputContent(found, [], [_tool(tool) for tool in tools])


def model_output(response: Any) -> list[Message]:
    """One message a generation."""
    found: list[Message] = []
    for generation in generations(response):
        if (answer := get(generation, "message")) is not None:
            found.append(message(answer))
        elif isinstance(text := get(generation, "text"), str):
            found.append(parts.text_message("assistant", text))
    return found


def message(given: Any) -> Message:
    """A message of LangChain's."""
    kind = get(given, "type")
    role = _ROLES.get(kind, kind) if isinstance(kind, str) else "user"
    content = get(given, "content")
    if role == "tool":
        answer = parts.tool_response_part(get(given, "tool_call_id"), plain(content))
        return {"role": "tool", "parts": [answer]}
    found: list[Part] = [parts.text_part(content)] if isinstance(content, str) and content else []
    found += [part for block in items(given, "content") if (part := _part(block)) is not None]
    for call in items(given, "tool_calls"):
        arguments = plain(get(call, "args"))
        found.append(parts.tool_call_part(get(call, "name"), get(call, "id"), arguments))
    return {"role": role, "parts": found}


def messages(values: Any) -> list[Message] | None:
    """The messages of a graph's state, or None where it is no such state."""
    found = get(values, "messages") if isinstance(values, dict) else values
    listed = cast("list[Any]", found) if isinstance(found, list) else [found]
    if listed and all(_is_message(each) for each in listed):
        return [message(each) for each in listed]
    return None


def plain(value: Any, deep: int = _DEEP) -> Any:
    """The value as JSON has it; objects that JSON has no form for become the name of their type."""
    if value is None or isinstance(value, str | bool | int | float | bytes | bytearray):
        return value
    if deep == 0:
        return "…"
    if isinstance(value, dict):
        pairs = list(cast("dict[Any, Any]", value).items())[:_MOST]
        return {name: plain(each, deep - 1) for name, each in pairs if isinstance(name, str)}
    if isinstance(value, list | tuple | set | frozenset):
        listed = list(cast("list[Any]", value))[:_MOST]
        return [plain(each, deep - 1) for each in listed]
    return message(value) if _is_message(value) else _object(value, deep)


def _object(value: Any, deep: int) -> Any:
    page = get(value, "page_content")
    if isinstance(page, str):
        return {"content": page, "metadata": plain(get(value, "metadata"), deep - 1)}
    for name in ("messages", "update"):
        # A prompt, and a graph's command.
        if (held := get(value, name)) is not None:
            return {name: plain(held, deep - 1)}
    return f"<{type(value).__name__}>"


def _is_message(value: Any) -> bool:
    held = getattr(value, "__dict__", {})
    return isinstance(held.get("type"), str) and "additional_kwargs" in held


def _part(block: Any) -> Part | None:
    if isinstance(block, str):
        return parts.text_part(block)
    kind = get(block, "type")
    if isinstance(text := get(block, "text"), str):
        return parts.text_part(text)
    if kind in ("reasoning", "thinking"):
        return {"type": "reasoning", "content": str(get(block, kind) or "")}
    # Calls of tools stand in `tool_calls` too, and parts of other types are dropped.
    return parts.media_part(block)


def _tool(tool: Any) -> dict[str, Any]:
    given = get(tool, "function") or tool
    found = {name: plain(get(given, name)) for name in ("name", "description", "parameters")}
    found["parameters"] = found["parameters"] or plain(get(given, "input_schema"))
    return parts.tool_definition({"type": "function", **found})
