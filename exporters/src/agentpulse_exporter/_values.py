"""The values of spans: read by their type, made into JSON, and shielded.

Spans come from anybody: a token count may be a text and a model a number. A value that is not of
its type is read as if it were absent. One event that the receiver finds invalid costs its whole
batch, so everything that goes out passes here: values become plain JSON, texts are cut where they
are too long (and marked as cut), numbers never are. A failure of ours costs the field that was
being made, never its event.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from agentpulse_exporter._semconv import ANSWERED_BY, MODEL_OPERATIONS, OPERATION_NAME

Attributes = Mapping[str, object]

MAX_DATA = 16_384
"""Characters of an event's data as JSON."""
MAX_TEXT = 4_096
"""Characters of one text. The messages of a call have a limit of their own, together."""
MAX_LABEL = 256
"""Characters of texts that name something: a model, a provider, an agent, a session."""
CUT = "… [cut]"

_EARLIEST = 1_577_836_800.0  # 2020-01-01
_LATEST_AHEAD = 23 * 3600.0  # the receiver accepts a day; an hour is left for clocks that differ
_SHORTEST = 32
"""The least that a text is cut to, and the steps of the lengths that are tried."""
_MAX_DEPTH = 8
_MAX_VALUES = 4096
_MAX_WHOLE = 2**63
"""Receivers read whole numbers as 64 bits."""
# Half a surrogate pair is no character, and NUL is one that databases refuse.
_UNSENDABLE = re.compile("[\ud800-\udfff\x00]")
_T = TypeVar("_T")
_logger = logging.getLogger("agentpulse.exporter")
_warned: set[str] = set()

strict = False
"""Whether failures are raised; for tests."""


def shielded(step: str, make: Callable[[], _T], otherwise: _T) -> _T:
    """Returns the result of `make`. If it raises, logs that once per step; returns `otherwise`.

    Args:
        step: Completes the sentence "AgentPulse could not …".
        make: Makes a field, or a few.
        otherwise: The result without it.
    """
    try:
        return make()
    except Exception as error:  # the event is sent without that field
        if strict:
            raise
        # The message may hold content, so only the type is logged.
        if step not in _warned:
            _warned.add(step)
            message = "AgentPulse could not %s (%s), and goes on without; this is logged once."
            _logger.warning(message, step, type(error).__name__)
        return otherwise


def is_model_call(attributes: Attributes) -> bool:
    """Whether the span is a model call. A framework's own answer (cache, mock) is no call."""
    return attributes.get(OPERATION_NAME) in MODEL_OPERATIONS and ANSWERED_BY not in attributes


def text(attributes: Attributes, name: str) -> str | None:
    """The attribute if it is a text that isn't empty, else None."""
    value = attributes.get(name)
    return value if isinstance(value, str) and value else None


def number(attributes: Attributes, name: str) -> float | None:
    """The attribute if it is a finite number, else None."""
    value = attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return _number(value)


def count(attributes: Attributes, name: str) -> int | None:
    """The attribute as a whole number if it is at least 0, else None."""
    value = number(attributes, name)
    return int(value) if value is not None and 0 <= value < _MAX_WHOLE else None


def texts(attributes: Attributes, name: str) -> list[str] | None:
    """The texts in the attribute if it is a list, else None."""
    value = attributes.get(name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return None
    return [item for item in cast("Sequence[object]", value) if isinstance(item, str)]


def parsed(value: object) -> object:
    """The value of JSON text; anything else, and text that was cut, as it is."""
    return plain(decoded(value, value))


def decoded(value: object, otherwise: object = None) -> Any:
    """The value of a JSON text; `otherwise` if the value isn't JSON text."""
    try:
        return json.loads(value) if isinstance(value, str) else otherwise
    except (ValueError, RecursionError):
        return otherwise


def fields_of(value: object) -> dict[str, Any]:
    """The object, given as it is or as JSON text; an empty object for anything else."""
    value = decoded(value, value)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items_of(value: object) -> list[object]:
    """The list, given as it is or as JSON text; an empty list for anything else."""
    value = decoded(value, value)
    return cast("list[object]", value) if isinstance(value, list) else []


def clean(value: str, limit: int = MAX_TEXT) -> str:
    """The text without characters that can't be sent, cut at the limit in whole code points."""
    # A subclass may override anything; the text it holds counts.
    exact = str.__str__(value)
    if len(exact) > limit:
        exact = exact[: limit - len(CUT)] + CUT
    return _UNSENDABLE.sub("\ufffd", exact)


def label(value: str) -> str:
    """A text that names something, made fit to send."""
    return clean(value, MAX_LABEL)


def plain(value: object, *, limit: int = MAX_TEXT) -> object:
    """The value as JSON has it.

    A value without a form in JSON becomes the name of its type; a number that isn't finite
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
        fields = cast("dict[object, object]", value).items()
        return {_key(key): _plain(item, limit, depth - 1, budget) for key, item in fields}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = cast("Iterable[object]", value)
        return [_plain(item, limit, depth - 1, budget) for item in items]
    return _type_name(value)


def _key(value: object) -> str:
    return label(value) if isinstance(value, str) else _type_name(value)


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
    """The sum of the known values; None if no value is known, or the sum exceeds 64 bits."""
    known = [value for value in values if isinstance(value, (int, float))]
    found = sum(known)
    return found if known and abs(found) < _MAX_WHOLE else None


def timestamp(seconds: float) -> float:
    """The time, moved into the range that receivers accept if a wrong clock put it outside."""
    now = time.time()
    if not math.isfinite(seconds) or seconds > now + _LATEST_AHEAD:
        seconds = now
    return max(seconds, _EARLIEST)


def milliseconds(seconds: float) -> float:
    """A length of time in milliseconds; never negative, though clocks may be set back."""
    return round(max(seconds, 0.0) * 1000, 3)


def fit(data: Mapping[str, object], limit: int = MAX_DATA) -> tuple[dict[str, object], str] | None:
    """The plain data and its JSON in at most `limit` characters; None if it can't be made to fit.

    Long texts are cut, the longest most. If that isn't enough, the largest lists and objects are
    replaced by a mark.
    """
    # Escaped and with blanks. No other way to write the same JSON is longer, so any receiver finds
    # it short enough.
    text = json.dumps(data)
    if len(text) <= limit:
        return dict(data), text
    fitting, text = _with_texts_cut(data, _SHORTEST)
    if len(text) <= limit:
        sizes = range(_SHORTEST, limit, _SHORTEST)
        most = bisect(sizes, limit, key=lambda size: len(_with_texts_cut(data, size)[1]))
        return _with_texts_cut(data, sizes[most - 1])
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
