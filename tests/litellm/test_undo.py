"""What is patched in LiteLLM, when it is, and that it is taken back exactly."""

from __future__ import annotations

import copy
import sys
import time
from typing import Any

import pytest
from agentpulse_instrumentation import LiteLLMInstrumentor, instrument, uninstrument
from fakes import lite, processes

litellm = lite.imported()

from litellm.integrations.custom_logger import CustomLogger  # noqa: E402
from litellm.litellm_core_utils.litellm_logging import Logging  # noqa: E402

HELLO = [{"role": "user", "content": "What is new?"}]
LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


def test_every_method_is_the_object_that_it_was(spans: Any) -> None:
    uninstrument()
    before = dict(vars(Logging))
    instrument(tracer_provider=spans.provider)
    patched = {name for name, value in vars(Logging).items() if before.get(name) is not value}
    assert LiteLLMInstrumentor().is_patched
    assert {"__init__", "pre_call", "success_handler", "failure_handler"} <= patched

    uninstrument()
    after = dict(vars(Logging))
    assert before.keys() == after.keys()
    assert all(after[name] is value for name, value in before.items())


def test_no_list_of_callbacks_is_touched(at: Any, recorded: Any) -> None:
    before = {name: (found := getattr(litellm, name), copy.copy(found)) for name in LISTS}
    spans = recorded()
    litellm.completion(**at["anthropic"], messages=HELLO)
    assert len(spans()) == 1
    uninstrument()
    for name, (same, held) in before.items():
        assert getattr(litellm, name) is same
        assert same == held


def test_callbacks_of_the_user_are_called_as_ever_and_cost_us_nothing(
    at: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = recorded()
    seen: list[str] = []

    class Mine(CustomLogger):
        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            seen.append("before")

        def log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            seen.append("after")

    for name in LISTS:
        monkeypatch.setattr(litellm, name, [])
    litellm.callbacks = [Mine()]
    litellm.completion(**at["anthropic"], messages=HELLO)
    assert len(spans()) == 1
    until = time.monotonic() + 60
    while seen.count("after") < seen.count("before") and time.monotonic() < until:
        time.sleep(0.001)
    # Once for the call, and once for the one by which the test knows that all is reported.
    assert sorted(seen) == ["after", "after", "before", "before"]


def test_a_stream_under_way_at_the_end_is_recorded_until_then(at: Any, recorded: Any) -> None:
    spans = recorded()
    stream = litellm.completion(**at["anthropic"], messages=HELLO, stream=True)
    next(stream)
    uninstrument()
    (span,) = spans.spans()
    assert span["attributes"]["agentpulse.usage.estimated"] is True
    assert len(list(stream)) > 3
    del stream
    instrument(tracer_provider=spans.provider)
    assert spans() == []


PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from agentpulse_instrumentation import INSTRUMENTORS, instrument
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

memory, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
if sys.argv[1] == "after":
    from litellm import completion
instrument(tracer_provider=provider)
if sys.argv[1] == "before":
    assert "litellm" not in sys.modules
    from litellm import completion
completion("openai/gpt-4o", [{"role": "user", "content": "x"}], mock_response="y")
from litellm.litellm_core_utils.thread_pool_executor import executor
executor.shutdown(wait=True)
print([span.name for span in memory.get_finished_spans()])
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_litellm_may_be_imported_later_or_earlier(when: str) -> None:
    ran = processes.run([sys.executable, "-c", PROGRAM, when])
    assert ran.stdout.strip().endswith("['chat gpt-4o']"), ran.stderr
