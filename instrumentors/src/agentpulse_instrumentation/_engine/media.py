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
from typing import Any, cast
from urllib.parse import urlsplit

_ALPHABET = r"A-Za-z0-9+/_\-"
_SHORTEST_RUN = 256
"""Characters of base64 that are a body wherever they are: no word and no id is that long."""
_SHORTEST, _SHORTEST_UNPADDED = 16, 64
"""Characters of base64 that are a body where one may be."""
_ENOUGH = 1024
"""Characters of a body by which all of it is judged."""
# Each part has its bound, so that no text takes longer than its length asks for.
_DATA_URL = re.compile(
    r"(?i:data): ?(?P<type>[\w.+-]{1,64}\\?/[\w.+-]{1,96})?"
    r"(?:;(?!(?i:base64),)[^;,\r\n\"'\\]{0,96}){0,4}"
    rf"(?:(?P<base64>;(?i:base64)),[{_ALPHABET}=%]*"
    rf"(?:(?:\\/|\r?\n(?=[{_ALPHABET}=]{{16}}))[{_ALPHABET}=%]*)*"
    # The last line of many.
    rf"(?:(?<=[{_ALPHABET}]{{60}})\r?\n[{_ALPHABET}]{{1,15}}={{0,2}}(?![\w ]))?"
    r"|,[^\s\"'<>\\]*)"
)
_SPELLINGS = ("data:", "Data:", "DATA:")
_SHORTEST_LINE = 48
"""Characters of base64 in a line, or in an item of a list, of a body that is written in many."""
_BREAK = r"(?:\r?\n|\\r\\n|\\n)[ \t>|]{0,16}"
"""Between two lines: real or escaped, the next one indented or quoted."""
_ESCAPED = r"\\/|%2[BbFf]"
"""A slash or a plus, as JSON or an address may write it."""
_RUN = re.compile(
    rf"(?<![{_ALPHABET}])(?:"
    rf"(?:(?:[A-Za-z0-9+/]|{_ESCAPED}){{{_SHORTEST_LINE},}}+{_BREAK}){{3,}}+"
    rf"(?:[A-Za-z0-9+/]|{_ESCAPED})*"
    rf"|(?=[{_ALPHABET}\\%]{{{_SHORTEST_RUN}}})[{_ALPHABET}]++(?:(?:{_ESCAPED})[{_ALPHABET}]*+)*+"
    r")(?:=|%3[Dd]){0,2}"
)
_BYTES = re.compile(r"\bb(?:'(?:[^'\\]|\\.)*+(?:'|\Z)|\"(?:[^\"\\]|\\.)*+(?:\"|\Z))", re.DOTALL)
"""Bytes as Python writes them."""
_ESCAPED_BYTE = re.compile(r"\\(?:x[0-9a-f]{2}|[^x])")
_CUT_RUN = re.compile(rf"(?<![{_ALPHABET}])[{_ALPHABET}]{{{_SHORTEST_UNPADDED},}}\Z")
"""The start of a run, at the end of a text that goes on."""
_PART_OF_RUN = re.compile(
    rf"[ \t>|]{{0,16}}+"
    rf"(?:[{_ALPHABET}\\%]{{36}}|[{_ALPHABET}%]{{0,35}}+{_BREAK}[{_ALPHABET}\\%]{{36}})"
)
_BASE64 = re.compile(rf"[{_ALPHABET}\s]+={{0,2}}\s*")
_CAPITAL, _SMALL = re.compile("[A-Z]"), re.compile("[a-z]")

