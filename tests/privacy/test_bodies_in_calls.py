"""Bodies of files and images are recorded nowhere: not on spans, and not on log events."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import openai
import pytest
from fakes.provider import EVENTS, Reply, answers, fails, sse

BODY = base64.b64encode(b"the pixels of a passport" * 4).decode()
PNG, PDF = f"data:image/png;base64,{BODY}", f"data:application/pdf;base64,{BODY}"
SIGNED = "https://me:secret@host.example/a.png?X-Signature=secret#secret"
BARE = "https://host.example/a.png"


def blob(modality: str, mime_type: str | None) -> dict[str, Any]:
    reported = {"type": "blob", "modality": modality, "content": "", "size": 96}
    return reported if mime_type is None else {**reported, "mime_type": mime_type}


IMAGE, DOCUMENT = blob("image", "image/png"), blob("document", "application/pdf")
ADDRESS = {"type": "uri", "modality": "image", "uri": BARE}
CHAT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "image": ({"type": "image_url", "image_url": {"url": PNG}}, IMAGE),
    "image at an address": ({"type": "image_url", "image_url": {"url": SIGNED}}, ADDRESS),
    "Mistral's image": ({"type": "image_url", "image_url": PNG}, IMAGE),
    "sound": (
        {"type": "input_audio", "input_audio": {"data": BODY, "format": "wav"}},
        blob("audio", "audio/wav"),
    ),
    "Mistral's sound": ({"type": "input_audio", "input_audio": BODY}, blob("audio", None)),
    "file": ({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}, DOCUMENT),
    "file of base64": ({"type": "file", "file": {"file_data": BODY}}, blob("document", None)),
    "file by its id": (
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "modality": "document", "file_id": "file-1"},
    ),
    "LiteLLM's file": (
        {"type": "file", "file": {"file_data": BODY, "format": "application/pdf"}},
        DOCUMENT,
    ),
    "Mistral's document": ({"type": "document_url", "document_url": PDF}, DOCUMENT),
    "video": (
        {"type": "video_url", "video_url": {"url": PNG.replace("image/png", "video/mp4")}},
        blob("video", "video/mp4"),
    ),
    "text": (
        {"type": "text", "text": f"Look: {PNG}!"},
        {"type": "text", "content": "Look: <image/png, 96 bytes>!"},
    ),
}
RESPONSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "image": ({"type": "input_image", "image_url": PNG}, IMAGE),
    "image at an address": ({"type": "input_image", "image_url": SIGNED}, ADDRESS),
    "file": ({"type": "input_file", "filename": "a.pdf", "file_data": PDF}, DOCUMENT),
    "file of base64": ({"type": "input_file", "file_data": BODY}, blob("document", None)),
    "file at an address": (
        {"type": "input_file", "file_url": SIGNED},
        {**ADDRESS, "modality": "document"},
    ),
    "sound": (
        {"type": "input_audio", "input_audio": {"data": BODY, "format": "mp3"}},
        blob("audio", "audio/mp3"),
    ),
}
MESSAGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "image": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BODY}},
        IMAGE,
    ),
    "image at an address": (
        {"type": "image", "source": {"type": "url", "url": SIGNED}},
        ADDRESS,
    ),
    "document": (
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": BODY},
        },
        DOCUMENT,
    ),
    "document of text": (
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "Plain words!"},
        },
        {**blob("document", "text/plain"), "size": 12},
    ),
    "document of parts": (
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": "Words"}]},
        },
        {"type": "text", "content": "Words"},
    ),
    "file by its id": (
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "file", "modality": "image", "file_id": "file_1"},
    ),
}


def of(clients: Any, api: str, *content: Any, **more: Any) -> None:
    spoken: Any = [{"role": "user", "content": list(content)}]
    if api == "chat":
        clients.openai.chat.completions.create(model="gpt-4o", messages=spoken, **more)
    elif api == "responses":
        clients.openai.responses.create(model="gpt-4o", input=spoken, **more)
    else:
        clients.anthropic.messages.create(
            model="claude-haiku-4-5", max_tokens=9, messages=spoken, **more
        )


def reported(spans: Any, name: str = "input") -> Any:
    (span,) = spans.finished()
    assert BODY not in span.to_json()
    assert "secret" not in span.to_json()
    return json.loads(span.attributes[f"gen_ai.{name}.messages"])


@pytest.mark.parametrize(
    ("api", "form"),
    [(api, form) for api, forms in
     (("chat", CHAT), ("responses", RESPONSES), ("messages", MESSAGES)) for form in forms],
)  # fmt: skip
def test_a_part_is_its_type_its_media_type_and_its_size(
    api: str, form: str, clients: Any, instrumented: Any, logs: Any
) -> None:
    part, shown = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES}[api][form]
    spans = instrumented(capture_messages=True, logger_provider=logs.provider)
    of(clients, api, part)
    assert reported(spans) == [{"role": "user", "parts": [shown]}]
    assert BODY not in logs.text()
    assert "secret" not in logs.text()


def test_log_events_alone_have_no_bodies_either(
    clients: Any, instrumented: Any, logs: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    instrumented(capture_messages=None, logger_provider=logs.provider)
    of(clients, "chat", CHAT["image"][0])
    assert logs.taken()[0]["attributes"]["gen_ai.input.messages"] == [
        {"role": "user", "parts": [IMAGE]}
    ]


MARK = "<image/png, 96 bytes>"
OUTPUTS: dict[str, tuple[Any, Any]] = {
    "a screenshot": (
        {
            "type": "computer_call_output",
            "call_id": "c",
            "output": {"type": "computer_screenshot", "image_url": PNG},
        },
        {"type": "computer_screenshot", "image_url": MARK},
    ),
    "parts": (
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [
                {"type": "input_image", "image_url": PNG},
                {"type": "input_file", "file_data": BODY},
            ],
        },
        [
            {"type": "input_image", "image_url": MARK},
            {"type": "input_file", "file_data": "<96 bytes>"},
        ],
    ),
    "a text": (
        {"type": "function_call_output", "call_id": "c", "output": f"It is {PNG}"},
        f"It is {MARK}",
    ),
    "JSON": (
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": json.dumps({"type": "image", "data": BODY, "mimeType": "image/png"}),
        },
        json.dumps({"type": "image", "data": MARK, "mimeType": "image/png"}),
    ),
}


@pytest.mark.parametrize("form", OUTPUTS)
def test_what_a_tool_gave_to_a_response_has_no_body(
    form: str, clients: Any, instrumented: Any
) -> None:
    item, shown = OUTPUTS[form]
    spans = instrumented(capture_messages=True)
    clients.openai.responses.create(model="gpt-4o", input=[item])
    (message,) = reported(spans)
    assert message["parts"] == [{"type": "tool_call_response", "id": "c", "response": shown}]


def test_what_a_tool_gave_to_a_chat_has_no_body(clients: Any, instrumented: Any) -> None:
    spans = instrumented(capture_messages=True)
    answered: Any = [
        {"role": "tool", "tool_call_id": "c", "content": [CHAT["image"][0]]},
        {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": "Two"}]},
        {"role": "tool", "tool_call_id": "e", "content": PNG},
    ]
    clients.openai.chat.completions.create(model="gpt-4o", messages=answered)
    responses = [message["parts"][0]["response"] for message in reported(spans)]
    assert responses == [[IMAGE], "Two", MARK]


def test_what_a_tool_gave_to_a_message_has_no_body(clients: Any, instrumented: Any) -> None:
    spans = instrumented(capture_messages=True)
    result = {"type": "tool_result", "tool_use_id": "t"}
    text = {"type": "text", "text": "See:"}
    of(clients, "messages", {**result, "content": [text, MESSAGES["image"][0]]})
    of(clients, "messages", {**result, "content": [text, text]})
    of(clients, "messages", {**result, "content": PNG})
    shown = [
        json.loads(span.attributes["gen_ai.input.messages"])[0]["parts"][0]["response"]
        for span in spans.finished()
        if BODY not in span.to_json()
    ]
    assert shown == [[{"type": "text", "content": "See:"}, IMAGE], "See:See:", MARK]


def test_what_a_tool_is_asked_with_has_no_body(clients: Any, instrumented: Any) -> None:
    spans = instrumented(capture_messages=True)
    function = {"name": "store", "arguments": json.dumps({"picture": PNG, "text": "x"})}
    call = {"id": "c", "type": "function", "function": function}
    asked: Any = [{"role": "assistant", "tool_calls": [call]}]
    clients.openai.chat.completions.create(model="gpt-4o", messages=asked)
    (message,) = reported(spans)
    assert message["parts"][0]["arguments"] == {"picture": MARK, "text": "x"}


def chat_answer(message: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return {"id": "c", "object": "chat.completion", "model": "gpt-4o", "choices": [choice]}


SOUND = {"id": "audio_1", "data": BODY, "transcript": "Good morning.", "expires_at": 1}
SPOKEN = {"type": "text", "content": "Good morning."}


def test_what_a_model_says_aloud_is_its_transcript_and_size(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    provider.script(answers(chat_answer({"content": None, "audio": SOUND})))
    of(clients, "chat", {"type": "text", "text": "?"})
    assert reported(spans, "output")[0]["parts"] == [SPOKEN, blob("audio", None)]


def test_what_a_model_says_aloud_in_a_stream_is_so_too(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    pieces = [
        {"id": "audio_1", "transcript": "Good "},
        {"data": BODY[:64]},
        {"transcript": "morning."},
        {"data": BODY[64:]},
    ]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": {"audio": piece}, "finish_reason": None}]}
        for piece in pieces
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    provider.script(lambda _reply: Reply(content_type=EVENTS, events=sse(*chunks, done=True)))
    spoken: Any = [{"role": "user", "content": "?"}]
    list(clients.openai.chat.completions.create(model="gpt-4o", messages=spoken, stream=True))
    assert reported(spans, "output")[0]["parts"] == [SPOKEN, blob("audio", None)]


def test_an_image_that_a_model_makes_has_no_body(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented(capture_messages=True)
    image = {"type": "image_url", "image_url": {"url": PNG}}
    provider.script(answers(chat_answer({"content": "Here:", "images": [image]})))
    of(clients, "chat", {"type": "text", "text": "?"})
    assert reported(spans, "output")[0]["parts"] == [{"type": "text", "content": "Here:"}, IMAGE]
    made = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": BODY}
    response = {"id": "r", "object": "response", "status": "completed", "model": "gpt-4o"}
    provider.script(answers({**response, "output": [{**made, "output_format": "png"}]}))
    of(clients, "responses", {"type": "input_text", "text": "?"})
    assert reported(spans, "output")[0]["parts"][1:] == [IMAGE]


def test_an_error_that_repeats_a_body_is_recorded_without_it(
    clients: Any, provider: Any, instrumented: Any, logs: Any
) -> None:
    spans = instrumented(capture_messages=True, logger_provider=logs.provider)
    provider.script(fails(400, f"no image: {PNG}"), fails(400, f"no image: {PNG}"))
    for api in ("chat", "messages"):
        with pytest.raises((openai.APIError, anthropic.APIError)):
            of(clients, api, {"type": "text", "text": "?"})
    for span in spans.finished():
        assert MARK in (span.status.description or "")
        assert BODY not in span.to_json()
    assert BODY not in logs.text()


def test_the_request_is_sent_as_it_was(clients: Any, provider: Any, instrumented: Any) -> None:
    instrumented(capture_messages=True)
    given = [CHAT["image"][0], CHAT["file"][0], CHAT["sound"][0]]
    before = json.dumps(given)
    of(clients, "chat", *given)
    assert json.dumps(given) == before
    assert provider.requests[-1].body["messages"][0]["content"] == given


def test_tokens_that_are_estimated_take_no_body_for_text(
    clients: Any, provider: Any, instrumented: Any
) -> None:
    spans = instrumented()
    spoken: Any = [{"role": "user", "content": [CHAT["text"][0]]}]
    long = json.loads(json.dumps(spoken).replace(BODY, BODY * 100))
    for messages in (spoken, long):
        stream = clients.openai.chat.completions.create(
            model="gpt-4o", messages=messages, stream=True
        )
        next(iter(stream))
        stream.close()
    short, other = (span["attributes"]["gen_ai.usage.input_tokens"] for span in spans())
    assert abs(short - other) <= 1
