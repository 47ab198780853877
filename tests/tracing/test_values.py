"""Values of the user's program: told without running its code, and without looking at all of it."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fakes.program import Init

import agentpulse
from agentpulse._tracing.values import MAX_JSON, attribute, json_text


def refuse(*_given: object) -> NoReturn:
    raise SystemExit


PNG = "data:image/png;base64," + base64.b64encode(b"pixel " * 500).decode()


class Text(str):
    __slots__ = ()
    __str__ = __len__ = __getitem__ = __iter__ = refuse


class Items(list[Any]):
    __iter__ = __len__ = __getitem__ = refuse


class Pair(tuple[Any, ...]):
    __slots__ = ()
    __iter__ = __len__ = __getitem__ = refuse


class Fields(dict[str, Any]):
    items = keys = __iter__ = __len__ = refuse


class Lazy:
    """As Django's lazy objects, which load what they stand for when their class is asked."""

    __class__ = property(refuse)  # type: ignore[assignment]
    __repr__ = __str__ = refuse


@dataclass
class Mail:
    to: str

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class Level(enum.IntEnum):
    HIGH = 3


class Colour(enum.Enum):
    RED = "red"
    MIXED = (1, 2)


@dataclass(slots=True)
class Point:
    x: int
    y: int


@dataclass
class Base:
    a: int


@dataclass(slots=True)
class Child(Base):
    b: int


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Text("x"), "x"),
        (lambda: Items([1, "x"]), [1, "x"]),
        (lambda: Pair((1, 2)), [1, 2]),
        (lambda: Fields({"a": 1}), {"a": 1}),
        (Lazy, "<Lazy>"),
        (lambda: [Lazy()], ["<Lazy>"]),
        (lambda: Mail("ada"), {"to": "ada"}),
        (lambda: Level.HIGH, 3),
        (lambda: [Colour.RED, Colour.MIXED], ["red", [1, 2]]),
        (lambda: Point(1, 2), {"x": 1, "y": 2}),
        (lambda: Child(1, 2), {"a": 1, "b": 2}),
        (lambda: {1: 2}, {"1": 2}),
        (lambda: uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (lambda: dt.date(2026, 1, 2), "2026-01-02"),
        (lambda: decimal.Decimal("1.5"), "1.5"),
        (lambda: Path("a/x"), "a/x"),
        (lambda: b"bytes", "<5 bytes>"),
        (lambda: {"read": bytearray(b"bytes")}, {"read": "<5 bytes>"}),
        (lambda: PNG, "<image/png, 3000 bytes>"),
        (lambda: {"picture": PNG}, {"picture": "<image/png, 3000 bytes>"}),
        (lambda: [f"See {PNG}"], ["See <image/png, 3000 bytes>"]),
        (
            lambda: {"type": "image", "mime_type": "image/png", "data": "aGk="},
            {"type": "image", "mime_type": "image/png", "data": "<image/png, 2 bytes>"},
        ),
    ],
)
def test_a_value_is_told_without_running_a_line_of_its_code(
    make: Callable[[], object], told: object
) -> None:
    assert json.loads(json_text(make())) == told


def test_numbers_of_other_classes_are_numbers() -> None:
    told = [attribute(value) for value in (Level.HIGH, True, 1.5, Colour.RED)]
    assert told == [3, True, 1.5, "red"]
    assert [type(each) for each in told] == [int, bool, float, str]
    # More than 64 bits are no number to a receiver.
    assert attribute(2**70) == json.dumps(float(2**70))


@pytest.mark.parametrize(
    "value",
    [
        [["x" * 100] * 256] * 256,
        [[0.5] * 1536] * 200,
        list(range(1_000_000)),
        {str(key): "x" * 5000 for key in range(1000)},
        ["x" * 50_000_000],
    ],
)
def test_of_a_large_value_so_much_is_told_as_fits(value: Any) -> None:
    text = json_text(value)
    assert len(text) <= MAX_JSON
    json.loads(text)


def test_of_a_large_value_only_a_part_is_looked_at() -> None:
    looked_at = 0

    class Item:
        """Is looked at where its fields are asked for."""

        __pydantic_fields__: dict[str, object] = {}  # noqa: RUF012  # pydantic's has no other type

        @property
        def __dict__(self) -> Any:
            nonlocal looked_at
            looked_at += 1
            return {}

    json_text([[Item() for _ in range(1000)] for _ in range(100)])
    assert looked_at <= 1000


def test_results_come_back_as_what_they_were(started: Init) -> None:
    events = started()
    results = [
        "success",
        "123",
        "null",
        "NaN",
        "true",
        '{"a": 1}',
        '"x"',
        "",
        5,
        0.5,
        [1],
        {"a": 1},
    ]
    for result in results:
        with agentpulse.session("day") as session:
            session.set_result(result)
    with agentpulse.session("day") as session:
        session.set_result(None)

    ends = [event for event in events() if event["data"].get("action") == "end"]
    assert [event["data"]["result"] for event in ends] == [*results, None]


def test_the_text_of_an_error_that_has_none_harms_nothing(started: Init) -> None:
    class Odd(Exception):  # noqa: N818  # it is odd
        def __str__(self) -> str:
            raise KeyboardInterrupt

    events = started(capture_messages=True)
    error = Odd()
    with pytest.raises(Odd) as caught, agentpulse.session("day"):
        raise error
    assert caught.value is error
    end = events()[-1]
    assert (end["data"]["error_type"], end["data"]["error"]) == ("Odd", "<Odd>")


def test_codes_of_a_programs_own_exceptions_are_not_told(started: Init) -> None:
    class BadCoupon(Exception):  # noqa: N818  # as programs call them
        def __init__(self, code: str) -> None:
            super().__init__()
            self.code = self.type = code

    events = started()
    code = "hunter2"
    with pytest.raises(BadCoupon), agentpulse.tool("redeem"):
        raise BadCoupon(code)
    assert "hunter2" not in json.dumps(events())
    assert events()[-1]["data"]["error_type"] == "BadCoupon"


def test_a_sole_argument_of_any_name_keeps_it(started: Init) -> None:
    events = started(capture_messages=True)

    @agentpulse.tool
    def check(result: int) -> int:
        return result + 1

    check(1)
    data = events()[-1]["data"]
    assert (data["args"], data["result"]) == ({"result": 1}, 2)


def test_bodies_of_files_and_images_are_told_nowhere(started: Init) -> None:
    events = started(capture_messages=True)

    @agentpulse.tool
    def look(_picture: str, _raw: bytes) -> dict[str, Any]:
        raise ValueError("no picture: " + PNG)

    with agentpulse.session("night") as session:
        session.log(f"looked at {PNG}", picture=PNG)
        session.set_result({"picture": PNG})
        agentpulse.event("looked", {"picture": PNG, "raw": b"pixels"})
        with pytest.raises(ValueError, match="no picture"):
            look(PNG, b"pixels")
    told = json.dumps(events())
    assert PNG[-2000:] not in told
    assert "cGl4ZWwg" not in told
    assert told.count("<image/png, 3000 bytes>") == 6
    assert told.count("<6 bytes>") == 2
