"""A fake OpenAI and Anthropic over real HTTP: the endpoints that the demo calls."""

from agentpulse.demo.provider._reply import Change, Charge, Reply, fails
from agentpulse.demo.provider._server import FakeProvider, Request

__all__ = ["Change", "Charge", "FakeProvider", "Reply", "Request", "fails"]
