"""How requests and answers of Anthropic's API read as messages of the GenAI conventions.

Runs only where content is captured. Requests may hold dicts or the models of earlier answers;
one-shot iterators are left alone, because reading them would take them from the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from agentpulse_instrumentation._engine import content as genai
from agentpulse_instrumentation._engine.body import get, items, listed
from agentpulse_instrumentation._engine.operation import InputContent, Message, Part

_DELTA_TEXT = ("text", "thinking", "partial_json")


def delta_characters(delta: Any) -> int:
    """How much text a delta of a content block carries."""
    return sum(len(piece) for name in _DELTA_TEXT if isinstance(piece := get(delta, name), str))


def messages_input(body: Mapping[str, Any]) -> InputContent:
    """The messages, the system prompt (apart from the history in this API) and the tools."""
    messages = [_message(message) for message in items(body, "messages")]
    blocks = listed(body.get("system"))
    system = [genai.text_part(each) if isinstance(each, str) else _text(each) for each in blocks]
    return InputContent(messages, system, [_tool(tool) for tool in items(body, "tools")])


def messages_output(answer: Any) -> list[Message]:
    """The one message of the answer."""
    parts = [_block(block) for block in items(answer, "content")]
    return [{"role": "assistant", "parts": parts}] if parts else []


def _message(message: Any) -> Message:
    content = get(message, "content")
    parts = [
        genai.text_part(content) if block is content else _block(block) for block in listed(content)
    ]
    answers = parts and all(part["type"] == "tool_call_response" for part in parts)
    return {"role": "tool" if answers else str(get(message, "role") or "user"), "parts": parts}


def _tool(definition: Any) -> dict[str, Any]:
    tool = cast("dict[str, Any]", definition) if isinstance(definition, dict) else {}
    schema = {"parameters": tool["input_schema"]} if "input_schema" in tool else {}
    kind = tool.get("type") or "function"
    flat = genai.tool_definition(
        {**tool, **schema, "type": "function" if kind == "custom" else kind}
    )
    return {**flat, "name": flat.get("name") or str(kind)}


def _block(block: Any) -> Part:
    kind = get(block, "type")
    read = _BLOCKS.get(kind) if isinstance(kind, str) else None
    if read is not None:
        return read(block)
    if isinstance(kind, str) and kind.endswith("_tool_result"):
        # The answer of a tool that the provider ran: web search, code execution, …
        name = "server_tool_call_response"
        return genai.with_id({"type": name, name: {"type": kind}}, get(block, "tool_use_id"))
    return genai.media_part(block) or {"type": str(kind or "unknown")}


def _text(block: Any) -> Part:
    return genai.text_part(str(get(block, "text") or ""))


def _thinking(block: Any) -> Part:
    return {"type": "reasoning", "content": str(get(block, "thinking") or "")}


def _tool_use(block: Any) -> Part:
    return genai.tool_call_part(get(block, "name"), get(block, "id"), get(block, "input"))


def _tool_result(block: Any) -> Part:
    content = get(block, "content")
    if isinstance(content, list):
        blocks = cast("list[Any]", content)
        is_text = all(get(block, "type") == "text" for block in blocks)
        content = _joined(blocks) if is_text else [_block(block) for block in blocks]
    return genai.tool_response_part(get(block, "tool_use_id"), content)


def _server_tool_use(block: Any) -> Part:
    name = str(get(block, "name") or "")
    call = {"type": name, "input": genai.parsed(get(block, "input"))}
    part: Part = {"type": "server_tool_call", "name": name, "server_tool_call": call}
    return genai.with_id(part, get(block, "id"))


def _document(block: Any) -> Part:
    source = get(block, "source")
    content = get(source, "content")
    if isinstance(content, str):
        return genai.text_part(content)
    if isinstance(content, list):
        return genai.text_part(_joined(cast("list[Any]", content)))
    return genai.media_part(block) or {"type": "document"}


def _joined(blocks: list[Any]) -> str:
    return "".join(str(get(block, "text") or "") for block in blocks)


_BLOCKS = {
    "text": _text,
    "thinking": _thinking,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "server_tool_use": _server_tool_use,
    "document": _document,
}


def grow(block: dict[str, Any], delta: Any) -> None:
    """Adds a delta to a block of a stream; the input of tools comes as pieces of JSON text."""
    for name in _DELTA_TEXT:
        if isinstance(piece := get(delta, name), str):
            block[name] = (block.get(name) or "") + piece
    if block.get("partial_json"):
        block["input"] = block["partial_json"]
