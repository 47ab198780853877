"""A call of LiteLLM that is open at a fork is reported by the process that began it."""

from __future__ import annotations

import os
import sys

import pytest
from fakes import lite, processes
from fakes.provider import FakeProvider
from fakes.receiver import Receiver

lite.imported()

PROGRAM = """
import gc, os, sys, agentpulse, litellm
agentpulse.init(endpoint=sys.argv[1], heartbeat_interval=0)
said = [{"role": "user", "content": "What is new?"}]
given = {"model": "anthropic/claude-haiku-4-5", "api_base": sys.argv[2], "api_key": "x"}
stream = litellm.completion(**given, messages=said, stream=True)
next(stream)
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
if sys.argv[3] == "left" or not pid:
    del stream
    gc.collect()
else:
    list(stream)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("ending", ["read", "left"])
def test_a_stream_that_is_open_at_a_fork_is_recorded_once(ending: str) -> None:
    with Receiver() as receiver, FakeProvider() as provider:
        command = [sys.executable, "-c", PROGRAM, receiver.url, provider.anthropic_url, ending]
        processes.run(command, check=True)
        (call,) = receiver.of_kind("llm_call")
    assert call["data"].get("estimated", False) is (ending == "left")
