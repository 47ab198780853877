"""Bodies of files and images in runs of LangChain and LangGraph are recorded nowhere."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from fakes.stacks import chat_anthropic, chat_openai
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

BODY = base64.b64encode(b"the pixels of a passport" * 4).decode()
PNG, MARK = f"data:image/png;base64,{BODY}", "<image/png, 96 bytes>"
OF_PDF = f"data:application/pdf;base64,{BODY}"
SIGNED = "https://host.example/a.png?X-Signature=secret"
BLOB = {"type": "blob", "content": "", "size": 96}
IMAGE = {**BLOB, "modality": "image", "mime_type": "image/png"}
PDF = {**BLOB, "modality": "document", "mime_type": "application/pdf"}
BLOCKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "image": ({"type": "image", "base64": BODY, "mime_type": "image/png"}, IMAGE),
    "file": ({"type": "file", "base64": BODY, "mime_type": "application/pdf"}, PDF),
    "sound": (
        {"type": "audio", "base64": BODY, "mime_type": "audio/wav"},
        {**BLOB, "modality": "audio", "mime_type": "audio/wav"},
    ),
    "video": (
        {"type": "video", "base64": BODY, "mime_type": "video/mp4"},
        {**BLOB, "modality": "video", "mime_type": "video/mp4"},
    ),
    "older": (
        {"type": "image", "source_type": "base64", "data": BODY, "mime_type": "image/png"},
        IMAGE,
    ),
    "address": (
        {"type": "image", "url": SIGNED},
        {"type": "uri", "modality": "image", "uri": "https://host.example/a.png"},
    ),
    "OpenAI": ({"type": "image_url", "image_url": {"url": PNG}}, IMAGE),
    "OpenAI, file": ({"type": "file", "file": {"file_data": OF_PDF}}, PDF),
    "OpenAI, sound": (
        {"type": "input_audio", "input_audio": {"data": BODY, "format": "wav"}},
        {**BLOB, "modality": "audio", "mime_type": "audio/wav"},
    ),
    "Anthropic": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BODY}},
        IMAGE,
    ),
    "Gemini": ({"type": "media", "mime_type": "image/png", "data": BODY}, IMAGE),
    "Bedrock": (
        {"image": {"format": "png", "source": {"bytes": base64.b64decode(BODY)}}},
        IMAGE,
    ),
}  # fmt: skip


@pytest.fixture
def captured(spans: Any) -> Any:
    instrument(tracer_provider=spans.provider, capture_messages=True)
    return spans


@pytest.mark.parametrize("form", BLOCKS)
def test_a_block_is_its_type_its_media_type_and_its_size(form: str, captured: Any) -> None:
    block, shown = BLOCKS[form]
    model = FakeListChatModel(responses=["Seen."])
    (RunnableLambda(lambda spoken: [HumanMessage([spoken])]) | model).invoke(block)
    reported = [span.to_json() for span in captured.finished()]
    assert not [each for each in reported if BODY in each or "secret" in each]
    (call,) = [json.loads(each) for each in reported if '"chat"' in each]
    (message,) = json.loads(call["attributes"]["gen_ai.input.messages"])
    assert message["parts"] == [shown]


@tool(response_format="content_and_artifact")
def look(picture: str) -> Any:
    """Looks at a picture."""
    assert picture == PNG
    return [{"type": "text", "text": PNG}, BLOCKS["image"][0]], base64.b64decode(BODY)


def test_what_a_tool_is_asked_with_and_gives_has_no_body(captured: Any) -> None:
    call = {"name": "look", "args": {"picture": PNG}, "id": "c", "type": "tool_call"}
    assert isinstance(look.invoke(call), ToolMessage)
    (span,) = captured.finished()
    assert BODY not in span.to_json()
    asked = json.loads(span.attributes["gen_ai.tool.call.arguments"])
    assert asked == {"picture": MARK}
    given = json.loads(span.attributes["gen_ai.tool.call.result"])
    image = {"type": "image", "base64": MARK, "mime_type": "image/png"}
    assert given == {"result": [{"type": "text", "text": MARK}, image]}


def test_chains_and_documents_have_no_bodies(captured: Any) -> None:
    def read(_given: Any) -> Any:
        return [Document(PNG), base64.b64decode(BODY), {"b64_json": BODY}]

    RunnableLambda(read).invoke({"picture": PNG, "raw": base64.b64decode(BODY)})
    (span,) = captured.finished()
    assert BODY not in span.to_json()
    assert json.loads(span.attributes["agentpulse.args"]) == {
        "picture": MARK,
        "raw": "<96 bytes>",
    }


@pytest.mark.parametrize("make", [chat_openai, chat_anthropic])
def test_what_a_client_underneath_records_has_none_either(
    make: Any, provider: Any, captured: Any
) -> None:
    image = BLOCKS["Anthropic" if make is chat_anthropic else "OpenAI"][0]
    make(provider).invoke([HumanMessage([{"type": "text", "text": "?"}, image])])
    reported = [span.to_json() for span in captured.finished()]
    assert reported
    assert not [each for each in reported if BODY in each]
