"""The products that AgentPulse shares a provider with need an environment of their own.

`nox -s pipelines` makes it; elsewhere each of these tests says what it misses.
"""
