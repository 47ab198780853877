"""`agentpulse demo`: server, fake provider and an example agent, and a report on its calls."""

from __future__ import annotations

import argparse
import os
import signal
import time

import agentpulse
from agentpulse._output import fail
from agentpulse.demo import _summary as summary
from agentpulse.demo._agent import NightShift
from agentpulse.demo.provider import FakeProvider
from agentpulse.server import LocalServer, PortError

PORT = 4319
_SECONDS_BETWEEN_RUNS = 5.0
_FOREIGN = ("AGENTPULSE_", "OTEL_", "OPENAI_", "ANTHROPIC_")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Runs an example agent that uses the real openai and anthropic clients, a fake "
        "provider for it and the local server, all on this machine, and shows what was recorded. "
        "It needs no key and no network, and keeps nothing."
    )
    once = "exit after one run, with 0 only if every call was accepted by the server"
    parser.add_argument("--once", action="store_true", help=once)
    port = f"of the server (default: {PORT}; any free one with --once)"
    parser.add_argument("--port", type=int, help=port)


def run(arguments: argparse.Namespace) -> int:
    """Runs the agent once, or until Ctrl-C or SIGTERM; 1 if a call of it was not accepted."""
    once: bool = arguments.once
    port = arguments.port if arguments.port is not None else 0 if once else PORT
    # The variables of the user's own programs are not meant for this one.
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    try:
        with LocalServer(port) as server, FakeProvider() as provider:
            return _run(server, provider, once=once)
    except PortError as error:
        return fail(f"{error} Choose another by --port.")


def _run(server: LocalServer, provider: FakeProvider, *, once: bool) -> int:
    client = agentpulse.init(
        api_key=server.key, endpoint=server.url, agent_name="night-shift", flush_interval=1.0
    )
    try:
        with NightShift(provider) as agent:
            agent.run()
            client.flush()
            events = server.events()
            problems = summary.differences(events, provider.requests, provider.bill)
            print(*summary.lines(events), "", sep="\n")
            if problems:
                print("Not all calls were accepted as they were made:", *problems, sep="\n  ")
            else:
                accepted = f"All {len(provider.requests)} calls were accepted by the server"
                print(f"{accepted}, and agree with the provider's bill.")
            if once:
                print(f"They were listed at {server.url}; without --once that page stays open.")
                return 1 if problems else 0
            # As Ctrl-C, which no program gets that runs in the background of a script.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            print("The agent goes on. To watch it, open this in a browser; Ctrl-C ends it:")
            print(server.browser_address(), flush=True)
            while True:
                time.sleep(_SECONDS_BETWEEN_RUNS)
                agent.run()
    except KeyboardInterrupt:
        print("Ended.")
        return 0
    finally:
        client.shutdown()