_MEDIA_TYPES = ("mime_type", "mimeType", "media_type", "mediaType")
_KINDS = ("type", "kind", "source_type", "encoding")
_PARTS = frozenset(
    {
        *("image", "audio", "video", "file", "document", "media", "binary", "blob", "base64"),
        *("image_url", "audio_url", "video_url", "document_url", "uri", "resource_link"),
        *("input_image", "input_audio", "input_video", "input_file", "computer_screenshot"),
        *("image_generation_call", "Buffer", "source", "resource"),
        *("inline_data", "inlineData", "file_data", "fileData"),
    }
)
"""The kinds that parts name, and names of fields whose objects are parts, or the inside of one."""
_BODIES = frozenset({"b64_json", "base64", "file_data", "partial_image_b64"})
"""Names of fields that hold bodies wherever they are."""
_BODIES_OF_PARTS = frozenset(
    {"data", "bytes", "blob", "image", "audio", "video", "document", "input_audio"}
)
_ADDRESSES = frozenset(
    {
        *("url", "uri", "image_url", "audio_url", "video_url", "document_url"),
        *("file_url", "file_uri", "fileUri"),
    }
)
_LEFT_OUT = "…"
"""The last item of a list that was cut."""
_HINTS = sorted({*_BODIES, *_BODIES_OF_PARTS, *_ADDRESSES, "images", "result", "content"})


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


