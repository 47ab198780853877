"""Makes the parts of an event valid, whatever they came from.

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
MAX_SESSION = 256
MAX_LABEL = 256
"""Characters of texts that name something: a model, a provider, an agent."""
CUT = "… [cut]"

_EARLIEST = 1_577_836_800.0  # 2020-01-01
_LATEST_AHEAD = 23 * 3600.0  # the receiver takes a day; an hour is left for clocks that differ
_MAX_DEPTH = 8
_MAX_VALUES = 4096
_MAX_WHOLE = 2**63
# Half a surrogate pair is no character, and NUL is one that databases refuse.
_UNSENDABLE = re.compile("[\ud800-\udfff\x00]")


def clean(value: str, limit: int = MAX_TEXT) -> str:
    """The text without what can't be sent, cut at the limit in whole code points."""
    # A subclass may have a mind of its own; the text it holds is what counts.
    exact = str.__str__(value)
    if len(exact) > limit:
        exact = exact[: limit - len(CUT)] + CUT
    return _UNSENDABLE.sub("\ufffd", exact)


def plain(value: object, *, limit: int = MAX_TEXT) -> object:
    """The value as JSON has it.

    What JSON has no word for is told by its type; numbers that aren't finite are None.
    """
    return _plain(value, limit, _MAX_DEPTH, iter(range(_MAX_VALUES)))


def _plain(value: object, limit: int, depth: int, budget: Iterator[int]) -> object:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return clean(value, limit)
    if isinstance(value, int):
        return _whole(int.__index__(value))
    if isinstance(value, float):
        exact = float.__float__(value)
        return exact if math.isfinite(exact) else None
    # A list that holds itself has no end, so both its depth and its size are bounded.
    if not depth or next(budget, None) is None:
        return CUT
    if isinstance(value, dict):
        return {
            _key(key): _plain(item, limit, depth - 1, budget)
            for key, item in cast("dict[object, object]", value).items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("Iterable[object]", value)
        return [_plain(item, limit, depth - 1, budget) for item in items]
    # No `str` and no `repr`: an object's own code may raise, block, or end spans.
    return f"<{type(value).__name__}>"


def _whole(value: int) -> int | float | None:
    if -_MAX_WHOLE <= value < _MAX_WHOLE:
        return value
    # Receivers read numbers as 64 bits; one of 400 digits has no reading at all.
    try:
        return float(value)
    except OverflowError:
        return None


def total(values: Iterable[object]) -> int | float | None:
    """The sum of those that are known; None where none is, or it is more than a number can say."""
    known = [value for value in values if isinstance(value, (int, float))]
    found = sum(known)
    return found if known and abs(found) < _MAX_WHOLE else None


def _key(key: object) -> str:
    return clean(key, MAX_LABEL) if isinstance(key, str) else f"<{type(key).__name__}>"


def timestamp(seconds: float) -> float:
    """The time, moved into what receivers take where a wrong clock put it outside."""
    now = time.time()
    if not math.isfinite(seconds) or seconds > now + _LATEST_AHEAD:
        seconds = now
    return max(seconds, _EARLIEST)


def session_key(key: str) -> str:
    """The key of a session. Keys that are too long stay different from each other."""
    key = clean(key, len(key))
    if len(key.encode("utf-16-le")) // 2 <= MAX_SESSION:
        return key
    mark = hashlib.sha256(key.encode()).hexdigest()[:16]
    # A character takes up to two units, and the mark 17.
    return f"{key[: (MAX_SESSION - 17) // 2]}:{mark}"


def fit(data: Mapping[str, object], limit: int = MAX_DATA) -> tuple[dict[str, object], str] | None:
    """The plain data and its JSON in at most `limit` characters; None if it can't be made to fit.

    Long texts are cut, the longest most. Where that isn't enough, the largest lists and objects
    give way to a mark.
    """
    # Escaped and with blanks: no way to write the same JSON is longer, so any receiver finds it
    # short enough.
    fitting = dict(data)
    text = json.dumps(fitting)
    if len(text) <= limit:
        return fitting, text
    for longest in (2048, 512, 128, 32):
        fitting = {name: _with_texts_cut(value, longest) for name, value in fitting.items()}
        text = json.dumps(fitting)
        if len(text) <= limit:
            return _widest(data, longest, limit, (fitting, text))
    for name in sorted(fitting, key=lambda name: -len(json.dumps(fitting[name]))):
        if isinstance(fitting[name], (dict, list)):
            fitting[name] = CUT
            text = json.dumps(fitting)
            if len(text) <= limit:
                return fitting, text
    return None


def _widest(
    data: Mapping[str, object], low: int, limit: int, best: tuple[dict[str, object], str]
) -> tuple[dict[str, object], str]:
    """Cuts texts about as little as is needed, given that a cut at `low` characters fits."""
    high = low * 4
    while high - low > low // 8:
        middle = (low + high) // 2
        fitting = {name: _with_texts_cut(value, middle) for name, value in data.items()}
        text = json.dumps(fitting)
        if len(text) <= limit:
            best, low = (fitting, text), middle
        else:
            high = middle
    return best


def _with_texts_cut(value: object, longest: int) -> object:
    if isinstance(value, str):
        return clean(value, longest)
    if isinstance(value, list):
        return [_with_texts_cut(item, longest) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {
            key: _with_texts_cut(item, longest)
            for key, item in cast("dict[str, object]", value).items()
        }
    return value
