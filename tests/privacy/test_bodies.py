"""What counts as the body of a file or an image, in the words of whoever sends one."""

from __future__ import annotations

import base64
import inspect
import json
from typing import Any
from urllib.parse import quote

import agentpulse_exporter._wire.media
import agentpulse_instrumentation._engine.media
import pytest
from agentpulse_instrumentation._engine.media import without_bodies

BYTES = b"the pixels of a passport" * 4
BODY = base64.b64encode(BYTES).decode()
URL = f"data:image/png;base64,{BODY}"
LONG = base64.b64encode(BYTES * 9).decode()
WRAPPED = base64.encodebytes(BYTES * 9).decode()
EVERY = bytes(range(256)) * 4
SIGNS = base64.b64encode(EVERY).decode()
"""With slashes and pluses."""
MARK, PNG = "<96 bytes>", "<image/png, 96 bytes>"


def lines(width: int) -> list[str]:
    return [SIGNS[at : at + width] for at in range(0, len(SIGNS), width)]


def image(**fields: Any) -> dict[str, Any]:
    return {"type": "image", **fields}


FORMS: dict[str, tuple[Any, Any]] = {
    "bytes": ([BYTES, bytearray(BYTES)], [MARK, MARK]),
    "a data URL": (URL, PNG),
    "a data URL in a text": (f"See {URL} and say.", f"See {PNG} and say."),
    "two of them": (f"{URL}, {URL}", f"{PNG}, {PNG}"),
    "in capitals": (f"DATA:image/png;BASE64,{BODY}", PNG),
    "without a type": (f"data:;base64,{BODY}", MARK),
    "with parameters": (f"data:image/png;name=a b.png;base64,{BODY}", PNG),
    "of a small file": ("data:text/plain;base64,aGk=", "<text/plain, 2 bytes>"),
    "in lines": (f"data:image/png;base64,{WRAPPED.strip()}", "<image/png, 864 bytes>"),
    "with slashes escaped": (URL.replace("/", "\\/"), PNG),
    "percent-encoded": ("data:text/plain,some%20words", "<text/plain, 12 bytes>"),
    "of a drawing": ("data:image/svg+xml,<svg a='b c'/>", "<image/svg+xml, 14 bytes>"),
    "Anthropic's": (
        image(source={"type": "base64", "media_type": "image/png", "data": BODY}),
        image(source={"type": "base64", "media_type": "image/png", "data": PNG}),
    ),
    "OpenAI's image": (
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
    ),
    "OpenAI's sound": (
        {"type": "input_audio", "input_audio": {"data": BODY, "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": MARK, "format": "wav"}},
    ),
    "OpenAI's file": ({"file": {"file_data": BODY}}, {"file": {"file_data": MARK}}),
    "a screenshot": (
        {"type": "computer_screenshot", "image_url": URL},
        {"type": "computer_screenshot", "image_url": PNG},
    ),
    "an image that was made": (
        {"type": "image_generation_call", "result": BODY},
        {"type": "image_generation_call", "result": MARK},
    ),
    "an image of the images API": (
        {"data": [{"b64_json": "aGk="}]},
        {"data": [{"b64_json": "<2 bytes>"}]},
    ),
    "what a model said aloud": (
        {"audio": {"id": "a", "data": BODY, "transcript": "Hi."}},
        {"audio": {"id": "a", "data": MARK, "transcript": "Hi."}},
    ),
    "Gemini's": (
        {"inline_data": {"mime_type": "image/png", "data": BODY}},
        {"inline_data": {"mime_type": "image/png", "data": PNG}},
    ),
    "Gemini's REST API": (
        {"inlineData": {"mimeType": "image/png", "data": BODY}},
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
    ),
    "Bedrock's": (
        {"image": {"format": "png", "source": {"bytes": BYTES}}},
        {"image": {"format": "png", "source": {"bytes": MARK}}},
    ),
    "Bedrock's as JSON": (
        {"document": {"format": "pdf", "source": {"bytes": BODY}}},
        {"document": {"format": "pdf", "source": {"bytes": MARK}}},
    ),
    "LangChain's": (
        image(base64=BODY, mime_type="image/png"),
        image(base64=PNG, mime_type="image/png"),
    ),
    "older LangChain's": (
        {"type": "file", "source_type": "base64", "data": BODY, "mime_type": "application/pdf"},
        {
            "type": "file",
            "source_type": "base64",
            "data": "<application/pdf, 96 bytes>",
            "mime_type": "application/pdf",
        },
    ),
    "MCP's image": (image(data=BODY, mimeType="image/png"), image(data=PNG, mimeType="image/png")),
    "MCP's resource": (
        {"type": "resource", "resource": {"uri": "file:///a", "blob": BODY}},
        {"type": "resource", "resource": {"uri": "file:///a", "blob": MARK}},
    ),
    "Ollama's": ({"role": "user", "images": [BODY]}, {"role": "user", "images": [MARK]}),
    "Vercel's": (
        image(image={"type": "Buffer", "data": [*BYTES]}),
        image(image={"type": "Buffer", "data": MARK}),
    ),
    "pydantic-ai's": (
        {"kind": "binary", "data": BODY, "media_type": "image/png"},
        {"kind": "binary", "data": PNG, "media_type": "image/png"},
    ),
    "the conventions'": (
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": BODY},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "", "size": 96},
    ),
    "GitHub's file": (
        {"type": "file", "encoding": "base64", "content": BODY},
        {"type": "file", "encoding": "base64", "content": MARK},
    ),
    "any long base64": (f"It is {LONG}", "It is <864 bytes>"),
    "of an e-mail": (f"Attached:\n{WRAPPED}", "Attached:\n<864 bytes>\n"),
    **{
        f"in lines of {width} characters after {before!r}": (
            f"Attached:\n{before}" + f"\n{before}".join(lines(width)) + "\nEnd.",
            f"Attached:\n{before}<1024 bytes>\nEnd.",
        )
        for width in (57, 64, 76, 77, 80, 100, 128, 200)
        for before in ("", "    ", "> ")
    },
    "in lines with both ends": ("\r\n".join(lines(57)), "<1024 bytes>"),
    "in lines in JSON": (json.dumps({"note": "\n".join(lines(57))})[1:], '"note": "<1024 bytes>"}'),
    "slashes escaped under any name": (
        json.dumps({"note": SIGNS}).replace("/", "\\/"),
        '{"note": "<1024 bytes>"}',
    ),
    "in an address": (f"q?a={quote(SIGNS, safe='')}&b=1", "q?a=<1024 bytes>&b=1"),
    "in a list of lines": ({"lines": lines(76)}, {"lines": ["<1024 bytes>"]}),
    "in a sequence that was cut": ((*lines(200), "…"), ["<1024 bytes>"]),
    "in a list of pieces": ({"chunks": lines(200)}, {"chunks": ["<1024 bytes>"]}),
    "as Python writes it": (f"Picture(data={EVERY!r}, n=1)", "Picture(data=<1024 bytes>, n=1)"),
    "in JSON": (json.dumps(image(data=BODY, mimeType="image/png")), None),
    "in JSON inside JSON": (
        json.dumps({"said": json.dumps([image(data=BODY, mimeType="image/png")])}),
        None,
    ),
    "nested": ({"a": [({"b": URL},)]}, {"a": [[{"b": PNG}]]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_body_is_its_type_and_size(form: str) -> None:
    value, shown = FORMS[form]
    reported = without_bodies(value)
    assert shown is None or reported == shown
    text = json.dumps(reported)
    assert BODY not in text
    assert LONG[:64] not in text
    assert WRAPPED[:64] not in text
    assert SIGNS[:32] not in text
    assert "bytes" in text or '"size": 96' in text
    assert without_bodies(reported) == reported


ALIKE: list[Any] = [
    "",
    "data: what we saw, mostly",
    "metadata:x,y",
    "The data:image is missing",
    "x" * 5_000,
    "-" * 5_000,
    "words of no great length " * 400,
    "the lib's b'short' and b\"text\" " * 100,
    "line of text\n    > quoted line\n" * 100,
    "%2F%2f%3D and \\/ " * 100,
    ["Ab3" * 16, "words that are as long as the others, but for blanks"] * 9,
    [f"{'/srv/agents/reports/daily' * 2}/{at * 'x'}" for at in range(5)],
    {"images": "screenshots/2026"},
    [*[SIGNS[:48]] * 30, {"a": "dict"}],
    [*[SIGNS[:48]] * 30, 7],
    ["sha256:" + "0123456789abcdef" * 4] * 9,
    "C:\\new\\names\\no\\" * 100,
    "src/aVeryLongModuleName/another_part/part.py\n" * 100,
    "https://host.example/" + "a-long-path/" * 9 + "?q=1",
    {"format": "csv", "data": "a,b,c"},
    {"type": "file", "data": "text", "path": "a.txt"},
    {"images": ["cats", "dogs"]},
    {"url": "https://host.example/?q=1", "data": BODY[:40]},
    {"name": "image", "result": BODY[:40]},
    {"type": "text", "text": "a blob of data", "data": None},
    {"type": "object", "properties": {"data": {"type": "string"}, "image": {"type": "string"}}},
    {"sha512": "0123456789abcdef" * 8, "id": "resp_" + "0a1b" * 24},
    '{"data": "unfinished',
    "[1, 2, 3]",
    '{ "spacing":  "stays",   "data": 1 }',
    [1, 2.5, None, True, {"bytes": 7}],
]


@pytest.mark.parametrize("value", ALIKE, ids=lambda value: str(value)[:40])
def test_what_is_no_body_stays(value: Any) -> None:
    assert without_bodies(value) == value
    if isinstance(value, str):
        assert without_bodies(value) is value


@pytest.mark.parametrize(
    ("part", "address"),
    [
        ({"type": "image_url", "image_url": {"url": "?"}}, ("image_url", "url")),
        ({"type": "input_image", "image_url": "?"}, ("image_url",)),
        ({"type": "input_file", "file_url": "?"}, ("file_url",)),
        ({"type": "image", "source": {"type": "url", "url": "?"}}, ("source", "url")),
        ({"type": "document_url", "document_url": "?"}, ("document_url",)),
        ({"type": "uri", "modality": "image", "uri": "?"}, ("uri",)),
        ({"fileData": {"mimeType": "image/png", "fileUri": "?"}}, ("fileData", "fileUri")),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_address_of_a_file_loses_what_may_hold_a_key(
    part: dict[str, Any], address: tuple[str, ...]
) -> None:
    signed = "https://me:secret@host.example:8443/a/b.png?X-Signature=secret#secret"
    reported: Any = without_bodies(json.loads(json.dumps(part).replace("?", signed)))
    for name in address:
        reported = reported[name]
    assert reported == "https://host.example:8443/a/b.png"


def test_what_is_nested_too_deep_is_left_out_or_read_as_text() -> None:
    deep: Any = URL
    for _ in range(5_000):
        deep = [deep]
    assert without_bodies(deep) == "…"
    text = "[" * 400 + json.dumps({"data": URL}) + "]" * 400
    for levels in (text, "[" * 5_000 + text + "]" * 5_000):
        assert BODY not in without_bodies(levels)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("file-abc", "file-abc"),
        ("a?b#c", "a?b#c"),
        ("gs://bucket/a.png?x=1", "gs://bucket/a.png"),
        ("https://a@b:secret@host.example/c@d.png#e", "https://host.example/c@d.png"),
        ("https://[secret?secret", "https://[secret"),
    ],
)
def test_an_address_of_any_kind_loses_it_and_what_is_none_stays(address: str, shown: str) -> None:
    assert without_bodies({"type": "image_url", "url": address})["url"] == shown


def test_what_was_cut_off_counts() -> None:
    assert without_bodies(URL[:100], beyond=len(URL) - 100) == PNG
    assert without_bodies(LONG[:300], beyond=len(LONG) - 300) == "<864 bytes>"
    assert without_bodies(f"It is {LONG[:80]}", beyond=len(LONG) - 80) == "It is <864 bytes>"
    assert without_bodies({"type": "Buffer", "data": [*range(99), "…"]}) == {
        "type": "Buffer",
        "data": "<more than 99 bytes>",
    }


def test_the_end_of_a_text_that_goes_on_may_be_a_long_word() -> None:
    text = f"See {'a' * 90}"
    assert without_bodies(text, beyond=1000) == text
    word = f"It is {'aB' * 30}"
    assert without_bodies(word, beyond=1000) == word


@pytest.mark.parametrize(
    "text",
    [
        *("x" * 4_000_000, "data:;" * 60_000, "data:a/b;x=" * 40_000, "data:a/b," * 40_000),
        *("aB" * 127, "aB\\" * 400_000, "aB%2F" * 400_000, "\\n" * 400_000),
        *("b'" * 400_000, "b'\\" * 400_000, "b'\\x00" * 200_000),
        ("aB" * 30 + "\n") * 2 + "aB" * 400_000,
        ("aB" * 24 + "\n ") * 40_000 + "_" * 99,
        (("aB" * 24 + "\n") * 2 + " ") * 20_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_takes_longer_than_its_length_asks_for(text: str) -> None:
    # What took its square would not end in the time that a test has.
    assert without_bodies(text)


def test_both_distributions_have_one_rule() -> None:
    ours, theirs = agentpulse_instrumentation._engine.media, agentpulse_exporter._wire.media
    assert inspect.getsource(ours) == inspect.getsource(theirs)
