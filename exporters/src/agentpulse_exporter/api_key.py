"""The key of an account, as an object that doesn't show it. Loads nothing of OpenTelemetry."""

from __future__ import annotations

from typing import NoReturn, Self, TypeVar

_T = TypeVar("_T")
_SHORTEST_SHOWN = 16


class ApiKey:
    """A key that shows no more than its end, however it is printed, and that can't be pickled."""

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        """Of this text, without the blanks around it."""
        exact = text.strip()
        # In a closure: crash reporters and serializers walk attributes, and find a function there.
        self._reveal = lambda: exact

    @classmethod
    def of(cls, given: str | _T) -> ApiKey | _T:
        """A text as a key, anything else as it is."""
        return cls(given) if isinstance(given, str) else given

    @property
    def is_valid(self) -> bool:
        """Whether it can be a key: printable ASCII that starts with `ap_`.

        Anything else could end the header that the key travels in, and start another.
        """
        text = self._reveal()
        begins, rest = text[:3], text[3:]
        return begins == "ap_" and rest != "" and all("!" <= each <= "~" for each in rest)

    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._reveal()}"

    def __bool__(self) -> bool:
        return bool(self._reveal())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self._reveal() == other._reveal()

    def __hash__(self) -> int:
        return hash(self._reveal())

    def __repr__(self) -> str:
        text = self._reveal()
        # Four of few characters would show too much of a short key.
        return f"ap_…{text[-4:]}" if len(text) >= _SHORTEST_SHOWN else "ap_…"

    # A copy would be the same; `dataclasses.asdict` makes one.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        message = "An API key is not pickled: it would leave the process in clear."
        raise TypeError(message)
