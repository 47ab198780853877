"""Events are valid whatever was on the spans."""

from __future__ import annotations

import json
from collections.abc import Callable

from fakes.pipe import Pipe
from fakes.receiver import Receiver


def test_texts_are_cut_to_the_limits_and_figures_are_not(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(capture_messages=True)
    said = [{"role": "user", "parts": [{"type": "text", "content": "\U0001f600\ud83d" * 40_000}]}]
    sending.call(
        "n" * 9_000,
        **{
            "gen_ai.input.messages": json.dumps(said),
            "session.id": "s" * 2_000,
            "gen_ai.usage.output_tokens": 2**60,
        },
    )
    assert sending.processor.flush()
    (event,) = receiver.of_kind("llm_call")
    assert event["data"]["output_tokens"] == 2**60
    assert len(event["session"]) <= 256
