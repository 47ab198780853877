"""Bodies of files and images in calls of LiteLLM are recorded nowhere."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from fakes import lite

litellm = lite.imported()

BODY = base64.b64encode(b"the pixels of a passport" * 4).decode()
PNG, PDF = f"data:image/png;base64,{BODY}", f"data:application/pdf;base64,{BODY}"
PARTS = [
    {"type": "image_url", "image_url": {"url": PNG, "format": "image/png"}},
    {"type": "image_url", "image_url": PNG},
    {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
]
SHOWN = [
    {"type": "blob", "modality": modality, "content": "", "size": 96, "mime_type": mime_type}
    for modality, mime_type in (
        ("image", "image/png"),
        ("image", "image/png"),
        ("document", "application/pdf"),
    )
]


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_part_is_its_type_its_media_type_and_its_size(api: str, at: Any, recorded: Any) -> None:
    spans = recorded(capture_messages=True)
    litellm.completion(**at[api], messages=[{"role": "user", "content": PARTS}])
    (span,) = spans.finished()
    assert BODY not in span.to_json()
    (message,) = json.loads(span.attributes["gen_ai.input.messages"])
    assert message["parts"] == SHOWN


def test_what_a_tool_gave_has_no_body(at: Any, recorded: Any) -> None:
    spans = recorded(capture_messages=True)
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    spoken = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": PARTS[:1]},
    ]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    litellm.completion(**at["anthropic"], messages=spoken, tools=[tool])
    (span,) = spans.finished()
    assert BODY not in span.to_json()
    *_, message = json.loads(span.attributes["gen_ai.input.messages"])
    assert message["parts"][0]["response"] == SHOWN[:1]
