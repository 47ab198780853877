"""One call is one cost, however many spans tell of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, CostEnrichingExporter
from agentpulse_exporter._ledger import ledger
from fakes.pipe import CALL, Pipe
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import set_span_in_context

pytestmark = pytest.mark.unconventional("its spans are made by hand, as much of them as matters")

OURS = "agentpulse_instrumentation.openai"
OTHER = "somebody.else"
SECOND = 1_000_000_000
NO_ID = {name: value for name, value in CALL.items() if name != "gen_ai.response.id"}
WRONG = {**CALL, "gen_ai.usage.output_tokens": 101}


class Story:
    """Spans that are ended and exported in the order of the telling."""

    def __init__(self, exporter: Any) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(exporter))

    def start(self, scope: str, attributes: Any, at: float = 0, inside: Any = None) -> Any:
        context = None if inside is None else set_span_in_context(inside)
        return self.provider.get_tracer(scope).start_span(
            "chat", context, attributes=attributes, start_time=int(at * SECOND) + SECOND
        )


def end(span: Any, at: float) -> None:
    span.end(int(at * SECOND) + SECOND)


@pytest.fixture
def story(receiver: Receiver) -> Iterator[Story]:
    made = Story(AgentPulseSpanExporter("ap_" + "0" * 32, receiver.url))
    yield made
    made.provider.shutdown()


def told(receiver: Receiver) -> tuple[int, int]:
    """How many calls were told of, and how many other spans."""
    return len(receiver.of_kind("llm_call")), len(receiver.of_kind("span_end"))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ((OTHER, CALL), (OURS, CALL)),
        ((OTHER, WRONG), (OURS, CALL)),
        ((OURS, CALL), (OTHER, CALL)),
        ((OTHER, NO_ID), (OURS, CALL)),
        ((OURS, NO_ID), (OURS, CALL)),
        ((OURS, CALL), (OTHER, NO_ID)),
        ((OTHER, NO_ID), ("third", NO_ID)),
        ((OTHER, CALL), (OTHER, CALL)),
    ],
)
def test_of_two_spans_one_inside_the_other_one_is_the_call(
    outer: Any, inner: Any, story: Story, receiver: Receiver
):
    around = story.start(*outer, at=0)
    within = story.start(*inner, at=1, inside=around)
    end(within, 2)
    end(around, 3)

    assert told(receiver) == (1, 1)
    (call,) = receiver.of_kind("llm_call")
    (cost,) = receiver.of_kind("cost")
    assert call["data"]["tokens"] == cost["data"]["tokens"] == 1100
    (other,) = receiver.of_kind("span_end")
    assert other["data"]["span_kind"] == "chat"


def test_three_layers_are_one_call(story: Story, receiver: Receiver):
    outer = story.start(OTHER, NO_ID, at=0)
    middle = story.start("third", CALL, at=1, inside=outer)
    inner = story.start(OURS, CALL, at=2, inside=middle)
    for at, span in enumerate((inner, middle, outer), 3):
        end(span, at)

    assert told(receiver) == (1, 2)


def test_two_instrumentations_with_a_trace_each_tell_of_one_call(story: Story, receiver: Receiver):
    theirs, ours = story.start(OTHER, NO_ID, at=0), story.start(OURS, CALL, at=1)
    end(ours, 2)
    end(theirs, 3)

    assert told(receiver) == (1, 1)


def test_equal_calls_at_the_same_time_are_each_told_of_once(story: Story, receiver: Receiver):
    pairs = [(story.start(OTHER, NO_ID, at=0), story.start(OURS, NO_ID, at=1)) for _ in range(30)]
    for _, ours in pairs:
        end(ours, 2)
    for theirs, _ in pairs:
        end(theirs, 3)

    assert told(receiver) == (30, 30)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Calls made after each other, by one instrumentation and by two.
        ((OURS, NO_ID, 0, 1), (OURS, NO_ID, 2, 3)),
        ((OTHER, NO_ID, 0, 1), (OURS, NO_ID, 2, 3)),
        # Made at the same time, seen by the same instrumentation.
        ((OURS, NO_ID, 0, 3), (OURS, NO_ID, 1, 2)),
        # With ids of their own.
        ((OTHER, CALL, 0, 3), (OURS, {**CALL, "gen_ai.response.id": "chatcmpl-2"}, 1, 2)),
        # With other tokens, or of another model.
        ((OTHER, NO_ID, 0, 3), (OURS, {**NO_ID, "gen_ai.usage.input_tokens": 7}, 1, 2)),
        (
            (OTHER, NO_ID, 0, 3),
            (OURS, {**NO_ID, "gen_ai.request.model": "x", "gen_ai.response.model": "x"}, 1, 2),
        ),
        # A server that gives few ids, in another trace at another time.
        ((OURS, CALL, 0, 1), (OURS, CALL, 2, 3)),
    ],
)
def test_other_calls_stay_calls_of_their_own(
    first: Any, second: Any, story: Story, receiver: Receiver
):
    for scope, attributes, start, stop in (first, second):
        end(story.start(scope, attributes, at=start), stop)

    assert told(receiver) == (2, 0)


def test_a_server_that_repeats_an_id_for_another_answer_is_believed(
    story: Story, receiver: Receiver
):
    root = story.start(OTHER, {})
    for at, tokens in enumerate((1000, 7)):
        call = {**CALL, "gen_ai.usage.input_tokens": tokens}
        end(story.start(OURS, call, at=at * 2, inside=root), at * 2 + 1)

    assert told(receiver)[0] == 2


def test_of_spans_exported_together_ours_is_the_call(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    theirs = sending.provider.get_tracer(OTHER).start_span("theirs", attributes=WRONG)
    inside = set_span_in_context(theirs)
    wrapped = sending.provider.get_tracer(OURS).start_span("ours", inside, attributes=CALL)
    # The outer one ends first.
    theirs.end()
    wrapped.end()
    assert sending.processor.flush()

    assert [event["data"]["name"] for event in receiver.of_kind("llm_call")] == ["ours"]
    assert [event["data"]["name"] for event in receiver.of_kind("span_end")] == ["theirs"]


def test_what_is_remembered_is_bounded(
    story: Story, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ledger, "MOST_CALLS", 5)
    book = ledger.Ledger()
    memory = InMemorySpanExporter()
    story.provider.add_span_processor(SimpleSpanProcessor(memory))
    for number in range(40):
        call = {**CALL, "gen_ai.response.id": f"r{number // 2}"}
        root = story.start(OTHER, call, at=0)
        end(story.start(OURS, call, at=1, inside=root), 2)
        end(root, 3)
    for span in memory.get_finished_spans():
        book.enter([span])

    held = vars(book)
    assert (len(held["_calls"]), len(held["_repeats"])) == (5, 5)
    assert sum(map(len, held["_known"].values())) <= 5 * 6


def test_an_enriched_call_has_its_cost_on_one_span():
    memory = InMemorySpanExporter()
    story = Story(CostEnrichingExporter(memory))
    around = story.start(OTHER, CALL, at=0)
    within = story.start(OURS, CALL, at=1, inside=around)
    end(within, 2)
    end(around, 3)

    priced = [
        "agentpulse.cost.total" in (span.attributes or {}) for span in memory.get_finished_spans()
    ]
    assert priced == [True, False]


OURS_ABOVE = "agentpulse_instrumentation.langchain"
EMBEDDING = {**NO_ID, "gen_ai.operation.name": "embeddings"}
GEMINI = {**NO_ID, "gen_ai.request.model": "gemini", "gen_ai.response.model": "gemini-2.5-pro"}


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        # Somebody's model that asks another one, or embeds what it was asked.
        ((OTHER, GEMINI), (OURS, CALL)),
        ((OTHER, CALL), (OURS, EMBEDDING)),
    ],
)
def test_a_call_inside_another_one_is_its_own(
    outer: Any, inner: Any, pipe: Callable[..., Pipe], receiver: Receiver
):
    sending = pipe()
    tracers = sending.provider
    around = tracers.get_tracer(outer[0]).start_span("outer", attributes=outer[1])
    within = tracers.get_tracer(inner[0]).start_span(
        "inner", set_span_in_context(around), attributes=inner[1]
    )
    # The outer one ends first, and is sent first.
    around.end()
    assert sending.processor.flush()
    within.end()
    assert sending.processor.flush()

    assert told(receiver) == (2, 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Ours know of each other: these are two calls that take place at the same time.
        ((OURS, CALL), (OURS_ABOVE, NO_ID)),
        ((OURS, EMBEDDING), (OURS_ABOVE, EMBEDDING)),
        ((OURS, CALL), (OURS_ABOVE, {**NO_ID, "error.type": "ValueError"})),
        # A server that always gives the same id.
        ((OURS, CALL), (OURS, CALL)),
    ],
)
@pytest.mark.parametrize("one_trace", [True, False])
def test_calls_at_the_same_time_that_ours_tell_of_are_as_many(
    first: Any, second: Any, one_trace: bool, story: Story, receiver: Receiver
):
    root = story.start("user", {}) if one_trace else None
    started = [story.start(*each, at=at, inside=root) for at, each in enumerate((first, second))]
    for at, span in enumerate(started, 2):
        end(span, at)

    assert told(receiver)[0] == 2
