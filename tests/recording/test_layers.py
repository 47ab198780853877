"""Which layer of a stack reports a call: the innermost one that is instrumented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agentpulse_instrumentation._engine import nesting
from agentpulse_instrumentation._engine.nesting import Layer
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span

CHAT = {"gen_ai.request.model": "m"}


@pytest.fixture(autouse=True)
def entered() -> Iterator[list[Layer]]:
    layers_of_the_test: list[Layer] = []
    yield layers_of_the_test
    for layer in reversed(layers_of_the_test):
        nesting.leave(layer)


@pytest.fixture
def enter(entered: list[Layer]) -> Any:
    def enter(layer: Layer) -> Layer:
        entered.append(layer)
        nesting.enter(layer)
        return layer

    return enter


def begun(operation: str = "chat", **more: Any) -> tuple[Any, dict[str, Any]]:
    attributes = {**CHAT, **more}
    return nesting.begin_call(operation, get_current(), attributes)[0], attributes


def test_a_call_takes_the_facts_and_the_parent_of_the_layer_above(enter: Any) -> None:
    parent = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("chain")
    layer = enter(Layer(get_current(), parent, {"a": 1, "b": 1}, operation="chat"))
    context, attributes = begun(b=2)
    assert get_current_span(context) is parent
    assert attributes == {**CHAT, "a": 1, "b": 2}
    assert layer.is_recorded


def test_every_layer_above_is_recorded(enter: Any) -> None:
    outer = enter(Layer(get_current(), operation="chat"))
    inner = enter(Layer(get_current(), operation="text_completion"))
    begun()
    assert outer.is_recorded
    assert inner.is_recorded


def test_another_kind_of_call_is_not_recorded(enter: Any) -> None:
    layer = enter(Layer(get_current(), operation="chat"))
    begun("embeddings")
    assert not layer.is_recorded


def test_a_place_for_one_model_takes_one_call_of_it(enter: Any) -> None:
    layer = enter(Layer(get_current(), None, {"a": 1}, operation="chat", model="m"))
    assert begun(**{"gen_ai.request.model": "other"})[1].get("a") is None
    assert not layer.is_recorded
    assert begun()[1]["a"] == 1
    assert layer.is_recorded
    assert "a" not in begun()[1]


def test_a_place_that_is_not_open_is_passed_over_until_it_is(enter: Any) -> None:
    # A layer may enter where its caller sees it, and open only when it is about to call.
    outer = enter(Layer(get_current(), None, {"a": 1}, operation="chat"))
    inner = Layer(get_current(), None, {"b": 1}, operation="chat")
    inner.open = False
    enter(inner)
    assert begun()[1] == {**CHAT, "a": 1}
    assert not inner.is_recorded
    inner.open = True
    assert begun()[1] == {**CHAT, "b": 1}
    assert inner.is_recorded
    assert outer.is_recorded


def test_a_span_begun_since_is_nearer_than_the_layers_parent(enter: Any) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    enter(Layer(get_current(), tracer.start_span("chain"), operation="chat"))
    with tracer.start_as_current_span("nearer") as nearer:
        assert get_current_span(begun()[0]) is nearer
