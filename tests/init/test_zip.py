"""The packages in a zip file, as zipapp, PEX and others pack a program."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

from fakes import processes
from fakes.receiver import Receiver

from agentpulse.demo.provider import FakeProvider

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "src", ROOT / "exporters" / "src", ROOT / "instrumentors" / "src"]
PROGRAM = """
import json, sys
import agentpulse, agentpulse_exporter, agentpulse_instrumentation, openai

agentpulse.init(heartbeat_interval=0)
with openai.OpenAI(api_key="x", base_url=sys.argv[1]) as client:
    said = [{"role": "user", "content": "What is new?"}]
    client.chat.completions.create(model="gpt-4o", messages=said)
assert agentpulse.flush()
files = [each.__file__ for each in (agentpulse, agentpulse_exporter, agentpulse_instrumentation)]
print(json.dumps([files, agentpulse.calculate_cost("gpt-4o", 1_000_000, 0)]))
"""


def test_from_a_zip_file_a_call_is_recorded_with_its_cost(tmp_path: Path) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for folder in SOURCES:
            for path in folder.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    packed.write(path, path.relative_to(folder))
    with Receiver() as receiver, FakeProvider() as provider:
        done = processes.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, provider.openai_url],
            env={**os.environ, "PYTHONPATH": str(archive), "AGENTPULSE_ENDPOINT": receiver.url},
        )

    assert (done.returncode, done.stderr) == (0, "")
    files, cost = json.loads(done.stdout)
    assert all(file.startswith(str(archive)) for file in files)
    assert cost == 2.5
    (call,) = receiver.of_kind("llm_call")
    assert call["data"]["cost_usd"] > 0
