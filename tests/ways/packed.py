"""A program that is packed with all that it needs; prints whether it is, and a price."""

import sys

import openai

import agentpulse

agentpulse.init(heartbeat_interval=0)
with openai.OpenAI(api_key="x", base_url=sys.argv[1]) as client:
    spoken = [{"role": "user", "content": "What is new?"}]
    client.chat.completions.create(model="gpt-4o", messages=spoken)
assert agentpulse.flush(10)
print(getattr(sys, "frozen", False), agentpulse.calculate_cost("gpt-4o", 1_000_000, 0))
