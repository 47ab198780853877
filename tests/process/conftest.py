"""Programs under AgentPulse, and what receives from them."""

from fakes.sdk import *  # noqa: F403  # its fixtures
