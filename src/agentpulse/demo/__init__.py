"""The demo: a fake provider, an example agent, and what AgentPulse makes of it."""
