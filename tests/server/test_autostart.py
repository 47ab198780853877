"""A program that never mentions agentpulse is recorded, and runs as it would without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from fakes import processes

from agentpulse.cli._dev import environment
from agentpulse.server import LocalServer

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
}

AGENT = """
import sys, openai
client = openai.OpenAI(api_key="x", base_url=sys.argv[1], max_retries=0)
chat = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
print(chat.choices[0].message.content)
"""


class Provider(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(COMPLETION).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


@pytest.fixture
def provider():
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as provider:
        thread = Thread(target=provider.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{provider.server_port}/v1"
        provider.shutdown()
        thread.join()


def run(server: LocalServer, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return processes.run(command, env=environment(server.port, server.key))


def printed(program: subprocess.CompletedProcess[str]) -> str:
    assert (program.returncode, program.stderr) == (0, "")
    return program.stdout


def test_dev_records_an_agent_that_never_mentions_agentpulse(provider: str, tmp_path: Path):
    database = tmp_path / "events.sqlite3"
    agent = tmp_path / "agent.py"
    agent.write_text(AGENT)

    program = processes.run(
        [
            sys.executable, "-m", "agentpulse", "dev", "--port", "0", "--database", str(database),
            "--exit", "--", sys.executable, str(agent), provider,
        ],
    )  # fmt: skip

    assert (program.returncode, program.stdout) == (0, "Hello!\n")
    # 1,000 tokens in at $2.50 and 100 out at $10 a million.
    assert program.stderr == "agentpulse: 1 call recorded: 1,100 tokens, $0.003500.\n"
    with LocalServer(database=database) as server:
        (call,) = server.events("llm_call")
    recorded = {name: call["data"][name] for name in ("provider", "model", "tokens", "status")}
    assert recorded == {
        "provider": "openai", "model": "gpt-4o-2024-08-06", "tokens": 1100, "status": "success",
    }  # fmt: skip


def test_the_programs_that_a_program_starts_are_recorded_too(server: LocalServer, provider: str):
    starting = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {AGENT!r}, {provider!r}])"
    )

    assert printed(run(server, sys.executable, "-c", starting)) == "Hello!\n"

    assert len(server.events("llm_call")) == 1
    assert len(server.events("sdk_init")) == 2


def test_a_program_sees_the_path_that_it_would_see_otherwise(server: LocalServer, tmp_path: Path):
    code = "import json, sys; print(json.dumps([sys.path, sys.argv, __name__]))"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}

    bare = processes.run([sys.executable, "-c", code, "x"], env=environ, check=True)

    assert (
        printed(run(server, sys.executable, "-c", code, "x", PYTHONPATH=str(tmp_path)))
        == bare.stdout
    )


def test_a_sitecustomize_of_the_users_own_is_run_and_is_the_one_imported(
    server: LocalServer, tmp_path: Path
):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.own = __file__; NAME = __name__")
    code = """
import sys, sitecustomize
print(sys.own == sitecustomize.__file__, sitecustomize.NAME, "agentpulse" in sys.modules)
"""

    program = run(server, sys.executable, "-c", code, PYTHONPATH=str(tmp_path))

    assert printed(program) == "True sitecustomize True\n"
    assert len(server.events("sdk_init")) == 1


def test_a_sitecustomize_that_fails_is_reported_as_without_us(server: LocalServer, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text("raise RuntimeError('as the test wants')")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}

    bare = processes.run([sys.executable, "-c", "print(1)"], env=environ, check=True)
    program = run(server, sys.executable, "-c", "print(1)", PYTHONPATH=str(tmp_path))

    assert "as the test wants" in bare.stderr
    assert (program.returncode, program.stdout, program.stderr) == (0, "1\n", bare.stderr)
    assert len(server.events("sdk_init")) == 1


@pytest.mark.parametrize(
    ("agentpulse", "printed_error"),
    [
        ("raise ModuleNotFoundError('not here')", ""),
        ("raise SyntaxError('too old')", "AgentPulse could not start: SyntaxError: too old\n"),
        ("def init(): raise OSError('broken')", "AgentPulse could not start: OSError: broken\n"),
    ],
)
def test_a_python_where_agentpulse_does_not_work_runs_the_program_all_the_same(
    agentpulse: str, printed_error: str, server: LocalServer, tmp_path: Path
):
    (tmp_path / "agentpulse.py").write_text(agentpulse)

    program = run(server, sys.executable, "-c", "print('ran')", PYTHONPATH=str(tmp_path))

    assert (program.returncode, program.stdout, program.stderr) == (0, "ran\n", printed_error)
    assert server.events() == []


def test_a_program_that_calls_init_itself_is_recorded_once(server: LocalServer, provider: str):
    own = f"import agentpulse; agentpulse.init()\n{AGENT}"

    assert printed(run(server, sys.executable, "-c", own, provider)) == "Hello!\n"

    assert len(server.events("sdk_init")) == len(server.events("llm_call")) == 1


def test_the_kill_switch_still_works(server: LocalServer, provider: str):
    program = run(server, sys.executable, "-c", AGENT, provider, AGENTPULSE_ENABLED="false")

    assert printed(program) == "Hello!\n"
    assert server.events() == []
