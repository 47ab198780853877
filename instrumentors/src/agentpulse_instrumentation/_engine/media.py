"""Bodies of files and images, which are recorded nowhere: their media type and size are, instead.

A body is bytes; a data URL; the base64 in a part that names its kind, in the forms of the GenAI
conventions, OpenAI, Anthropic, Gemini, Bedrock, Ollama, MCP and LangChain; and any long run of
base64 anywhere. An address of a file loses what may hold a key: its query, its fragment
and its user.

The instrumentation and the exporter, which don't import each other, have this module both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

_ALPHABET = r"A-Za-z0-9+/_\-"
_SHORTEST_RUN = 256
"""Characters of base64 that are a body wherever they are: no word and no id is that long."""
_SHORTEST, _SHORTEST_UNPADDED = 16, 64
"""Characters of base64 that are a body where one may be, or at the end of a text that goes on."""
_SHORTEST_LINE = 48
"""Characters of base64 in a line, or in an item of a list, of a body that is written in many."""
_ENOUGH = 1024
"""Characters of a body by which all of it is judged."""
# Each part has its bound, so that no text takes longer than its length asks for.
_DATA_URL = re.compile(
    r"(?i:data):(?P<whole>(?<=\A.{5}))? ?(?P<type>[\w.+-]{1,64}\\?/[\w.+-]{1,96})?"
    r"(?:;(?!(?i:base64),)[^;,\r\n\"'\\]{0,96}){0,4}"
    rf"(?:;(?i:base64),(?P<base64>[{_ALPHABET}=%]*"
    rf"(?:(?:\\/|\r?\n(?=[{_ALPHABET}=]{{16}}))[{_ALPHABET}=%]*)*"
    # The last line of many.
    rf"(?:(?<=[{_ALPHABET}]{{60}})\r?\n[{_ALPHABET}]{{1,15}}={{0,2}}(?![\w ]))?)"
    # One that isn't base64 has no mark at its end, so as a text by itself it is all of it.
    r"|(?(type),(?P<escaped>(?(whole)(?s:.*)|[^\s\"'<>\\]*))|(?!)))"
)
_BREAK = r"(?:\r?\n|\\r\\n|\\n)[ \t>|]{0,16}"
"""Between two lines: real or escaped, the next one indented or quoted."""
_ESCAPED = r"\\/|%2[BbFf]"
"""A slash or a plus, as JSON or an address may write it."""
_RUN = re.compile(
    rf"(?<![{_ALPHABET}])(?:"
    rf"(?:(?:[A-Za-z0-9+/]|{_ESCAPED}){{{_SHORTEST_LINE},}}+{_BREAK}){{3,}}+"
    rf"(?:[A-Za-z0-9+/]|{_ESCAPED})*"
    rf"|(?=[{_ALPHABET}\\%]{{{_SHORTEST_RUN}}}|[{_ALPHABET}]{{{_SHORTEST_UNPADDED},}}+\Z)"
    rf"[{_ALPHABET}]++(?:(?:{_ESCAPED})[{_ALPHABET}]*+)*+)(?:=|%3[Dd]){{0,2}}"
)
_PART_OF_RUN = re.compile(
    rf"(?:[{_ALPHABET}%]{{0,35}}+{_BREAK}|[ \t>|]{{0,16}}+)[{_ALPHABET}\\%]{{36}}"
)
_BYTES = re.compile(r"\bb(['\"])((?:\\.|(?!\1)[^\\])*+)(?:\1|\Z)", re.DOTALL)
"""Bytes as Python writes them."""
_BASE64 = re.compile(rf"[{_ALPHABET}\s]+={{0,2}}\s*")
_SECRETS = re.compile(r"(?<=://)[^/?#]*@|[?#].*", re.DOTALL)
"""What may hold a key in an address: its user, its query and its fragment."""

MEDIA_TYPES = ("mime_type", "mimeType", "media_type", "mediaType")
_KINDS = ("type", "kind", "source_type", "encoding")
_PARTS = {
    *("image", "audio", "video", "file", "document", "media", "binary", "blob", "base64"),
    *("image_url", "audio_url", "video_url", "document_url", "uri", "resource_link"),
    *("input_image", "input_audio", "input_video", "input_file", "computer_screenshot"),
    *("image_generation_call", "Buffer", "source", "resource"),
    *("inline_data", "inlineData", "file_data", "fileData"),
}
"""The kinds that parts name, and names of fields whose objects are parts, or the inside of one."""
_BODIES = {"b64_json", "base64", "file_data", "partial_image_b64"}
"""Names of fields that hold bodies wherever they are."""
_BODIES_OF_PARTS = {
    *_BODIES,
    *("data", "bytes", "blob", "image", "audio", "video", "document", "input_audio"),
}
_BODIES_OF_KINDS = {"result": "image_generation_call", "content": "base64"}
"""Fields that hold a body in one kind of part: a picture that was made, a file of GitHub's API."""
ADDRESSES = (
    *("url", "uri", "image_url", "audio_url", "video_url", "document_url"),
    *("file_url", "file_uri", "fileUri"),
)
_LEFT_OUT = "…"
"""The last item of a list that was cut."""
_HINTS = sorted({*_BODIES_OF_PARTS, *_BODIES_OF_KINDS, *ADDRESSES, "images"})