def bare_address(url: str) -> str:
    """The address of a file without its query, its fragment and its user."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "<address>"
    if not parts.scheme:
        return url
    netloc = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=netloc, query="", fragment="").geturl()


def size_of_base64(base64: str, more: int = 0) -> int:
    """How many bytes it stands for, with so many characters `more` behind it."""
    size = (_characters(base64) + more) * 3 // 4
    return size - base64[-8:].count("=")


def _without(value: Any, holder: str, beyond: int = 0) -> Any:
    if isinstance(value, str):
        # A subclass may override anything; the text it holds counts.
        return _text(str.__str__(value), beyond)
    if isinstance(value, dict):
        return _object(cast("dict[Any, Any]", value), holder)
    if isinstance(value, (list, tuple)):
        items = list(cast("list[Any]", value))
        if body := _joined(items):
            return [_mark(None, size_of_base64(body))]
        return [_without(item, holder) for item in items]
    if isinstance(value, (bytes, bytearray)):
        return _mark(None, len(value))
    return value


def _text(text: str, beyond: int) -> str:
    if len(text) < _SHORTEST:
        return text
    if any(each in text for each in _SPELLINGS):
        text = _without_data_urls(text, beyond)
    is_json = text[:_SHORTEST].lstrip()[:1] in ("{", "[")
    if is_json and not beyond and any(name in text for name in _HINTS):
        text = _without_bodies_in_json(text)
    if _may_have_runs(text):
        text = _RUN.sub(lambda found: _marked_run(found, beyond), text)
    if "\\" in text and "\\x" in text:  # one character is found ten times as fast
        text = _BYTES.sub(lambda found: _marked_bytes(found, beyond), text)
    if beyond >= _SHORTEST_RUN:
        text = _CUT_RUN.sub(lambda found: _marked_run(found, beyond), text)
    return text


def _may_have_runs(text: str) -> bool:
    # A few samples are enough, and take a tenth of the time of a search.
    step = _SHORTEST_RUN // 2
    return any(_PART_OF_RUN.match(text, at) for at in range(0, len(text) - step + 1, step))


def _without_data_urls(text: str, beyond: int) -> str:
    found = _DATA_URL.match(text)
    if found is not None and found.end() == len(text):
        return _marked_url(found, beyond)
    if found is not None and found["base64"] is None and found["type"] is not None:
        # Such a one has no mark at its end, so it is the whole text.
        return _mark(found["type"], len(text) - found.end("type") - 1 + beyond)
    return _DATA_URL.sub(lambda each: _marked_url(each, beyond), text)


def _marked_url(found: re.Match[str], beyond: int) -> str:
    url, base64, kind = found[0], found["base64"], found["type"]
    if base64 is None and kind is None:
        return url
    more = beyond if found.end() == len(found.string) else 0
    body = url.partition(",")[2]
    size = size_of_base64(body, more) if base64 is not None else len(body) + more
    return _mark(kind and kind.replace("\\", ""), size)


def _marked_run(found: re.Match[str], beyond: int) -> str:
    run, more = found[0], beyond if found.end() == len(found.string) else 0
    base64 = re.sub(_BREAK, "", re.sub(_ESCAPED, "/", run)).replace("%3D", "=").replace("%3d", "=")
    # A row of one letter, or a long number in hexadecimal, is none.
    is_body = len(base64) + more >= _SHORTEST_RUN and _is_mixed(base64)
    return _mark(None, size_of_base64(base64, more)) if is_body else run


def _is_mixed(base64: str) -> bool:
    return _CAPITAL.search(base64) is not None and _SMALL.search(base64) is not None


def _marked_bytes(found: re.Match[str], beyond: int) -> str:
    content = found[0][2:].removesuffix(found[0][1])
    if content.count("\\x") < _SHORTEST:
        return found[0]  # words
    more = beyond if found.end() == len(found.string) else 0
    return _mark(None, len(_ESCAPED_BYTE.sub(".", content)) + more)


def _joined(items: list[Any]) -> str:
    """The body in base64 whose pieces, of one length but for the last, these are; or nothing."""
    texts = items[:-1] if items[-1:] == [_LEFT_OUT] else items
    if not texts or not all(isinstance(each, str) for each in texts):
        return ""
    length = len(texts[0])
    if length < _SHORTEST_LINE or any(len(each) != length for each in texts[:-1]):
        return ""
    whole = "".join(texts)
    start = whole[:_ENOUGH]
    is_base64 = _BASE64.fullmatch(start) is not None and len(start.split()) == 1
    return whole if is_base64 and len(whole) >= _SHORTEST_RUN and _is_mixed(start) else ""


def _without_bodies_in_json(text: str) -> str:
    try:
        value = json.loads(text)
        shown = _without(value, "")
        return text if shown == value else json.dumps(shown, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _object(fields: dict[Any, Any], holder: str) -> dict[Any, Any]:
    kinds = {kind for name in _KINDS if isinstance(kind := fields.get(name), str)}
    media_type = next((fields[n] for n in _MEDIA_TYPES if isinstance(fields.get(n), str)), None)
    is_part = media_type is not None or holder in _PARTS or not _PARTS.isdisjoint(kinds)
    shown: dict[Any, Any] = {}
    for name, value in fields.items():
        if (
            name in _BODIES
            or (is_part and name in _BODIES_OF_PARTS)
            # Ollama's messages; a picture that was made; blobs, and files of GitHub's API.
            or (name == "images" and isinstance(value, list))
            or (name == "result" and "image_generation_call" in kinds)
            or (name == "content" and "base64" in kinds)
        ):
            shown[name] = _body(value, media_type, cast("str", name))
        elif is_part and name in _ADDRESSES and isinstance(value, str):
            shown[name] = _address(value)
        else:
            shown[name] = _without(value, name if isinstance(name, str) else "")
    content = fields.get("content")
    if "blob" in kinds and content and isinstance(content, (str, bytes)):
        # By the conventions, the content of a blob is base64: here, that of no bytes.
        size = isinstance(content, str) and _is_base64(content) and size_of_base64(content)
        shown |= {"content": "", "size": size or len(content)}
    return shown


def _body(value: Any, media_type: str | None, name: str) -> Any:
    if isinstance(value, str) and _is_base64(value):
        return _mark(media_type, size_of_base64(value))
    if isinstance(value, list):
        items = cast("list[Any]", value)
        numbers = items[:-1] if items[-1:] == [_LEFT_OUT] else items
        if numbers and all(isinstance(each, int) and 0 <= each < 256 for each in numbers):
            more = "more than " if len(numbers) < len(items) else ""
            return _mark(media_type, f"{more}{len(numbers)}")
        return [_body(each, media_type, name) for each in items]
    return _without(value, name)


def _address(value: str) -> str:
    return bare_address(value) if "://" in value[:32] else _text(value, 0)


def _is_base64(text: str) -> bool:
    """Whether it can be that of a file. Words are shorter, or have blanks between them."""
    length = _characters(text)
    if length < _SHORTEST and not text.endswith("="):
        return False
    is_whole = length % 4 == 0 or length >= _SHORTEST_UNPADDED
    return is_whole and _BASE64.fullmatch(text[:_ENOUGH]) is not None


def _characters(base64: str) -> int:
    # Megabytes without a blank at their start have none.
    if len(base64) > _ENOUGH and len(base64[:_ENOUGH].split()) == 1:
        return len(base64)
    return sum(map(len, base64.split()))


def _mark(media_type: str | None, size: int | str) -> str:
    return f"<{size} bytes>" if media_type is None else f"<{media_type}, {size} bytes>"
