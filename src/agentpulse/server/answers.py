"""Answers in JSON, the bad ones too."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from agentpulse.server.refusal import Refusal


def answer(content: object, *, status: int = 200) -> Response:
    """The content as JSON."""
    # In ASCII, because half a surrogate pair, which JSON can spell, has no UTF-8.
    text = json.dumps(content, allow_nan=False)
    return Response(text, status, media_type="application/json")


def failure(refusal: Refusal) -> Response:
    """What the sender of a refused request gets."""
    response = answer({"error": refusal.message}, status=refusal.status)
    if refusal.status == 401:  # HTTP asks for it
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def explain(_request: Request, error: Exception) -> Response:
    """The answer to what went wrong, for Starlette to call."""
    if isinstance(error, Refusal):
        return failure(error)
    status = getattr(error, "status_code", 500)
    messages = {
        404: "There is no such address here.",
        405: "This address takes another method.",
    }
    return answer({"error": messages.get(status, "The local server failed.")}, status=status)
