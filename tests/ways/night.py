"""The demo's agent works for one night, and what the provider bills for it is printed as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from agentpulse.demo._agent import NightShift
from agentpulse.demo.provider import FakeProvider


def work() -> None:
    with FakeProvider() as provider, NightShift(provider) as agent:
        agent.run()
    print(json.dumps([asdict(charge) for charge in provider.bill]))
