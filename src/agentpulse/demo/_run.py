"""Runs the demo: server, fake provider, agent, and a report on its calls."""

from __future__ import annotations

import os
import signal
import time

from rich.console import Console

import agentpulse
from agentpulse.demo import _summary as summary
from agentpulse.demo._agent import NightShift
from agentpulse.demo.provider import FakeProvider
from agentpulse.server import LocalServer

SECONDS_BETWEEN_RUNS = 5.0
_FOREIGN = ("AGENTPULSE_", "OTEL_", "OPENAI_", "ANTHROPIC_")


def run(*, port: int, once: bool) -> int:
    """Runs the agent once, or until Ctrl-C or SIGTERM; the status is 0 if all calls were accepted.

    Raises:
        agentpulse.server.PortError: The port can't be had.
    """
    # The variables of the user's own programs are not meant for this one.
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    console = Console(highlight=False)
    with LocalServer(port) as server, FakeProvider() as provider:
        client = agentpulse.init(
            api_key=server.key,
            endpoint=server.url,
            agent_name="night-shift",
            flush_interval=1.0,
        )
        problems: list[str] = []
        try:
            with NightShift(provider) as agent:
                agent.run()
                client.flush()
                events = server.events()
                problems = summary.differences(events, provider.requests, provider.bill)
                summary.show(console, events)
                _report(console, problems, len(provider.requests))
                if once:
                    console.print(
                        f"They were listed at {server.url}; without --once that page stays open."
                    )
                    return 1 if problems else 0
                # As Ctrl-C, which no program gets that runs in the background of a script.
                signal.signal(signal.SIGTERM, signal.default_int_handler)
                console.print(
                    "The agent goes on. To watch it, open this in a browser; Ctrl-C ends it:"
                )
                console.print(server.browser_address(), soft_wrap=True)
                while True:
                    time.sleep(SECONDS_BETWEEN_RUNS)
                    agent.run()
        except KeyboardInterrupt:
            console.print("Ended.")
        finally:
            client.shutdown()
    return 1 if problems else 0


def _report(console: Console, problems: list[str], calls: int) -> None:
    console.print()
    if problems:
        console.print("Not all calls were accepted as they were made:", style="red")
        for problem in problems:
            console.print(f"  {problem}", style="red")
    else:
        console.print(
            f"All {calls} calls were accepted by the server, and agree with the provider's bill.",
            style="green",
        )
