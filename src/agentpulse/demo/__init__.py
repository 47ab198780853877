"""The demo: a fake provider, an example agent, and its recording by AgentPulse."""
