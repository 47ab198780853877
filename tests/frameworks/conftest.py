"""Real LangChain and LangGraph, with real clients, on the fake provider."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
from agentpulse_instrumentation import instrument
from fakes.provider import FakeProvider
from packaging.version import Version

# LangChain is in environments of its own (`nox -s frameworks`): nothing here depends on it.
collect_ignore_glob = [] if find_spec("langchain_core") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # LangChain closes no client, and keeps some for as long as the process lives.
    for item in items:
        if "frameworks" in item.path.parts:
            for ignored in (
                "ignore::ResourceWarning",
                "ignore::pytest.PytestUnraisableExceptionWarning",
            ):
                item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def recorded(spans: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What ends while a test runs, the spans of the user's own among it."""
    from fakes import stacks

    monkeypatch.setattr(stacks, "tracers", spans.provider)
    instrument(tracer_provider=spans.provider)
    return spans


@pytest.fixture
def create_agent() -> Any:
    """LangChain's, where that names the agent in the metadata of its graph."""
    if Version(version("langchain")) < Version("1.2.4"):
        pytest.skip("this LangChain's agents are graphs as all others")
    from langchain.agents import create_agent

    return create_agent
