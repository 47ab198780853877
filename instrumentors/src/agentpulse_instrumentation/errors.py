"""What the conventions ask to know of an error, without its text.

An error is an exception, or an answer with HTTP status 200 that reports one: a server that has
begun to answer has no other way to say that it failed.
"""

from __future__ import annotations

import re
from typing import Any, cast

from agentpulse_instrumentation.fields import get, items

# A provider's code becomes an attribute as it is, so it must look like one and not like a sentence.
_PROVIDERS = frozenset({"openai", "anthropic", "litellm"})
"""Packages whose exceptions carry the provider's code."""
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_STATUSES = range(400, 600)
UNKNOWN = "_OTHER"
"""The conventions' word for an error that has no code."""


def error_type(error: BaseException) -> str:
    """`error.type` by the conventions: the provider's own code, else the exception's class name.

    openai puts the code on the exception (`code`, `type`), anthropic the type of its error
    envelope (`type`, older versions only in the body). The same fields of anybody else's exception
    may hold what was said.
    """
    if not any(each.__module__.partition(".")[0] in _PROVIDERS for each in type(error).__mro__):
        return type(error).__name__
    code = _code(_own(error, "code"), _own(error, "type"), _body_type(error))
    if code is None and http_status(error) is None:
        # What a stream reports after its start.
        code = _status(_own(error, "code"))
    return code or type(error).__name__


def reported_error(answer: Any) -> str | None:
    """The `error.type` of an answer, or of an event of one, that reports an error; else None.

    OpenAI and Anthropic have an object `error`, vLLM is one itself; OpenRouter reports an error of
    the provider behind it in the choice that it ended.
    """
    error = get(answer, "error")
    if error:
        return _reported(error)
    if "error" in (get(answer, "type"), get(answer, "object")):
        return _reported(answer)
    for choice in items(answer, "choices"):
        error = get(choice, "error")
        if error or get(choice, "finish_reason") == "error":
            return _reported(error)
    return None


def _reported(error: Any) -> str:
    code, kind = get(error, "code"), get(error, "type")
    return _code(code, None if kind == "error" else kind) or _status(code) or UNKNOWN


def _code(*candidates: Any) -> str | None:
    for candidate in candidates:
        if isinstance(candidate, str) and _CODE.fullmatch(candidate):
            return candidate
    return None


def _status(code: Any) -> str | None:
    """The HTTP status that some have as the code of an error."""
    return str(code) if str(code).isdecimal() and int(code) in _STATUSES else None


def http_status(error: BaseException) -> int | None:
    """The HTTP status of an API error, or None for one without (connection errors, time-outs)."""
    status = _own(error, "status_code")
    return status if isinstance(status, int) and status >= 400 else None


def _own(error: BaseException, name: str) -> Any:
    # Only the exception's own data: a property of a stranger's class could do anything.
    return getattr(error, "__dict__", {}).get(name)


def _body_type(error: BaseException) -> Any:
    body = _own(error, "body")
    if not isinstance(body, dict):
        return None
    envelope = cast("dict[str, Any]", body).get("error")
    return cast("dict[str, Any]", envelope).get("type") if isinstance(envelope, dict) else None
