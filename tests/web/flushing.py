"""The same application, which flushes when its workers end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app import app as asking
from fastapi import FastAPI

import agentpulse


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield
    await agentpulse.aflush()


app = FastAPI(lifespan=lifespan)
app.include_router(asking.router)
