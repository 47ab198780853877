"""Values of any origin as JSON that every receiver accepts.

One event that the receiver finds invalid costs its whole batch, so everything that goes out passes
here: values become plain JSON, texts are cut where they are too long (and marked as cut), numbers
never are.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

MAX_DATA = 16_384
"""Characters of an event's data as JSON."""
MAX_TEXT = 4_096
"""Characters of one text. The messages of a call have a limit of their own, together."""
MAX_LABEL = 256
"""Characters of texts that name something: a model, a provider, an agent, a session."""
CUT = "… [cut]"

_EARLIEST = 1_577_836_800.0  # 2020-01-01
_LATEST_AHEAD = 23 * 3600.0  # the receiver accepts a day; an hour is left for clocks that differ
_MAX_DEPTH = 8
_MAX_VALUES = 4096
_MAX_WHOLE = 2**63
# Half a surrogate pair is no character, and NUL is one that databases refuse.
_UNSENDABLE = re.compile("[\ud800-\udfff\x00]")


def clean(value: str, limit: int = MAX_TEXT) -> str:
    """The text without characters that can't be sent, cut at the limit in whole code points."""
    # A subclass may override anything; the text it holds counts.
    exact = str.__str__(value)
    if len(exact) > limit:
        exact = exact[: limit - len(CUT)] + CUT
    return _UNSENDABLE.sub("\ufffd", exact)


def plain(value: object, *, limit: int = MAX_TEXT) -> object:
    """The value as JSON has it.

    A value that JSON has no form for becomes the name of its type; a number that isn't finite
    becomes None. None of the object's own code runs.
    """
    return _plain(value, limit, _MAX_DEPTH, iter(range(_MAX_VALUES)))


def _plain(value: object, limit: int, depth: int, budget: Iterator[int]) -> object:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return clean(value, limit)
    if isinstance(value, (int, float)):
        return _number(value)
    # A list that holds itself has no end, so both its depth and its size are bounded.
    if not depth or next(budget, None) is None:
        return CUT
    if isinstance(value, dict):
        return {
            clean(key, MAX_LABEL) if isinstance(key, str) else _type_name(key): _plain(
                item, limit, depth - 1, budget
            )
            for key, item in cast("dict[object, object]", value).items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("Iterable[object]", value)
        return [_plain(item, limit, depth - 1, budget) for item in items]
    return _type_name(value)


def _type_name(value: object) -> str:
    # No `str` and no `repr`: an object's own code may raise, block, or end spans.
    return f"<{type(value).__name__}>"


def _number(value: float) -> float | None:
    if isinstance(value, int):
        exact = int.__index__(value)
        if -_MAX_WHOLE <= exact < _MAX_WHOLE:
            return exact
        # Receivers read numbers as 64 bits; one of 400 digits has no reading at all.
        try:
            return float(exact)
        except OverflowError:
            return None
    exact = float.__float__(value)
    return exact if math.isfinite(exact) else None


def total(values: Iterable[object]) -> int | float | None:
    """The sum of the known ones; None where none is known, or the sum exceeds 64 bits."""
    known = [value for value in values if isinstance(value, (int, float))]
    found = sum(known)
    return found if known and abs(found) < _MAX_WHOLE else None


def timestamp(seconds: float) -> float:
    """The time, moved into the range that receivers take where a wrong clock put it outside."""
    now = time.time()
    if not math.isfinite(seconds) or seconds > now + _LATEST_AHEAD:
        seconds = now
    return max(seconds, _EARLIEST)


def session_key(key: str) -> str:
    """The key of a session. Keys that are too long stay different from each other."""
    key = clean(key, len(key))
    if len(key.encode("utf-16-le")) // 2 <= MAX_LABEL:
        return key
    mark = hashlib.sha256(key.encode()).hexdigest()[:16]
    # A character takes up to two units, and the mark 17.
    return f"{key[: (MAX_LABEL - 17) // 2]}:{mark}"


def fit(data: Mapping[str, object], limit: int = MAX_DATA) -> tuple[dict[str, object], str] | None:
    """The plain data and its JSON in at most `limit` characters; None if it can't be made to fit.

    Long texts are cut, the longest most. Where that isn't enough, the largest lists and objects
    give way to a mark.
    """
    # Escaped and with blanks: no way to write the same JSON is longer, so any receiver finds it
    # short enough.
    text = json.dumps(data)
    if len(text) <= limit:
        return dict(data), text
    low, high = 32, limit
    best = _with_texts_cut(data, low)
    if len(best[1]) <= limit:
        while high - low > low // 8:
            middle = (low + high) // 2
            fitting = _with_texts_cut(data, middle)
            if len(fitting[1]) <= limit:
                best, low = fitting, middle
            else:
                high = middle
        return best
    fitting, _ = best
    for name in sorted(fitting, key=lambda name: -len(json.dumps(fitting[name]))):
        if isinstance(fitting[name], (dict, list)):
            fitting[name] = CUT
            text = json.dumps(fitting)
            if len(text) <= limit:
                return fitting, text
    return None


def _with_texts_cut(data: Mapping[str, object], longest: int) -> tuple[dict[str, object], str]:
    # Each value was made with these bounds, and may be within a few more of ours.
    budget = iter(range(_MAX_VALUES * len(data)))
    fitting = {name: _plain(each, longest, 2 * _MAX_DEPTH, budget) for name, each in data.items()}
    return fitting, json.dumps(fitting)
