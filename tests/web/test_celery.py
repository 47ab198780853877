"""Workers of Celery's prefork pool, which leave by `os._exit`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from celery.signals import worker_process_shutdown
from fakes import processes
from fakes.pipe import becomes_true
from fakes.receiver import Receiver

import agentpulse
from agentpulse.demo.provider import FakeProvider

BIN = Path(sys.executable).parent
TASKS = 4
SEND = f"""
import tasks
for number in range({TASKS}):
    tasks.ask.delay(str(number))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_what_workers_of_celery_reported_last_arrives(tmp_path: Path) -> None:
    with Receiver() as receiver, FakeProvider() as provider:
        environ = {
            **os.environ,
            "TASKS_FOLDER": str(tmp_path),
            "PROVIDER_URL": provider.openai_url,
            "AGENTPULSE_ENDPOINT": receiver.url,
            "AGENTPULSE_FLUSH_INTERVAL": "60",
        }
        here = Path(__file__).parent
        processes.run([sys.executable, "-c", SEND], cwd=here, env=environ, check=True)
        command = [
            *(str(BIN / "opentelemetry-instrument"), str(BIN / "celery")),
            *("--app", "tasks", "worker", "--pool", "prefork", "--concurrency", "2"),
        ]
        with processes.running(command, cwd=here, env=environ) as worker:
            assert becomes_true(lambda: len(list(tmp_path.glob("*.done"))) == TASKS)
            worker.terminate()
            printed = processes.ended(worker)
        assert worker.returncode == 0, printed
        assert len(receiver.of_kind("llm_call")) == TASKS


def test_shutdown_leaves_the_signals_of_celery_as_they_were() -> None:
    before = list(worker_process_shutdown.receivers)
    with Receiver() as receiver:
        agentpulse.init(endpoint=receiver.url, heartbeat_interval=0, auto_patch=False)
        while_on = list(worker_process_shutdown.receivers)
        assert agentpulse.shutdown()
    assert (len(while_on), worker_process_shutdown.receivers) == (len(before) + 1, before)
