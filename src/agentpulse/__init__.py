"""AgentPulse: every LLM call of an agent with its model, tokens, cost, latency and errors."""
