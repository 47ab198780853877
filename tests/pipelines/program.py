"""A program with AgentPulse and another product, and the spans that each of them got.

A process of its own, because the global provider is set once. `program.py PRODUCT ORDER`; prints
JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai
from fakes.receiver import Receiver
from pipelines.products import PRODUCTS

import agentpulse
from agentpulse.demo.provider import FakeProvider


def run(product: Any, order: str) -> dict[str, Any]:
    with Receiver() as receiver, FakeProvider() as provider:
        client = openai.OpenAI(api_key="x", base_url=provider.openai_url)

        def call() -> None:
            messages: Any = [{"role": "user", "content": "x"}]
            client.chat.completions.create(model="gpt-4o", messages=messages)

        def init(**options: Any) -> None:
            agentpulse.init(endpoint=receiver.url, heartbeat_interval=0, **options)

        if order == "before":
            product.start()
            init()
        elif order == "passed":
            init(tracer_provider=product.start())
        else:
            init()
            product.start() if order == "after" else product.add()
        joined: Any = agentpulse.get_client()
        with agentpulse.session("day"), product.span("work"):
            call()
        flushed = agentpulse.flush()
        described = joined.joined
        shut_down = agentpulse.shutdown()
        received = list(receiver.events)
        with product.span("later"):
            call()
        headers = {name.lower() for each in receiver.requests for name in each["headers"]}
        return {
            "complete": [flushed, shut_down],
            "received": received,
            "received later": receiver.events[len(received) :],
            "seen": product.seen(),
            "headers": sorted(headers),
            "provider": described.provider,
            "processors": described.processors,
        }


if __name__ == "__main__":
    print(json.dumps(run(PRODUCTS[sys.argv[1]](), sys.argv[2])))
