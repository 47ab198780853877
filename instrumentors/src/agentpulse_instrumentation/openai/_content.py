"""How requests and answers of OpenAI's APIs read as messages of the GenAI conventions.

Runs only where content is captured. Requests may hold dicts or the models of earlier answers;
one-shot iterators are left alone, because reading them would take them from the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from agentpulse_instrumentation._engine import content as genai
from agentpulse_instrumentation._engine.body import fields, get, items, listed, text
from agentpulse_instrumentation._engine.operation import InputContent, Message, Part

_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def chat_input(body: Mapping[str, Any]) -> InputContent:
    """The messages and tools of a chat completion. System messages are part of the history here."""
    messages = [_chat_message(message) for message in items(body, "messages")]
    return InputContent(messages, tools=_tools(body))


def chat_output(answer: Any) -> list[Message]:
    """One message per choice."""
    return [_chat_message(get(choice, "message")) for choice in items(answer, "choices")]


def _chat_message(message: Any) -> Message:
    role = get(message, "role") or "assistant"
    if role == "tool":
        answer = genai.tool_response_part(get(message, "tool_call_id"), _flat(message))
        return {"role": "tool", "parts": [answer]}
    thought = text(get(message, "reasoning_content")) or text(get(message, "reasoning"))
    parts: list[Part] = [{"type": "reasoning", "content": thought}] if thought else []
    parts += [*_content_parts(get(message, "content")), *_beside(message)]
    if refusal := text(get(message, "refusal")):
        parts.append(genai.text_part(refusal))
    # `function_call` is what `tool_calls` was before it had its name.
    legacy = {"function": get(message, "function_call")}
    for call in [*items(message, "tool_calls"), *([legacy] if legacy["function"] else [])]:
        function = get(call, "function") or get(call, "custom")
        arguments = get(function, "arguments") or get(function, "input")
        parts.append(genai.tool_call_part(get(function, "name"), get(call, "id"), arguments))
    described: Message = {"role": "system" if role == "developer" else role, "parts": parts}
    if isinstance(name := get(message, "name"), str):
        described["name"] = name
    return described


def _beside(message: Any) -> list[Part]:
    """The parts beside the content: images that the model made, and its sound."""
    parts = [part for image in items(message, "images") if (part := genai.media_part(image))]
    audio = get(message, "audio")
    if audio is None:
        return parts
    # Of an earlier answer, requests have the id alone.
    sound = genai.media_part({"type": "audio", "audio": audio})
    if isinstance(size := get(audio, "size"), int):
        # Of a stream, the pieces were counted.
        sound = {"type": "blob", "modality": "audio", "content": "", "size": size}
    if transcript := text(get(audio, "transcript")):
        parts.append(genai.text_part(transcript))
    return [*parts, sound] if sound is not None else parts


def _flat(message: Any) -> Any:
    content = get(message, "content")
    parts = _content_parts(content) if isinstance(content, list) else []
    if any(part["type"] != "text" for part in parts):
        return parts
    return "".join(part["content"] for part in parts) if isinstance(content, list) else content


def _content_parts(content: Any) -> list[Part]:
    parts = [part for part in listed(content) if part != ""]
    return [genai.text_part(part) if part is content else _content_part(part) for part in parts]


def _content_part(part: Any) -> Part:
    kind = get(part, "type")
    value = get(part, "text") or get(part, "refusal")
    if isinstance(value, str) or kind in _TEXT_PARTS:
        return genai.text_part(str(value or ""))
    if kind == "thinking":
        # Mistral's form of reasoning: a list of text parts.
        thought = "".join(str(get(entry, "text") or "") for entry in items(part, "thinking"))
        return {"type": "reasoning", "content": thought}
    return genai.media_part(part) or {"type": str(kind or "unknown")}


def _tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    for tool in items(body, "tools"):
        function = get(tool, "function")
        flat = {**fields(function), "type": get(tool, "type")} if function else tool
        if isinstance(flat, dict):
            known = genai.tool_definition(cast("dict[str, Any]", flat))
            kind = str(known.get("type") or "function")
            tools.append({**known, "type": kind, "name": known.get("name") or kind})
    return tools


def completion_input(body: Mapping[str, Any]) -> InputContent:
    """The prompts of a legacy completion."""
    prompts = [prompt for prompt in listed(body.get("prompt")) if isinstance(prompt, str)]
    return InputContent([genai.text_message("user", prompt) for prompt in prompts])


def completion_output(answer: Any) -> list[Message]:
    """One message per choice of a legacy completion."""
    choices = items(answer, "choices")
    return [genai.text_message("assistant", str(get(choice, "text") or "")) for choice in choices]


def responses_input(body: Mapping[str, Any]) -> InputContent:
    """The input items, instructions and tools of a response."""
    given, instructions = body.get("input"), body.get("instructions")
    messages = [
        genai.text_message("user", item) if item is given else _item_message(item)
        for item in listed(given)
    ]
    system = [genai.text_part(instructions)] if isinstance(instructions, str) else []
    return InputContent(messages, system, _tools(body))


def responses_output(answer: Any) -> list[Message]:
    """The output items of a response, as the one message that they are."""
    parts = [part for item in items(answer, "output") for part in _item_parts(item)]
    return [{"role": "assistant", "parts": parts}] if parts else []


def _item_message(item: Any) -> Message:
    role = get(item, "role")
    if str(get(item, "type")).endswith("_call_output"):
        role = "tool"
    elif role == "developer":
        role = "system"
    return {"role": role or "assistant", "parts": _item_parts(item)}


def _item_parts(item: Any) -> list[Part]:
    kind = str(get(item, "type") or "message")
    if kind == "message":
        return _content_parts(get(item, "content"))
    if kind == "reasoning":
        thoughts = [get(entry, "text") or "" for entry in items(item, "summary")]
        return [{"type": "reasoning", "content": thought} for thought in thoughts]
    if kind in ("function_call", "custom_tool_call"):
        arguments = get(item, "arguments") or get(item, "input")
        return [genai.tool_call_part(get(item, "name"), get(item, "call_id"), arguments)]
    if kind.endswith("_call_output"):
        return [genai.tool_response_part(get(item, "call_id"), get(item, "output"))]
    if not kind.endswith("_call"):
        return [{"type": kind}]
    # A tool that the provider runs by itself: web search, file search, code interpreter, …
    call: Part = {"type": "server_tool_call", "name": kind.removesuffix("_call")}
    call = genai.with_id({**call, "server_tool_call": {"type": kind}}, get(item, "id"))
    made = get(item, "result")
    if kind != "image_generation_call" or not isinstance(made, str):
        return [call]
    image = genai.media_part({"type": "image", "data": made, "format": get(item, "output_format")})
    return [call] if image is None else [call, image]
