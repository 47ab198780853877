"""The real LiteLLM on the fake provider."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fakes.lite import reported
from fakes.provider import FakeProvider

MARKER = "chat marker"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # LiteLLM warns of much that is its own: unclosed sessions, models of pydantic.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def at(provider: FakeProvider) -> dict[str, dict[str, Any]]:
    """The arguments that send a call to one of the two APIs."""
    given = {"api_key": "x", "max_retries": 0}
    return {
        "openai": {**given, "model": "openai/gpt-4o", "api_base": provider.openai_url},
        "anthropic": {
            **given,
            "model": "anthropic/claude-haiku-4-5",
            "api_base": provider.anthropic_url,
        },
    }


class Recorded:
    """The spans of a test's calls, LiteLLM's threads included."""

    def __init__(self, spans: Any) -> None:
        self.spans = spans
        self.provider = spans.provider

    def finished(self, *, least: int = 0) -> list[Any]:
        """All spans since it was last asked, in the order in which they began.

        (They end in threads, in any order.)

        A stream that was left ends with its last holder, which may be a thread of LiteLLM's: a test
        that has some says how many spans there are at `least`.
        """
        import litellm
        from litellm.litellm_core_utils.thread_pool_executor import executor

        # Threads of a pool report sync calls. So one more call is made: when that one is recorded
        # and the pool has no work left, all others are.
        litellm.completion("openai/marker", [{"role": "user", "content": "x"}], mock_response="x")
        found: list[Any] = []
        until = time.monotonic() + 60
        while not any(span.name == MARKER for span in found) or not _is_idle(executor):
            assert time.monotonic() < until, [span.name for span in found]
            found += self.spans.finished()
            time.sleep(0.001)
        gc.collect()
        found += self.spans.finished()
        while len(found) <= least and time.monotonic() < until:
            time.sleep(0.01)
            gc.collect()
            found += self.spans.finished()
        found.sort(key=lambda span: span.start_time)
        return [span for span in found if span.name != MARKER]

    def __call__(self, *, least: int = 0) -> list[dict[str, Any]]:
        """The same as dicts, with the library that reported it, without what differs each time."""
        return [reported(span) for span in self.finished(least=least)]


def _is_idle(pool: Any) -> bool:
    # Its count of idle threads loses one now and then, so each thread is looked at.
    frames = sys._current_frames()
    running = [frames[each.ident] for each in pool._threads if each.ident in frames]
    return pool._work_queue.empty() and not any(map(_has_work, running))


def _has_work(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != "_worker":
        frame = frame.f_back
    return frame is not None and frame.f_locals.get("work_item") is not None


@pytest.fixture
def recorded(instrumented: Callable[..., Any]) -> Callable[..., Recorded]:
    """Instruments all libraries."""
    return lambda **options: Recorded(instrumented(**options))
