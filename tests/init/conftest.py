"""Programs under AgentPulse, and what receives from them."""

from fakes.sdk import (
    clean_state,
    provider,
    receiver,
    run_program,
    silent,
    speaks_no_http,
    started,
    strict_receiver,
)

__all__ = [
    "clean_state",
    "provider",
    "receiver",
    "run_program",
    "silent",
    "speaks_no_http",
    "started",
    "strict_receiver",
]
