"""`agentpulse dev`, as a program of its own: in the foreground, and with a command."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import pytest
from fakes import processes
from server.conftest import call, get, request, send

from agentpulse.server import LocalServer

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

ANYWHERE = ("--port", "0", "--database", ":memory:")
POST = """
import json, os, time, urllib.request
def post(*calls):
    events = [{"kind": "llm_call", "ts": time.time(), "data": call} for call in calls]
    urllib.request.urlopen(urllib.request.Request(
        os.environ["AGENTPULSE_ENDPOINT"] + "/v1/ingest",
        json.dumps({"agent": "by hand", "events": events}).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": "Bearer " + os.environ["AGENTPULSE_API_KEY"],
        },
    )).close()
"""
"""What a program needs to send calls by itself."""


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    return tmp_path


def dev(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return processes.run(
        [sys.executable, "-m", "agentpulse", "dev", *arguments], env={**os.environ, **variables}
    )


def once(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with a server of its own, which keeps nothing."""
    return dev(*ANYWHERE, "--exit", "--", *command, **variables)


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return once(sys.executable, "-c", code, **variables)


def running(*arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Has it run."""
    return processes.running([sys.executable, "-m", "agentpulse", "dev", *arguments])


def read_until(stream: IO[str] | None, words: str) -> str:
    assert stream is not None
    read = ""
    for line in stream:
        read += line
        if words in line:
            return read
    pytest.fail(f"ended without {words!r}: {read}")


def url_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", text)
    assert found, text
    return found[0]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def ended(program: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = processes.ended(program)
    return program.returncode, out, err


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_prints_its_address_and_ends_cleanly(
    number: signal.Signals, own_data_folder: Path
):
    database = own_data_folder / "agentpulse/agentpulse.sqlite3"
    with running("--port", "0") as program:
        introduction = read_until(program.stdout, "Ctrl-C stops the server.")
        url = url_in(introduction)
        with socket.create_connection(("127.0.0.1", port_of(url)), timeout=5):
            program.send_signal(number)
            assert ended(program) == (0, "", "")

    assert introduction.startswith(f"AgentPulse is listening at {url}\n")
    assert re.search(rf"\nTo see it, open {url}/open/\w+ in a browser\.\n", introduction)
    key_file = database.with_name(f"local-{port_of(url)}.key")
    assert f"need as AGENTPULSE_API_KEY what is in {key_file}\n" in introduction
    assert f"Events are kept in {database}.\n" in introduction
    assert f"  agentpulse dev --port {port_of(url)} -- python agent.py\n" in introduction
    assert f"  AGENTPULSE_ENDPOINT={url} python agent.py\n" in introduction
    assert [path.name for path in database.parent.iterdir()] == ["agentpulse.sqlite3"]


@pytest.mark.parametrize("command", [(), ("--", "true")])
def test_a_port_of_another_program_is_one_clear_message(command: tuple[str, ...]):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.settimeout(0)
        port = other.getsockname()[1]
        # It answers nothing at all, which is the worst it can do.
        program = dev("--port", str(port), *command)

    message = f"Port {port} is in use by another program. Choose another by --port.\n"
    assert (program.returncode, program.stdout, program.stderr) == (1, "", message)


def test_a_port_of_ours_is_reported_as_ours(own_data_folder: Path):
    with LocalServer() as server:
        program = dev("--port", str(server.port))
        printed = re.fullmatch(
            f"An AgentPulse server runs already at {server.url}. To see it, open (.+) in a "
            "browser. For another one, choose another port by --port.\n",
            program.stderr,
        )
        assert (program.returncode, program.stdout) == (1, "")
        assert printed
        opened = request(server, "GET", printed[1].removeprefix(server.url))

    assert (opened.status, "set-cookie" in opened.headers) == (303, True)


@pytest.mark.parametrize("command", [(), ("--", "true")])
def test_a_server_of_another_user_is_left_alone(command: tuple[str, ...], tmp_path: Path):
    with LocalServer() as server:
        program = dev("--port", str(server.port), *command, XDG_DATA_HOME=str(tmp_path / "other"))

        assert (program.returncode, program.stdout) == (1, "")
        assert program.stderr == (
            f"An AgentPulse server whose key you don't have runs already at {server.url}. "
            "Choose another port by --port, or set AGENTPULSE_API_KEY to its key.\n"
        )


def test_the_key_of_a_server_may_be_given(tmp_path: Path):
    code = POST + 'post({"tokens": 15})'
    elsewhere = {"XDG_DATA_HOME": str(tmp_path / "other")}
    with LocalServer() as server:
        program = dev(
            "--port", str(server.port), "--", sys.executable, "-c", code,
            AGENTPULSE_API_KEY=server.key, **elsewhere,
        )  # fmt: skip

        assert program.stderr.startswith("agentpulse: 1 call recorded: 15 tokens, cost unknown.\n")


def test_a_command_uses_the_server_that_runs_already(own_data_folder: Path):
    with LocalServer() as server:
        send(server, call(tokens=1000))  # of another program, before

        program = dev(
            "--port", str(server.port), "--", sys.executable, "-c",
            POST + 'post({"tokens": 15, "cost_usd": 0.25}); exit(4)',
        )  # fmt: skip

        assert (program.returncode, program.stdout) == (4, "")
        totals, address = program.stderr.splitlines()
        assert totals == "agentpulse: 1 call recorded: 15 tokens, $0.2500."
        assert address.startswith(f"agentpulse: To see more, open {server.url}/open/")
        assert get(server, "/v1/stats")["cost"]["calls"] == 2


@posix
def test_where_no_key_can_be_left_it_is_printed(own_data_folder: Path):
    (own_data_folder / "agentpulse").write_text("in the way")
    with running(*ANYWHERE) as program:
        introduction = read_until(program.stdout, "Ctrl-C stops the server.")
        program.send_signal(signal.SIGINT)
        assert ended(program) == (0, "", "")

    assert re.search("\nPrograms need AGENTPULSE_API_KEY=ap_local_[0-9a-f]{32}, ", introduction)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--port", "http"], 2, "invalid int value: 'http'"),
        (["--port", "65536"], 1, "Port 65536 can't be used: bind(): port must be 0-65535"),
        (["--database", __file__], 1, f"{__file__} can't be used as a database: file is not a "),
        (["--database", __file__, "--", "true"], 1, "Choose another by --database.\n"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], status: int, words: str):
    program = dev("--port", "0", *arguments)

    assert (program.returncode, program.stdout) == (status, "")
    assert words in program.stderr
    assert "Traceback" not in program.stderr


@pytest.mark.parametrize("status", [0, 3, 255])
def test_the_commands_output_and_status_are_its_own(status: int):
    program = python(f"import sys; print('out'); print('err', file=sys.stderr); exit({status})")

    assert (program.returncode, program.stdout) == (status, "out\n")
    assert program.stderr.startswith("err\nagentpulse: No call was recorded.")


def test_the_commands_arguments_are_its_own():
    code = "import sys; print(sys.argv[1:])"
    arguments = ["--port", "5", "--exit", "--", "-h", ""]

    assert once(sys.executable, "-c", code, *arguments).stdout == f"{arguments}\n"
    without_dashes = dev("--port", "0", "--exit", sys.executable, "-c", code, *arguments)
    assert without_dashes.stdout == f"{arguments}\n"


@posix
def test_the_end_by_a_signal_has_the_status_of_shells():
    program = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    assert program.returncode == 128 + signal.SIGKILL


def test_a_command_that_cannot_be_run_is_explained(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.write_text("no program")

    missing, not_runnable = once("no-such-command"), once(str(plain))

    assert (missing.returncode, not_runnable.returncode) == (127, 126)
    assert missing.stderr == "agentpulse: There is no command 'no-such-command'.\n"
    assert not_runnable.stderr.startswith(f"agentpulse: {str(plain)!r} can't be run: ")


@pytest.mark.parametrize(
    ("calls", "printed"),
    [
        ([{"tokens": 1, "cost_usd": 0.5}], "1 call recorded: 1 token, $0.5000."),
        ([{"tokens": 1200, "cost_usd": None}], "1 call recorded: 1,200 tokens, cost unknown."),
        (
            [{"tokens": 5, "cost_usd": 2}, {"tokens": 5}, {"status": "error"}],
            "3 calls recorded: 10 tokens, $2.00 and 1 call of unknown cost, 1 error.",
        ),
    ],
)
def test_it_prints_the_totals_of_the_calls(calls: list[dict[str, Any]], printed: str):
    program = python(f"{POST}\nfrom json import loads\npost(*loads({json.dumps(calls)!r}))")

    # The server ends with the command, so no address is printed.
    assert program.stderr == f"agentpulse: {printed}\n"


@posix
def test_it_keeps_serving_when_the_command_has_ended():
    code = POST + 'post({"tokens": 7}); exit(5)'
    with running(*ANYWHERE, "--", sys.executable, "-c", code) as program:
        printed = read_until(program.stderr, "until Ctrl-C")
        with socket.create_connection(("127.0.0.1", port_of(url_in(printed))), timeout=5):
            program.send_signal(signal.SIGINT)
        assert ended(program) == (5, "", "")


WAITING = """
import signal, sys, time
def handle(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(6)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, handle)
print("ready", flush=True)
while True:
    time.sleep(1)
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_go_to_the_command(number: signal.Signals):
    command = [
        "--port",
        "0",
        "--database",
        ":memory:",
        "--exit",
        "--",
        sys.executable,
        "-c",
        WAITING,
    ]
    with running(*command) as program:
        read_until(program.stdout, "ready")
        program.send_signal(number)
        status, out, err = ended(program)

    assert (status, out) == (6, f"got {number.name}\n")
    assert err.startswith("agentpulse: No call was recorded.")


@posix
def test_sigterm_ends_it_all_and_ctrl_c_only_the_command():
    command = [*ANYWHERE, "--", sys.executable, "-c", WAITING]
    with running(*command) as program:
        read_until(program.stdout, "ready")
        program.send_signal(signal.SIGTERM)
        assert ended(program)[0] == 6

    with running(*command) as program:
        read_until(program.stdout, "ready")
        program.send_signal(signal.SIGINT)
        read_until(program.stderr, "until Ctrl-C")
        program.send_signal(signal.SIGINT)
        assert ended(program)[0] == 6


COUNTING = """
import signal, time
got = []
signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
print("ready", flush=True)
while not got:
    time.sleep(0.1)
print("interrupted", flush=True)
input()
print("times", len(got), flush=True)
"""


@posix
def test_ctrl_c_in_a_terminal_reaches_the_command_once():
    import pty

    ours, theirs = pty.openpty()
    take_terminal = (
        "import fcntl, os, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = ["-m", "agentpulse", "dev", *ANYWHERE, "--exit"]
    with (
        os.fdopen(ours, "wb", buffering=0) as keyboard,
        os.fdopen(theirs, "rb") as terminal,
        processes.running(
            [sys.executable, "-c", take_terminal, *command, "--", sys.executable, "-c", COUNTING],
            stdin=terminal,
            stderr=subprocess.DEVNULL,
        ) as program,
    ):
        read_until(program.stdout, "ready")
        keyboard.write(b"\x03")
        read_until(program.stdout, "interrupted")
        keyboard.write(b"\n")
        assert read_until(program.stdout, "times") == "times 1\n"
        assert program.wait(processes.LIMIT) == 0
