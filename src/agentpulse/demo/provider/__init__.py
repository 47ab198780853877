"""A fake OpenAI and Anthropic over real HTTP, for the demo and for tests."""

from agentpulse.demo.provider._reply import Change, Charge, Reply
from agentpulse.demo.provider._server import FakeProvider, Request

__all__ = ["Change", "Charge", "FakeProvider", "Reply", "Request"]
