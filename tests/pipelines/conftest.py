"""The products that AgentPulse shares a provider with need an environment of their own.

`nox -s pipelines` makes it; without it each of these tests is skipped, with what it misses.
"""
