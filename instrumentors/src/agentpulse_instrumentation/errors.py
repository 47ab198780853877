"""What the conventions ask to know of an exception, without its text."""

from __future__ import annotations

import re
from typing import Any, cast

# A provider's code becomes an attribute as it is, so it must look like one and not like a sentence.
_PROVIDERS = frozenset({"openai", "anthropic", "litellm"})
"""Packages whose exceptions carry the provider's code."""
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def error_type(error: BaseException) -> str:
    """`error.type` by the conventions: the provider's own code, else the exception's class name.

    openai puts the code on the exception (`code`, `type`), anthropic the type of its error
    envelope (`type`, older versions only in the body). The same fields of anybody else's exception
    may hold what was said.
    """
    if not any(each.__module__.partition(".")[0] in _PROVIDERS for each in type(error).__mro__):
        return type(error).__name__
    for candidate in (_own(error, "code"), _own(error, "type"), _body_type(error)):
        if isinstance(candidate, str) and _CODE.fullmatch(candidate):
            return candidate
    return type(error).__name__


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
