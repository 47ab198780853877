"""A name that has moved in LiteLLM costs LiteLLM alone."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import openai
import pytest
from agentpulse_instrumentation import (
    LiteLLMInstrumentor,
    OpenAIInstrumentor,
    instrument,
    not_recorded,
    uninstrument,
)
from fakes import lite, moved, processes
from fakes.moved import MOVING, WAYS, Name
from fakes.provider import FakeProvider

lite.imported()
NAMES = moved.names("litellm")


@pytest.fixture(autouse=True)
def bare(spans: Any) -> None:
    uninstrument()


def test_what_is_patched_is_found_by_patching_it():
    assert {"Logging.__init__", "Logging.pre_call", "Logging.success_handler"} <= {
        name.path for name in NAMES
    }


def reached(name: Name) -> int:
    """How many patches are tried until a name is missing: one module after the other is patched."""
    modules = LiteLLMInstrumentor.libraries()[0].modules
    tried = modules[: modules.index(name.module) + 1]
    return sum(each.module in tried for each in NAMES)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES, ids=str)
def test_a_name_that_moved_costs_litellm_alone(
    name: Name, way: str, provider: FakeProvider, spans: Any, warnings: list[str]
):
    with moved.moved(name, way):
        before = moved.held("litellm")
        for _ in range(2):
            instrument(tracer_provider=spans.provider)

            assert moved.changed(before, "litellm") == set()
            assert not LiteLLMInstrumentor().is_patched
            assert OpenAIInstrumentor().is_patched
            (warning,) = warnings
            reason = not_recorded()["litellm"]
            assert warning.startswith(f"litellm {reason}. ")
            assert reason.startswith(f"{version('litellm')} is not recorded: ")
            tried = reached(name)
            assert f"{tried - 1} of {tried} patches could be put on" in reason
            assert f"because {name} is " in reason
        with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
            client.embeddings.create(model="an-embedder", input="x")
        assert [span["name"] for span in spans()] == ["embeddings an-embedder"]
        uninstrument()

    instrument(tracer_provider=spans.provider)
    assert not_recorded() == {}
    assert LiteLLMInstrumentor().is_patched


@pytest.mark.parametrize("stands_there", [lambda: None, None], ids=["a function", "None"])
def test_so_does_the_class_of_all_of_them(stands_there: Any, spans: Any, warnings: list[str]):
    module = NAMES[0].defining
    with moved.replaced(module, "Logging", stands_there):
        before = moved.held("litellm")
        instrument(tracer_provider=spans.provider)

        assert moved.changed(before, "litellm") == set()
        assert set(not_recorded()) == {"litellm"}
    assert f"because {module.__name__}.Logging is " in warnings[0]


LATER = """
import os, warnings
warnings.simplefilter("ignore")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from agentpulse_instrumentation import INSTRUMENTORS, instrument, not_recorded

instrument()
import litellm, litellm.litellm_core_utils.litellm_logging, openai  # none fails
print(json.dumps([
    sorted(not_recorded()), [name for name, kind in INSTRUMENTORS.items() if kind().is_patched]
]))
"""


@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]], ids=str)
def test_it_is_the_same_where_it_is_imported_later(name: Name):
    done = processes.run(
        [sys.executable, "-c", MOVING + LATER, name.module, name.path],
    )
    assert done.returncode == 0, done.stderr
    missing, patched = json.loads(done.stdout.splitlines()[-1])
    assert missing == ["litellm"]
    assert "openai" in patched
    (line,) = [each for each in done.stderr.splitlines() if "is not recorded" in each]
    assert line.startswith(f"litellm {version('litellm')} is not recorded: ")
    assert str(name) in line