def without_bodies(value: Any, *, beyond: int = 0) -> Any:
    """The value, a mark in the place of each body: its media type, if it has one, and its size.

    Values are those of JSON, and bytes; JSON inside a text is read, too. Where nothing is to be
    marked, the result is equal, and a text is the same object.

    Args:
        value: The value, which stays as it is.
        beyond: How many characters were cut off its end, where it is a text.
    """
    try:
        return _without(value, "", beyond)
    except RecursionError:
        return "…"


def size_of_base64(base64: str, more: int = 0) -> int:
    """How many bytes it stands for, with so many characters `more` behind it."""
    return (_length(base64) + more) * 3 // 4 - base64[-8:].count("=")


def _without(value: Any, holder: object, beyond: int = 0) -> Any:
    if isinstance(value, str):
        # A subclass may override anything; the text it holds counts.
        return _text(str.__str__(value), beyond)
    if isinstance(value, dict):
        return _object(cast("dict[Any, Any]", value), holder)
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return _of_pieces(items) or [_without(item, holder) for item in items]
    if isinstance(value, (bytes, bytearray)):
        return _mark(None, len(value))
    return value


def _text(text: str, beyond: int) -> str:
    if len(text) < _SHORTEST:
        return text
    if any(each in text for each in ("data:", "Data:", "DATA:")):
        text = _replaced(_DATA_URL, _url, text, beyond)
    is_json = text[:_SHORTEST].lstrip()[:1] in ("{", "[")
    if is_json and not beyond and any(name in text for name in _HINTS):
        text = _without_bodies_in_json(text)
    # A few samples are enough, and take a tenth of the time of a search.
    samples = range(len(text) - _SHORTEST_UNPADDED, -1, -_SHORTEST_RUN // 2)
    if any(_PART_OF_RUN.match(text, at) for at in samples):
        text = _replaced(_RUN, _run, text, beyond)
    if "\\" in text and "\\x" in text:  # one character is found ten times as fast
        text = _replaced(_BYTES, _bytes, text, beyond)
    return text


def _replaced(
    body: re.Pattern[str], mark: Callable[[re.Match[str], int], str], text: str, beyond: int
) -> str:
    return body.sub(lambda found: mark(found, beyond if found.end() == len(text) else 0), text)


def _url(found: re.Match[str], more: int) -> str:
    kind, base64 = found["type"], found["base64"]
    size = len(found["escaped"]) + more if base64 is None else size_of_base64(base64, more)
    return _mark(kind and kind.replace("\\", ""), size)


def _run(found: re.Match[str], more: int) -> str:
    base64 = re.sub(rf"{_BREAK}|\\", "", unquote(found[0]))
    # A row of one letter, or a long number in hexadecimal, is none.
    is_body = len(base64) + more >= _SHORTEST_RUN and base64.upper() != base64 != base64.lower()
    return _mark(None, size_of_base64(base64, more)) if is_body else found[0]


def _bytes(found: re.Match[str], more: int) -> str:
    if found[2].count("\\x") < _SHORTEST:
        return found[0]  # words
    return _mark(None, len(re.sub(r"(?s)\\(?:x..|.)", ".", found[2])) + more)


def _of_pieces(items: list[Any]) -> list[str]:
    """The mark of the body in base64 whose lines or pieces these are; empty where they are none."""
    texts = _uncut(items)
    if not texts or not all(isinstance(each, str) for each in texts):
        return []
    # Pieces of one length but for the last: paths and ids that are as long differ in that.
    lengths = {len(each) for each in texts[:-1]}
    if len(lengths) > 1 or len(texts[0]) < _SHORTEST_LINE or not _is_base64(texts[0]):
        return []
    whole = _RUN.fullmatch("".join(texts))
    return [mark] if whole and (mark := _run(whole, 0)) != whole[0] else []


def _uncut(items: list[Any]) -> list[Any]:
    return items[:-1] if items and items[-1] == _LEFT_OUT else items


def _without_bodies_in_json(text: str) -> str:
    try:
        value = json.loads(text)
        shown = _without(value, "")
        return text if shown == value else json.dumps(shown, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _object(fields: dict[Any, Any], holder: object) -> dict[Any, Any]:
    kinds = {kind for name in _KINDS if isinstance(kind := fields.get(name), str)}
    media_type = next((fields[n] for n in MEDIA_TYPES if isinstance(fields.get(n), str)), None)
    is_part = media_type is not None or holder in _PARTS or not _PARTS.isdisjoint(kinds)
    bodies = _BODIES_OF_PARTS if is_part else _BODIES
    shown: dict[Any, Any] = {}
    for name, value in fields.items():
        # A list of images is Ollama's.
        is_body = name in bodies or (name == "images" and isinstance(value, list))
        if is_body or _BODIES_OF_KINDS.get(name) in kinds:
            shown[name] = _body(value, media_type, name)
        elif is_part and name in ADDRESSES and isinstance(value, str) and "://" in value[:32]:
            shown[name] = _SECRETS.sub("", value)
        else:
            shown[name] = _without(value, name)
    content = fields.get("content")
    if "blob" in kinds and content and isinstance(content, (str, bytes)):
        # By the conventions, the content of a blob is base64: here, that of no bytes.
        size = isinstance(content, str) and _is_base64(content) and size_of_base64(content)
        shown |= {"content": "", "size": size or len(content)}
    return shown


def _body(value: Any, media_type: str | None, name: object) -> Any:
    if isinstance(value, str) and _is_base64(value):
        return _mark(media_type, size_of_base64(value))
    if isinstance(value, list):
        items = cast("list[Any]", value)
        numbers = _uncut(items)
        if numbers and all(isinstance(each, int) and 0 <= each < 256 for each in numbers):
            more = "more than " if len(numbers) < len(items) else ""
            return _mark(media_type, f"{more}{len(numbers)}")
        return [_body(each, media_type, name) for each in items]
    return _without(value, name)


def _is_base64(text: str) -> bool:
    """Whether it can be that of a file. Words are shorter, or have blanks between them."""
    length = _length(text)
    if length < _SHORTEST and not text.endswith("="):
        return False
    is_whole = length % 4 == 0 or length >= _SHORTEST_UNPADDED
    return is_whole and _BASE64.fullmatch(text[:_ENOUGH]) is not None


def _length(base64: str) -> int:
    # Megabytes without a blank at their start have none.
    start = base64[:_ENOUGH]
    return len(base64) if start.split() == [start] else sum(map(len, base64.split()))


def _mark(media_type: str | None, size: int | str) -> str:
    return f"<{size} bytes>" if media_type is None else f"<{media_type}, {size} bytes>"
